//! Guarantee: a replica serves reads, and whoever holds a token reads what they wrote once it has
//! arrived; nothing is written there.

use std::time::Duration;

use everfold_engine::engine::{AppendError, OwnerError, Query, Refusal};
use everfold_engine::world::System;
use everfold_engine::{Engine, EntityKey, Offset, Partition};
use everfold_postgres::{OpenError, Options, Postgres};

use crate::owner::{Owner, names, sound};
use crate::servers::{Server, open, outsider};

/// Waits until a replica has everything.
pub async fn caught_up(primary: &Server, copy: &Server) {
    let written = outsider(&primary.database()).await;
    let row = written
        .query_one("select pg_current_wal_flush_lsn()::text", &[])
        .await;
    let reached: String = row.unwrap().get(0);
    let reading = outsider(&copy.database()).await;
    let sql = format!("select pg_last_wal_replay_lsn() >= '{reached}'::pg_lsn");
    while !reading
        .query_one(&sql, &[])
        .await
        .unwrap()
        .get::<_, bool>(0)
    {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_serves_reads_with_a_token() {
    let primary = Server::own(&[]);
    let copy = primary.replica(&[]);
    let log = open(&primary.log("orders")).await;
    let mut owner = Owner::claim(log.clone(), 0).await.unwrap();
    owner.append(&["a", "b", "a"]).await.unwrap();
    caught_up(&primary, &copy).await;
    let address = copy.log("orders");
    let options = Options::default();
    let reader = Postgres::open_read_only(&address, System::current(), options)
        .await
        .unwrap();
    assert_eq!(reader.identity(), log.identity());

    // The token says where the write lies; the replica gets there by itself.
    for number in 0..20 {
        let last = owner.append(&["a", "b"]).await.unwrap().last;
        let before = Offset(last.0 - 1);
        let waited =
            tokio::time::timeout(Duration::from_secs(60), reader.wait(Partition(0), before));
        assert!(waited.await.unwrap().unwrap() >= last);
        assert_eq!(sound(&*reader, Partition(0)).await.len(), 5 + 2 * number);
    }
    let key = EntityKey::new("thing", "a");
    let history = reader
        .read_entity(Partition(0), &key, 0, 100)
        .await
        .unwrap();
    assert_eq!(names(&history), ["a"; 22]);
    let query = Query {
        entity_types: vec!["thing".into()],
        ..Query::default()
    };
    let found = reader
        .find(Partition(0), &query, Offset(0), 100)
        .await
        .unwrap();
    assert_eq!(found.records.len(), 43);

    // Nothing is written, whatever is asked for.
    assert!(matches!(
        reader.claim(Partition(0)).await,
        Err(OwnerError::ReadOnly(_))
    ));
    let mut other = Owner::of(reader.clone(), Partition(0), owner.claim.clone())
        .await
        .unwrap();
    assert!(matches!(
        other.append(&["c"]).await,
        Err(AppendError::Refused(Refusal::ReadOnly(_)))
    ));
    // And who wants to write there is told what is in the way.
    let opened = Postgres::open(&address, System::current(), options).await;
    match opened {
        Ok(log) => {
            let claimed = log.claim(Partition(0)).await;
            assert!(
                matches!(claimed, Err(OwnerError::ReadOnly(_))),
                "{claimed:?}"
            );
        }
        Err(error) => {
            assert!(matches!(error, OpenError::Refused(_)), "{error}");
            assert!(error.to_string().contains("read-only"), "{error}");
        }
    }
}
