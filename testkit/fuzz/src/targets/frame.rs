//! One frame: refused, or within its bytes and true in its place only.

use everfold_log::frame::{Place, parse};

use crate::input::Input;
use crate::{outcome, repair};

pub(super) fn run(bytes: &[u8]) -> u64 {
    let mut input = Input::new(bytes);
    let (repaired, place) = (input.byte() & 1 == 1, input.byte());
    let place = Place {
        incarnation: 7,
        generation: 1,
        position: u64::from(place) * 8,
    };
    let mut bytes = input.rest().to_vec();
    if repaired {
        repair::frame(&mut bytes, place);
    }
    match parse(&bytes, place) {
        Err(why) => outcome(why),
        Ok(header) => {
            assert!(header.span() <= bytes.len() as u64 && header.span() % 8 == 0);
            assert!(header.last() >= header.first);
            for other in [
                Place {
                    incarnation: 8,
                    ..place
                },
                Place {
                    generation: 2,
                    ..place
                },
                Place {
                    position: place.position + 8,
                    ..place
                },
            ] {
                assert!(parse(&bytes, other).is_err(), "true in another place");
            }
            outcome((
                header.kind as u8,
                header.has_previous_link,
                header.count > 1,
            ))
        }
    }
}
