//! Guarantee: an older copy that is put into the place of a log is recognised, refused, and lives on
//! only when somebody says so; nobody appends to it under an old epoch.

use everfold_engine::world::System;
use everfold_engine::{Engine, Partition};
use everfold_postgres::{OpenError, Options, Postgres, adopt};

use crate::owner::{Owner, names, sound};
use crate::proxy::Proxy;
use crate::replicas::caught_up;
use crate::servers::{DATABASE, Server, open, outsider, run};

fn dump(server: &Server) -> String {
    let file = server.directory.path().join("dump");
    let file = file.to_str().unwrap().to_owned();
    run("pg_dump", &["-Fc", "-f", &file, "-d", &server.database()]);
    file
}

pub async fn refused(address: &str) {
    for looking in [false, true] {
        let opened = match looking {
            false => Postgres::open(address, System::current(), Options::default()).await,
            true => Postgres::open_read_only(address, System::current(), Options::default()).await,
        };
        match opened {
            Err(error @ OpenError::Restored { .. }) => {
                assert!(error.to_string().contains("everfold adopt"), "{error}");
            }
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("a copy was opened"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_restored_elsewhere_is_refused_until_it_is_adopted() {
    let server = Server::own(&[]);
    let address = server.log("orders");
    let log = open(&address).await;
    let mut owner = Owner::claim(log.clone(), 0).await.unwrap();
    owner.append(&["kept"]).await.unwrap();
    let file = dump(&server);
    owner.append(&["missing in the copy"]).await.unwrap();

    server.server.create_database("copy").unwrap();
    run("pg_restore", &["-d", &server.server.address("copy"), &file]);
    let elsewhere = Server::own(&[]);
    run("pg_restore", &["-d", &elsewhere.database(), &file]);

    let in_copy = format!("{}?schema=orders", server.server.address("copy"));
    for copy in [in_copy, elsewhere.log("orders")] {
        refused(&copy).await;
        let incarnation = adopt(&copy).await.unwrap();
        assert_ne!(incarnation, log.identity().incarnation);
        let adopted = open(&copy).await;
        assert_eq!(adopted.identity().incarnation, incarnation);
        assert!(adopted.confirm(Partition(0), owner.epoch()).await.is_err());
        let mut next = Owner::claim(adopted.clone(), 0).await.unwrap();
        assert!(next.epoch() > owner.epoch());
        let records = sound(&*adopted, Partition(0)).await;
        assert_eq!(names(&records), ["kept"]);
        next.append(&["lives on"]).await.unwrap();
    }
    // What was copied is not touched by that.
    owner.append(&["lives on too"]).await.unwrap();
}

/// Server, database and timeline are those of the log; only its tables are not.
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_restored_in_place_is_refused_until_it_is_adopted() {
    let server = Server::own(&[]);
    let address = server.log("orders");
    let log = open(&address).await;
    let mut owner = Owner::claim(log.clone(), 0).await.unwrap();
    owner.append(&["kept"]).await.unwrap();
    let file = dump(&server);
    owner.append(&["missing in the copy"]).await.unwrap();
    let admin = outsider(&server.database()).await;
    admin
        .batch_execute("drop schema orders cascade")
        .await
        .unwrap();
    run("pg_restore", &["-d", &server.database(), &file]);

    refused(&address).await;
    adopt(&address).await.unwrap();
    // Its sessions were begun before.
    assert!(owner.append(&["must not be"]).await.is_err());
    assert!(log.claim(Partition(1)).await.is_err());
    let records = sound(&*open(&address).await, Partition(0)).await;
    assert_eq!(names(&records), ["kept"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_engine_does_not_go_on_with_a_restored_database() {
    let server = Server::own(&[]);
    let address = server.log("orders");
    let log = open(&address).await;
    let mut owner = Owner::claim(log.clone(), 0).await.unwrap();
    owner.append(&["kept"]).await.unwrap();
    let file = dump(&server);
    // A copy as old as this one fits the owner in everything but its place.
    server.server.create_database("copy").unwrap();
    run("pg_restore", &["-d", &server.server.address("copy"), &file]);
    let admin = outsider(&server.server.address("postgres")).await;
    for sql in [
        "select count(pg_terminate_backend(pid)) from pg_stat_activity \
         where datname is not null and pid <> pg_backend_pid()",
        &format!("alter database {DATABASE} rename to older"),
        &format!("alter database copy rename to {DATABASE}"),
    ] {
        admin.execute(sql, &[]).await.unwrap();
    }
    for _ in 0..4 {
        let appended = owner.append(&["must not be"]).await;
        assert!(appended.is_err(), "{appended:?}");
        assert!(owner.confirm().await.is_err());
        assert!(log.claim(Partition(0)).await.is_err());
        let read = log.safe_head(Partition(0)).await;
        let words = read.unwrap_err().to_string();
        assert!(words.contains("restored"), "{words}");
    }
    refused(&address).await;
    adopt(&address).await.unwrap();
    for _ in 0..4 {
        assert!(owner.append(&["must not be"]).await.is_err());
        let words = log.safe_head(Partition(0)).await.unwrap_err().to_string();
        assert!(words.contains("no longer incarnation"), "{words}");
    }
    let records = sound(&*open(&address).await, Partition(0)).await;
    assert_eq!(names(&records), ["kept"]);
}

/// The files of an older copy, brought up on their own: a promotion that acknowledgements did not wait
/// for may have lost some.
#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_copy_is_refused_and_not_used_by_a_running_engine() {
    let primary = Server::own(&[]);
    let address = primary.log("orders");
    let log = open(&address).await;
    let mut owner = Owner::claim(log.clone(), 0).await.unwrap();
    owner.append(&["kept"]).await.unwrap();
    let copy = primary.replica(&[]);
    // The engine goes to wherever the address leads, which is the copy after a while.
    let gate = Proxy::before(&address).await;
    let running = open(&gate.address(&address)).await;
    let mut through = Owner::claim(running.clone(), 1).await.unwrap();
    through.append(&["kept"]).await.unwrap();
    caught_up(&primary, &copy).await;
    let admin = outsider(&copy.database()).await;
    let promoted = admin.query_one("select pg_promote()", &[]).await.unwrap();
    assert!(promoted.get::<_, bool>(0));
    gate.lead_to(&copy.database());
    for _ in 0..4 {
        assert!(through.append(&["must not be"]).await.is_err());
        assert!(through.confirm().await.is_err());
        assert!(running.claim(Partition(1)).await.is_err());
    }
    let address = copy.log("orders");
    refused(&address).await;
    let incarnation = adopt(&address).await.unwrap();
    let adopted = open(&address).await;
    assert_eq!(adopted.identity().incarnation, incarnation);
    let next = Owner::claim(adopted.clone(), 1).await.unwrap();
    assert!(next.epoch() > through.epoch());
    assert_eq!(names(&sound(&*adopted, Partition(1)).await), ["kept"]);
}

/// With acknowledgements that wait for the replica, its promotion is what it is there for.
#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_replica_that_acknowledgements_waited_for_takes_over() {
    let primary = Server::own(&[]);
    let copy = primary.replica(&[]);
    let admin = outsider(&primary.database()).await;
    for sql in [
        "alter system set synchronous_standby_names = '*'",
        "select pg_reload_conf()",
    ] {
        admin.batch_execute(sql).await.unwrap();
    }
    let waits = "select current_setting('synchronous_standby_names') = '*'";
    while !admin.query_one(waits, &[]).await.unwrap().get::<_, bool>(0) {
        tokio::task::yield_now().await;
    }
    let address = primary.log("orders");
    let gate = Proxy::before(&address).await;
    let log = open(&gate.address(&address)).await;
    let mut owner = Owner::claim(log.clone(), 0).await.unwrap();
    owner.append(&["first"]).await.unwrap();
    owner.append(&["second"]).await.unwrap();
    owner.confirm().await.unwrap();
    // The server may have heeded the setting late.
    caught_up(&primary, &copy).await;
    drop(primary);
    let promoted = outsider(&copy.database()).await;
    let promoted = promoted.query_one("select pg_promote()", &[]).await;
    assert!(promoted.unwrap().get::<_, bool>(0));
    gate.lead_to(&copy.database());
    // The engine goes on by itself, and so does one that is opened.
    let mut next = loop {
        if let Ok(owner) = Owner::claim(log.clone(), 0).await {
            break owner;
        }
    };
    assert!(next.epoch() > owner.epoch());
    next.append(&["third"]).await.unwrap();
    let opened = open(&copy.log("orders")).await;
    let records = sound(&*opened, Partition(0)).await;
    assert_eq!(names(&records), ["first", "second", "third"]);
}
