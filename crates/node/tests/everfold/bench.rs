//! Measurements: that they run and say what they promise; never how fast anything is.

use serde_json::Value;

use crate::running::{answer, refused};

/// On the disk of the build: the usual place for temporary files may be memory.
const DATA: &str = env!("CARGO_TARGET_TMPDIR");

fn numbers(of: &Value, fields: &[&str]) {
    for field in fields {
        let number = of[field].as_f64();
        assert!(number.is_some_and(f64::is_finite), "{field} in {of}");
    }
}

fn positive(of: &Value, fields: &[&str]) {
    for field in fields {
        let number = of[field].as_f64();
        assert!(number.is_some_and(|number| number > 0.0), "{field} in {of}");
    }
}

#[test]
fn appends_are_measured_beside_the_bare_log() {
    let report = answer(&[
        "bench",
        "log",
        "--writers",
        "1,3",
        "--partitions",
        "2",
        "--batch-writers",
        "1",
        "--batch",
        "10",
        "--seconds",
        "0.25",
        "--json",
        "--data",
        DATA,
    ]);
    let runs = report["runs"].as_array().unwrap();
    let rows: Vec<_> = runs
        .iter()
        .map(|run| ["partitions", "writers", "events_per_append"].map(|field| run[field].as_u64()))
        .collect();
    let wanted = [(2, 1, 1), (2, 3, 1), (2, 1, 10)];
    assert_eq!(rows, wanted.map(|(a, b, c)| [a, b, c].map(Some)));
    for run in runs {
        positive(
            run,
            &[
                "appends_per_second",
                "events_per_second",
                "p50_us",
                "p99_us",
                "p999_us",
                "appends_per_batch",
                "bare_per_second",
                "bare_p50_us",
                "bare_p99_us",
                "bare_p999_us",
                "bare_per_write",
                "ratio",
            ],
        );
        // The system counts processor time in hundredths of a second.
        numbers(run, &["cpu_us_per_event", "bare_cpu_us"]);
        for field in ["bytes_per_event", "bare_bytes_per_event"] {
            let bytes = run[field].as_f64().unwrap();
            assert!((300.0..500.0).contains(&bytes), "{field} in {run}");
        }
        for field in ["samples", "bare_samples"] {
            assert_eq!(run[field].as_array().unwrap().len(), 5);
        }
    }
    positive(&report, &["bare_write_p50_us", "bare_p50_us"]);
    let limit = report["bare_write_p50_us"].as_f64().unwrap() * 1.25;
    let near = (report["bare_p50_us"].as_f64().unwrap() - limit).abs() < 0.2;
    let valid = report["bare_p50_us"].as_f64().unwrap() <= limit;
    assert!(near || report["valid"] == valid);
    assert!(report["machine"]["cores"].as_u64().unwrap() > 0);
    let sizes = report["sizes"].as_array().unwrap();
    assert_eq!(sizes.len(), 2);
    for (sizes, ids) in sizes.iter().zip(["distinct", "coinciding"]) {
        assert_eq!(sizes["ids"], ids);
        let total = sizes["bytes_per_event"][0].as_f64().unwrap();
        let fields = sizes["fields"].as_array().unwrap().iter();
        let sum: f64 = fields
            .map(|field| field["bytes"][0].as_f64().unwrap())
            .sum();
        assert!((total - sum).abs() < 0.5, "{sum} of {total}");
    }
    refused(&["bench", "log", "--writers", "0", "--data", DATA], 1);
}

#[test]
fn reading_is_measured_beside_the_bare_bytes() {
    let report = answer(&[
        "bench",
        "replay",
        "--events",
        "3000",
        "--partitions",
        "2",
        "--live",
        "20",
        "--entities",
        "20",
        "--json",
        "--data",
        DATA,
    ]);
    let plain = &report["plain"];
    assert_eq!(plain["events"], 3000);
    assert_eq!(plain["history"]["events_per_entity"], 10);
    let per_event = plain["stored_bytes_per_event"].as_f64().unwrap();
    assert!(per_event > 256.0, "{plain}");
    let whole = [
        "warm_events_per_second",
        "warm_mb_per_second",
        "bare_warm_events_per_second",
        "bare_warm_mb_per_second",
        "warm_ratio",
        "cold_events_per_second",
        "cold_mb_per_second",
        "device_mb_per_second",
        "cold_ratio",
    ];
    positive(&plain["whole"], &whole);
    numbers(
        &plain["whole"],
        &["warm_cpu_us_per_event", "cold_from_device"],
    );
    let history = [
        "warm_p50_us",
        "warm_p99_us",
        "bare_warm_p50_us",
        "cold_p50_us",
        "cold_p99_us",
        "bare_cold_p50_us",
    ];
    positive(&plain["history"], &history);
    let live = ["ack_p50_us", "ack_p99_us", "held_p50_us", "held_p99_us"];
    positive(&plain["live"], &live);
    numbers(
        &plain["live"],
        &["ack_to_held_p50_us", "ack_to_held_p99_us"],
    );
    let opening = [
        "open_warm_ms",
        "first_append_warm_ms",
        "open_cold_ms",
        "first_append_cold_ms",
    ];
    positive(&plain["opening"], &opening);
    assert!(report.as_object().unwrap().contains_key("compressed"));
    refused(&["bench", "replay", "--events", "5", "--data", DATA], 1);
}

#[test]
fn transfers_are_measured_beside_appends_to_the_log() {
    let report = answer(&[
        "bench",
        "ledger",
        "--clients",
        "1",
        "--seconds",
        "0.25",
        "--json",
        "--data",
        DATA,
    ]);
    let runs = report["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 1);
    let run = &runs[0];
    assert_eq!(run["clients"], 1);
    positive(
        run,
        &[
            "transfers_per_second",
            "p50_us",
            "p99_us",
            "appends_per_second",
            "log_p50_us",
            "log_p99_us",
            "ratio",
            "transfers_per_batch",
            "appends_per_batch",
        ],
    );
    numbers(run, &["cpu_us_per_transfer", "log_cpu_us", "views_behind"]);
    for field in ["samples", "log_samples"] {
        assert_eq!(run[field].as_array().unwrap().len(), 5);
    }
    positive(&report, &["bare_write_p50_us", "log_p50_us"]);
    assert!(report["durability"].as_str().is_some());
    refused(&["bench", "ledger", "--clients", "0", "--data", DATA], 1);
}
