//! The other commands, and what the program refuses.

use std::process::Stdio;

use serde_json::Value;

use crate::model::lines_of_customers;
use crate::running::{Place, Server, answer, everfold, refused, run};

fn loaded() -> Place {
    let place = Place::with_input(&lines_of_customers(0..10));
    let (data, input) = (place.text("demo"), place.text("input.txt"));
    answer(&[
        "demo", "--exit", "--json", "--data", &data, "--input", &input,
    ]);
    place
}

fn stamp(event: &Value) -> i64 {
    event["stamp"].as_str().unwrap().parse().unwrap()
}

pub(crate) fn lines(arguments: &[&str]) -> Vec<Value> {
    let output = run(arguments);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Refused with a word on why.
fn says(arguments: &[&str], why: &str) {
    let output = run(arguments);
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && words.contains(why),
        "{arguments:?}: {words}"
    );
}

#[test]
fn events_are_found_by_what_they_are() {
    let place = loaded();
    let data = place.text("demo");
    let find = |arguments: &[&str]| {
        let mut all = vec!["events", "--json", "--data", &data];
        all.extend(arguments);
        lines(&all)
    };
    let all = find(&[]);
    let of = |name: &str, value: &str| {
        let wanted = all.iter().filter(|event| event[name] == value);
        wanted.cloned().collect::<Vec<_>>()
    };
    let unlinked = |mut events: Vec<Value>| {
        events
            .iter_mut()
            .for_each(|event| event["link"] = Value::Null);
        events
    };
    assert_eq!(
        unlinked(find(&["--type", "Opened"])),
        unlinked(of("type", "Opened"))
    );
    let orders = find(&["--entity-type", "order"]);
    assert!(!orders.is_empty() && orders.len() < all.len());
    assert!(
        orders
            .iter()
            .all(|event| event["entity"].as_str().unwrap().starts_with("order-"))
    );
    let recorded = all[all.len() / 2]["recorded"].as_str().unwrap();
    let (before, since) = (find(&["--until", recorded]), find(&["--since", recorded]));
    assert_eq!(before.len() + since.len(), all.len());
    assert_eq!(find(&["--until", "1999-01-01"]), Vec::<Value>::new());
    says(
        &["events", "--data", &data, "--since", "soon"],
        "is no time",
    );
    says(&["events", "--data", &data, "--label", "red"], "name=value");
}

#[test]
fn a_customers_past_is_trimmed() {
    let place = loaded();
    let data = place.text("demo");
    let entity = |data: &str| answer(&["entity", "--json", "--data", data, "customer-00003"]);
    let before = entity(&data);
    // All of this small log lies in a segment that is not full yet.
    let trimmed = answer(&[
        "trim",
        "--json",
        "--data",
        &data,
        "--entity",
        "customer-00003",
    ]);
    assert_eq!(trimmed["records"], 0);
    let after = entity(&data);
    assert_eq!(
        (&after["state"], &after["version"]),
        (&before["state"], &before["version"])
    );
    says(
        &["trim", "--data", &data, "--before", "2999-01-01"],
        "24 hours",
    );
    says(
        &["trim", "--data", &data, "--entity", "customer-none"],
        "no events",
    );
    says(
        &[
            "trim",
            "--data",
            &place.text("nowhere"),
            "--before",
            "1999-01-01",
        ],
        "no log",
    );
}

#[test]
fn events_are_printed_once_each_in_order() {
    let place = loaded();
    for data in [place.text("demo"), place.text("demo/main")] {
        let all = lines(&["events", "--json", "--data", &data]);
        let verified = answer(&["verify", "--json", "--data", &data]);
        assert_eq!(all.len() as u64, verified["events"].as_u64().unwrap());
        let stamps: Vec<i64> = all.iter().map(stamp).collect();
        assert!(stamps.is_sorted());
        let opened = lines(&["events", "--json", "--data", &data, "--type", "Opened"]);
        assert_eq!(opened.len(), 9);
        assert_eq!(opened[0]["payload"]["credit_limit"], "200.00");
        let few = lines(&["events", "--json", "--data", &data, "--limit", "3"]);
        assert_eq!(few, all[..3]);
        let mut by_partition = Vec::new();
        for partition in 0..16 {
            let partition = partition.to_string();
            by_partition.extend(lines(&[
                "events",
                "--json",
                "--data",
                &data,
                "--partition",
                &partition,
            ]));
        }
        by_partition.sort_by_key(stamp);
        assert_eq!(by_partition, all);
    }
    let customer = lines(&[
        "events",
        "--json",
        "--data",
        &place.text("demo"),
        "--entity",
        "customer-00003",
    ]);
    let versions: Vec<u64> = customer
        .iter()
        .map(|event| event["version"].as_u64().unwrap())
        .collect();
    assert!(versions.iter().copied().eq(1..=versions.len() as u64));
    let rest = lines(&[
        "events",
        "--json",
        "--data",
        &place.text("demo"),
        "--entity",
        "customer-00003",
        "--after",
        "2",
    ]);
    assert_eq!(rest, customer[2..]);
}

