//! Recovery as a function over bytes: every cut and every flipped bit of a small segment.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use everfold_engine::{Engine, Partition};
use everfold_log::disk::Crash;
use everfold_log::recovery::{Expectation, Recovered, Verdict, recover};
use everfold_log::{Log, MemoryDisk, OpenError, verify};

use support::*;

const FIRST: u64 = 4096;

/// A segment of some flushes, closed in order, and what is expected of it.
fn segment() -> (MemoryDisk, Vec<u8>, Expectation) {
    let disk = MemoryDisk::new();
    let log = open(&disk);
    let (mut a, mut b) = (Owner::of(&log, P0), Owner::of(&log, P1));
    for version in 1..=4 {
        a.append(&log, vec![event("a", version, vec![b'a'; 40])]);
        b.append(
            &log,
            vec![
                event("b", 2 * version - 1, "x"),
                event("b", 2 * version, "y"),
            ],
        );
    }
    let incarnation = log.identity().incarnation.0;
    now(log.close());
    let bytes = disk.contents("0000000001.log").unwrap();
    let expectation = Expectation {
        incarnation,
        generation: 1,
        first_frame: FIRST,
        last_flush: 0,
        sealed_end: None,
    };
    (disk, bytes, expectation)
}

fn is_prefix(part: &Recovered, whole: &Recovered) -> bool {
    whole.frames.starts_with(&part.frames)
}

#[test]
fn a_cut_at_any_length_leaves_the_longest_valid_prefix() {
    let (disk, bytes, expectation) = segment();
    let whole = recover(&bytes, &expectation);
    assert_eq!(
        (whole.frames.len(), whole.verdict.clone()),
        (11, Verdict::Clean)
    );
    for length in FIRST as usize..=whole.end as usize {
        let cut = recover(&bytes[..length], &expectation);
        let fitting = whole
            .frames
            .iter()
            .filter(|frame| frame.position + frame.header.span() <= length as u64);
        assert_eq!(cut.frames.len(), fitting.count(), "{length}");
        assert!(is_prefix(&cut, &whole));
        assert!(!matches!(cut.verdict, Verdict::Damaged { .. }), "{length}");
        let sealed = Expectation {
            sealed_end: Some(whole.end),
            ..expectation
        };
        let damaged = matches!(recover(&bytes[..length], &sealed).verdict, Verdict::Damaged { at, .. } if at == cut.end);
        assert_eq!(damaged, length < whole.end as usize, "{length}");
    }
    // A segment is whole before it is used, so the file itself being short is damage.
    for length in (0..bytes.len()).step_by(509) {
        disk.replace("0000000001.log", bytes[..length].to_vec());
        let error = try_open(&disk, small()).err().unwrap();
        let typed = matches!(error, OpenError::Damaged(_) | OpenError::NotASegment { .. });
        assert!(typed, "{length}: {error}");
    }
}

#[test]
fn a_flipped_bit_before_the_last_flush_is_damage_and_in_it_a_cut() {
    let (_, bytes, expectation) = segment();
    let whole = recover(&bytes, &expectation);
    let last = whole.frames.last().unwrap().position;
    for at in FIRST as usize..bytes.len() {
        let bits = if at < whole.end as usize { 0..8 } else { 3..4 };
        for bit in bits {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            let found = recover(&changed, &expectation);
            assert!(is_prefix(&found, &whole), "byte {at} bit {bit}");
            match found.verdict {
                Verdict::Damaged { at: place, .. } => {
                    assert!((at as u64) < last && place <= at as u64 && place == found.end);
                }
                Verdict::Torn { .. } => assert!(at as u64 >= last, "byte {at} bit {bit}"),
                Verdict::Clean => panic!("byte {at} bit {bit} was not seen"),
            }
        }
    }
}

#[test]
fn a_flipped_bit_in_a_header_is_named() {
    let (disk, bytes, _) = segment();
    let used = bytes[..FIRST as usize].iter().rposition(|byte| *byte != 0);
    for at in (0..=used.unwrap()).chain([FIRST as usize - 1]) {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            disk.replace("0000000001.log", changed);
            let error = try_open(&disk, small()).err();
            let error = error.unwrap_or_else(|| panic!("byte {at} bit {bit} was not seen"));
            assert!(error.to_string().contains("0000000001.log"), "{error}");
        }
    }
}

#[test]
fn a_frame_of_another_log_segment_or_place_does_not_count() {
    let (_, bytes, expectation) = segment();
    for other in [
        Expectation {
            incarnation: expectation.incarnation ^ 1,
            ..expectation
        },
        Expectation {
            generation: 2,
            ..expectation
        },
    ] {
        let found = recover(&bytes, &other);
        assert_eq!((found.frames.len(), found.end), (0, FIRST));
    }
    // A copy of the segment's own frames behind its end, as a payload might hold one.
    let whole = recover(&bytes, &expectation);
    let mut copied = bytes.clone();
    let (start, end) = (FIRST as usize, whole.end as usize);
    copied.copy_within(start..end, end);
    let found = recover(&copied, &expectation);
    assert_eq!(found.frames, whole.frames);
    assert!(matches!(found.verdict, Verdict::Torn { .. }));
}

