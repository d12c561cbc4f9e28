//! What a hostile reader of the log engine tries: races, stale files, and promises taken literally.

#![allow(clippy::unwrap_used)]

mod support;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use everfold_engine::engine::{Engine, Query, ReadLimit, Trim};
use everfold_engine::record::{Kind, Record, Reply, Unit};
use everfold_engine::world::System;
use everfold_engine::{EntityKey, Offset, Stamp, Timestamp};
use everfold_log::disk::{Access, Call, Crash, Description, Fault, FaultPlan, File, Held};
use everfold_log::{Disk, Log, MemoryDisk, Options, verify};

use support::*;

fn options() -> Options {
    let mut options = small();
    options.segment_bytes = 16 << 10;
    options.tail_bytes = 0;
    options.plain_segments = 100;
    options
}

fn open_with(disk: &MemoryDisk, options: Options) -> Arc<Log> {
    try_open(disk, options).unwrap_or_else(|error| panic!("{error}"))
}

fn key(entity: &str) -> EntityKey {
    EntityKey::new("thing", entity)
}

fn baseline(entity: &str, version: u64) -> Record {
    let mut record = event(entity, version, format!("state of {entity} at {version}"));
    record.kind = Kind::Baseline;
    record
}

/// Bytes that do not compress.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn fill(log: &Log, owner: &mut Owner, entity: &str, versions: std::ops::RangeInclusive<u64>) {
    for version in versions {
        owner.append(log, vec![event(entity, version, noise(version, 700))]);
    }
}

fn trim_entity(log: &Log, entity: &str, until: Offset) -> u64 {
    let trim = Trim::Entity {
        partition: P0,
        entity: key(entity),
        until,
    };
    now(log.trim(trim)).unwrap().records
}

fn versions(log: &Log, entity: &str) -> Vec<u64> {
    let records = now(log.read_entity(P0, &key(entity), 0, 10_000)).unwrap();
    records.iter().map(|record| record.local.version).collect()
}

fn remove_indexes(disk: &MemoryDisk) {
    for name in Disk::list(disk).unwrap() {
        if name.ends_with(".index") {
            Disk::remove(disk, &name).unwrap();
        }
    }
}

type Act = Box<dyn FnOnce() + Send>;

/// What happens when a file is opened or read: once, at the first call that fits.
#[derive(Default)]
struct Hooks {
    after_open: Mutex<Option<(String, Act)>>,
    before_open: Mutex<Vec<(String, Act)>>,
    before_read: Mutex<Option<(String, Act)>>,
    read: AtomicU64,
}

fn fire(hook: &Mutex<Option<(String, Act)>>, name: &str) {
    let act = {
        let mut hook = hook.lock().unwrap();
        match &*hook {
            Some((wanted, _)) if wanted == name => hook.take(),
            _ => None,
        }
    };
    if let Some((_, act)) = act {
        act();
    }
}

#[derive(Clone)]
struct Hooked {
    inner: MemoryDisk,
    hooks: Arc<Hooks>,
}

struct HookedFile {
    name: String,
    inner: Arc<dyn File>,
    hooks: Arc<Hooks>,
}

impl Hooked {
    fn over(inner: &MemoryDisk) -> Self {
        Self {
            inner: inner.clone(),
            hooks: Arc::default(),
        }
    }
}

