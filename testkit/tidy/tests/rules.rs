//! Each rule catches what it is for, and nothing beside it.

use std::path::Path;

use everfold_tidy::{check_architecture, check_links, check_source, dependencies};

fn broken(path: &str, text: &str) -> Vec<&'static str> {
    let findings = check_source(path, text);
    findings.iter().map(|finding| finding.rule).collect()
}

const FILE: &str = "crates/log/src/journal.rs";

#[test]
fn each_rule_catches_its_bad_snippet() {
    let snippets = [
        ("task", "fn f() { tokio::spawn(async {}); }"),
        ("task", "use tokio::{sync::mpsc, task::JoinSet};"),
        ("task", "use tokio::runtime::{Builder, Runtime};"),
        ("task", "fn f() { tokio :: task\n::spawn_blocking(|| 1); }"),
        ("timer", "use tokio::{sync, time::{sleep, Duration}};"),
        ("timer", "async fn f() { tokio::time::sleep(d).await }"),
        ("thread", "use std::{sync::Arc, thread};"),
        ("thread", "fn f() { std::thread::yield_now(); }"),
        ("clock", "fn f() { Instant::now(); }"),
        ("clock", "fn f() { std::time::Instant::now(); }"),
        ("clock", "use std::time::{Duration, SystemTime as Clock};"),
        ("randomness", "fn f() { getrandom::u64(); }"),
        ("randomness", "fn f() { Uuid::now_v7(); }"),
        ("map", "use std::collections::{BTreeMap, HashMap};"),
        ("map", "fn f() { std::collections::HashSet::<u8>::new(); }"),
        ("select", "async fn f() { tokio::select! { a = b => {} } }"),
        ("select", "async fn f() { select! { a = biased => {} } }"),
        ("unsafe", "fn f() { unsafe { g() } }"),
        ("unsafe", "#![allow(unsafe_code)]"),
        ("ignore", "#[test]\n#[ignore = \"slow\"]\nfn f() {}"),
        ("unfinished", "// TODO: more"),
        ("unfinished", "/* one\n XXX two */"),
        ("unfinished", "/// FIXME\nfn f() {}"),
        ("unfinished", "fn f() { todo!() }"),
        ("name", "mod utils;"),
        ("name", "pub(crate) mod common { }"),
        ("brand", "pub struct EverfoldEngine;"),
        ("brand", "type EVERFOLD_RESULT = ();"),
    ];
    for (rule, snippet) in snippets {
        assert_eq!(broken(FILE, snippet), [rule], "{snippet}");
    }
}

#[test]
fn what_is_right_passes() {
    let snippets = [
        "// A task of tokio::spawn would escape. So would std::thread.",
        "fn f() { log(\"unsafe HashMap, TODO\"); }",
        "const S: &str = r#\"tokio::spawn(\" unsafe \")\"#;",
        "async fn f() { tokio::select! { biased; a = b => {} } }",
        "async fn f() { tokio::select! {\n    // first come\n    biased;\n a = b => {} } }",
        "#[tokio::test]\nasync fn f() {}",
        "#![deny(unsafe_code)]\n#![forbid(unsafe_code)]",
        "fn f(instant: Instant, hash_map: u8, thread: &'static str) {}",
        "async fn f() { tokio::task::yield_now().await }",
        "use tokio::sync::{oneshot, watch};",
        "use everfold_engine::map::Map;\nstruct Store;",
        "fn task() { self.task.spawned() }",
        "const HASH: u64 = xxh3(b\"XXH3\"); // XXH3",
    ];
    for snippet in snippets {
        assert_eq!(broken(FILE, snippet), [""; 0], "{snippet}");
    }
}

#[test]
fn length_and_names_of_files_are_checked() {
    let lines = |count: usize| "fn f() {}\n".repeat(count);
    assert_eq!(broken(FILE, &lines(600)), [""; 0]);
    assert_eq!(broken(FILE, &lines(601)), ["long"]);
    assert_eq!(broken(FILE, &lines(1001)), ["length"]);
    assert_eq!(broken("crates/log/src/utils.rs", ""), ["name"]);
    assert_eq!(broken("crates/log/tests/common/mod.rs", ""), ["name"]);
    assert_eq!(broken("crates/log/src/lib.rs", "mod a;"), ["crate doc"]);
    assert_eq!(broken("crates/log/src/lib.rs", "//! The log.\n"), [""; 0]);
}

#[test]
fn exceptions_hold_where_they_are_listed_only() {
    let clock = "fn f() { SystemTime::now(); }";
    assert_eq!(broken("crates/engine/src/world/system.rs", clock), [""; 0]);
    assert_eq!(broken("crates/engine/src/world.rs", clock), ["clock"]);
    assert_eq!(broken("bench/src/run.rs", clock), [""; 0]);
    assert_eq!(
        broken("bench/src/run.rs", "fn f() { unsafe {} }"),
        ["unsafe"]
    );
}

#[test]
fn links_to_nowhere_are_found() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = "[a](src/lib.rs) [b](src/none.rs#x)\n[c](https://x.y/z) [d](#e) `[f](g)`\n\
                ```\n[h](i)\n```\n![j](none.png \"title\") [k](/Cargo.toml)";
    let found: Vec<_> = check_links(root, "README.md", text)
        .iter()
        .map(|finding| (finding.line, finding.what.clone()))
        .collect();
    let expected = [(1, "there is no src/none.rs"), (6, "there is no none.png")];
    assert_eq!(found, expected.map(|(line, what)| (line, what.to_owned())));
}

#[test]
fn dependencies_without_a_word_are_found() {
    let manifest = "[package]\nname = \"x\"\n[workspace.dependencies]\nmine = { path = \"m\" }\n\
                    tokio = \"1\"\n# old = \"1\"\nserde_json.workspace = true\n\
                    [target.'cfg(unix)'.dev-dependencies]\nproc-macro2 = \"1\"\n[features]\nf = []\n\
                    [dependencies.bytes]\nversion = \"1\"";
    let names = dependencies(manifest);
    let expected = ["bytes", "proc-macro2", "serde_json", "tokio"];
    assert_eq!(names.iter().collect::<Vec<_>>(), expected);
    let text = "`tokio` runs tasks; bytes are shared; proc-macro2-like and serde are not it.";
    let missing = check_architecture(Some(text), &names);
    assert_eq!(missing.len(), 2, "{missing:?}");
    assert_eq!(check_architecture(None, &names).len(), 1);
}
