//! Readers of wire values: never beyond the bytes, and what was read is written as it was meant.

use everfold_engine::record::wire::{Reader, Writer};

use crate::input::Input;
use crate::outcome;

pub(super) fn run(bytes: &[u8]) -> u64 {
    let mut input = Input::new(bytes);
    let count = input.below(32);
    let kinds = input.take(count);
    let rest = input.rest();
    let mut reader = Reader::new(rest);
    let mut ended = None;
    for kind in kinds {
        let before = reader.taken();
        let mut again = Vec::new();
        let read = match kind % 8 {
            0 => reader.u8().map(|value| again.put_u8(value)),
            1 => reader.u32().map(|value| again.put_u32(value)),
            2 => reader.u64().map(|value| again.put_u64(value)),
            3 => reader.u128().map(|value| again.put_u128(value)),
            4 => reader.varint().map(|value| again.put_varint(value)),
            5 => reader.signed().map(|value| again.put_signed(value)),
            6 => reader.slice().map(|value| again.put_slice(value)),
            _ => reader
                .take(usize::from(*kind))
                .map(|value| again.extend_from_slice(value)),
        };
        assert!(reader.taken() >= before && reader.taken() <= rest.len());
        if let Err(error) = read {
            ended = Some((kind % 8, std::mem::discriminant(&error)));
            break;
        }
        // A varint may be longer than it has to be, everything else has one form.
        let taken = &rest[before..reader.taken()];
        let exact = !matches!(kind % 8, 4..=6);
        assert!(again.len() <= taken.len() && (!exact || again == taken));
    }
    assert_eq!(reader.is_empty(), reader.taken() == rest.len());
    outcome((kinds.len(), ended))
}
