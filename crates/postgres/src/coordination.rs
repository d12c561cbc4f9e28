//! Who lives, and who should own what: functions of the schema, each one round trip.
//!
//! Sessions are their own, so that a beat waits behind nothing: not behind claims, and not behind a
//! join or a plan, which lock a row that beats do not touch.

mod answer;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use everfold_engine::coordination::{
    Beat, CoordinationError, Coordinator, JoinError, Member, NodeId, Plan, PlanError, Role, Roster,
};
use everfold_engine::engine::BoxFuture;
use everfold_engine::position::Incarnation;
use everfold_engine::{Layout, Uuid, World};
use tokio::sync::Semaphore;
use tokio_postgres::types::ToSql;

use crate::connect::PATIENCE;
use crate::error::{Failed, replaced};
use crate::text::escape;
use answer::{Answer, Known};

/// Two for who joins, plans, leaves or looks, one to help them, and one that is always there for a beat.
pub(crate) const SESSIONS: usize = 4;
/// What a session does takes no longer, or it is taken back: well below any lease of use.
pub(crate) const STATEMENT: Duration = Duration::from_secs(1);
/// Whoever holds a row that a join or a plan needs for longer than this is ended, as former owners are.
const GRACE: Duration = Duration::from_millis(500);
/// A beat is not given up before this, however short the lease.
const LEAST_PATIENCE: Duration = Duration::from_millis(500);

type Parameters<'a> = [&'a (dyn ToSql + Sync)];

/// The coordinator of a log in a database.
pub(crate) struct Coordination {
    pool: Pool,
    join: String,
    beat: String,
    plan: String,
    leave: String,
    look: String,
    incarnation: Incarnation,
    layout: Layout,
    writable: bool,
    world: Arc<dyn World>,
    /// So many calls are under way at once, beats aside.
    turns: Semaphore,
    /// The last plan that came, so that it does not come again with every beat.
    known: Mutex<Option<Known>>,
}

/// An answer that did not come, or is not understood.
struct Silent(String);

impl From<Silent> for JoinError {
    fn from(silent: Silent) -> Self {
        Self::Unavailable(silent.0)
    }
}

impl From<Silent> for CoordinationError {
    fn from(silent: Silent) -> Self {
        Self::Unavailable(silent.0)
    }
}

impl From<Silent> for PlanError {
    fn from(silent: Silent) -> Self {
        Self::Unavailable(silent.0)
    }
}

impl<E: Into<Failed>> From<E> for Silent {
    fn from(error: E) -> Self {
        Self(error.into().to_string())
    }
}

impl Coordination {
    pub(crate) fn new(
        pool: Pool,
        schema: &str,
        (incarnation, layout): (Incarnation, Layout),
        writable: bool,
        world: Arc<dyn World>,
    ) -> Self {
        let call = |name: &str, parameters: usize| {
            let places: Vec<String> = (1..=parameters).map(|place| format!("${place}")).collect();
            format!("select {schema}.{name}({})", places.join(", "))
        };
        Self {
            pool,
            join: call("join_cluster", 14),
            beat: call("beat", 9),
            plan: call("make_plan", 6),
            leave: call("leave_cluster", 1),
            look: call("roster", 2),
            incarnation,
            layout,
            writable,
            world,
            turns: Semaphore::new(SESSIONS / 2),
            known: Mutex::default(),
        }
    }

