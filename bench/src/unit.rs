//! Units of records as the runtime makes them: no field empty that it fills.

use std::sync::atomic::{AtomicU64, Ordering};

use everfold::Event as _;
use everfold_engine::record::{
    Dot, JSON, Kind, Link, Local, Origin, Portable, Record, Reply, Unit,
};
use everfold_engine::{
    Bytes, EntityKey, HybridTime, Layout, Offset, Partition, Stamp, Text, Timestamp, uuid7,
};

use crate::load::mix;
use crate::order::{AddLine, ORDERS, PAYLOAD, name};

/// Which of an event's ids are the same.
#[derive(clap::ValueEnum, serde::Serialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Ids {
    /// None: the command is a reaction's.
    Distinct,
    /// Command, causation and correlation: the command came from outside.
    Coinciding,
}

/// Makes what clients append; the versions of all orders are its.
pub(crate) struct Maker {
    ids: Ids,
    layout: Layout,
    versions: Vec<AtomicU64>,
}

impl Maker {
    pub(crate) fn new(ids: Ids, layout: Layout) -> Self {
        Self {
            ids,
            layout,
            versions: (0..ORDERS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// The events of one command to an order, complete but for what its owner fills in.
    ///
    /// # Errors
    /// None that this workload meets: its events are JSON.
    pub(crate) fn unit(
        &self,
        order: usize,
        seed: u64,
        events: usize,
        now: Timestamp,
    ) -> anyhow::Result<(Partition, Vec<Record>)> {
        let entity = EntityKey::new("order", name(order));
        let partition = self.layout.partition_of(entity.slot());
        let first = self.versions[order].fetch_add(events as u64, Ordering::Relaxed) + 1;
        let mut draws = seed;
        let mut draw = || {
            draws = mix(draws);
            draws
        };
        let mut id = || uuid7(now, draw(), draw());
        let command = id();
        let (causation, correlation) = match self.ids {
            Ids::Distinct => (id(), id()),
            Ids::Coinciding => (command, command),
        };
        let mut records = Vec::with_capacity(events);
        for index in 0..events {
            let line = AddLine::any(draw()).into_event(name(order));
            let mut payload = Vec::with_capacity(PAYLOAD);
            line.encode(&mut payload)?;
            let portable = Portable {
                event_id: uuid7(now, draw(), draw()),
                entity: entity.clone(),
                event_type: Text::from_static(line.event_type()),
                schema_version: line.schema_version(),
                causation: Some(causation),
                correlation: Some(correlation),
                command: Some(command),
                unit: Unit {
                    index: index as u32,
                    count: events as u32,
                },
                principal: format!("clerk-{:04}", seed % 10_000).into(),
                content_type: Text::from_static(JSON),
                payload: payload.into(),
                ..Portable::new(EntityKey::new("", ""), Text::new())
            };
            let reply = (index + 1 == events).then(|| Reply {
                command_digest: (u128::from(draw()) << 64 | u128::from(draw())).into(),
                rejected: false,
                body: Bytes::from((first + index as u64).to_string()),
                source: None,
            });
            records.push(Record {
                kind: Kind::Event,
                portable,
                local: Local {
                    offset: Offset(0),
                    version: first + index as u64,
                    epoch: 0,
                    batch: 0,
                    stamp: Stamp::default(),
                    reply,
                    link: Link::default(),
                },
            });
        }
        Ok((partition, records))
    }
}

/// What grows with every record of a partition.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    pub(crate) counter: u64,
    pub(crate) stamp: Stamp,
    pub(crate) hybrid: HybridTime,
}

impl Clock {
    /// Fills in what an owner fills in, but for the link.
    pub(crate) fn complete(
        &mut self,
        record: &mut Record,
        origin: &Origin,
        partition: Partition,
        now: Timestamp,
    ) {
        self.stamp = Stamp::next(self.stamp, now, partition);
        self.hybrid = self.hybrid.next(now);
        self.counter += 1;
        record.local.stamp = self.stamp;
        record.portable.effective = self.stamp.time();
        record.portable.hybrid = self.hybrid;
        record.portable.dot = Some(Dot {
            origin: origin.clone(),
            partition,
            counter: self.counter,
        });
    }
}