#[test]
fn an_entity_is_shown_as_it_is_and_as_it_was() {
    let place = loaded();
    let data = place.text("demo");
    let now = answer(&["entity", "--json", "--data", &data, "customer-00003"]);
    assert_eq!(now["version"], now["newest"]);
    assert_eq!(
        now["history"].as_array().unwrap().len() as u64,
        now["version"].as_u64().unwrap()
    );
    let then = answer(&[
        "entity",
        "--json",
        "--data",
        &data,
        "customer-00003",
        "--version",
        "2",
    ]);
    assert_eq!(then["version"], 2);
    assert_eq!(then["state"]["reserved"].as_object().unwrap().len(), 1);
    assert!(
        refused(&["entity", "--data", &data, "customer-nobody"], 1).contains("customer-nobody")
    );
    assert!(refused(&["entity", "--data", &data, "invoice-1"], 1).contains("invoice"));
}

#[test]
fn a_server_answers_what_the_files_say() {
    let place = loaded();
    let data = place.text("demo");
    let all = lines(&["events", "--json", "--data", &data]);
    let entity = answer(&["entity", "--json", "--data", &data, "order-o-2"]);
    let server = Server::on(&place.path("demo"));
    let url = format!("http://127.0.0.1:{}", server.port);
    assert_eq!(lines(&["events", "--json", "--url", &url]), all);
    assert_eq!(
        answer(&["entity", "--json", "--url", &url, "order-o-2"]),
        entity
    );
    let type_and_entity = [
        "events",
        "--json",
        "--url",
        &url,
        "--entity",
        "order-o-2",
        "--type",
        "Shipped",
    ];
    assert_eq!(lines(&type_and_entity).len(), 1);
    assert!(refused(&["events", "--url", "http://127.0.0.1:1"], 1).contains("is a server running"));

    // While it is served, others may look.
    assert_eq!(lines(&["events", "--json", "--data", &data]), all);
    assert_eq!(
        answer(&["entity", "--json", "--data", &data, "order-o-2"]),
        entity
    );
    // Nobody else opens it to write, or to find it unchanging.
    assert!(refused(&["verify", "--data", &data], 2).contains("in use"));
    for arguments in [
        &["serve", "--data", &data, "--listen", "127.0.0.1:0"][..],
        &[
            "demo",
            "--exit",
            "--data",
            &data,
            "--input",
            &place.text("input.txt"),
        ],
        &[
            "demo",
            "--exit",
            "--data",
            &data,
            "--input",
            &place.text("input.txt"),
            "--fresh",
        ],
    ] {
        assert!(refused(arguments, 3).contains("in use"), "{arguments:?}");
    }
    assert_eq!(lines(&["events", "--json", "--url", &url]), all);
}

#[test]
fn a_demonstration_keeps_a_second_one_away() {
    let place = loaded();
    let (data, input) = (place.text("demo"), place.text("input.txt"));
    let first = Server::start(&["demo", "--data", &data, "--input", &input, "--port", "0"]);
    for fresh in [&["--fresh"][..], &[]] {
        let mut second = vec!["demo", "--exit", "--data", &data, "--input", &input];
        second.extend_from_slice(fresh);
        assert!(refused(&second, 3).contains("in use"));
    }
    assert!(first.running.end("-INT").success());
}

