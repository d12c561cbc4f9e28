//! Guarantee: people read events with plain SQL, and every payload comes back as it was given.

use everfold_engine::engine::Query;
use everfold_engine::{Bytes, Engine, EntityKey, Offset, Partition, Timestamp};

use crate::owner::{Owner, event, sound};
use crate::servers::{Server, open, outsider, schema};

#[tokio::test(flavor = "multi_thread")]
async fn people_read_events_with_sql() {
    let server = Server::shared();
    let address = server.fresh();
    let log = open(&address).await;
    let mut owner = Owner::claim(log, 0).await.unwrap();
    let mut paid = event("7");
    paid.portable.entity = EntityKey::new("order", "7");
    paid.portable.event_type = "OrderPaid".into();
    paid.portable.payload = r#"{"total": 12.50, "by": "Zoë"}"#.into();
    paid.portable.labels = vec![("country".into(), "DE".into())];
    paid.portable.effective = Timestamp(1_709_164_800_000_000);
    let mut other = paid.clone();
    other.portable.payload = r#"{"total": 3}"#.into();
    other.portable.labels = vec![("country".into(), "FR".into())];
    let batch = owner.batch(vec![paid, other]);
    owner.try_append(batch).await.unwrap();
    let person = outsider(&address).await;
    let sql = format!(
        "select event_type, entity_type, entity_id, version, document->>'by', \
           effective = timestamptz '2024-02-29 00:00+00', payload::text \
         from {}.event where kind = 1 and labels @> array['country=DE'] \
           and (document->>'total')::numeric > 10",
        schema(&address)
    );
    let rows = person.query(&sql, &[]).await.unwrap();
    assert_eq!(rows.len(), 1);
    let texts: Vec<&str> = [0, 1, 2, 4, 6].map(|column| rows[0].get(column)).into();
    let payload = r#"{"total": 12.50, "by": "Zoë"}"#;
    assert_eq!(texts, ["OrderPaid", "order", "7", "Zoë", payload]);
    assert_eq!(rows[0].get::<_, i64>(3), 1);
    assert!(rows[0].get::<_, bool>(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn awkward_payloads_labels_names_and_times_come_back_as_they_were() {
    let server = Server::shared();
    let address = server.fresh();
    let log = open(&address).await;
    let mut owner = Owner::claim(log.clone(), 0).await.unwrap();
    let payloads: Vec<Bytes> = vec![
        " {\"b\" : 1,\n\t\"a\":1.0, \"a\": 1e2 } ".into(),
        r#""\u0000""#.into(),
        r#""\ud83d""#.into(),
        r#""\ud83d\ude00 \u00fc""#.into(),
        r#"{"":{"":[]}}"#.into(),
        "-0".into(),
        "1e-400".into(),
        "1E999".into(),
        "12345678901234567890123456789012345678901234567890.5".into(),
        "9".repeat(900).into(),
        "9".repeat(5000).into(),
        format!("{}{}", "[".repeat(500), "]".repeat(500)).into(),
        format!("\"{}\"", "x".repeat(200_000)).into(),
        "null".into(),
        "\u{feff}{}".into(),
        "".into(),
        Bytes::from_static(&[0, 159, 146, 150, 255]),
        "{\"unfinished\":".into(),
        "\"\u{ffff}\u{10ffff}\"".into(),
        "NaN".into(),
    ];
    let mut given = Vec::new();
    for (number, payload) in payloads.into_iter().enumerate() {
        let mut record = event(&format!("p-{number}"));
        record.portable.payload = payload;
        given.push(record);
    }
    for time in [i64::MIN, -211_813_488_000_000_000, -1, 0, 1, i64::MAX] {
        let mut record = event(&format!("t-{time}"));
        record.portable.effective = Timestamp(time);
        given.push(record);
    }
    // Longer than any index takes, and nothing that could be compressed away.
    let mut word = 0x2545_f491_4f6c_dd1d_u64;
    let noise: String = (0..20_000)
        .map(|_| {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            char::from(b'!' + (word % 90) as u8)
        })
        .collect();
    for (number, labels) in [
        vec![("long", noise.as_str())],
        vec![(&noise[..9000], "")],
        vec![("long", &noise[..2705]), ("short", "1")],
        vec![("nul\0", "\0"), ("=", "=="), ("{},\"\\", "NULL")],
    ]
    .into_iter()
    .enumerate()
    {
        let mut record = event(&format!("l-{number}"));
        let labels = labels.iter();
        record.portable.labels = labels.map(|(n, v)| ((*n).into(), (*v).into())).collect();
        given.push(record);
    }
    for name in [
        noise[..512].replace('-', "_"),
        "\0".repeat(512),
        "é".repeat(256),
    ] {
        let mut record = event(&name);
        record.portable.entity = EntityKey {
            tenant: name.as_str().into(),
            kind: name.as_str().into(),
            id: name.as_str().into(),
        };
        given.push(record);
    }
    let mut expected = Vec::new();
    for record in given {
        let name = record.portable.entity.id.to_string();
        let shown: String = name.chars().take(20).collect();
        let batch = owner.batch(vec![record]);
        expected.push(batch.records[0].portable.clone());
        let appended = owner.try_append(batch).await;
        assert!(appended.is_ok(), "{shown}: {appended:?}");
    }
    let found = sound(&*log, Partition(0)).await;
    let found: Vec<_> = found.iter().map(|record| record.portable.clone()).collect();
    assert!(found == expected, "something came back otherwise");
    for portable in expected {
        let query = Query {
            labels: portable.labels.clone(),
            ..Query::default()
        };
        let chunk = log
            .find(Partition(0), &query, Offset(0), 1000)
            .await
            .unwrap();
        assert!(
            chunk
                .records
                .iter()
                .any(|record| record.portable == portable)
        );
        if !portable.labels.is_empty() {
            assert_eq!(chunk.records.len(), 1);
        }
        let history = log.read_entity(Partition(0), &portable.entity, 0, 10).await;
        assert_eq!(history.unwrap().len(), 1);
    }
}