/// A last flush of three frames that lost its first one.
fn torn() -> (MemoryDisk, Recovered) {
    let disk = MemoryDisk::new();
    let world = Still::patient();
    let mut options = small();
    options.partitions = Some(3);
    let log = Log::open(Arc::new(disk.clone()), world.clone(), options).unwrap();
    let mut claims: Vec<_> = (0..3).map(|n| log.claim(Partition(n))).collect();
    claims
        .iter_mut()
        .for_each(|claim| assert!(poll(claim).is_none()));
    world.run();
    let mut owners: Vec<_> = claims
        .iter_mut()
        .zip(0..)
        .map(|(claim, n)| Owner::after(poll(claim).unwrap().unwrap(), Partition(n)))
        .collect();
    let mut appends: Vec<_> = owners
        .iter_mut()
        .map(|owner| {
            let batch = owner.batch(vec![event("e", 1, "same size")]);
            log.append(owner.partition, owner.epoch, batch)
        })
        .collect();
    appends
        .iter_mut()
        .for_each(|append| assert!(poll(append).is_none()));
    world.run();
    let mut bytes = disk.contents("0000000001.log").unwrap();
    let expectation = Expectation {
        incarnation: log.identity().incarnation.0,
        generation: 1,
        first_frame: FIRST,
        last_flush: 0,
        sealed_end: None,
    };
    let whole = recover(&bytes, &expectation);
    let frames: Vec<_> = whole
        .frames
        .iter()
        .map(|frame| frame.position as usize)
        .collect();
    bytes[frames[3]..frames[4]].fill(0);
    let disk = disk.crash(Crash::Nothing);
    disk.replace("0000000001.log", bytes.clone());
    let left = recover(&bytes, &expectation);
    assert_eq!(left.frames, whole.frames[..3]);
    (disk, left)
}

#[test]
fn the_number_of_a_torn_flush_is_not_used_again() {
    let (_, left) = torn();
    assert!(matches!(left.verdict, Verdict::Torn { .. }));
    assert_eq!((left.frames[2].header.flush, left.last_flush), (1, 2));
}

#[test]
fn remains_of_a_torn_flush_are_cleared_before_the_log_goes_on() {
    let (disk, left) = torn();
    let mut options = small();
    options.partitions = Some(3);
    let log = try_open(&disk, options).unwrap();
    let bytes = disk.contents("0000000001.log").unwrap();
    assert!(bytes[left.end as usize..].iter().all(|byte| *byte == 0));
    let torn = log.report().torn.clone().unwrap();
    assert_eq!((torn.0.as_str(), torn.1), ("0000000001.log", left.end));
    let mut owner = Owner::of(&log, P0);
    owner.append(&log, vec![event("e", 1, "same size")]);
    assert_eq!(all(&log, P0).len(), 3);
    assert_eq!(all(&log, P1).len(), 1, "what was cut off stays away");
}

#[test]
fn verification_counts_what_is_there_and_names_what_is_wrong() {
    let (disk, bytes, expectation) = segment();
    let mut last = (0, 0);
    let found = verify(&disk, &mut |done, total| last = (done, total)).unwrap();
    assert_eq!((found.records, found.events, found.segments), (14, 12, 1));
    assert_eq!((found.damage.len(), found.torn), (0, None));
    assert_eq!(last, (bytes.len() as u64, bytes.len() as u64));
    let mut changed = bytes.clone();
    let second = recover(&bytes, &expectation).frames[1].position;
    changed[second as usize + 60] ^= 1;
    disk.replace("0000000001.log", changed.clone());
    let found = verify(&disk, &mut |_, _| {}).unwrap();
    assert_eq!((found.damage[0].at, found.records), (second, 1));
    assert_eq!(
        disk.contents("0000000001.log").unwrap(),
        changed,
        "nothing was changed"
    );
    assert!(verify(&MemoryDisk::new(), &mut |_, _| {}).is_err());
    let log = open(&MemoryDisk::new());
    drop(log);
}

#[test]
fn verification_finds_versions_and_links_that_the_owner_got_wrong() {
    for (versions, link) in [([1, 3], 0), ([1, 2], 9)] {
        let disk = MemoryDisk::new();
        let log = open(&disk);
        let mut owner = Owner::of(&log, P0);
        for version in versions {
            let mut record = event("a", version, "x");
            record.local.link.0[0] = if version == 2 { link } else { 0 };
            owner.append(&log, vec![record]);
        }
        now(log.close());
        let found = verify(&disk, &mut |_, _| {}).unwrap();
        assert_eq!(found.damage.len(), 1, "{:?}", found.damage);
        let expected = if link == 0 { "version 2" } else { "the link" };
        assert!(found.damage[0].expected.starts_with(expected));
    }
}

/// These bytes are for ever: a change here means that older logs cannot be read.
#[test]
fn a_segment_of_the_first_format_is_read_and_written_as_ever() {
    const PINNED: &[u8] = include_bytes!("fixtures/format-1.segment");
    let (_, written, _) = segment();
    let used = written.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    assert!(PINNED.starts_with(&written[..used]) && PINNED.len() - used < 8);
    let mut bytes = PINNED.to_vec();
    bytes.resize(16 << 10, 0);
    let disk = MemoryDisk::new();
    disk.replace("0000000001.log", bytes);
    let log = open(&disk);
    assert!(log.report().closed);
    let texts = |partition| {
        let records = all(&log, partition);
        let text = |record: &Arc<everfold_engine::Record>| {
            let (portable, local) = (&record.portable, &record.local);
            format!(
                "{} {} {:?}",
                portable.entity, local.version, portable.payload
            )
        };
        records[1..].iter().map(text).collect::<Vec<_>>()
    };
    let payload = bytes::Bytes::from(vec![b'a'; 40]);
    let expected: Vec<_> = (1..=4)
        .map(|n| format!("thing-a {n} {payload:?}"))
        .collect();
    assert_eq!(texts(P0), expected);
    assert_eq!(texts(P1).len(), 8);
    assert_eq!(texts(P1)[7], "thing-b 8 b\"y\"");
}
