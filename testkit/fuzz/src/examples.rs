//! Inputs that a sound log would hold: what mutations begin with.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use everfold_cluster::transport::Frame as Message;
use everfold_engine::engine::Batch;
use everfold_engine::position::Incarnation;
use everfold_engine::record::codec::{Frame, encode};
use everfold_engine::record::wire::Writer;
use everfold_engine::record::{
    Dot, Kind, Link, Local, Origin, Portable, Record, Reply, Source, Unit,
};
use everfold_engine::{Engine, EntityKey, Offset, Partition, Position, Stamp, Timestamp, Uuid};
use everfold_log::{Log, MemoryDisk, Options};
use everfold_sim::{Random, Simulation};

const HEADER: usize = 4096;

/// Inputs by name of the target.
pub fn examples() -> Vec<(&'static str, Vec<u8>)> {
    let files = files();
    let mut all = vec![("codec", codec()), ("wire", wire())];
    all.extend(positions().into_iter().map(|input| ("position", input)));
    all.extend(messages().into_iter().map(|input| ("message", input)));
    let frames = trimmed(&files[0].1[HEADER..]);
    all.push(("frame", [&[1, 0], frames].concat()));
    all.push(("recovery", [&[1, 0, 0], frames].concat()));
    // Sealed where it ends.
    let [low, high] = (((HEADER + frames.len()) / 8) as u16).to_le_bytes();
    all.push(("recovery", [&[3, low, high], frames].concat()));
    all.push(("image", image(&files[..1])));
    all.push(("image", image(&files)));
    all.extend((0..6).map(|seed| ("differential", calls(seed))));
    all
}

/// One message of each kind, without the bytes of its length.
fn messages() -> Vec<Vec<u8>> {
    let body = Bytes::from_static(b"what is asked");
    let all = [
        Message::Hello {
            lowest: 1,
            highest: 2,
        },
        Message::Call {
            number: 3,
            body: body.clone(),
        },
        Message::Answer { number: 4, body },
        Message::TooLarge {
            number: 5,
            bytes: 6,
        },
        Message::Failed { number: 7 },
        Message::Alive,
        Message::Last,
        Message::OtherCluster {
            cluster: "orders".into(),
        },
        Message::Full,
    ];
    let bytes = |message: &Message| {
        let mut bytes = BytesMut::new();
        message.write(&mut bytes);
        bytes[4..].to_vec()
    };
    all.iter().map(bytes).collect()
}

fn calls(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut calls = vec![0, 0, 0, 1];
    calls.extend((0..400).map(|_| random.bits() as u8));
    calls
}

fn trimmed(bytes: &[u8]) -> &[u8] {
    let used = bytes.iter().rposition(|byte| *byte != 0);
    &bytes[..used.map_or(0, |last| (last + 8) / 8 * 8)]
}

fn image(files: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut input = Vec::new();
    for (name, bytes) in files {
        let used = trimmed(bytes);
        input.extend_from_slice(&[*name, 3, (bytes.len() / 4096) as u8]);
        input.extend_from_slice(&(used.len() as u16).to_le_bytes());
        input.extend_from_slice(used);
    }
    input
}

/// The segments of a small log, by number of their name.
fn files() -> Vec<(u8, Vec<u8>)> {
    let disk = MemoryDisk::new();
    let simulation = Simulation::new(1);
    simulation.run(async {
        let mut options = Options::default();
        options.partitions = Some(2);
        options.first_segment_bytes = 16 << 10;
        options.segment_bytes = 16 << 10;
        let log = Log::open(Arc::new(disk.clone()), simulation.world(), options);
        let log = log.expect("a new log");
        for partition in [0, 1].map(Partition) {
            let claim = log.claim(partition).await.expect("a claim");
            let mut stamp = claim.floor;
            for id in 1..=5 {
                let mut records = vec![record(id * 2 - 1, 0), record(id * 2, 1)];
                for record in &mut records {
                    stamp = Stamp::next(stamp, Timestamp(0), partition);
                    record.local.stamp = stamp;
                    record.portable.payload = vec![b'x'; 900].into();
                }
                let batch = Batch::new(id, records);
                let appended = log.append(partition, claim.epoch, batch).await;
                appended.expect("an append");
            }
            stamp = Stamp(stamp.0 + (1 << 30));
            let renewed = log.renew(partition, claim.epoch, stamp).await;
            renewed.expect("a renewal");
        }
        log.close().await;
    });
    let names = ["0000000001.log", "0000000002.log"];
    let files = names
        .iter()
        .zip(0..)
        .filter_map(|(name, number)| Some((number, disk.contents(name)?)));
    files.collect()
}

