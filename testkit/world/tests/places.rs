//! The list of places is that of the source.

#![allow(clippy::unwrap_used, reason = "in a test a fault is a panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use everfold_world::PLACES;

const PREFIXES: [&str; 7] = [
    "node: ",
    "owner: ",
    "log: ",
    "reactor: ",
    "timer: ",
    "saga: ",
    "view: ",
];

fn collect(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(path).unwrap();
            let texts = source.split('"').map(str::to_owned);
            let is_place = |text: &String| PREFIXES.iter().any(|it| text.starts_with(it));
            found.extend(texts.filter(is_place));
        }
    }
}

#[test]
fn every_place_that_the_source_names_is_listed() {
    let mut found = BTreeSet::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates");
    for name in ["cluster", "log", "runtime"] {
        collect(&root.join(name).join("src"), &mut found);
    }
    let listed: BTreeSet<String> = PLACES.iter().map(|place| (*place).to_owned()).collect();
    assert_eq!(found, listed);
}
