//! What the bare log stores beside the log: the same records in the same encoding, and a header per
//! group. No link of a hash chain is computed or stored.

use std::sync::Arc;

use everfold_engine::record::{Link, Origin, Record, codec};
use everfold_engine::world::World;
use everfold_engine::{Layout, Offset, Partition};
use tokio::sync::oneshot;

use crate::bare_log::Format;
use crate::unit::Clock;

/// Length, checksum, first offset, number of records, and four bytes of nothing.
const HEADER: usize = 24;
/// What a record takes beside its payload, about.
const ASIDE: usize = 160;

/// One client's records, and who waits for them.
pub(crate) struct Append {
    pub(crate) partition: Partition,
    pub(crate) records: Vec<Record>,
    pub(crate) done: oneshot::Sender<()>,
}

/// Encodes groups of records.
pub(crate) struct Records {
    world: Arc<dyn World>,
    frame: codec::Frame,
    clocks: Vec<Clock>,
    group: Vec<Record>,
}

impl Records {
    pub(crate) fn new(world: Arc<dyn World>, origin: Origin, layout: Layout) -> Self {
        Self {
            world,
            frame: codec::Frame {
                origin,
                partition: Partition(0),
                epoch: 1,
                batch: 0,
                first: Offset(1),
                chained: false,
                previous_link: Link::default(),
            },
            clocks: layout.all().map(|_| Clock::default()).collect(),
            group: Vec::new(),
        }
    }
}

impl Format for Records {
    type Append = Append;

    fn bytes(append: &Append) -> usize {
        let records = append.records.iter();
        records
            .map(|record| record.portable.payload.len() + ASIDE)
            .sum()
    }

    fn encode(
        &mut self,
        group: &mut Vec<Append>,
        out: &mut Vec<u8>,
        answers: &mut Vec<oneshot::Sender<()>>,
    ) {
        let now = self.world.now();
        for append in group.drain(..) {
            let clock = &mut self.clocks[append.partition.index()];
            for mut record in append.records {
                clock.complete(&mut record, &self.frame.origin, append.partition, now);
                self.group.push(record);
            }
            answers.push(append.done);
        }
        out.extend_from_slice(&[0; HEADER]);
        codec::encode(out, &self.group, &self.frame);
        let length = out.len() as u32;
        out[..4].copy_from_slice(&length.to_le_bytes());
        out[8..16].copy_from_slice(&self.frame.first.0.to_le_bytes());
        out[16..20].copy_from_slice(&(self.group.len() as u32).to_le_bytes());
        let sum = crc32fast::hash(&out[8..]);
        out[4..8].copy_from_slice(&sum.to_le_bytes());
        self.frame.first.0 += self.group.len() as u64;
    }

    fn settled(&mut self) {
        self.group.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bare_log::BareLog;
    use crate::unit::{Ids, Maker};
    use everfold_engine::position::Incarnation;
    use everfold_engine::world::System;

    #[tokio::test]
    async fn what_is_acknowledged_can_be_decoded_from_the_file() {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let layout = Layout::first(4).unwrap();
        let origin = Origin {
            site: "local".into(),
            incarnation: Incarnation(7),
            layout: 1,
        };
        let world = System::current();
        let maker = Maker::new(Ids::Distinct, layout);
        let format = Records::new(world.clone(), origin.clone(), layout);
        let mut frame = format.frame.clone();
        let log = BareLog::create(directory.path(), format).unwrap();
        let mut sent = Vec::new();
        for order in 0..20 {
            let unit = maker.unit(order, order as u64, 1 + order % 3, world.now());
            let (partition, records) = unit.unwrap();
            sent.extend(records.iter().map(|record| record.portable.event_id));
            let (done, answer) = oneshot::channel();
            let append = Append {
                partition,
                records,
                done,
            };
            log.sender().send(append).await.unwrap();
            answer.await.unwrap();
        }
        let length = log.bytes() as usize;
        log.close().unwrap();
        let file = std::fs::read(directory.path().join("bare-log")).unwrap();
        let (mut at, mut read) = (0, Vec::new());
        while at < length {
            let field = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
            let end = at + field(at) as usize;
            assert_eq!(field(at + 4), crc32fast::hash(&file[at + 8..end]));
            let body = file[at + HEADER..end].to_vec().into();
            let records = codec::decode(&body, field(at + 16) as usize, &frame).unwrap();
            frame.first.0 += records.len() as u64;
            read.extend(records.iter().map(|record| record.portable.event_id));
            at = end;
        }
        assert_eq!(read, sent);
    }
}
