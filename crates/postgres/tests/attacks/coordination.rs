//! Guarantee: nodes find each other whatever claims, frozen sessions and readers do; beats leave
//! nothing behind; a plan outlives the server; a log of the format before gets all that by migrating.

use std::sync::Arc;
use std::time::Duration;

use everfold_engine::coordination::{
    Beat, CoordinationError, Held, JoinError, Member, NodeId, Place, Plan, Role,
};
use everfold_engine::engine::Epoch;
use everfold_engine::world::System;
use everfold_engine::{Coordinator, Engine, Offset, Partition, Timestamp};
use everfold_postgres::{OpenError, Options, Postgres, adopt, migrate};

use crate::owner::{Owner, names, sound};
use crate::servers::{Server, open, outsider, schema};

const LONG: Duration = Duration::from_secs(3600);

/// A member of the cluster on a log.
pub struct Node {
    pub log: Arc<Postgres>,
    pub coordinator: Arc<dyn Coordinator>,
    pub member: Member,
}

impl Node {
    pub async fn new(address: &str, name: &str) -> Self {
        let log = open(address).await;
        let member = Member {
            node: NodeId::draw(&*System::current()),
            name: name.into(),
            cluster: "c".into(),
            application: "a".into(),
            address: "localhost:1".into(),
            zone: "z".into(),
            weight: 1,
            build: "1".into(),
            layout: log.identity().layout,
        };
        Self {
            coordinator: log.coordinator().unwrap(),
            log,
            member,
        }
    }

    pub async fn joined(address: &str, name: &str) -> Self {
        let node = Self::new(address, name).await;
        let joined = node.coordinator.join(node.member.clone(), LONG).await;
        joined.unwrap();
        node
    }

    pub async fn beat(&self) -> Result<usize, CoordinationError> {
        let held = |partition| Held {
            partition,
            role: Role::Standby,
            offset: Offset(1 << 40),
            epoch: Epoch(1 << 40),
        };
        let beat = Beat {
            weight: 1,
            held: self.member.layout.all().map(held).collect(),
            lease: LONG,
        };
        let roster = self.coordinator.beat(self.member.node, beat).await?;
        Ok(roster.members.len())
    }

