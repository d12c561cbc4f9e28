//! The store over HTTP.

use serde_json::{Value, json};

use crate::running::{Place, Server};

fn new_customer(server: &Server, limit: &str) -> String {
    let body = json!({ "name": "Ann", "credit_limit": limit });
    let opened = server.post("/customers", &body).with(201);
    opened["id"].as_str().unwrap().to_owned()
}

fn order_of(server: &Server, customer: &str, total: &str) -> (String, String) {
    let body = json!({ "customer": customer, "total": total, "delivery": "Main Street 1" });
    let placed = server.post("/orders", &body).with(202);
    assert_eq!(placed["state"], "PENDING");
    let text = |name: &str| placed[name].as_str().unwrap().to_owned();
    (text("id"), text("position"))
}

/// An order once it is decided.
fn decided(server: &Server, id: &str) -> Value {
    loop {
        let order = server.get(&format!("/orders/{id}")).with(200);
        if order["state"] != "PENDING" && order["state"] != "CANCEL_PENDING" {
            return order;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

#[test]
fn an_order_goes_from_placed_to_paid() {
    let place = Place::new();
    let server = Server::on(&place.path("store"));
    let customer = new_customer(&server, "100.00");
    let items = json!([
        { "name": "CD", "quantity": 2, "amount": "25.98" },
        { "name": "discount", "quantity": 1, "amount": "-0.98" },
    ]);
    let body = json!({ "customer": customer, "items": items, "delivery": "Main Street 1" });
    let placed = server.post("/orders", &body).with(202);
    let id = placed["id"].as_str().unwrap();
    let order = decided(&server, id);
    assert_eq!(
        (&order["state"], &order["total"]),
        (&json!("APPROVED"), &json!("25.00"))
    );
    assert_eq!(order["items"], items);

    let available = |token: &Value| {
        let path = format!("/customers/{customer}?after={}", token.as_str().unwrap());
        server.get(&path).with(200)["available_credit"].clone()
    };
    let busy = server.call("DELETE", &format!("/customers/{customer}"), &[], None);
    assert_eq!(busy.failed(409), "CREDIT_RESERVED");
    let shipped = server
        .call("POST", &format!("/orders/{id}/ship"), &[], None)
        .with(200);
    assert_eq!(shipped["state"], "SHIPPED");
    assert_eq!(available(&shipped["position"]), "75.00");
    let list = server
        .get("/orders/shipped?total_over=24.99&customer_after=2020-01-01")
        .with(200);
    assert_eq!(list["orders"][0]["id"], id);
    for path in [
        "total_over=25.00&customer_after=2020-01-01",
        "total_over=1.00&customer_after=2999-01-01",
    ] {
        let list = server.get(&format!("/orders/shipped?{path}")).with(200);
        assert_eq!(list["orders"], json!([]), "{path}");
    }
    let late = server.call("POST", &format!("/orders/{id}/cancel"), &[], None);
    assert_eq!(late.failed(409), "NOT_CANCELLABLE");
    let payment = format!("/orders/{id}/payment");
    server
        .post(&payment, &json!({ "method": "TRANSFER" }))
        .with(200);
    let again = server.post(&payment, &json!({ "method": "TRANSFER" }));
    assert_eq!(again.failed(409), "ALREADY_PAID");
    let free = loop {
        let customer = server.get(&format!("/customers/{customer}")).with(200);
        if customer["available_credit"] == "100.00" {
            break customer;
        }
    };
    assert_eq!(free["reserved"], "0.00");

    let history = server
        .get(&format!("/customers/{customer}/orderhistory"))
        .with(200);
    assert_eq!(history["name"], "Ann");
    assert_eq!(history["orders"][0]["state"], "SHIPPED");
    let limit = format!("/customers/{customer}/credit-limit");
    let changed = server
        .call("PUT", &limit, &[], Some(br#"{"credit_limit":"30"}"#))
        .with(200);
    assert_eq!(changed["credit_limit"], "30.00");
    let low = server.get(&format!(
        "/customers/low-credit?below=30.01&position={}",
        changed["position"].as_str().unwrap()
    ));
    assert_eq!(low.with(200)["customers"][0]["id"], customer.as_str());
    server
        .call("DELETE", &format!("/customers/{customer}"), &[], None)
        .with(200);
    let gone = server.get(&format!("/customers/{customer}")).with(200);
    assert!(gone["closed"].is_string());
    let (id, _) = order_of(&server, &customer, "1.00");
    assert_eq!(decided(&server, &id)["reason"], "CUSTOMER_CLOSED");
}

#[test]
fn however_many_orders_race_the_limit_holds_at_every_moment() {
    let place = Place::new();
    let server = Server::on(&place.path("store"));
    for _ in 0..5 {
        let customer = new_customer(&server, "100.00");
        let ids: Vec<String> = std::thread::scope(|scope| {
            let place = || scope.spawn(|| order_of(&server, &customer, "10.00").0);
            let racing: Vec<_> = (0..50).map(|_| place()).collect();
            racing.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let states: Vec<Value> = ids
            .iter()
            .map(|id| decided(&server, id)["state"].clone())
            .collect();
        let count = |state: &str| states.iter().filter(|found| **found == state).count();
        assert_eq!((count("APPROVED"), count("REJECTED")), (10, 40));

        let history = server
            .get(&format!(
                "/_inspect/api/logs/main/events?limit=1000&entity=customer-{customer}"
            ))
            .with(200);
        let mut reserved = 0;
        for event in history["events"].as_array().unwrap() {
            match event["type"].as_str().unwrap() {
                "CreditReserved" => reserved += 10,
                "CreditReleased" => reserved -= 10,
                _ => {}
            }
            assert!((0..=100).contains(&reserved));
        }
        assert_eq!(reserved, 100);
        let path = format!("/orders/customer/{customer}?state=REJECTED&limit=7");
        let page = server.get(&path).with(200);
        assert_eq!(page["orders"].as_array().unwrap().len(), 7);
        let rest = format!(
            "/orders/customer/{customer}?state=REJECTED&after={}",
            page["next"].as_str().unwrap()
        );
        assert_eq!(
            server.get(&rest).with(200)["orders"]
                .as_array()
                .unwrap()
                .len(),
            33
        );
    }
}

#[test]
fn a_token_shows_what_was_written_and_a_foreign_one_is_refused() {
    let place = Place::new();
    let server = Server::on(&place.path("store"));
    for round in 0..50 {
        let body = json!({ "name": format!("Customer {round}"), "credit_limit": "5.00" });
        let reply = server.post("/customers", &body);
        let header = reply
            .head
            .lines()
            .find_map(|line| line.strip_prefix("x-everfold-position: "));
        let token = header.unwrap().to_owned();
        let opened = reply.with(201);
        assert_eq!(opened["position"], token.as_str());
        let path = format!("/customers/{}", opened["id"].as_str().unwrap());
        let seen = server
            .call("GET", &path, &[("X-Everfold-Position", &token)], None)
            .with(200);
        assert_eq!(seen["name"], body["name"]);
    }
    // A token on a write is carried on: the last one shows everything.
    let names = ["Ann", "Bob", "Cid"];
    let (mut token, mut paths) = (String::new(), Vec::new());
    for name in names {
        let body = json!({ "name": name, "credit_limit": "5.00" }).to_string();
        let carried = [("X-Everfold-Position", token.as_str())];
        let headers = if token.is_empty() { &[][..] } else { &carried };
        let opened = server
            .call("POST", "/customers", headers, Some(body.as_bytes()))
            .with(201);
        paths.push(format!("/customers/{}", opened["id"].as_str().unwrap()));
        token = opened["position"].as_str().unwrap().to_owned();
    }
    for (name, path) in names.iter().zip(paths) {
        assert_eq!(
            server.get(&format!("{path}?after={token}")).with(200)["name"],
            *name
        );
    }
    let elsewhere = Place::new();
    let other = Server::on(&elsewhere.path("store"));
    let foreign = other
        .post("/customers", &json!({ "name": "B", "credit_limit": "0" }))
        .with(201);
    let foreign = foreign["position"].as_str().unwrap();
    for token in [foreign, "nonsense"] {
        let reply = server.call("GET", "/customers", &[("X-Everfold-Position", token)], None);
        assert_eq!(reply.failed(400), "BAD_REQUEST");
        assert_eq!(
            server.get(&format!("/orders/o?after={token}")).failed(400),
            "BAD_REQUEST"
        );
    }
}

#[test]
fn a_repeated_write_gets_its_first_answer() {
    let place = Place::new();
    let server = Server::on(&place.path("store"));
    let body = json!({ "name": "Ann", "credit_limit": "5.00" }).to_string();
    let other = json!({ "name": "Bob", "credit_limit": "5.00" }).to_string();
    let send = |path: &str, key: &str, body: &str| {
        server.call(
            "POST",
            path,
            &[("Idempotency-Key", key)],
            Some(body.as_bytes()),
        )
    };
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let millis = now.as_millis();
    let version_7 = format!(
        "{:08x}-{:04x}-7abc-8def-0123456789ab",
        millis >> 16,
        millis & 0xffff
    );
    for key in [
        version_7.as_str(),
        "my own words",
        "018f0000-0000-4000-8000-000000000000",
    ] {
        let first = send("/customers", key, &body).with(201);
        assert_eq!(send("/customers", key, &body).with(201), first, "{key}");
        assert_eq!(
            send("/customers", key, &other).failed(409),
            "IDEMPOTENCY_KEY_REUSED"
        );
    }
    let customers = server.get("/customers").with(200);
    assert_eq!(customers["customers"].as_array().unwrap().len(), 3);
    let old = "0190a000-0000-7abc-8def-0123456789ab";
    assert_eq!(
        send("/customers", old, &body).failed(400),
        "IDEMPOTENCY_KEY_EXPIRED"
    );
}

#[test]
fn what_makes_no_sense_is_refused_in_json() {
    let place = Place::new();
    let server = Server::on(&place.path("store"));
    let open = |body: &str| server.call("POST", "/customers", &[], Some(body.as_bytes()));
    for (body, reason) in [
        ("", "EOF"),
        ("{", "line 1 column 1"),
        (r#"{"name":"A"}"#, "credit_limit"),
        (r#"{"name":"A","credit_limit":5}"#, "expected a string"),
        (
            r#"{"name":"A","credit_limit":"5,00"}"#,
            "an amount is written like",
        ),
        (r#"{"name":"A","credit_limit":"5.001"}"#, "two decimals"),
        (r#"{"name":"A","credit_limit":"5.00","vip":true}"#, "vip"),
        ("[]", "at line 1"),
    ] {
        let reply = open(body);
        assert!(reply.text.contains(reason), "{body}: {}", reply.text);
        assert_eq!(reply.failed(400), "BAD_BODY");
    }
    assert_eq!(
        open(r#"{"name":" ","credit_limit":"5"}"#).failed(400),
        "EMPTY_NAME"
    );
    assert_eq!(
        open(r#"{"name":"A","credit_limit":"-5"}"#).failed(400),
        "NEGATIVE_LIMIT"
    );
    let huge = format!(r#"{{"name":"{}","credit_limit":"5"}}"#, "x".repeat(70_000));
    assert_eq!(open(&huge).failed(413), "TOO_LARGE");
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let reply = server.call("POST", "/customers", &form, Some(b"name=A"));
    assert_eq!(reply.failed(415), "UNSUPPORTED_MEDIA_TYPE");
    let nobody = server
        .post("/orders", &json!({ "customer": "nobody", "total": "1.00" }))
        .with(202);
    let rejected = decided(&server, nobody["id"].as_str().unwrap());
    assert_eq!(
        (&rejected["state"], &rejected["reason"]),
        (&json!("REJECTED"), &json!("UNKNOWN_CUSTOMER"))
    );
    assert_eq!(
        server.get("/customers/nobody").failed(404),
        "UNKNOWN_CUSTOMER"
    );
    // No customer can have this name, so an order for it could never be decided.
    let nameless = json!({ "customer": "a".repeat(5000), "total": "1.00" });
    assert_eq!(server.post("/orders", &nameless).failed(400), "BAD_NAME");
    let wrong = json!({ "customer": "a", "total": "2.00", "items": [{ "name": "x", "quantity": 1, "amount": "1.00" }] });
    assert_eq!(server.post("/orders", &wrong).failed(400), "WRONG_TOTAL");
    for (method, path, body, status, kind) in [
        ("GET", "/customers/none", None, 404, "UNKNOWN_CUSTOMER"),
        (
            "GET",
            "/customers/none/orderhistory",
            None,
            404,
            "UNKNOWN_CUSTOMER",
        ),
        (
            "GET",
            "/orders/customer/none",
            None,
            404,
            "UNKNOWN_CUSTOMER",
        ),
        ("DELETE", "/customers/none", None, 404, "UNKNOWN_CUSTOMER"),
        (
            "PUT",
            "/customers/none/credit-limit",
            Some(r#"{"credit_limit":"1"}"#),
            404,
            "UNKNOWN_CUSTOMER",
        ),
        ("GET", "/orders/none", None, 404, "UNKNOWN_ORDER"),
        ("POST", "/orders/none/cancel", None, 404, "UNKNOWN_ORDER"),
        ("POST", "/orders/none/ship", None, 404, "UNKNOWN_ORDER"),
        (
            "POST",
            "/orders/none/payment",
            Some(r#"{"method":"CARD"}"#),
            404,
            "UNKNOWN_ORDER",
        ),
        (
            "POST",
            "/orders",
            Some(r#"{"customer":"a"}"#),
            400,
            "BAD_REQUEST",
        ),
        (
            "POST",
            "/orders",
            Some(r#"{"customer":"a","total":"-1"}"#),
            400,
            "NEGATIVE_TOTAL",
        ),
        ("GET", "/customers?limit=0", None, 400, "BAD_REQUEST"),
        ("GET", "/customers?limit=many", None, 400, "BAD_REQUEST"),
        ("GET", "/customers?order=name", None, 400, "BAD_REQUEST"),
        ("GET", "/orders?state=LOST", None, 400, "BAD_REQUEST"),
        ("GET", "/orders/shipped", None, 400, "BAD_REQUEST"),
        (
            "GET",
            "/orders/shipped?total_over=1&customer_after=yesterday",
            None,
            400,
            "BAD_REQUEST",
        ),
        (
            "GET",
            "/customers/low-credit?below=little",
            None,
            400,
            "BAD_REQUEST",
        ),
        ("GET", "/nothing/here", None, 404, "UNKNOWN_PATH"),
        ("PATCH", "/customers", None, 405, "UNKNOWN_METHOD"),
        ("GET", "/customers/%ff", None, 400, "BAD_REQUEST"),
    ] {
        let reply = server.call(method, path, &[], body.map(str::as_bytes));
        assert_eq!(reply.failed(status), kind, "{method} {path}");
    }
    let long = format!("/orders/{}/ship", "x".repeat(600));
    assert_eq!(
        server.call("POST", &long, &[], None).failed(400),
        "BAD_NAME"
    );
    let elsewhere = [("Host", "evil.example")];
    assert_eq!(
        server
            .call("GET", "/customers", &elsewhere, None)
            .failed(403),
        "UNKNOWN_HOST"
    );
}

#[test]
fn the_end_is_asked_for_politely_and_nothing_acknowledged_is_lost() {
    let place = Place::new();
    let mut ids = Vec::new();
    for signal in ["-INT", "-TERM"] {
        let server = Server::on(&place.path("store"));
        for id in &ids {
            let path = format!("/customers/{id}");
            assert_eq!(server.get(&path).with(200)["name"], "Ann");
        }
        ids.extend((0..20).map(|_| new_customer(&server, "1.00")));
        assert_eq!(server.running.end(signal).code(), Some(0));
    }
    let server = Server::on(&place.path("store"));
    let all = server.get("/customers?limit=1000").with(200);
    assert_eq!(all["customers"].as_array().unwrap().len(), ids.len());
}