impl Disk for Hooked {
    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        if access == Access::Read {
            let act = {
                let mut hooks = self.hooks.before_open.lock().unwrap();
                let found = hooks.iter().position(|(wanted, _)| wanted == name);
                found.map(|found| hooks.remove(found))
            };
            if let Some((_, act)) = act {
                act();
            }
        }
        let inner = self.inner.open(name, access)?;
        if access == Access::Read {
            fire(&self.hooks.after_open, name);
        }
        Ok(Arc::new(HookedFile {
            name: name.to_owned(),
            inner,
            hooks: Arc::clone(&self.hooks),
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.inner.sync_directory()
    }

    fn lock(&self, name: &str) -> io::Result<Option<Box<dyn Held>>> {
        self.inner.lock(name)
    }

    fn description(&self) -> Description {
        self.inner.description()
    }
}

impl File for HookedFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        fire(&self.hooks.before_read, &self.name);
        self.hooks
            .read
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.inner.read_at(at, bytes)
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_at(at, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.inner.set_len(length)
    }
}

fn append_at(log: &Log, owner: &mut Owner, millis: i64, mut record: Record) {
    let stamp = Stamp::next(owner.floor, Timestamp::from_millis(millis), P0);
    owner.floor = stamp;
    owner.batches += 1;
    record.local.stamp = stamp;
    record.portable.unit = Unit::SINGLE;
    let batch = everfold_engine::engine::Batch {
        id: owner.batches,
        records: vec![record],
    };
    now(log.append(P0, owner.epoch, batch)).unwrap();
}

/// Blocks whose first frame was trimmed have stamp 0 in the directory, so that a binary search by
/// stamp runs into the wrong half.
#[test]
fn a_search_by_time_misses_nothing_after_an_entity_was_trimmed() {
    let mut options = options();
    options.first_segment_bytes = 1 << 20;
    options.segment_bytes = 1 << 20;
    let disk = MemoryDisk::new();
    let log = open_with(&disk, options.clone());
    let mut owner = Owner::of(&log, P0);
    let mut millis = 10_000;
    // A block is closed by each of the large events, so that the next begins with a small one.
    for n in 1..=10 {
        for (entity, length) in [("a", 10), ("b", 70_000)] {
            millis += 1000;
            append_at(&log, &mut owner, millis, event(entity, n, noise(n, length)));
        }
    }
    append_at(&log, &mut owner, millis + 1, baseline("a", 10));
    for n in 1..=20 {
        append_at(
            &log,
            &mut owner,
            millis + 1_000_000,
            event("c", n, noise(n, 70_000)),
        );
    }
    assert!(trim_entity(&log, "a", Offset(u64::MAX)) > 0);
    let of_b: Vec<_> = all(&log, P0)
        .into_iter()
        .filter(|record| record.portable.entity.id == "b")
        .collect();
    assert_eq!(of_b.len(), 10);
    for since in (10_000..millis).step_by(500) {
        let query = Query {
            entity_types: vec!["thing".into()],
            since: Some(Timestamp::from_millis(since)),
            until: Some(Timestamp::from_millis(millis + 2)),
            ..Query::default()
        };
        let found = now(log.find(P0, &query, Offset(0), 10_000)).unwrap();
        let found = found
            .records
            .iter()
            .filter(|record| record.portable.entity.id == "b")
            .count();
        let expected = of_b
            .iter()
            .filter(|record| record.recorded() >= Timestamp::from_millis(since))
            .count();
        assert_eq!(found, expected, "since {since}");
    }
}

fn two_entities(disk: &MemoryDisk) {
    let log = open_with(disk, options());
    let mut owner = Owner::of(&log, P0);
    for version in 1..=8 {
        owner.append(&log, vec![event("a", version, noise(version, 300))]);
        owner.append(&log, vec![event("b", version, noise(version, 300))]);
    }
    owner.append(&log, vec![baseline("a", 8), baseline("b", 8)]);
    fill(&log, &mut owner, "c", 1..=40);
    // Packs the first segment.
    owner.append(&log, vec![baseline("c", 40)]);
    trim_entity(&log, "c", Offset(u64::MAX));
    now(log.close());
}

/// A reader that opened a packed segment just before it was written anew puts the old file back.
#[test]
fn what_was_trimmed_while_a_reader_opened_the_segment_stays_trimmed() {
    let disk = MemoryDisk::new();
    two_entities(&disk);
    let hooked = Hooked::over(&disk);
    let hooks = Arc::clone(&hooked.hooks);
    let log = Log::open(Arc::new(hooked), Still::eager(), options()).unwrap();
    let trimming = Arc::clone(&log);
    let act = move || assert_eq!(trim_entity(&trimming, "a", Offset(u64::MAX)), 8);
    *hooks.after_open.lock().unwrap() = Some(("0000000001.sealed".into(), Box::new(act)));
    let _ = now(log.read(P0, Offset(0), ReadLimit::default())).unwrap();
    assert!(
        hooks.after_open.lock().unwrap().is_none(),
        "the segment was not opened"
    );
    // A second trim begins with what is there.
    assert_eq!(trim_entity(&log, "b", Offset(u64::MAX)), 8);
    now(log.close());
    drop(log);
    let log = open_with(&disk, options());
    let left = all(&log, P0);
    let of_a = left
        .iter()
        .filter(|record| record.kind == Kind::Event && record.portable.entity.id == "a");
    assert_eq!(of_a.count(), 0, "trimmed events are back");
}

/// "Made again if it is missing or damaged", says the format; only its last bytes are looked at.
#[test]
fn a_damaged_index_is_made_again() {
    let disk = MemoryDisk::new();
    let log = open_with(&disk, options());
    let mut owner = Owner::of(&log, P0);
    fill(&log, &mut owner, "a", 1..=60);
    now(log.close());
    drop(log);
    for name in Disk::list(&disk).unwrap() {
        if name.ends_with(".index") {
            disk.flip(&name, 40, 0);
        }
    }
    // It is damage: somebody has to say so, or nobody has to notice.
    let damage = verify(&disk, &mut |_, _| {}).unwrap().damage;
    for _ in 0..2 {
        let log = open_with(&disk, options());
        let _ = now(log.read_entity(P0, &key("a"), 0, 100));
        now(log.close());
    }
    let log = open_with(&disk, options());
    let found = now(log.read_entity(P0, &key("a"), 0, 100));
    let found = found.map(|records| records.len());
    assert_eq!(
        found,
        Ok(60),
        "verify found {damage:?}, opening {:?}",
        log.report()
    );
}

/// Trimming an entity packs segments out of order.
#[test]
fn an_index_of_a_plain_segment_before_a_packed_one_is_made_again() {
    let disk = MemoryDisk::new();
    let log = open_with(&disk, options());
    let mut owner = Owner::of(&log, P0);
    fill(&log, &mut owner, "b", 1..=40);
    fill(&log, &mut owner, "a", 1..=40);
    owner.append(&log, vec![baseline("a", 40)]);
    fill(&log, &mut owner, "b", 41..=80);
    assert!(trim_entity(&log, "a", Offset(u64::MAX)) > 0);
    now(log.close());
    drop(log);
    remove_indexes(&disk);
    let log = open_with(&disk, options());
    assert_eq!(versions(&log, "b"), (1..=80).collect::<Vec<_>>());
}

/// Handlers lag, so an entity is trimmed up to an offset in the middle of what its baseline stands for.
#[test]
fn verification_finds_no_damage_in_an_entity_that_was_trimmed_twice() {
    let disk = MemoryDisk::new();
    let log = open_with(&disk, options());
    let mut owner = Owner::of(&log, P0);
    fill(&log, &mut owner, "a", 1..=40);
    owner.append(&log, vec![baseline("a", 40)]);
    fill(&log, &mut owner, "b", 1..=30);
    assert_eq!(trim_entity(&log, "a", Offset(u64::MAX)), 40);
    fill(&log, &mut owner, "a", 41..=60);
    let until = owner.append(&log, vec![event("b", 31, "x")]);
    fill(&log, &mut owner, "a", 61..=80);
    owner.append(&log, vec![baseline("a", 80)]);
    fill(&log, &mut owner, "b", 32..=60);
    assert_eq!(trim_entity(&log, "a", until), 20);
    now(log.close());
    drop(log);
    let found = verify(&disk, &mut |_, _| {}).unwrap();
    assert_eq!(found.damage, []);
}

/// The prepared segment behind the last one is read as a whole, three times.
#[test]
fn opening_reads_no_more_than_the_active_segment() {
    let mut options = small();
    options.first_segment_bytes = 1 << 20;
    options.segment_bytes = 1 << 20;
    let disk = MemoryDisk::new();
    let log = open_with(&disk, options.clone());
    let mut owner = Owner::of(&log, P0);
    owner.append(&log, vec![event("a", 1, "x")]);
    now(log.close());
    drop(log);
    let hooked = Hooked::over(&disk);
    let hooks = Arc::clone(&hooked.hooks);
    let log = Log::open(Arc::new(hooked), Still::eager(), options).unwrap();
    let read = hooks.read.load(Ordering::Relaxed);
    assert!(
        read <= (1 << 20) + (512 << 10),
        "{read} bytes were read to open a log with one event and a segment of 1 MiB"
    );
    drop(log);
}

/// Frames were found in memory; their segment is packed before they are read, and the newest one
/// lies in the active segment.
#[test]
fn a_history_is_read_while_its_older_half_is_packed() {
    let mut options = options();
    options.plain_segments = 0;
    let disk = MemoryDisk::new();
    let world = Still::eager();
    let log = Log::open(Arc::new(disk), world.clone(), options).unwrap();
    let mut owner = Owner::of(&log, P0);
    owner.append(&log, vec![event("x", 1, "first")]);
    world.hold_jobs();
    fill(&log, &mut owner, "b", 1..=15);
    owner.append(&log, vec![event("x", 2, "second")]);
    let x = key("x");
    let mut history = log.read_entity(P0, &x, 0, 10);
    assert!(poll(&mut history).is_none());
    // The segment is indexed, packed and its file taken before the read has its turn.
    world.release_jobs();
    let found = poll(&mut history).unwrap();
    assert_eq!(found.map(|records| records.len()), Ok(2));
}

/// Removing a file in steps cuts it under whoever reads it.
#[test]
fn a_reader_of_an_index_that_goes_is_not_told_of_damage() {
    let mut options = options();
    options.first_segment_bytes = 16 << 20;
    options.segment_bytes = 16 << 20;
    options.read_cache_bytes = 0;
    let disk = MemoryDisk::new();
    let hooked = Hooked::over(&disk);
    let hooks = Arc::clone(&hooked.hooks);
    let log = Log::open(Arc::new(hooked), Still::eager(), options).unwrap();
    let mut owner = Owner::of(&log, P0);
    let mut version = 0;
    for _ in 0..20 {
        let unit = (0..1000).map(|_| {
            version += 1;
            let mut record = event("a", version, "");
            record.portable.labels = (0..20)
                .map(|n| (format!("l{n}").into(), version.to_string().into()))
                .collect();
            record
        });
        let unit = unit.collect();
        owner.append(&log, unit);
    }
    for _ in 0..20 {
        version += 1;
        owner.append(&log, vec![event("a", version, noise(version, 1_000_000))]);
    }
    let end = owner.append(&log, vec![baseline("a", version)]);
    for n in 1..=20 {
        owner.append(&log, vec![event("b", n, noise(n, 1_000_000))]);
    }
    let name = "0000000001-0000000001.index";
    let length = disk.contents(name).unwrap().len();
    assert!(length > 8 << 20, "an index of {length} bytes");
    let trimming = Arc::clone(&log);
    let act = move || {
        let trimmed = now(trimming.trim(Trim::Before(vec![end, Offset(0)]))).unwrap();
        assert!(trimmed.records > 20_000);
    };
    *hooks.before_read.lock().unwrap() = Some((name.into(), Box::new(act)));
    let found = now(log.read_entity(P0, &key("a"), 0, 10));
    assert!(hooks.before_read.lock().unwrap().is_none());
    let found = found.map(|records| records[0].kind);
    assert_eq!(found, Ok(Kind::Baseline));
}

/// Answers are kept in the tail with their records, and are not counted.
#[test]
fn the_newest_records_stay_within_their_budget_with_their_answers() {
    let mut options = small();
    options.tail_bytes = 64 << 10;
    options.segment_bytes = 16 << 20;
    options.first_segment_bytes = 16 << 20;
    options.read_cache_bytes = 0;
    let disk = MemoryDisk::new();
    let log = open_with(&disk, options);
    let mut owner = Owner::of(&log, P0);
    for version in 1..=50 {
        let mut record = event("a", version, "x");
        record.local.reply = Some(Reply {
            command_digest: 1.into(),
            rejected: false,
            body: noise(version, 100_000).into(),
            source: None,
        });
        owner.append(&log, vec![record]);
    }
    disk.set_plan(FaultPlan::default());
    let limit = ReadLimit::default();
    let chunk = now(log.read(P0, Offset(21), limit)).unwrap();
    let answers = chunk.records.iter().map(|record| {
        let reply = record.local.reply.as_ref();
        reply.map_or(0, |reply| reply.body.len())
    });
    let answers: usize = answers.sum();
    assert!(
        disk.calls(Call::Read) > 0,
        "{answers} bytes of answers came from a memory of 32 KiB"
    );
}

/// The flush of a new segment's header fails; the next process finds it readable, builds on it, and
/// power fails.
#[test]
fn nothing_is_built_on_a_header_whose_flush_failed() {
    for nth in 1..120 {
        let disk = MemoryDisk::new();
        let log = open_with(&disk, options());
        let mut owner = Owner::of(&log, P0);
        disk.set_plan(FaultPlan::new(1).at(Fault::FailedSync, nth));
        let mut told = 0;
        for version in 1..=60 {
            let batch = owner.batch(vec![event("a", version, noise(version, 700))]);
            if now(log.append(P0, owner.epoch, batch)).is_err() {
                break;
            }
            told = version;
        }
        now(log.close());
        drop(log);
        disk.set_plan(FaultPlan::default());
        let log = open_with(&disk, options());
        let mut owner = Owner::of(&log, P0);
        let held = versions(&log, "a").len() as u64;
        assert!(held >= told);
        fill(&log, &mut owner, "a", held + 1..=held + 5);
        drop(log);
        let disk = disk.crash(Crash::Nothing);
        let log = try_open(&disk, options());
        let log = log.unwrap_or_else(|error| panic!("flush {nth} failed: {error}"));
        assert_eq!(
            versions(&log, "a"),
            (1..=held + 5).collect::<Vec<_>>(),
            "flush {nth}"
        );
    }
}

/// Segments are gone from some generation on (an older copy was put back), their indexes are not.
#[test]
fn an_index_that_is_ahead_of_the_log_is_made_again() {
    let mut options = options();
    options.compression = None;
    let disk = MemoryDisk::new();
    let log = open_with(&disk, options.clone());
    let mut owner = Owner::of(&log, P0);
    fill(&log, &mut owner, "a", 1..=40);
    fill(&log, &mut owner, "b", 1..=160);
    now(log.close());
    drop(log);
    let merged = "0000000001-0000000008.index";
    assert!(
        Disk::list(&disk).unwrap().iter().any(|name| name == merged),
        "no merged index"
    );
    for name in segments(&disk) {
        if name.as_str() > "0000000004.log" {
            Disk::remove(&disk, &name).unwrap();
        }
    }
    let log = open_with(&disk, options.clone());
    let mut owner = Owner::of(&log, P0);
    let before = versions(&log, "a").len() as u64;
    fill(&log, &mut owner, "a", before + 1..=before + 100);
    let whole: Vec<u64> = (1..=before + 100).collect();
    let read = |log: &Log| {
        let found = now(log.read_entity(P0, &key("a"), 0, 10_000));
        found.map(|records| {
            let versions = records.iter().map(|record| record.local.version);
            versions.collect::<Vec<_>>()
        })
    };
    assert_eq!(read(&log), Ok(whole.clone()));
    now(log.close());
    drop(log);
    let log = open_with(&disk, options);
    assert_eq!(read(&log), Ok(whole), "after a restart");
}

/// "A directory that has segments may hold other files; they are not looked at."
#[test]
fn a_file_of_somebody_else_is_left_alone() {
    let disk = MemoryDisk::new();
    let log = open_with(&disk, options());
    now(log.close());
    drop(log);
    disk.replace("key of my car.spare", b"where it is".to_vec());
    let log = open_with(&disk, options());
    let mut owner = Owner::of(&log, P0);
    fill(&log, &mut owner, "a", 1..=60);
    now(log.close());
    let contents = disk.contents("key of my car.spare");
    assert_eq!(contents, Some(b"where it is".to_vec()));
}

/// "`trimming`: files while they are written; removed when the log is opened."
#[test]
fn a_marker_that_was_not_finished_is_removed() {
    let disk = MemoryDisk::new();
    now(open_with(&disk, options()).close());
    disk.replace("trimming", vec![1; 100]);
    let log = open_with(&disk, options());
    assert_eq!(disk.contents("trimming"), None);
    drop(log);
}

/// A search reads several segments, and more than one of them is packed meanwhile: it is tried again
/// only once.
#[test]
fn a_search_goes_on_while_one_segment_after_the_other_is_packed() {
    let disk = MemoryDisk::new();
    let hooked = Hooked::over(&disk);
    let hooks = Arc::clone(&hooked.hooks);
    let log = Log::open(Arc::new(hooked), Still::eager(), options()).unwrap();
    let mut owner = Owner::of(&log, P0);
    fill(&log, &mut owner, "a", 1..=5);
    fill(&log, &mut owner, "c", 1..=15);
    fill(&log, &mut owner, "b", 1..=3);
    fill(&log, &mut owner, "c", 16..=50);
    owner.append(&log, vec![baseline("a", 5), baseline("b", 3)]);
    let (first, later) = (Arc::clone(&log), Arc::clone(&hooks));
    let act = move || {
        assert!(trim_entity(&first, "a", Offset(u64::MAX)) > 0);
        let second = Arc::clone(&first);
        let act = move || {
            assert!(trim_entity(&second, "b", Offset(u64::MAX)) > 0);
        };
        let mut hooks = later.before_open.lock().unwrap();
        hooks.push(("0000000002.log".into(), Box::new(act)));
    };
    let wanted = ("0000000001.log".into(), Box::new(act) as Act);
    hooks.before_open.lock().unwrap().push(wanted);
    let query = Query {
        entity_types: vec!["thing".into()],
        ..Query::default()
    };
    let found = now(log.find(P0, &query, Offset(0), 1000));
    assert!(hooks.before_open.lock().unwrap().is_empty());
    let found = found.map(|chunk| {
        let records = chunk.records.iter();
        records.filter(|r| r.portable.entity.id == "c").count()
    });
    assert_eq!(found, Ok(50));
}

/// A search asks memory twice: for where it begins, and for what it has. In between a segment's
/// index may leave it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_search_that_follows_the_writing_skips_nothing() {
    const EVENTS: u64 = 30_000;
    let mut options = options();
    options.segment_bytes = 16 << 10;
    options.tail_bytes = 8 << 20;
    options.compression = None;
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let log = Log::open(disk, System::current(), options).unwrap();
    let claim = log.claim(P0).await.unwrap();
    let mut searches = Vec::new();
    for _ in 0..3 {
        let log = Arc::clone(&log);
        searches.push(tokio::spawn(async move {
            let query = Query {
                event_types: vec!["Happened".into()],
                ..Query::default()
            };
            let (mut next, mut expected) = (Offset(0), 1);
            while expected <= EVENTS {
                let chunk = log.find(P0, &query, next, 1000).await.unwrap();
                next = chunk.next;
                for record in &chunk.records {
                    let version = record.local.version;
                    assert_eq!(version, expected, "events were skipped");
                    expected += 1;
                }
                assert!(
                    expected > EVENTS || next.0 < EVENTS + 1,
                    "the end was reached with {expected}"
                );
                tokio::task::yield_now().await;
            }
        }));
    }
    let mut owner = Owner::after(claim, P0);
    for version in 1..=EVENTS {
        let batch = owner.batch(vec![event("a", version, vec![0; 700])]);
        log.append(P0, owner.epoch, batch).await.unwrap();
    }
    for search in searches {
        search.await.unwrap();
    }
    log.close().await;
}

