//! A batch of records: any bytes are refused, or mean the same records when written again.

use bytes::Bytes;
use everfold_engine::position::Incarnation;
use everfold_engine::record::codec::{Frame, decode, encode};
use everfold_engine::record::{Link, Origin};
use everfold_engine::{Offset, Partition};

use crate::input::Input;
use crate::outcome;

pub(super) fn run(bytes: &[u8]) -> u64 {
    let mut input = Input::new(bytes);
    let (chained, count) = (input.byte() & 1 == 1, usize::from(input.byte()));
    let frame = Frame {
        origin: Origin {
            site: "local".into(),
            incarnation: Incarnation(7),
            layout: 1,
        },
        partition: Partition(1),
        epoch: 3,
        batch: 4,
        first: Offset(5),
        chained,
        previous_link: Link::default(),
    };
    match decode(&Bytes::copy_from_slice(input.rest()), count, &frame) {
        Err(error) => outcome(std::mem::discriminant(&error)),
        Ok(records) => {
            assert_eq!(records.len(), count);
            let mut again = Vec::new();
            encode(&mut again, &records, &frame);
            let again = decode(&again.into(), count, &frame);
            assert_eq!(again.as_ref(), Ok(&records), "written again it is another");
            let fields = |record: &everfold_engine::Record| {
                let (portable, local) = (&record.portable, &record.local);
                let texts = [&portable.trace, &portable.principal, &portable.subject_key];
                let empty = texts.map(|text| text.is_empty());
                let replied = local.reply.as_ref().map(|reply| reply.source.is_some());
                (record.kind, portable.dot.is_some(), empty, replied)
            };
            outcome((count, records.last().map(fields)))
        }
    }
}
