//! Position tokens: refused, or the same when written again.

use data_encoding::BASE64URL_NOPAD;
use everfold_engine::Position;

use crate::input::Input;
use crate::outcome;

pub(super) fn run(bytes: &[u8]) -> u64 {
    let mut input = Input::new(bytes);
    let is_text = input.byte() & 1 == 1;
    let text = if is_text {
        String::from_utf8_lossy(input.rest()).into_owned()
    } else {
        // With a checksum that is right, so that what it guards is reached.
        let mut body = input.rest().to_vec();
        let sum = xxhash_rust::xxh3::xxh3_64(&body) as u32;
        body.extend_from_slice(&sum.to_le_bytes());
        BASE64URL_NOPAD.encode(&body)
    };
    let Ok(position) = text.parse::<Position>() else {
        return outcome(is_text);
    };
    assert_eq!(position.to_string().parse(), Ok(position.clone()));
    assert!(position.covers(&position));
    outcome(position.offsets().count().min(8) + 2)
}
