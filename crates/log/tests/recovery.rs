//! Recovery as a function over bytes: every cut and every flipped bit of a small segment.

mod support;

use everfold_engine::Engine;
use everfold_log::recovery::{Expectation, Recovered, Verdict, recover};
use everfold_log::{MemoryDisk, OpenError};

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