#[test]
fn a_flipped_bit_is_found_and_named() {
    let place = loaded();
    let data = place.text("demo");
    let file = place.path("demo/main/0000000001.log");
    let mut bytes = std::fs::read(&file).unwrap();
    let frames: Vec<usize> = (0..bytes.len() - 4)
        .step_by(8)
        .filter(|at| bytes[*at..].starts_with(b"EVFR"))
        .collect();
    bytes[frames[frames.len() / 2] + 70] ^= 4;
    std::fs::write(&file, bytes).unwrap();
    let output = run(&["verify", "--json", "--data", &data]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["damage"][0]["file"], "0000000001.log");
    for (command, code) in [("verify", 1), ("events", 3)] {
        assert!(
            refused(&[command, "--data", &data], code).contains("0000000001.log"),
            "{command}"
        );
    }
}

#[test]
fn looking_makes_nothing_and_a_foreign_directory_is_refused() {
    let place = Place::new();
    let missing = place.text("missing");
    let backup = place.text("backup");
    for (arguments, code) in [
        (&["verify", "--data", &missing][..], 2),
        (&["events", "--data", &missing], 3),
        (&["entity", "--data", &missing, "customer-1"], 3),
        (&["backup", "--data", &missing, &backup], 3),
    ] {
        let words = refused(arguments, code);
        assert!(words.contains("no log in"), "{arguments:?}: {words}");
        assert!(!place.path("missing").exists() && !place.path("backup").exists());
    }
    refused(&["restore", &missing, "--data", &backup], 3);
    assert!(!place.path("missing").exists() && !place.path("backup").exists());
    std::fs::create_dir(place.path("mine")).unwrap();
    std::fs::write(place.path("mine/letters.txt"), "dear").unwrap();
    assert!(refused(&["verify", "--data", &place.text("mine")], 2).contains("no log in"));
    let left = std::fs::read_dir(place.path("mine")).unwrap().count();
    assert_eq!(left, 1, "nothing is put beside it");
    let words = refused(
        &[
            "serve",
            "--data",
            &place.text("mine"),
            "--listen",
            "127.0.0.1:0",
        ],
        3,
    );
    assert!(words.contains("letters.txt"), "{words}");
}

#[test]
fn the_network_is_refused() {
    let place = Place::new();
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:4600"] {
        let words = refused(
            &["serve", "--data", &place.text("store"), "--listen", address],
            3,
        );
        assert!(words.contains("without authentication"), "{words}");
    }
    assert!(!place.path("store").exists());
}

#[test]
fn a_port_that_is_taken_is_passed_over() {
    let (one, two) = (Place::new(), Place::new());
    let first = Server::on(&one.path("store"));
    let address = format!("127.0.0.1:{}", first.port);
    let second = Server::start(&["serve", "--data", &two.text("store"), "--listen", &address]);
    assert!(second.port > first.port);
    assert!(second.running.end("-TERM").success());
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let place = loaded();
    let data = place.text("demo");
    let mut command = everfold(&["events", "--json", "--data", &data]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn mistakes_in_typing_are_answered_with_suggestions() {
    assert!(refused(&["dmeo"], 2).contains("demo"));
    assert!(refused(&["verify", "--dat", "x"], 2).contains("--data"));
    refused(&[], 2);
    refused(&["events"], 2);
    assert!(
        String::from_utf8(run(&["--help"]).stdout)
            .unwrap()
            .contains("Exit codes")
    );
}

/// Attacks: a question without a meaning that looks like an empty answer, or waits for ever.
#[test]
fn questions_without_a_meaning_are_refused() {
    let place = loaded();
    let data = place.text("demo");
    let follow = refused(&["events", "--data", &data, "--follow"], 2);
    assert!(follow.contains("--follow"), "{follow}");
    refused(&["events", "--data", &data, "--log", "other"], 2);
    let partition = refused(&["events", "--data", &data, "--partition", "99"], 1);
    assert!(partition.contains("this log has 16"), "{partition}");
    let customer = answer(&["entity", "--json", "--data", &data, "customer-00001"]);
    let newest = customer["version"].as_u64().unwrap();
    let (at, beyond) = (newest.to_string(), (newest + 1).to_string());
    let entity = ["entity", "--json", "--data", &data, "customer-00001"];
    let with = |version| [&entity[..], &["--version", version]].concat();
    assert_eq!(answer(&with(&at))["version"], newest);
    assert!(refused(&with(&beyond), 1).contains("has no version"));
    refused(&with("0"), 2);
}
