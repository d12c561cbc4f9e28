//! Real nodes that are killed and frozen, and what their clients were told.

use std::path::Path;
use std::process::Output;

use everfold_node::chaos::check::{ViolationKind, register};
use everfold_node::chaos::history::{self, Outcome};
use serde_json::{Value, json};

use crate::running::{Place, everfold, refused, run};

/// A run with a history, in a folder of its own.
fn live(place: &Place, more: &[&str]) -> Output {
    let (history, work) = (place.text("history"), place.text("work"));
    let base = ["chaos", "--json", "--history", &history, "--work", &work];
    run(&[&base, more].concat())
}

fn report(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let words = String::from_utf8_lossy(&output.stderr);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{words}"))
}

/// Processes that were started with something in a folder.
fn processes_in(folder: &Path) -> usize {
    let folder = folder.to_str().unwrap().to_owned();
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let commands = all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    commands
        .filter(|command| String::from_utf8_lossy(command).contains(&folder))
        .count()
}

#[test]
fn registers_stay_linearizable_while_nodes_are_killed_and_frozen() {
    let place = Place::new();
    let asked = "--nodes 2 --seconds 8 --faults kill,freeze --seed 4 --clients 6";
    let asked: Vec<&str> = asked.split(' ').collect();
    let output = live(&place, &asked);
    let report = report(&output);
    assert_eq!(report["violations"], json!([]));
    assert!(output.status.success());
    assert_eq!(report["seed"], 4);
    assert!(
        report["operations"]["ok"].as_u64().unwrap() > 100,
        "{report}"
    );
    assert!(!report["faults"].as_array().unwrap().is_empty());
    assert_eq!(processes_in(&place.path("work")), 0);

    // The file says the same, and a changed answer in it is found.
    let file = std::fs::read(place.path("history")).unwrap();
    let entries = history::read(&*file).unwrap();
    let mut operations = history::operations(&entries).unwrap();
    let done = operations
        .iter()
        .filter(|operation| matches!(operation.outcome, Outcome::Done(_)));
    assert_eq!(json!(done.count()), report["operations"]["ok"]);
    assert_eq!(register::check(&operations), []);
    let read = operations.iter_mut().rev();
    let mut read = read.filter(|it| it.f == "read" && matches!(it.outcome, Outcome::Done(_)));
    read.next().unwrap().outcome = Outcome::Done(json!(-1));
    let found = register::check(&operations);
    assert_eq!(found[0].kind, ViolationKind::NotLinearizable);
}

/// Attacks fencing: for seconds a node takes itself for the owner of what others own, its clients ask
/// it, and nobody but the store can tell it.
#[test]
fn registers_stay_linearizable_while_the_way_to_the_store_is_slower_than_the_lease() {
    let place = Place::new();
    let asked = "--nodes 2 --seconds 14 --faults slow --seed 2 --clients 20";
    let asked: Vec<&str> = asked.split(' ').collect();
    let output = live(&place, &asked);
    let report = report(&output);
    assert_eq!(report["violations"], json!([]));
    assert!(output.status.success());
    assert!(
        report["faults_by_kind"]["slow"].as_u64() > Some(0),
        "{report}"
    );
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_starts() {
    let place = Place::new();
    let words = refused(&["chaos", "--faults", "flood"], 2);
    assert!(words.contains("there are kill, freeze"), "{words}");
    std::fs::create_dir(place.path("work")).unwrap();
    let words = refused(
        &["chaos", "--faults", "none", "--work", &place.text("work")],
        3,
    );
    assert!(words.contains("exists"), "{words}");
    let without_ip = everfold(&["chaos", "--faults", "partition"])
        .env("PATH", place.path("work"))
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&without_ip.stderr);
    assert_eq!(without_ip.status.code(), Some(3), "{words}");
    assert!(words.contains("apt install iproute2"), "{words}");
}
