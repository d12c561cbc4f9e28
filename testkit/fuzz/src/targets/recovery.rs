//! The bytes of a segment: what counts is a chain of whole frames, and cutting the rest off changes
//! nothing.

use everfold_log::frame::{Place, parse};
use everfold_log::recovery::{Expectation, Verdict, recover};

use crate::input::Input;
use crate::repair::FIRST_FRAME;
use crate::{outcome, repair};

pub(super) fn run(bytes: &[u8]) -> u64 {
    let mut input = Input::new(bytes);
    let (flags, sealed) = (input.byte(), u64::from(input.short()) * 8);
    // Frames say where in the segment their flush began: they lie where they do in one.
    let mut bytes = vec![0; FIRST_FRAME];
    bytes.extend_from_slice(input.rest());
    if flags & 1 == 1 {
        repair::frames(&mut bytes, FIRST_FRAME, 7, 1);
    }
    let expectation = Expectation {
        incarnation: 7,
        generation: 1,
        first_frame: FIRST_FRAME as u64,
        last_flush: u64::from(flags >> 6),
        sealed_end: (flags & 2 == 2).then_some(sealed),
    };
    let found = recover(&bytes, &expectation);
    let mut end = FIRST_FRAME as u64;
    for frame in &found.frames {
        assert_eq!(frame.position, end);
        let place = Place {
            incarnation: 7,
            generation: 1,
            position: end,
        };
        assert_eq!(parse(&bytes[end as usize..], place), Ok(frame.header));
        assert!(frame.header.flush <= found.last_flush);
        end += frame.header.span();
    }
    assert_eq!(end, found.end);
    assert!(end <= bytes.len() as u64);
    match &found.verdict {
        Verdict::Clean => {
            assert!(expectation.sealed_end.is_none_or(|sealed| sealed == end));
        }
        Verdict::Torn { until } => {
            assert!(expectation.sealed_end.is_none());
            assert!(*until > end && *until <= bytes.len() as u64);
            bytes[end as usize..].fill(0);
            let again = recover(&bytes, &expectation);
            assert_eq!(
                (again.frames, again.verdict),
                (found.frames.clone(), Verdict::Clean)
            );
        }
        Verdict::Damaged { at, .. } => assert_eq!(*at, end),
    }
    let verdict = std::mem::discriminant(&found.verdict);
    let kinds: Vec<_> = found
        .frames
        .iter()
        .map(|frame| frame.header.kind as u8)
        .collect();
    outcome((verdict, kinds))
}
