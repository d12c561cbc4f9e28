//! Guarantee: a log needs no rights beyond its own schema, services in one database do not see each
//! other's, and what cannot be opened says why.

use everfold_engine::engine::{Area, Epoch, Put, Revision, Statement};
use everfold_engine::world::System;
use everfold_engine::{Engine, Partition};
use everfold_postgres::{OpenError, Options, Postgres, migrate, schema_sql};

use crate::coordination::Node;
use crate::owner::{Owner, event, names, sound};
use crate::servers::{Server, open, outsider};

/// The address of a log for somebody else than the superuser.
fn of(server: &Server, role: &str, schema: &str) -> String {
    let address = server.log(schema);
    let (_, place) = address.split_once('@').unwrap();
    format!("postgres://{role}:secret@{place}")
}

async fn refusal(address: &str) -> OpenError {
    let opened = Postgres::open(address, System::current(), Options::default()).await;
    opened.map(drop).unwrap_err()
}

/// Everything that an owner does.
async fn use_all(address: &str) {
    let log = open(address).await;
    let mut owner = Owner::claim(log.clone(), 0).await.unwrap();
    owner.append(&["a", "b"]).await.unwrap();
    let area = Area {
        name: "snapshots".into(),
        partition: Partition(0),
    };
    let mut previous = Revision(0);
    for clear in [false, true] {
        let put = Put {
            area: area.clone(),
            epoch: owner.epoch(),
            incarnation: log.identity().incarnation,
            previous,
            clear,
            changes: vec![("key".into(), Some("value".into()))],
        };
        previous = log.put(put).await.unwrap();
    }
    log.renew(Partition(0), owner.epoch(), owner.claim.floor)
        .await
        .unwrap();
    let mut batch = owner.batch(vec![event("c")]);
    batch.statements = vec![Statement::new("select 1")];
    owner.try_append(batch).await.unwrap();
    let other = open(address).await;
    other
        .wait(Partition(0), everfold_engine::Offset(2))
        .await
        .unwrap();
    assert_eq!(names(&sound(&*other, Partition(0)).await), ["a", "b", "c"]);
    log.release(Partition(0), owner.epoch()).await.unwrap();
    for round in 0..2 {
        let node = Node::joined(address, "one").await;
        let id = node.member.node;
        node.beat().await.unwrap();
        node.coordinator
            .plan(id, node.plan(round + 1))
            .await
            .unwrap();
        node.coordinator.leave(id).await.unwrap();
    }
    log.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_in_one_database_do_not_see_each_other() {
    let server = Server::own(&[]);
    let admin = outsider(&server.database()).await;
    for role in ["ann", "bob", "eve"] {
        let sql = format!("create role {role} login password 'secret'");
        admin.batch_execute(&sql).await.unwrap();
    }
    // No role may make schemas: one was given an empty one, for the others the schema was made.
    admin
        .batch_execute("create schema bills authorization bob")
        .await
        .unwrap();
    let without_right = refusal(&of(&server, "ann", "orders")).await;
    assert!(
        without_right.to_string().contains("permission denied"),
        "{without_right}"
    );
    migrate(&server.log("orders")).await.unwrap();
    admin.batch_execute(&schema_sql("audits")).await.unwrap();
    for (schema, role) in [("orders", "ann"), ("audits", "eve")] {
        let grants = format!(
            "grant usage on schema {schema} to {role}; \
             grant select, insert on {schema}.event to {role}; \
             grant select on {schema}.format to {role}; \
             grant select, insert, update on {schema}.log, {schema}.partition to {role}; \
             grant select, insert, update, delete on {schema}.area, {schema}.entry, \
               {schema}.node to {role}; \
             grant select, update on {schema}.plan to {role}; \
             grant select, insert, update on {schema}.place to {role}; \
             grant select on {schema}.view_row to {role}"
        );
        admin.batch_execute(&grants).await.unwrap();
    }
    for (schema, role) in [("orders", "ann"), ("audits", "eve"), ("bills", "bob")] {
        use_all(&of(&server, role, schema)).await;
    }
    for (schema, role) in [("orders", "bob"), ("bills", "ann"), ("audits", "ann")] {
        let error = refusal(&of(&server, role, schema)).await;
        assert!(error.to_string().contains("permission denied"), "{error}");
    }
    let wrong = of(&server, "ann", "orders").replace("secret", "other");
    let error = refusal(&wrong).await;
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("other@"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_open_a_new_log_at_once_and_have_the_same() {
    let server = Server::shared();
    let address = server.fresh();
    let opening: Vec<_> = (0..8)
        .map(|_| {
            let address = address.clone();
            tokio::spawn(async move { open(&address).await })
        })
        .collect();
    let mut logs = Vec::new();
    for log in opening {
        logs.push(log.await.unwrap());
    }
    assert!(logs.iter().all(|log| log.identity() == logs[0].identity()));
    let mut before = Epoch(0);
    for log in &logs {
        let claim = log.claim(Partition(3)).await.unwrap();
        assert!(claim.epoch > before);
        before = claim.epoch;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_opened_says_why() {
    let server = Server::shared();
    let admin = outsider(&server.database()).await;
    let newer = server.log("newer");
    open(&newer).await.close().await;
    admin
        .batch_execute(
            "update newer.format set format = 99; \
             create schema theirs; create table theirs.event (n int)",
        )
        .await
        .unwrap();
    let error = refusal(&newer).await;
    assert!(
        matches!(error, OpenError::Newer { found: 99, .. }),
        "{error}"
    );
    let error = refusal(&server.log("theirs")).await;
    assert!(matches!(error, OpenError::Foreign(_)), "{error}");
    let fresh = server.fresh();
    open(&fresh).await.close().await;
    let error = refusal(&format!("{fresh}&partitions=9")).await;
    assert!(
        matches!(
            error,
            OpenError::Partitions {
                actual: 4,
                asked: 9
            }
        ),
        "{error}"
    );
    let missing = server.log("nothing");
    let opened = Postgres::open_read_only(&missing, System::current(), Options::default()).await;
    let error = opened.map(drop).unwrap_err();
    assert!(matches!(error, OpenError::NoLog(_)), "{error}");
}