/// What was acknowledged is there; only the index of a segment is not, for there was no room for it.
#[test]
fn a_log_whose_indexes_are_missing_opens_on_a_full_disk() {
    let disk = MemoryDisk::new();
    let log = open_with(&disk, options());
    let mut owner = Owner::of(&log, P0);
    fill(&log, &mut owner, "a", 1..=60);
    now(log.close());
    drop(log);
    remove_indexes(&disk);
    disk.set_capacity(Some(0));
    let log = try_open(&disk, options());
    let log = log.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(versions(&log, "a"), (1..=60).collect::<Vec<_>>());
}

/// A file of an odd length can neither be filled with zeros nor be a segment.
#[tokio::test(flavor = "multi_thread")]
async fn a_spare_file_of_an_odd_length_does_not_stop_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = Log::open_directory(&path, System::current(), options()).unwrap();
    log.close().await;
    drop(log);
    std::fs::write(path.join("old.spare"), b"odd").unwrap();
    let log = Log::open_directory(&path, System::current(), options()).unwrap();
    let claim = log.claim(P0).await.unwrap();
    let mut owner = Owner::after(claim, P0);
    for version in 1..=100 {
        let batch = owner.batch(vec![event("a", version, noise(version, 700))]);
        let appended = log.append(P0, owner.epoch, batch).await;
        assert!(appended.is_ok(), "version {version}: {appended:?}");
    }
    log.close().await;
}

