//! `everfold demo` on small histories.

use crate::model::{comparable, figures, lines_of_customers};
use crate::running::{Place, answer, refused};

#[test]
fn figures_agree_with_the_model_for_several_limits_and_days() {
    let lines = lines_of_customers(0..120);
    for (limit, days) in [
        ("200.00", 30),
        ("50.00", 30),
        ("12.34", 1),
        ("100", 90),
        ("0", 30),
        ("1000000", 365),
    ] {
        let cents = (limit.parse::<f64>().unwrap() * 100.0).round() as i64;
        let place = Place::with_input(&lines);
        let (data, input, payment) = (
            place.text("demo"),
            place.text("input.txt"),
            days.to_string(),
        );
        let arguments = [
            "demo",
            "--exit",
            "--json",
            "--data",
            &data,
            "--input",
            &input,
            "--credit-limit",
            limit,
            "--payment-days",
            &payment,
        ];
        let first = answer(&arguments);
        assert_eq!(
            comparable(&first),
            figures(&lines, cents, days),
            "{limit} {days}"
        );
        assert!(first["commands"].as_u64().unwrap() > lines.len() as u64);
        assert!(first["seconds"].as_f64().unwrap() > 0.0);
        assert!(first["durability"].as_str().is_some());
        // Each event is in the log once: opened, and for each order placed, the customer's answer
        // and the order's decision; approved ones are shipped, and twice more when they are paid.
        let verified = answer(&["verify", "--json", "--data", &data]);
        assert_eq!(verified["events"], first["events"]);
        assert_eq!(verified["damage"].as_array().unwrap().len(), 0);

        let second = answer(&arguments);
        assert_eq!(comparable(&second), comparable(&first));
        assert_eq!(second["commands"], 0);
        assert_eq!(second["events"], first["events"]);
    }
}

#[test]
fn how_many_customers_are_played_at_once_makes_no_difference() {
    let lines = lines_of_customers(200..260);
    for concurrency in ["1", "7", "1000"] {
        let place = Place::with_input(&lines);
        let figures_found = answer(&[
            "demo",
            "--exit",
            "--json",
            "--data",
            &place.text("demo"),
            "--input",
            &place.text("input.txt"),
            "--concurrency",
            concurrency,
            "--credit-limit",
            "60",
        ]);
        assert_eq!(comparable(&figures_found), figures(&lines, 6_000, 30));
    }
}

#[test]
fn a_directory_that_was_loaded_otherwise_is_refused_and_the_way_out_named() {
    let lines = lines_of_customers(0..5);
    let place = Place::with_input(&lines);
    std::fs::write(place.path("other.txt"), lines[1..].join("\n")).unwrap();
    let (data, input, other) = (
        place.text("demo"),
        place.text("input.txt"),
        place.text("other.txt"),
    );
    let base = ["demo", "--exit", "--json", "--data", &data, "--input"];
    let with = |more: &[&str]| -> Vec<String> {
        base.iter()
            .chain(more)
            .map(|text| (*text).to_owned())
            .collect()
    };
    let first = answer(
        &with(&[&input])
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>(),
    );
    for more in [
        [input.as_str(), "--credit-limit", "100.00"],
        [input.as_str(), "--payment-days", "31"],
        [other.as_str(), "--port", "0"],
    ] {
        let arguments = with(&more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let words = refused(&arguments, 3);
        assert!(words.contains("--fresh"), "{words}");
        let fresh: Vec<&str> = arguments.iter().copied().chain(["--fresh"]).collect();
        let figures = answer(&fresh);
        assert!(figures["commands"].as_u64().unwrap() > 0);
        let back = with(&[&input, "--fresh"]);
        let back = answer(&back.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(comparable(&back), comparable(&first));
    }
}

#[test]
fn only_a_directory_of_the_demonstration_is_emptied() {
    let place = Place::with_input(&lines_of_customers(0..5));
    let (data, input) = (place.text("mine"), place.text("input.txt"));
    std::fs::create_dir(place.path("mine")).unwrap();
    std::fs::write(place.path("mine/letters.txt"), "dear").unwrap();
    for fresh in [&["--fresh"][..], &[]] {
        let mut arguments = vec!["demo", "--exit", "--data", &data, "--input", &input];
        arguments.extend_from_slice(fresh);
        let words = refused(&arguments, 3);
        assert!(
            words.contains("letters.txt") && words.contains("--data"),
            "{words}"
        );
        let names = std::fs::read_dir(place.path("mine")).unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["letters.txt"]);
    }
    // What somebody put beside the log of a demonstration stays.
    let demo = place.text("demo");
    answer(&[
        "demo", "--exit", "--json", "--data", &demo, "--input", &input,
    ]);
    std::fs::write(place.path("demo/notes.txt"), "mine").unwrap();
    answer(&[
        "demo", "--exit", "--json", "--data", &demo, "--input", &input, "--fresh",
    ]);
    assert_eq!(
        std::fs::read(place.path("demo/notes.txt")).unwrap(),
        b"mine"
    );
}

#[test]
fn a_line_that_cannot_be_understood_is_named_and_nothing_is_loaded() {
    let good = lines_of_customers(0..5);
    for (bad, fault) in [
        ("00009 19970101 1 -5.00", "-5.00"),
        ("00009 19970231 1 5.00", "19970231"),
        ("00009 19970101 1", "3 columns"),
        ("00009 19970101 x 5.00", "\"x\""),
    ] {
        let mut lines = good.clone();
        lines.insert(3, bad.to_owned());
        let place = Place::with_input(&lines);
        let (data, input) = (place.text("demo"), place.text("input.txt"));
        let words = refused(&["demo", "--exit", "--data", &data, "--input", &input], 3);
        assert!(words.contains("line 4") && words.contains(fault), "{words}");
        assert!(!place.path("demo").exists());
    }
    let place = Place::new();
    let missing = place.text("missing.txt");
    let words = refused(
        &[
            "demo",
            "--exit",
            "--data",
            &place.text("demo"),
            "--input",
            &missing,
        ],
        1,
    );
    assert!(words.contains("missing.txt"), "{words}");
}

#[test]
fn options_without_a_meaning_are_usage_errors() {
    for bad in [
        &["--credit-limit", "-1"][..],
        &["--credit-limit", "1.234"],
        &["--credit-limit", "much"],
        &["--payment-days", "0"],
        &["--concurrency", "0"],
        &["--jsno"],
    ] {
        let mut arguments = vec!["demo"];
        arguments.extend_from_slice(bad);
        refused(&arguments, 2);
    }
    assert!(refused(&["demo", "--jsno"], 2).contains("--json"));
}
