//! Simulated worlds from the command line: they pass, fail with a code, and repeat what they print.

use std::process::Output;

use serde_json::Value;

use crate::running::{answer, refused, run};

#[test]
fn seeds_are_lived_through_and_what_happened_is_counted() {
    for workload in ["accounts", "store"] {
        let report = answer(&["sim", workload, "--seed", "7", "--seeds", "12", "--json"]);
        assert_eq!(report["workload"], workload);
        assert_eq!(report["seeds"], 12);
        assert_eq!(report["failures"], Value::Array(Vec::new()));
        let count = |of: &str, name: &str| report["coverage"][of][name].as_u64().unwrap_or(0);
        assert!(count("faults", "operation answered") > 12);
        assert!(count("places", "owner: repeated command answered from the table") > 12);
    }
}

#[test]
fn a_broken_promise_ends_with_a_code_and_a_command_that_repeats_it() {
    let broken = [
        "sim",
        "--seeds",
        "2",
        "--mutation",
        "ids-forgotten",
        "--json",
    ];
    let failed = |output: &Output| -> Value {
        assert_eq!(output.status.code(), Some(1));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let report = failed(&run(&broken));
    assert_eq!(report["failures"].as_array().unwrap().len(), 2);
    let smallest = &report["shrunk"][0];
    let command = smallest["repeat"].as_str().unwrap();
    let mut words: Vec<&str> = command.split(' ').skip(1).collect();
    words.push("--json");
    let again = failed(&run(&words));
    assert_eq!(again["shrunk"][0]["violations"], smallest["violations"]);
}

#[test]
fn plans_that_are_none_are_refused_with_what_they_may_be() {
    let words = refused(&["sim", "--faults", "flood@1+2/3"], 2);
    assert!(
        words.contains("crash") && words.contains("MILLISECONDS"),
        "{words}"
    );
    let words = refused(&["sim", "--setup", "moon"], 2);
    assert!(words.contains("shared-disk"), "{words}");
}