fn record(version: u64, index: u32) -> Record {
    Record {
        kind: Kind::Event,
        portable: Portable {
            unit: Unit { index, count: 2 },
            ..Portable::new(EntityKey::new("thing", "a"), "Happened")
        },
        local: Local {
            offset: Offset(0),
            version,
            epoch: 0,
            batch: 0,
            stamp: Stamp(0),
            reply: None,
            link: Link::default(),
        },
    }
}

/// Two records, the second of which has every field.
fn codec() -> Vec<u8> {
    let (home, away) = (origin("local"), origin("away"));
    let mut full = record(2, 1);
    let portable = &mut full.portable;
    portable.event_id = Uuid::from_u128(5);
    portable.dot = Some(dot(&away, 3));
    portable.context = vec![(away.clone(), 9)];
    portable.causes = vec![dot(&away, 1), dot(&home, 2)];
    portable.schema_version = 3;
    portable.effective = Timestamp(77);
    portable.causation = Some(Uuid::from_u128(6));
    portable.correlation = Some(Uuid::from_u128(7));
    portable.command = Some(Uuid::from_u128(8));
    portable.hops = 2;
    portable.principal = "ann".into();
    portable.trace = "00-1".into();
    portable.labels = vec![("color".into(), "blue".into())];
    portable.subject_key = "key".into();
    portable.content_type = "text/plain".into();
    portable.metadata = "meta".into();
    full.local.stamp = Stamp(1 << 40);
    full.local.reply = Some(Reply {
        command_digest: 9.into(),
        rejected: true,
        body: "no".into(),
        source: Some(Source {
            handler: "mailer".into(),
            partition: Partition(1),
            offset: Offset(4),
            settled: Offset(3),
        }),
    });
    let frame = Frame {
        origin: home,
        partition: Partition(1),
        epoch: 3,
        batch: 4,
        first: Offset(5),
        chained: true,
        previous_link: Link::default(),
    };
    let mut input = vec![1, 2];
    encode(&mut input, &[record(1, 0), full], &frame);
    input
}

fn origin(site: &'static str) -> Origin {
    Origin {
        site: site.into(),
        incarnation: Incarnation(7),
        layout: 1,
    }
}

fn dot(origin: &Origin, counter: u64) -> Dot {
    Dot {
        origin: origin.clone(),
        partition: Partition(1),
        counter,
    }
}

fn positions() -> [Vec<u8>; 2] {
    let position = Position::new("main", Incarnation(7), 1).with(Partition(0), Offset(300));
    let token = position.with(Partition(9), Offset(2)).to_string();
    let mut body = vec![0, 1];
    body.put_text("main");
    body.put_u128(7);
    for number in [1, 2, 0, 300, 9, 2] {
        body.put_varint(number);
    }
    [[b"\x01", token.as_bytes()].concat(), body]
}

fn wire() -> Vec<u8> {
    let mut input = vec![8, 0, 1, 2, 3, 4, 5, 6, 7];
    input.put_u8(1);
    input.put_u32(2);
    input.put_u64(3);
    input.put_u128(4);
    input.put_varint(5000);
    input.put_signed(-5000);
    input.put_slice(b"slice");
    input.extend_from_slice(b"rest of it");
    input
}
