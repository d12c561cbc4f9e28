//! Looking into a running node.

use serde_json::json;

use crate::running::{Place, Server};

#[test]
fn a_node_tells_what_it_is_and_what_it_holds() {
    let place = Place::new();
    let server = Server::on(&place.path("store"));
    let name = "<img src=x onerror=alert(1)>";
    let opened = server
        .post(
            "/customers",
            &json!({ "name": name, "credit_limit": "5.00" }),
        )
        .with(201);
    let id = opened["id"].as_str().unwrap();
    server
        .call(
            "PUT",
            &format!("/customers/{id}/credit-limit"),
            &[("X-Principal", "ann")],
            Some(br#"{"credit_limit":"7"}"#),
        )
        .with(200);
    let get = |path: &str| {
        server
            .get(&format!("/_inspect/api/logs/main/{path}"))
            .with(200)
    };

    let node = get("node");
    assert_eq!(
        (&node["events"], &node["partitions"]),
        (&json!(2), &json!(16))
    );
    assert_eq!(
        get("partitions")["partitions"].as_array().unwrap().len(),
        16
    );
    let handlers = get("handlers");
    assert_eq!(handlers["handlers"].as_array().unwrap().len(), 7);
    assert_eq!(handlers["parked"], json!([]));

    let entity = get(&format!("entity/customer/{id}"));
    assert_eq!(
        (&entity["version"], &entity["state"]["credit_limit"]),
        (&json!(2), &json!("7.00"))
    );
    assert_eq!(entity["history"][1]["principal"], "ann");
    let before = get(&format!("entity/customer/{id}?version=1"));
    assert_eq!(before["state"]["credit_limit"], "5.00");

    let all = get("events");
    assert_eq!(all["events"].as_array().unwrap().len(), 2);
    let one = get("events?limit=1");
    assert_eq!(
        (&one["more"], &one["events"][0]),
        (&json!(true), &all["events"][0])
    );
    let next = get(&format!("events?after={}", one["next"].as_str().unwrap()));
    assert_eq!(next["events"][0], all["events"][1]);
    assert_eq!(
        get("events?last=true&limit=1")["events"][0],
        all["events"][1]
    );
    assert_eq!(
        get("events?type=Opened")["events"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let end = all["next"].as_str().unwrap();
    assert_eq!(get(&format!("events?after={end}"))["events"], json!([]));

    assert_eq!(get("views")["views"].as_array().unwrap().len(), 3);
    // Inspection shows what a view has; it may be a moment behind what was acknowledged.
    let behind = || {
        let handlers = get("handlers");
        let handlers = handlers["handlers"].as_array().unwrap().clone();
        assert!(!handlers.is_empty());
        handlers.iter().any(|handler| handler["behind"] != 0)
    };
    let mut looks = 0;
    while behind() {
        looks += 1;
        assert!(looks < 10_000, "the handlers stay behind");
    }
    let rows = get("view/customer-history");
    assert_eq!(rows["rows"][0]["row"]["name"], name);
    assert_eq!(
        get(&format!("view/customer-history?key={id}"))["row"]["credit_limit"],
        "7.00"
    );

    let found = get("entities/customer?where=credit_limit=%227.00%22&linearizable=true");
    assert_eq!(found["entities"][0]["id"], id);
    assert_eq!(found["entities"][0]["state"]["opening"]["name"], name);
    assert_eq!(found["position"].as_str(), Some(end));
    let none = get("entities/customer?where=credit_limit=%228.00%22");
    assert_eq!(
        (&none["entities"], &none["next"]),
        (&json!([]), &json!(null))
    );
    assert_eq!(get("placed")["placed"][0]["owner"], "here");

    for (path, kind) in [
        ("entities/invoice", "UNKNOWN_TYPE"),
        ("entity/customer/none", "UNKNOWN_ENTITY"),
        ("entity/invoice/1", "UNKNOWN_TYPE"),
        ("view/none", "UNKNOWN_VIEW"),
        ("view/low-credit?key=none", "UNKNOWN_ROW"),
        ("events?partition=99", "UNKNOWN_PARTITION"),
        ("nothing", "UNKNOWN_PATH"),
    ] {
        assert_eq!(
            server
                .get(&format!("/_inspect/api/logs/main/{path}"))
                .failed(404),
            kind,
            "{path}"
        );
    }
    for path in [
        "events?after=5",
        "events?limit=0",
        "entities/customer?where=credit_limit",
        "entities/customer?position=nonsense",
        "events?colour=red",
        "events?after=nonsense",
    ] {
        assert_eq!(
            server
                .get(&format!("/_inspect/api/logs/main/{path}"))
                .failed(400),
            "BAD_REQUEST",
            "{path}"
        );
    }
}

#[test]
fn the_page_is_one_file_that_needs_nothing_from_elsewhere() {
    let place = Place::new();
    let server = Server::on(&place.path("store"));
    let home = server.get("/");
    assert!(
        home.head.contains("303") && home.head.contains("location: /_inspect/"),
        "{}",
        home.head
    );
    let page = server.get("/_inspect/");
    assert_eq!(page.status, 200);
    assert!(
        page.head
            .contains("content-security-policy: default-src 'none'")
    );
    for outside in [
        "https://",
        "src=\"",
        "@import",
        "innerHTML",
        "document.write",
    ] {
        assert!(!page.text.contains(outside), "{outside}");
    }
}
