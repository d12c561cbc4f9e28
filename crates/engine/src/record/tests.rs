use proptest::prelude::*;

use super::codec::{Frame, decode, encode};
use super::*;

fn text() -> impl Strategy<Value = Text> {
    prop_oneof![Just(Text::new()), "[a-zé{}-]{1,12}".prop_map(Text::from)]
}

fn id() -> impl Strategy<Value = Option<Uuid>> {
    prop_oneof![
        Just(None),
        (0u128..3).prop_map(|id| Some(Uuid::from_u128(id)))
    ]
}

fn origin() -> impl Strategy<Value = Origin> {
    (prop_oneof![Just("local"), Just("far")], 0u128..2, 1u32..3).prop_map(|(site, log, layout)| {
        Origin {
            site: site.into(),
            incarnation: Incarnation(log),
            layout,
        }
    })
}

fn dot() -> impl Strategy<Value = Dot> {
    (origin(), 0u16..4, any::<u64>()).prop_map(|(origin, partition, counter)| Dot {
        origin,
        partition: Partition(partition),
        counter,
    })
}

fn bytes() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

prop_compose! {
    fn portable()(
        ids in (any::<u128>(), id(), id(), id()),
        dot in proptest::option::of(dot()),
        context in proptest::collection::vec((origin(), any::<u64>()), 0..3),
        causes in proptest::collection::vec(dot(), 0..3),
        entity in (text(), text(), text()),
        event_type in text(),
        numbers in (any::<u32>(), any::<i64>(), any::<u64>(), any::<u32>()),
        texts in (text(), text(), text(), prop_oneof![Just(Text::from_static(JSON)), text()]),
        labels in proptest::collection::vec((text(), text()), 0..3),
        bodies in (bytes(), bytes()),
    ) -> Portable {
        Portable {
            event_id: Uuid::from_u128(ids.0),
            dot, context, causes,
            entity: EntityKey { tenant: entity.0, kind: entity.1, id: entity.2 },
            event_type,
            schema_version: numbers.0,
            effective: Timestamp(numbers.1),
            hybrid: HybridTime(numbers.2),
            causation: ids.1, correlation: ids.2, command: ids.3,
            unit: Unit::SINGLE,
            hops: numbers.3,
            principal: texts.0, trace: texts.1, labels, subject_key: texts.2, content_type: texts.3,
            metadata: bodies.0, payload: bodies.1,
        }
    }
}

fn reply() -> impl Strategy<Value = Option<Reply>> {
    let source = (text(), 0u16..4, any::<u64>(), any::<u64>()).prop_map(|source| Source {
        handler: source.0,
        partition: Partition(source.1),
        offset: Offset(source.2),
        settled: Offset(source.3),
    });
    let reply = (
        any::<u128>(),
        any::<bool>(),
        bytes(),
        proptest::option::of(source),
    );
    proptest::option::of(
        reply.prop_map(|(command_digest, rejected, body, source)| Reply {
            command_digest: command_digest.into(),
            rejected,
            body,
            source,
        }),
    )
}

fn frame(chained: bool) -> Frame {
    Frame {
        origin: Origin {
            site: "local".into(),
            incarnation: Incarnation(1),
            layout: 1,
        },
        partition: Partition(2),
        epoch: 3,
        batch: 4,
        first: Offset(5),
        chained,
        previous_link: Link([7; 32]),
    }
}

fn batch() -> impl Strategy<Value = Vec<Record>> {
    let kind = (1u8..=6).prop_map(|code| Kind::of(code).unwrap());
    let record = (kind, portable(), any::<u64>(), 0..i64::MAX, reply());
    proptest::collection::vec(record, 1..6).prop_map(|records| {
        let mut link = Link([7; 32]);
        let mut batch = Vec::new();
        for (index, (kind, portable, version, stamp, reply)) in records.into_iter().enumerate() {
            let local = Local {
                offset: Offset(5 + index as u64),
                version,
                epoch: 3,
                batch: 4,
                stamp: Stamp(stamp),
                reply,
                link: Link::default(),
            };
            let mut record = Record {
                kind,
                portable,
                local,
            };
            link = record.link_after(link);
            record.local.link = link;
            batch.push(record);
        }
        batch
    })
}

proptest! {
    #[test]
    fn every_field_comes_back(records in batch()) {
        let frame = frame(true);
        let mut bytes = Vec::new();
        encode(&mut bytes, &records, &frame);
        prop_assert_eq!(decode(&bytes.into(), records.len(), &frame).unwrap(), records);
    }

    #[test]
    fn cut_or_changed_bytes_are_read_or_refused(records in batch(), at in any::<usize>(), with in any::<u8>(), cut in any::<bool>()) {
        let frame = frame(false);
        let mut bytes = Vec::new();
        encode(&mut bytes, &records, &frame);
        let at = at % bytes.len();
        if cut { bytes.truncate(at) } else { bytes[at] = with }
        let _ = decode(&bytes.into(), records.len(), &frame);
    }

    #[test]
    fn the_digest_depends_on_every_portable_field(a in portable(), b in portable()) {
        prop_assert_eq!(Digest::of(&a) == Digest::of(&b), a == b);
        let mut changed = a.clone();
        changed.payload = [a.payload.as_ref(), b"x"].concat().into();
        prop_assert_ne!(Digest::of(&changed), Digest::of(&a));
        let mut moved = a.clone();
        moved.metadata = a.payload.clone();
        moved.payload = a.metadata.clone();
        prop_assert_eq!(Digest::of(&moved) == Digest::of(&a), a.metadata == a.payload);
    }
}

/// The digest and the link of a fixed record are for ever.
#[test]
fn digest_and_link_match_their_test_vectors() {
    let mut portable = Portable::new(EntityKey::new("customer", "c-1"), "Opened");
    portable.event_id = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);
    portable.payload = Bytes::from_static(br#"{"name":"Ada"}"#);
    let digest = Digest::of(&portable);
    let link = Link::default().next(Kind::Event, 1, digest);
    assert_eq!(
        digest.to_string(),
        "3230ab293b2080ba1b258b55be017740e029d70323e093e0c1b4c0586afe09b1"
    );
    assert_eq!(
        link.to_string(),
        "edea1f5ffb4350eb60b0b501ac85365771b6c9e4f2e9a9d1103d3a3088fb9289"
    );
}
