//! Guarantee: transactions of others, however long they stay open, hold up no append, claim, wait or
//! read, make no holes and no bloat.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use everfold_engine::engine::{Area, Put, ReadLimit, Revision};
use everfold_engine::{Engine, Offset, Partition, Stamp};

use crate::owner::{Owner, sound};
use crate::servers::{Server, open, outsider, schema};

/// Follows a partition through `wait` and `read` and asserts that nothing appears below what it has
/// passed; ends with what it has seen.
async fn follow(engine: Arc<dyn Engine>, stop: Arc<AtomicBool>, until: u64) -> u64 {
    let mut seen = Offset(0);
    while seen.0 < until && !stop.load(Ordering::Relaxed) {
        let head = engine.wait(Partition(0), seen).await.unwrap();
        let chunk = engine.read(Partition(0), seen, ReadLimit::default()).await;
        let chunk = chunk.unwrap();
        assert!(head > seen && chunk.safe_head >= head);
        for record in chunk.records {
            assert_eq!(record.local.offset.0, seen.0 + 1, "a hole was passed");
            seen = record.local.offset;
        }
    }
    seen.0
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_waits_for_transactions_of_others() {
    const APPENDS: u64 = 1000;
    let server = Server::shared();
    let address = server.fresh();
    let log = open(&address).await;
    let mut owner = Owner::claim(log.clone(), 0).await.unwrap();
    owner.append(&["before"]).await.unwrap();
    let name = schema(&address);
    let admin = outsider(&address).await;

    // One has looked at everything and stays, one writes elsewhere, two sit there.
    let reader = outsider(&address).await;
    let look = format!(
        "begin isolation level repeatable read; select * from {name}.event; \
         select * from {name}.partition; select * from {name}.log; select * from {name}.area; \
         select * from {name}.entry"
    );
    reader.batch_execute(&look).await.unwrap();
    let writer = outsider(&address).await;
    let write = format!(
        "create table elsewhere_{name} (n int); begin; insert into elsewhere_{name} values (1)"
    );
    writer.batch_execute(&write).await.unwrap();
    let idle = outsider(&address).await;
    idle.batch_execute("begin; select txid_current()")
        .await
        .unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let other = open(&address).await;
    let follower = tokio::spawn(follow(other.clone(), stop.clone(), APPENDS + 1));
    for number in 0..APPENDS {
        owner.append(&[&format!("n-{number}")]).await.unwrap();
        if number % 100 == 0 {
            let floor = Stamp(0);
            log.renew(Partition(0), owner.epoch(), floor).await.unwrap();
            owner.confirm().await.unwrap();
        }
        // Some come, fail, and go.
        if number % 250 == 0 {
            let aborted = outsider(&address).await;
            let sql = format!("begin; delete from {name}.entry; select 1 / 0");
            aborted.batch_execute(&sql).await.unwrap_err();
            let killed = outsider(&address).await;
            let sql = format!("begin; select * from {name}.event limit 1");
            killed.batch_execute(&sql).await.unwrap();
            let end = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                       where query like $1 and pid <> pg_backend_pid()";
            admin.query_one(end, &[&format!("{sql}%")]).await.unwrap();
        }
    }
    assert_eq!(follower.await.unwrap(), APPENDS + 1);
    let mut successor = Owner::claim(other, 0).await.unwrap();
    successor.append(&["after"]).await.unwrap();
    assert_eq!(sound(&*log, Partition(0)).await.len() as u64, APPENDS + 2);

    // Versions of the row are made by claims and renewals, never by appends.
    admin
        .batch_execute("select pg_stat_force_next_flush()")
        .await
        .unwrap();
    let sql =
        "select n_tup_upd from pg_stat_user_tables where schemaname = $1 and relname = 'partition'";
    let updates: i64 = admin.query_one(sql, &[&name]).await.unwrap().get(0);
    assert!(updates < 100, "{updates} changes of partition rows");
    // And the one who looks still sees what it saw.
    let sql = format!("select count(*) from {name}.event");
    let seen: i64 = reader.query_one(&sql, &[]).await.unwrap().get(0);
    assert_eq!(seen, 1);
}

/// A dump that has taken its snapshot and all its locks, and then stands still.
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_stands_still_holds_up_nothing() {
    let server = Server::shared();
    let address = server.fresh();
    let log = open(&address).await;
    let mut owner = Owner::claim(log.clone(), 0).await.unwrap();
    let admin = outsider(&address).await;
    // Enough that the dump does not end before it is stopped: nobody takes what it writes.
    let name = schema(&address);
    let fill = format!(
        "create table {name}.filling as select repeat('x', 1000) from generate_series(1, 2000)"
    );
    admin.batch_execute(&fill).await.unwrap();
    owner.append(&["before"]).await.unwrap();
    let mut dump = Command::new("pg_dump")
        .args(["--schema", name, "--dbname", &server.database()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let dumping = "select count(*) from pg_stat_activity where application_name = 'pg_dump' \
                   and query like 'COPY %filling%'";
    while admin
        .query_one(dumping, &[])
        .await
        .unwrap()
        .get::<_, i64>(0)
        == 0
    {
        assert!(dump.try_wait().unwrap().is_none(), "the dump has ended");
        tokio::task::yield_now().await;
    }
    let pid = dump.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-STOP", &pid])
            .status()
            .unwrap()
            .success()
    );
    for number in 0..50 {
        owner.append(&[&format!("n-{number}")]).await.unwrap();
    }
    let other = open(&address).await;
    let mut successor = Owner::claim(other.clone(), 0).await.unwrap();
    successor.append(&["after"]).await.unwrap();
    other.wait(Partition(0), Offset(51)).await.unwrap();
    assert_eq!(sound(&*other, Partition(0)).await.len(), 52);
    dump.kill().unwrap();
    dump.wait().unwrap();
}

/// All kinds of vacuum, while appends, reads and changes of areas go on.
#[tokio::test(flavor = "multi_thread")]
async fn vacuum_goes_on_beside_appends_and_reads() {
    let server = Server::shared();
    let address = server.fresh();
    let log = open(&address).await;
    let admin = outsider(&address).await;
    let name = schema(&address);
    let done = Arc::new(AtomicBool::new(false));
    let mut owner = Owner::claim(log.clone(), 0).await.unwrap();
    let (engine, ended) = (log.clone(), done.clone());
    let appending = tokio::spawn(async move {
        let area = Area {
            name: "view/things/1".into(),
            partition: Partition(0),
        };
        let (mut number, mut previous) = (0_u64, Revision(0));
        while !ended.load(Ordering::Relaxed) {
            number += 1;
            owner.append(&[&format!("n-{number}")]).await.unwrap();
            let value = format!("{{\"n\": {number}}}");
            let put = Put {
                area: area.clone(),
                epoch: owner.epoch(),
                incarnation: engine.identity().incarnation,
                previous,
                clear: number.is_multiple_of(7),
                changes: vec![("rkey".into(), Some(value.clone().into()))],
            };
            previous = engine.put(put).await.unwrap();
            let found = engine.get(&area, b"rkey").await.unwrap();
            assert_eq!(found.as_deref(), Some(value.as_bytes()));
        }
        number
    });
    let (reader, stop) = (open(&address).await, Arc::new(AtomicBool::new(false)));
    let follower = tokio::spawn(follow(reader, stop.clone(), 200));
    for _ in 0..10 {
        for vacuum in [
            format!("vacuum {name}.event"),
            format!("vacuum full {name}.entry"),
            format!("vacuum full {name}.area"),
            format!("vacuum (freeze, analyze) {name}.event"),
            format!("vacuum freeze {name}.partition"),
            "vacuum".to_owned(),
        ] {
            admin.batch_execute(&vacuum).await.unwrap();
        }
    }
    assert!(follower.await.unwrap() >= 200);
    done.store(true, Ordering::Relaxed);
    let appended = appending.await.unwrap();
    assert_eq!(sound(&*log, Partition(0)).await.len() as u64, appended);
}