/// A packed segment that did not find room leaves its beginning behind, while appends are refused for
/// want of that room.
#[test]
fn what_was_not_packed_for_want_of_room_takes_none() {
    for megabytes in 10..22 {
        let mut options = options();
        options.plain_segments = 0;
        options.first_segment_bytes = 4 << 20;
        options.segment_bytes = 4 << 20;
        let disk = MemoryDisk::new();
        let log = open_with(&disk, options);
        let mut owner = Owner::of(&log, P0);
        disk.set_capacity(Some(megabytes << 20));
        for version in 1..1000 {
            let batch = owner.batch(vec![event("a", version, noise(version, 500_000))]);
            if now(log.append(P0, owner.epoch, batch)).is_err() {
                break;
            }
        }
        let left = ["sealing", "indexing"].map(|name| disk.contents(name));
        let left = left.map(|file| file.map_or(0, |file| file.len()));
        assert_eq!(left, [0, 0], "of {megabytes} MiB");
    }
}

/// As many partitions and as small segments as there may be, and a frame larger than a segment.
#[test]
fn the_limits_go_together() {
    let mut options = options();
    options.partitions = Some(1024);
    options.first_segment_bytes = 0;
    options.segment_bytes = 0;
    options.plain_segments = 0;
    options.read_cache_bytes = 0;
    let disk = MemoryDisk::new();
    let log = open_with(&disk, options.clone());
    let mut owners: Vec<Owner> = [0, 511, 1023]
        .map(|partition| Owner::of(&log, everfold_engine::Partition(partition)))
        .into();
    for version in 1..=20 {
        for owner in &mut owners {
            let length = if version == 10 { 900_000 } else { 3000 };
            let record = event("a", version, noise(version, length));
            owner.append(&log, vec![record]);
        }
    }
    now(log.close());
    drop(log);
    let log = open_with(&disk, options);
    for owner in &owners {
        assert_eq!(all(&log, owner.partition).len(), 21);
        let found = now(log.read_entity(owner.partition, &key("a"), 0, 100));
        assert_eq!(found.unwrap().len(), 20);
    }
    now(log.close());
    drop(log);
    assert_eq!(verify(&disk, &mut |_, _| {}).unwrap().damage, []);
}

/// One bad block of one index: from the next merge on nothing is merged, and nothing packed.
#[test]
fn a_damaged_index_does_not_end_all_upkeep() {
    let mut options = options();
    options.plain_segments = 0;
    let disk = MemoryDisk::new();
    let log = open_with(&disk, options);
    let mut owner = Owner::of(&log, P0);
    fill(&log, &mut owner, "a", 1..=60);
    disk.flip("0000000001-0000000001.index", 40, 0);
    fill(&log, &mut owner, "a", 61..=400);
    let plain = segments(&disk).into_iter();
    let plain = plain.filter(|name| name.ends_with(".log")).count();
    // The one that is written, and the one that is prepared.
    assert!(plain <= 3, "{plain} are not packed: {:?}", log.doctor());
}
