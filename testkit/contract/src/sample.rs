//! Records to append.

use everfold_engine::position::Incarnation;
use everfold_engine::record::{Dot, Kind, Link, Local, Origin, Portable, Reply, Source};
use everfold_engine::{
    Bytes, EntityKey, HybridTime, Offset, Partition, Record, Stamp, Text, Timestamp, Uuid, World,
};

/// The label of every record that the suite appends.
const OURS: &str = "contract-suite";

/// What that label takes of every limit.
pub(crate) const OVERHEAD: usize = OURS.len();

/// Whether the suite appended it. An engine may put records of its own between batches.
pub(crate) fn is_ours(record: &Record) -> bool {
    let mut labels = record.portable.labels.iter();
    labels.next().is_some_and(|(name, _)| name == OURS)
}

/// A record whose owner has filled in nothing yet.
pub(crate) fn record(kind: Kind, entity: EntityKey, payload: impl Into<Bytes>) -> Record {
    let mut portable = Portable::new(entity, "Happened");
    portable.payload = payload.into();
    portable.labels = vec![(OURS.into(), Text::new())];
    Record {
        kind,
        portable,
        local: Local {
            offset: Offset(0),
            version: 0,
            epoch: 0,
            batch: 0,
            stamp: Stamp(0),
            reply: None,
            link: Link::default(),
        },
    }
}

/// An event of the entity `thing-id`.
pub(crate) fn event(id: &str) -> Record {
    record(Kind::Event, EntityKey::new("thing", id), "{}")
}

/// A unit of one event.
pub(crate) fn single(id: &str) -> Vec<Record> {
    vec![event(id)]
}

/// A unit of several events.
pub(crate) fn unit(id: &str, count: usize) -> Vec<Record> {
    vec![event(id); count]
}

/// One record of each kind, with nothing but unusual fields.
pub(crate) fn unusual(world: &dyn World) -> Vec<Record> {
    let kinds = [
        Kind::Event,
        Kind::Outcome,
        Kind::Claim,
        Kind::Mark,
        Kind::Baseline,
        Kind::Stub,
    ];
    kinds.map(|kind| random(world, kind)).into()
}

fn random(world: &dyn World, kind: Kind) -> Record {
    let entity = EntityKey {
        tenant: text(world),
        kind: text(world),
        id: text(world),
    };
    let body = bytes(world);
    let mut record = record(kind, entity, body);
    let portable = &mut record.portable;
    portable.event_id = uuid(world);
    portable.context = (0..world.random() % 3)
        .map(|_| (origin(world), world.random()))
        .collect();
    portable.causes = (0..world.random() % 3).map(|_| dot(world)).collect();
    portable.event_type = text(world);
    portable.schema_version = world.random() as u32;
    portable.effective = Timestamp(world.random() as i64);
    portable.hybrid = HybridTime(world.random());
    portable.causation = Some(uuid(world));
    portable.correlation = Some(uuid(world)).filter(|_| coin(world));
    portable.command = Some(Uuid::nil());
    portable.hops = world.random() as u32;
    portable.principal = text(world);
    portable.trace = text(world);
    let labels = (0..world.random() % 3).map(|_| (text(world), text(world)));
    portable.labels.extend(labels);
    portable.subject_key = text(world);
    portable.content_type = text(world);
    portable.metadata = bytes(world);
    if kind != Kind::Event {
        portable.dot = Some(dot(world)).filter(|_| coin(world));
        record.local.version = world.random() % 3;
    }
    record.local.reply = Some(Reply {
        command_digest: (u128::from(world.random()) << 64 | 1).into(),
        rejected: coin(world),
        body: bytes(world),
        source: Some(Source {
            handler: text(world),
            partition: Partition(world.random() as u16 % 1024),
            offset: Offset(world.random()),
            settled: Offset(world.random()),
        })
        .filter(|_| coin(world)),
    })
    .filter(|_| coin(world) || coin(world));
    record
}

fn uuid(world: &dyn World) -> Uuid {
    Uuid::from_u64_pair(world.random(), world.random())
}

fn origin(world: &dyn World) -> Origin {
    Origin {
        site: text(world),
        incarnation: Incarnation(u128::from(world.random())),
        layout: world.random() as u32,
    }
}

fn dot(world: &dyn World) -> Dot {
    Dot {
        origin: origin(world),
        partition: Partition(world.random() as u16 % 1024),
        counter: world.random(),
    }
}

/// Texts that are often handled badly.
fn text(world: &dyn World) -> Text {
    let texts = [
        "",
        " ",
        "a",
        "\0",
        "-",
        "{}",
        "{tag}-1",
        "ü€😀",
        "e\u{301}",
        "line\nline\r\n",
        "'; --",
        "\"\\",
        "\u{feff}\u{202e}",
    ];
    texts[world.random() as usize % texts.len()].into()
}

fn bytes(world: &dyn World) -> Bytes {
    let length = match world.random() % 4 {
        0 => 0,
        1 => 1,
        2 => world.random() % 30,
        _ => world.random() % 3000,
    };
    noise(world, length as usize)
}

/// Bytes that no compression makes smaller.
pub(crate) fn noise(world: &dyn World, length: usize) -> Bytes {
    // One draw and a generator of its own (xorshift64, Marsaglia, 2003): megabytes through the
    // world's randomness would be most of what a run does.
    let mut word = world.random() | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

fn coin(world: &dyn World) -> bool {
    world.random() >> 63 == 1
}
