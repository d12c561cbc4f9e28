//! Bytes that are for ever: files of every released format, read as ever and, where nothing but this
//! crate has a say in them, written as ever.
//!
//! `EVERFOLD_PIN=1` writes the files of a format that is not released yet.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::PathBuf;
use std::sync::Arc;

use everfold_engine::engine::{Engine, Query, Trim};
use everfold_engine::record::Kind;
use everfold_engine::{EntityKey, Offset, Record};
use everfold_log::{Log, MemoryDisk, Options, verify};

use support::*;

/// What a log consists of when its first segment was trimmed and the others are packed.
const PINNED: [&str; 4] = [
    "0000000002.sealed",
    "0000000002-0000000002.index",
    "trimmed",
    "0000000003.log",
];

fn options() -> Options {
    let mut options = small();
    options.segment_bytes = 16 << 10;
    options.plain_segments = 0;
    options
}

fn path(name: &str) -> PathBuf {
    let format = match name.rsplit_once('.') {
        Some((_, "sealed" | "index")) | None => name.rsplit('.').next().unwrap(),
        _ => "active",
    };
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(format!("format-1.{format}"))
}

fn fill(log: &Log, owner: &mut Owner, versions: std::ops::RangeInclusive<u64>) -> Offset {
    let mut last = Offset(0);
    for version in versions {
        let mut a = event("a", version, vec![version as u8; 600]);
        a.portable.labels = vec![(
            "colour".into(),
            ["red", "green"][version as usize % 2].into(),
        )];
        last = owner.append(log, vec![a, event("b", version, format!("b{version}"))]);
    }
    last
}

/// The same log in every run.
fn written() -> MemoryDisk {
    let disk = MemoryDisk::new();
    let log = try_open(&disk, options()).unwrap();
    let mut owner = Owner::of(&log, P0);
    let first = fill(&log, &mut owner, 1..=16);
    let baselines = ["a", "b"].map(|entity| {
        let mut record = event(entity, 16, format!("{entity} at 16"));
        record.kind = Kind::Baseline;
        record
    });
    owner.append(&log, baselines.to_vec());
    let last = fill(&log, &mut owner, 17..=27);
    let mut record = event("a", 27, "a at 27");
    record.kind = Kind::Baseline;
    owner.append(&log, vec![record]);
    fill(&log, &mut owner, 28..=40);
    now(log.trim(Trim::Before(vec![first, Offset(0)]))).unwrap();
    let entity = EntityKey::new("thing", "a");
    let partition = P0;
    let until = Offset(u64::MAX);
    let trim = Trim::Entity {
        partition,
        entity,
        until,
    };
    now(log.trim(trim)).unwrap();
    assert!(last > first);
    now(log.close());
    disk
}

fn history(log: &Log, entity: &str) -> Vec<String> {
    let entity = EntityKey::new("thing", entity);
    let records = now(log.read_entity(P0, &entity, 0, 1000)).unwrap();
    let text = |record: &Arc<Record>| {
        let length = record.portable.payload.len();
        format!("{:?} {} {length}", record.kind, record.local.version)
    };
    records.iter().map(text).collect()
}

#[test]
fn files_of_the_first_format_are_read_as_ever() {
    let made = written();
    if std::env::var_os("EVERFOLD_PIN").is_some() {
        for name in PINNED {
            let mut bytes = made.contents(name).unwrap();
            let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
            bytes.truncate(end.max(usize::from(!name.ends_with(".log")) * bytes.len()));
            std::fs::write(path(name), bytes).unwrap();
        }
    }
    let disk = MemoryDisk::new();
    for name in PINNED {
        let mut bytes = std::fs::read(path(name)).unwrap();
        if name.ends_with(".log") {
            bytes.resize(16 << 10, 0);
        }
        disk.replace(name, bytes);
    }
    let log = try_open(&disk, options()).unwrap();
    assert_eq!((log.report().indexes_made, log.report().segments), (0, 2));
    let mut expected = vec!["Baseline 27 7".to_owned()];
    expected.extend((28..=40).map(|version| format!("Event {version} 600")));
    assert_eq!(history(&log, "a"), expected);
    let mut expected = vec!["Baseline 16 7".to_owned()];
    expected.extend((17..=40).map(|version| format!("Event {version} 3")));
    assert_eq!(history(&log, "b"), expected);
    let query = Query {
        labels: vec![("colour".into(), "red".into())],
        ..Query::default()
    };
    let found = now(log.find(P0, &query, Offset(0), 100)).unwrap();
    let versions: Vec<_> = found.records.iter().map(|r| r.local.version).collect();
    assert_eq!(versions, (28..=40).step_by(2).collect::<Vec<_>>());
    now(log.close());
    assert_eq!(verify(&disk, &mut |_, _| {}).unwrap().damage, []);
}

/// A sealed segment is not compared: its compressor may find a shorter form one day.
#[test]
fn files_are_written_as_ever() {
    let made = written();
    for name in ["0000000002-0000000002.index", "trimmed"] {
        let pinned = std::fs::read(path(name)).unwrap();
        assert_eq!(made.contents(name).unwrap(), pinned, "{name}");
    }
}
