//! `everfold demo ledger`.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::crash::{Moments, killed_after};
use crate::running::{Place, answer, refused, run};

/// The arguments of a small run in a directory.
pub(crate) fn arguments<'a>(data: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    seeded("7", data, more)
}

/// The same from another seed.
fn seeded<'a>(seed: &'a str, data: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let base = [
        "demo",
        "ledger",
        "--exit",
        "--json",
        "--accounts",
        "60",
        "--transfers",
        "1500",
        "--cross",
        "20",
        "--seed",
        seed,
        "--data",
        data,
    ];
    base.into_iter().chain(more.iter().copied()).collect()
}

/// The figures that the same transfers give in the same order, however often they are asked for.
fn comparable(figures: &Value) -> Value {
    let names = [
        "transfers",
        "accepted",
        "between_tags",
        "rejected",
        "balanced",
        "accounts",
        "closed",
        "debits",
        "credits",
        "in_transit",
    ];
    names
        .iter()
        .map(|name| ((*name).to_owned(), figures[name].clone()))
        .collect()
}

/// The transfers that left an account and have not come back, and those that came to an account, as
/// the log has them.
fn moved(place: &[&str]) -> (Vec<String>, Vec<String>) {
    let events = |kind: &str| -> Vec<String> {
        let asked = ["events", "--type", kind, "--json"];
        let output = run(&[&asked, place].concat());
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        let events = text.lines().map(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            event["payload"]["transfer"].as_str().unwrap().to_owned()
        });
        events.collect()
    };
    let (mut left, mut came) = (events("Debited"), events("Credited"));
    let returned = events("Returned");
    left.extend(events("Dispatched"));
    left.retain(|transfer| !returned.contains(transfer));
    came.extend(events("Received"));
    (left, came)
}

/// A finished directory: all transfers are decided, each once, and the books balance.
fn check(data: &str, figures: &Value) {
    check_books(&["--data", data], figures);
    let verified = answer(&["verify", "--json", "--data", data]);
    assert_eq!(verified["damage"].as_array().unwrap().len(), 0);
}

/// The same of a finished ledger anywhere.
pub(crate) fn check_books(place: &[&str], figures: &Value) {
    let count = |name: &str| figures[name].as_u64().unwrap();
    assert_eq!(count("transfers"), 1500);
    assert_eq!(count("accepted") + count("rejected"), 1500);
    assert!(
        count("accepted") > 500 && count("rejected") > 30,
        "{figures}"
    );
    let between_tags = count("between_tags");
    assert!((100..count("accepted") / 2).contains(&between_tags));
    assert_eq!(figures["balanced"], true);
    assert_eq!((count("accounts"), count("closed")), (60, 1));
    assert_eq!(figures["debits"], figures["credits"]);
    assert_eq!(figures["in_transit"], "0");
    let (left, came) = moved(place);
    let distinct = |transfers: &[String]| transfers.iter().cloned().collect::<BTreeSet<_>>();
    assert_eq!(left.len() as u64, count("accepted"));
    assert_eq!(distinct(&left).len(), left.len());
    assert_eq!((came.len(), distinct(&came)), (left.len(), distinct(&left)));
}

#[test]
fn all_transfers_are_decided_and_the_books_balance() {
    let place = Place::new();
    for clients in ["1", "13", "1000"] {
        let data = place.text(clients);
        let first = answer(&arguments(&data, &["--concurrency", clients]));
        check(&data, &first);
        assert!(first["transfers_per_second"].as_u64().unwrap() > 0);
        assert!(first["durability"].as_str().is_some());
        // Finished: it is opened, and nothing is asked for.
        let again = answer(&arguments(&data, &[]));
        assert_eq!(comparable(&again), comparable(&first));
        assert_eq!(again["transfers_per_second"], 0);
    }
}

#[test]
fn a_seed_and_one_client_give_the_same_figures_again_and_another_seed_others() {
    let place = Place::new();
    let figures = |name: &str, seed: &str| {
        let data = place.text(name);
        comparable(&answer(&seeded(seed, &data, &["--concurrency", "1"])))
    };
    let first = figures("first", "7");
    assert_eq!(figures("second", "7"), first);
    assert_ne!(figures("other", "8"), first);
}

#[test]
fn killed_at_any_moment_every_transfer_is_decided_once() {
    let (mut kills, mut moments) = (0, Moments::default());
    while kills < 15 {
        let place = Place::new();
        let data = place.text("ledger");
        let arguments = arguments(&data, &["--concurrency", "5"]);
        let log = place.path("ledger/main");
        kills += moments.kill_until_it_ends(&arguments, &log);
        check(&data, &answer(&arguments));
    }
}

#[test]
fn with_one_client_a_killed_run_ends_as_if_it_had_never_been() {
    let calm = Place::new();
    let data = calm.text("ledger");
    let expected = answer(&arguments(&data, &["--concurrency", "1"]));
    let place = Place::new();
    let data = place.text("ledger");
    let arguments = arguments(&data, &["--concurrency", "1"]);
    let log = place.path("ledger/main");
    let mut kills = 0;
    while killed_after(&arguments, &log, 150) {
        kills += 1;
    }
    assert!(kills > 2, "{kills}");
    let figures = answer(&arguments);
    check(&data, &figures);
    assert_eq!(comparable(&figures), comparable(&expected));
}

#[test]
fn a_directory_that_was_begun_otherwise_is_refused_and_the_way_out_named() {
    let place = Place::new();
    let data = place.text("ledger");
    answer(&arguments(&data, &[]));
    for (option, value) in [
        ("--accounts", "61"),
        ("--transfers", "1499"),
        ("--cross", "21"),
        ("--seed", "8"),
    ] {
        let mut other = arguments(&data, &[]);
        let at = other.iter().position(|word| *word == option).unwrap();
        other[at + 1] = value;
        let words = refused(&other, 3);
        assert!(
            words.contains("--fresh") && words.contains(option),
            "{words}"
        );
        other.push("--fresh");
        assert!(answer(&other)["transfers_per_second"].as_u64().unwrap() > 0);
        answer(&arguments(&data, &["--fresh"]));
    }
    // A ledger is no store, and a store no ledger; --fresh empties only one's own.
    for more in [&[][..], &["--fresh"]] {
        let store = ["demo", "--exit", "--data", &data];
        let store: Vec<&str> = store.into_iter().chain(more.iter().copied()).collect();
        let words = refused(&store, 3);
        assert!(
            words.contains("ledger") && words.contains("--data"),
            "{words}"
        );
    }
    check(&data, &answer(&arguments(&data, &[])));
}

#[test]
fn options_without_a_meaning_are_usage_errors() {
    for bad in [
        &["--accounts", "1"][..],
        &["--accounts", "many"],
        &["--transfers", "0"],
        &["--concurrency", "0"],
        &["--seed", "-1"],
        &["--cross", "101"],
        &["--credit-limit", "5"],
    ] {
        let mut arguments = vec!["demo", "ledger"];
        arguments.extend_from_slice(bad);
        refused(&arguments, 2);
    }
    // The store's options belong to the store.
    refused(&["demo", "--exit", "ledger"], 2);
}
