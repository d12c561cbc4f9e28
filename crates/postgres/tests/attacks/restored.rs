//! Guarantee: an older copy that is put into the place of a log is recognised, refused, and lives on
//! only when somebody says so; nobody appends to it under an old epoch.

use std::process::Command;

use everfold_engine::world::System;
use everfold_engine::{Engine, Partition};
use everfold_postgres::{OpenError, Options, Postgres, adopt};

use crate::owner::{Owner, names, sound};
use crate::servers::{DATABASE, Server, open, outsider};

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output().unwrap();
    let words = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program}: {words}");
}

fn dump(server: &Server) -> String {
    let file = server.directory.path().join("dump");
    let file = file.to_str().unwrap().to_owned();
    run("pg_dump", &["-Fc", "-f", &file, "-d", &server.database()]);
    file
}

async fn refused(address: &str) {
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
    assert!(owner.append(&["must not be"]).await.is_err());
    let records = sound(&*open(&address).await, Partition(0)).await;
    assert_eq!(names(&records), ["kept"]);
}