    async fn join_now(&self, member: Member, lease: Duration) -> Result<Roster, JoinError> {
        self.check_writable()?;
        let (number, made) = self.known();
        let node = member.node.0;
        let texts = [
            &member.name,
            &member.cluster,
            &member.application,
            &member.address,
            &member.zone,
            &member.build,
        ];
        let [name, cluster, application, address, zone, build] = texts.map(|text| escape(text));
        let incarnation = Uuid::from_u128(self.incarnation.0);
        let layout = i64::from(member.layout.number);
        let partitions = i64::from(member.layout.partitions);
        let (weight, lease) = (i64::from(member.weight), micros(lease));
        let parameters: &Parameters<'_> = &[
            &incarnation,
            &node,
            &name,
            &cluster,
            &application,
            &address,
            &zone,
            &weight,
            &build,
            &layout,
            &partitions,
            &lease,
            &number,
            &made,
        ];
        let text = |text: String| crate::text::restore(&text).into_owned().into();
        match self.unhindered(&self.join, parameters).await? {
            Answer::Roster(roster) => Ok(self.learn(roster)?),
            Answer::OtherCluster { living } => Err(JoinError::OtherCluster {
                living: text(living),
                asked: member.cluster,
            }),
            Answer::OtherApplication { living } => Err(JoinError::OtherApplication {
                living: text(living),
                asked: member.application,
            }),
            Answer::OtherLayout { number, partitions } => Err(JoinError::OtherLayout {
                here: Layout { number, partitions },
                asked: member.layout,
            }),
            Answer::Taken { address, until } => Err(JoinError::NameTaken {
                name: member.name,
                address: text(address),
                until: everfold_engine::Timestamp(until),
            }),
            Answer::Replaced => Err(JoinError::Unavailable(replaced(self.incarnation))),
            other => Err(unexpected(&other).into()),
        }
    }

    async fn beat_now(&self, node: NodeId, beat: Beat) -> Result<Roster, CoordinationError> {
        self.check_writable()?;
        let (number, made) = self.known();
        let held = &beat.held;
        let partitions: Vec<i16> = held.iter().map(|held| held.partition.0 as i16).collect();
        let as_owner = held.iter().map(|held| match held.role {
            Role::Owner => Some(true),
            Role::Standby => Some(false),
            Role::Unable => None,
        });
        let as_owner: Vec<Option<bool>> = as_owner.collect();
        let offsets: Vec<i64> = held.iter().map(|held| held.offset.0 as i64).collect();
        let epochs: Vec<i64> = held.iter().map(|held| held.epoch.0 as i64).collect();
        // A late answer helps nobody: the node has to know in time that it may not be heard.
        let patience = (beat.lease / 2).clamp(LEAST_PATIENCE, PATIENCE);
        let parameters: &Parameters<'_> = &[
            &node.0,
            &i64::from(beat.weight),
            &micros(beat.lease),
            &partitions,
            &as_owner,
            &offsets,
            &epochs,
            &number,
            &made,
        ];
        let answer = self.ask(patience, &self.beat, parameters).await?;
        match answer {
            Answer::Roster(roster) => Ok(self.learn(roster)?),
            Answer::Expired => Err(CoordinationError::Expired),
            other => Err(unexpected(&other).into()),
        }
    }

    async fn plan_now(&self, node: NodeId, plan: Plan) -> Result<(), PlanError> {
        plan.check(self.layout).map_err(PlanError::Invalid)?;
        self.check_writable()?;
        let places = &plan.places;
        let owners: Vec<Option<Uuid>> = places
            .iter()
            .map(|place| place.owner.map(|owner| owner.0))
            .collect();
        let literal = |nodes: &Vec<NodeId>| {
            let nodes: Vec<String> = nodes.iter().map(NodeId::to_string).collect();
            format!("{{{}}}", nodes.join(","))
        };
        let standbys: Vec<String> = places
            .iter()
            .map(|place| literal(&place.standbys))
            .collect();
        let since: Vec<i64> = places.iter().map(|place| place.since.0).collect();
        let reasons: Vec<_> = places.iter().map(|place| escape(&place.reason)).collect();
        let next = plan.number as i64;
        let parameters: &Parameters<'_> = &[&node.0, &next, &owners, &standbys, &since, &reasons];
        match self.unhindered(&self.plan, parameters).await? {
            Answer::Done => Ok(()),
            Answer::NotAssigner { assigner } => Err(PlanError::NotAssigner {
                assigner: assigner.as_deref().map(answer::node).transpose()?,
            }),
            Answer::Superseded { stored } => Err(PlanError::Superseded { stored }),
            other => Err(unexpected(&other).into()),
        }
    }

    async fn look_now(&self) -> Result<Roster, CoordinationError> {
        let _turn = self.turns.acquire().await;
        let (number, made) = self.known();
        match self.ask(PATIENCE, &self.look, &[&number, &made]).await? {
            Answer::Roster(roster) => Ok(self.learn(roster)?),
            other => Err(unexpected(&other).into()),
        }
    }

    fn check_writable(&self) -> Result<(), Silent> {
        match self.writable {
            true => Ok(()),
            false => Err(Silent("the log was opened to be looked at".to_owned())),
        }
    }

    /// Runs a function that may have to wait for others of its kind. One of them that was frozen
    /// between two packets is ended, for no time-out of the server ends it.
    async fn unhindered(&self, text: &str, parameters: &Parameters<'_>) -> Result<Answer, Silent> {
        let _turn = self.turns.acquire().await;
        let mut asked = std::pin::pin!(self.ask(PATIENCE, text, parameters));
        loop {
            tokio::select! { biased;
                answer = &mut asked => return answer,
                () = self.world.sleep(GRACE) => {
                    self.world.reached("postgres: a join or a plan waits");
                    self.evict().await;
                }
            }
        }
    }

    /// Ends sessions of nodes that others wait for, while they wait for their own clients.
    async fn evict(&self) {
        const EVICT: &str = "select count(pg_terminate_backend(a.pid)) from pg_stat_activity a \
             where a.wait_event_type = 'Client' and a.application_name like 'everfold%' \
             and a.pid in (select unnest(pg_blocking_pids(w.pid)) from pg_stat_activity w \
               where w.wait_event_type = 'Lock' \
               and w.application_name = current_setting('application_name'))";
        let work = async {
            let client = self.pool.get().await.ok()?;
            // Without the right to, the time-outs of that session have to do.
            client.query_one(EVICT, &[]).await.ok()
        };
        tokio::select! { biased;
            _ = work => {}
            () = self.world.sleep(STATEMENT) => {}
        }
    }

    async fn ask(
        &self,
        patience: Duration,
        text: &str,
        parameters: &Parameters<'_>,
    ) -> Result<Answer, Silent> {
        let answered = tokio::select! { biased;
            answered = self.ask_with(text, parameters) => Some(answered),
            () = self.world.sleep(patience) => None,
        };
        answered.unwrap_or_else(|| Err(Silent("the server does not answer".to_owned())))
    }

    async fn ask_with(&self, text: &str, parameters: &Parameters<'_>) -> Result<Answer, Silent> {
        let session = Busy(Some(self.pool.get().await?));
        let Some(client) = &session.0 else {
            return Err(Silent("no session".to_owned()));
        };
        let statement = client.prepare_cached(text).await?;
        let row = client.query_one(&statement, parameters).await?;
        session.give_back();
        let answer: serde_json::Value = row.try_get(0)?;
        serde_json::from_value(answer).map_err(|error| Silent(error.to_string()))
    }

    fn known(&self) -> (Option<i64>, Option<i64>) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some(known) => (Some(known.plan.number as i64), Some(known.made)),
            None => (None, None),
        }
    }

    /// The roster with its plan, which is kept.
    fn learn(&self, came: answer::Came) -> Result<Roster, Silent> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        came.roster(self.layout, &mut known)
    }
}

