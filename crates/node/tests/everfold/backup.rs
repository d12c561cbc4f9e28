//! Backing up and restoring, also while a server writes.

use crate::model::lines_of_customers;
use crate::running::{Place, Server, answer, refused, run};

#[test]
fn a_store_is_backed_up_while_it_is_served_and_restored() {
    let place = Place::with_input(&lines_of_customers(0..10));
    let (data, input) = (place.text("demo"), place.text("input.txt"));
    answer(&[
        "demo", "--exit", "--json", "--data", &data, "--input", &input,
    ]);
    let (to, back) = (place.text("backup"), place.text("back"));
    let events = |data: &str| {
        let output = run(&["events", "--json", "--data", data]);
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let all = events(&data);
    let server = Server::on(&place.path("demo"));
    let first = answer(&["backup", "--json", "--data", &data, &to]);
    assert_eq!(first["number"], 1);
    assert!(first["copied"].as_u64().unwrap() > 0);
    let second = answer(&["backup", "--json", "--data", &data, &to]);
    assert_eq!(
        (second["number"].as_u64(), second["bytes"].as_u64()),
        (Some(2), Some(0))
    );
    assert!(server.running.end("-TERM").success());
    let verified = answer(&["verify", "--json", "--data", &to]);
    assert_eq!(
        verified["events"].as_u64().unwrap() as usize,
        all.lines().count()
    );
    let restored = answer(&["restore", "--json", &to, "--data", &back]);
    assert_eq!(restored["events"], verified["events"]);
    assert_eq!(events(&back), all);
    let server = Server::on(&place.path("back"));
    assert!(server.running.end("-TERM").success());
    // Refusals say what to do.
    assert!(refused(&["restore", &to, "--data", &back], 3).contains("empty"));
    assert!(
        refused(&["backup", "--data", &data, &place.text("demo")], 3).contains("empty directory")
    );
    assert!(refused(&["serve", "--data", &to], 3).contains("everfold restore"));
    let other = place.text("other");
    let served = Server::on(&place.path("other"));
    assert!(served.running.end("-TERM").success());
    assert!(refused(&["backup", "--data", &other, &to], 3).contains("directory of its own"));
    // A flipped bit is found, and nothing is left.
    let copies = std::fs::read_dir(&to)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let copy = copies
        .into_iter()
        .find(|path| path.extension().is_some_and(|end| end == "copy"));
    let copy = copy.unwrap();
    let mut bytes = std::fs::read(&copy).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(&copy, bytes).unwrap();
    let third = place.text("third");
    let name = copy.file_name().unwrap().to_str().unwrap();
    assert!(refused(&["restore", &to, "--data", &third], 3).contains(name));
    assert!(!place.path("third").exists());
    assert!(refused(&["verify", "--data", &to], 1).contains(name));
}