    pub fn plan(&self, number: u64) -> Plan {
        let place = |_| Place {
            owner: Some(self.member.node),
            standbys: Vec::new(),
            since: Timestamp(7),
            reason: "because".into(),
        };
        Plan {
            number,
            places: self.member.layout.all().map(place).collect(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_the_format_before_is_migrated() {
    let server = Server::shared();
    let address = server.fresh();
    let name = schema(&address);
    let mut owner = Owner::claim(open(&address).await, 0).await.unwrap();
    owner.append(&["before"]).await.unwrap();
    // As the version before left it: its tables are those of today.
    let admin = outsider(&address).await;
    let older = format!(
        "drop table {name}.node, {name}.place, {name}.plan cascade; \
         do $$ declare f text; begin \
           for f in select p.oid::regprocedure::text from pg_proc p \
             where p.pronamespace = '{name}'::regnamespace and p.proname <> 'rows_of' \
           loop execute 'drop function ' || f; end loop; end $$; \
         update {name}.format set format = 1"
    );
    admin.batch_execute(&older).await.unwrap();
    let look = || Postgres::open_read_only(&address, System::current(), Options::default());
    let refused = look().await.map(drop).unwrap_err();
    assert!(
        matches!(refused, OpenError::Older { found: 1, .. }),
        "{refused}"
    );
    // An owner of the version before goes on meanwhile.
    migrate(&address).await.unwrap();
    migrate(&address).await.unwrap();
    owner.append(&["between"]).await.unwrap();
    let node = Node::joined(&address, "one").await;
    assert_eq!(node.beat().await, Ok(1));
    assert_eq!(
        names(&sound(&*node.log, Partition(0)).await),
        ["before", "between"]
    );
    let looked = look().await.unwrap().coordinator().unwrap();
    let roster = looked.look().await.unwrap();
    assert_eq!(roster.assigner, Some(node.member.node));
    // Whoever only looks is no member.
    let refused = looked.join(node.member.clone(), LONG).await;
    assert!(
        matches!(refused, Err(JoinError::Unavailable(_))),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn beats_leave_nothing_behind() {
    // Transactions of others in the database would keep old versions for a while.
    let server = Server::own(&[("autovacuum", "off")]);
    let address = server.fresh();
    let name = schema(&address);
    let node = Node::joined(&address, "one").await;
    let other = Node::joined(&address, "two").await;
    let admin = outsider(&address).await;
    let pages = async || -> (i64, i64) {
        let sql = format!(
            "select pg_relation_size('{name}.node') / 8192, \
             pg_relation_size('{name}.node_pkey') / 8192"
        );
        let row = admin.query_one(&sql, &[]).await.unwrap();
        (row.get(0), row.get(1))
    };
    node.beat().await.unwrap();
    other.beat().await.unwrap();
    let before = pages().await;
    for _ in 0..1000 {
        node.beat().await.unwrap();
        other.beat().await.unwrap();
    }
    // New versions elsewhere would fill some sixty pages.
    let after = pages().await;
    assert!(
        after.0 <= before.0 + 2 && after.1 == before.1,
        "{before:?}, then {after:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_session_holds_up_no_beat_and_is_ended_by_who_needs_it_gone() {
    let server = Server::shared();
    let address = server.fresh();
    let name = schema(&address);
    let first = Node::joined(&address, "first").await;
    let second = Node::new(&address, "second").await;
    for round in 1..4 {
        // As a node that stopped between the packets of a plan.
        let frozen = outsider(&address).await;
        let hold = format!(
            "set application_name = 'everfold-coordinate frozen'; \
             begin; select from {name}.plan for update"
        );
        frozen.batch_execute(&hold).await.unwrap();
        first.beat().await.unwrap();
        assert_eq!(
            first.coordinator.look().await.unwrap().plan.number,
            round - 1
        );
        assert!(
            frozen.simple_query("select 1").await.is_ok(),
            "ended too early"
        );
        match round {
            1 => {
                let joined = second.coordinator.join(second.member.clone(), LONG).await;
                joined.unwrap();
            }
            2 => second.coordinator.leave(second.member.node).await.unwrap(),
            _ => {}
        }
        let planned = first
            .coordinator
            .plan(first.member.node, first.plan(round))
            .await;
        planned.unwrap();
        assert!(frozen.simple_query("select 1").await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_beat_does_not_wait_behind_claims() {
    let server = Server::shared();
    let address = server.fresh();
    let name = schema(&address);
    let node = Node::joined(&address, "one").await;
    let holder = outsider(&address).await;
    let hold = format!("begin; select from {name}.partition for update");
    holder.batch_execute(&hold).await.unwrap();
    let claims: Vec<_> = (0..4)
        .map(|partition| {
            let log = node.log.clone();
            tokio::spawn(async move { log.claim(Partition(partition)).await })
        })
        .collect();
    let waiting = format!(
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' \
         and application_name like 'everfold-own%' and query like '%{name}.%'"
    );
    let admin = outsider(&address).await;
    while admin
        .query_one(&waiting, &[])
        .await
        .unwrap()
        .get::<_, i64>(0)
        < 2
    {
        tokio::task::yield_now().await;
    }
    let planned = node.coordinator.plan(node.member.node, node.plan(1)).await;
    planned.unwrap();
    assert_eq!(node.beat().await, Ok(1));
    assert!(claims.iter().all(|claim| !claim.is_finished()));
    holder.batch_execute("rollback").await.unwrap();
    for claim in claims {
        claim.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_outlives_the_server() {
    let mut server = Server::own(&[]);
    let address = server.fresh();
    let node = Node::joined(&address, "one").await;
    let plan = node.plan(1);
    node.coordinator
        .plan(node.member.node, plan.clone())
        .await
        .unwrap();
    server.server.kill();
    assert!(matches!(
        node.beat().await,
        Err(CoordinationError::Unavailable(_))
    ));
    let unavailable = node.coordinator.join(node.member.clone(), LONG).await;
    assert!(
        matches!(unavailable, Err(JoinError::Unavailable(_))),
        "{unavailable:?}"
    );
    server.server.restart().unwrap();
    let roster = node
        .coordinator
        .join(node.member.clone(), LONG)
        .await
        .unwrap();
    assert_eq!(roster.plan, plan);
    assert_eq!(node.beat().await, Ok(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_a_log_that_was_adopted_are_no_members() {
    let server = Server::shared();
    let address = server.fresh();
    let node = Node::joined(&address, "one").await;
    adopt(&address).await.unwrap();
    assert_eq!(node.beat().await, Err(CoordinationError::Expired));
    let refused = node.coordinator.join(node.member.clone(), LONG).await;
    let told = refused.unwrap_err().to_string();
    assert!(told.contains("replaced"), "{told}");
    let roster = Node::joined(&address, "two").await.coordinator.look().await;
    assert_eq!(roster.unwrap().members.len(), 1);
}