/// A session that is dropped, unless it is given back: whatever it is still doing, nobody
/// waits for it.
struct Busy(Option<Object>);

impl Busy {
    fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(session) = self.0.take() {
            drop(Object::take(session));
        }
    }
}

fn micros(lease: Duration) -> i64 {
    // A century, which the server's calendar bears.
    const MOST: u128 = 100 * 366 * 86_400 * 1_000_000;
    lease.as_micros().min(MOST) as i64
}

fn unexpected(answer: &Answer) -> Silent {
    Silent(format!("an answer to another question: {answer:?}"))
}

impl Coordinator for Coordination {
    fn join(&self, member: Member, lease: Duration) -> BoxFuture<'_, Result<Roster, JoinError>> {
        Box::pin(self.join_now(member, lease))
    }

    fn beat(&self, node: NodeId, beat: Beat) -> BoxFuture<'_, Result<Roster, CoordinationError>> {
        Box::pin(self.beat_now(node, beat))
    }

    fn plan(&self, node: NodeId, plan: Plan) -> BoxFuture<'_, Result<(), PlanError>> {
        Box::pin(self.plan_now(node, plan))
    }

    fn leave(&self, node: NodeId) -> BoxFuture<'_, Result<(), CoordinationError>> {
        Box::pin(async move {
            self.check_writable()?;
            match self.unhindered(&self.leave, &[&node.0]).await? {
                Answer::Done => Ok(()),
                other => Err(unexpected(&other).into()),
            }
        })
    }

    fn look(&self) -> BoxFuture<'_, Result<Roster, CoordinationError>> {
        Box::pin(self.look_now())
    }
}
