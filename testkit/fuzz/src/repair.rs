//! Makes checksums right again, so that what lies behind them is reached.

use everfold_log::frame::Place;

const BLOCK: usize = 4096;
const FRAME_HEADER: usize = 56;

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let field = bytes.get(at..at + 4)?.first_chunk::<4>()?;
    usize::try_from(u32::from_le_bytes(*field)).ok()
}

/// The checksum of the header at the front of a segment.
pub(crate) fn header(bytes: &mut [u8]) {
    let Some(length) = number(bytes, 16) else {
        return;
    };
    let Some(body) = bytes.get(24..24 + length.min(64 << 10)) else {
        return;
    };
    let sum = crc32fast::hash(body);
    bytes[12..16].copy_from_slice(&sum.to_le_bytes());
}

/// The checksum of the frame at the front of `bytes`, if they begin with one.
pub(crate) fn frame(bytes: &mut [u8], place: Place) {
    let Some(length) = number(bytes, 8) else {
        return;
    };
    if !bytes.starts_with(b"EVFR") || length < FRAME_HEADER || length > bytes.len() {
        return;
    }
    let mut sum = crc32fast::Hasher::new();
    sum.update(&bytes[FRAME_HEADER..length]);
    sum.update(&place.incarnation.to_le_bytes());
    sum.update(&place.generation.to_le_bytes());
    sum.update(&place.position.to_le_bytes());
    sum.update(&bytes[8..FRAME_HEADER]);
    bytes[4..8].copy_from_slice(&sum.finalize().to_le_bytes());
}

/// The checksums of whatever looks like a frame at or behind `from`.
pub(crate) fn frames(bytes: &mut [u8], from: usize, incarnation: u128, generation: u64) {
    for at in (from..bytes.len()).step_by(8) {
        let place = Place {
            incarnation,
            generation,
            position: at as u64,
        };
        frame(&mut bytes[at..], place);
    }
}

/// The incarnation that a segment's header speaks of.
pub(crate) fn incarnation(bytes: &[u8]) -> u128 {
    let field = bytes
        .get(24..40)
        .and_then(|field| field.first_chunk::<16>());
    field.map_or(0, |field| u128::from_le_bytes(*field))
}

/// Where a segment's frames begin at the earliest.
pub(crate) const FIRST_FRAME: usize = BLOCK;
