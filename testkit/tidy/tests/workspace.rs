//! This repository keeps its rules.

use std::path::Path;

use everfold_tidy::check_tree;
use everfold_tidy::exceptions::EXCEPTIONS;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

#[test]
fn the_repository_keeps_its_rules() {
    let findings = check_tree(root()).expect("the sources can be read");
    let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
    assert!(findings.is_empty(), "\n{}", lines.join("\n"));
}

#[test]
fn every_exception_has_a_place_and_a_reason() {
    for exception in EXCEPTIONS {
        assert!(root().join(exception.path).exists(), "{}", exception.path);
        assert!(!exception.reason.is_empty(), "{}", exception.path);
    }
}
