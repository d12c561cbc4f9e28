//! Who owns a partition.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use everfold_engine::engine::{Claim, Epoch, Finding, OwnerError};
use everfold_engine::position::Incarnation;
use everfold_engine::{Offset, Partition, Stamp, Timestamp, Uuid, World};
use tokio::sync::Semaphore;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use crate::connect::{LEASE, PATIENCE};
use crate::doctor::waits_for_replicas;
use crate::error::{Failed, replaced};
use crate::schema::TIMELINE;

/// A claim waits so long for an append of the former owner, then ends its session.
const GRACE: Duration = Duration::from_secs(1);

/// Claims, renewals and proofs.
pub(crate) struct Ownerships {
    pool: Pool,
    claim: String,
    last: String,
    renew: String,
    release: String,
    confirm: String,
    current: String,
    evict: String,
    /// So many claims wait for a former owner at once; the other sessions are for its eviction, and
    /// for those who own something.
    claims: Semaphore,
    incarnation: Incarnation,
    world: Arc<dyn World>,
}

/// Sessions for ownership: reads that take long must not hold up a renewal.
pub(crate) const SESSIONS: usize = 4;

impl Ownerships {
    pub(crate) fn new(
        pool: Pool,
        schema: &str,
        timelines: bool,
        findings: &[Finding],
        incarnation: Incarnation,
        world: Arc<dyn World>,
    ) -> Self {
        // Epochs of a promoted server lie above all that the one before can have given.
        let timeline = match timelines {
            true => format!("({TIMELINE}) << 40"),
            false => "0::int8".to_owned(),
        };
        let lease = LEASE.as_millis();
        // With replicas that acknowledgements wait for, a proof has to reach them too: a row lock is
        // written to the write-ahead log, a plain look is not.
        let lock = match waits_for_replicas(findings) {
            true => " for key share",
            false => "",
        };
        Self {
            pool,
            claims: Semaphore::new(SESSIONS / 2),
            incarnation,
            world,
            // The lock waits for appends that began before, and later ones see the new epoch.
            claim: format!(
                "update {schema}.partition p set epoch = greatest(p.epoch + 1, {timeline}), \
                   owner = current_setting('application_name') || ' ' || pg_backend_pid(), \
                   claimed = clock_timestamp(), \
                   lease_until = clock_timestamp() + interval '{lease} milliseconds' \
                 from (select partition from {schema}.partition where partition = $1 for update) h \
                 where p.partition = h.partition \
                 returning p.epoch, p.floor, (extract(epoch from clock_timestamp()) * 1000000)::int8, \
                   (select incarnation from {schema}.log)"
            ),
            last: format!(
                "select log_offset, stamp from {schema}.event where partition = $1 \
                 order by log_offset desc limit 1"
            ),
            renew: format!(
                "update {schema}.partition set floor = greatest(floor, $3), \
                   lease_until = clock_timestamp() + interval '{lease} milliseconds' \
                 where partition = $1 and epoch = $2"
            ),
            release: format!(
                "update {schema}.partition set epoch = epoch + 1, owner = null, \
                   lease_until = null where partition = $1 and epoch = $2"
            ),
            confirm: format!(
                "select partition from {schema}.partition \
                 where partition = $1 and epoch = $2{lock}"
            ),
            current: format!("select epoch from {schema}.partition where partition = $1"),
            // Only sessions of owners, never those of people or other programs; and only those that
            // wait for their client: the others go on by themselves.
            evict: "select count(pg_terminate_backend(a.pid)) from pg_stat_activity a \
                    where a.pid = any(pg_blocking_pids($1)) and a.wait_event_type = 'Client' \
                    and a.application_name like 'everfold%'"
                .to_owned(),
        }
    }

    pub(crate) async fn claim(&self, partition: Partition) -> Result<Claim, OwnerError> {
        let _turn = self.claims.acquire().await;
        let client = self.session().await?;
        let claimed = self.patiently(self.claim_with(&client, partition)).await;
        settled(client, claimed)
    }

    async fn claim_with(&self, client: &Object, partition: Partition) -> Result<Claim, OwnerError> {
        let row = self.take(client, partition).await?;
        let (epoch, floor, time): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        if row.get::<_, Uuid>(3).as_u128() != self.incarnation.0 {
            // Adopted meanwhile: this session was begun when it was another log.
            return Err(OwnerError::Stopped(replaced(self.incarnation)));
        }
        // Seen only now, by a later snapshot: everything that the former owner has appended.
        let last = client
            .prepare_cached(&self.last)
            .await
            .map_err(Failed::from)?;
        let last = client.query_opt(&last, &[&(partition.0 as i16)]).await;
        let last = last.map_err(Failed::from)?;
        let (head, stamp): (i64, i64) = last.map_or((0, 0), |row| (row.get(0), row.get(1)));
        Ok(Claim {
            epoch: Epoch(epoch as u64),
            floor: Stamp(floor.max(stamp)),
            safe_head: Offset(head as u64),
            time: Timestamp(time),
        })
    }

    /// Takes the row. Whoever holds it longer than any of our statements takes is ended: a former
    /// owner that was frozen between two packets must not hold up its successor.
    async fn take(
        &self,
        client: &Object,
        partition: Partition,
    ) -> Result<tokio_postgres::Row, OwnerError> {
        let claim = client
            .prepare_cached(&self.claim)
            .await
            .map_err(Failed::from)?;
        let process = client.query_one("select pg_backend_pid()", &[]).await;
        let process: i32 = process.map_err(Failed::from)?.get(0);
        let number = partition.0 as i16;
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&number];
        let mut claiming = std::pin::pin!(client.query_opt(&claim, &parameters));
        loop {
            tokio::select! { biased;
                claimed = &mut claiming => {
                    return match claimed {
                        Ok(Some(row)) => Ok(row),
                        Ok(None) => Err(OwnerError::NoPartition(partition)),
                        Err(error) => Err(self.hindered(error, process).await),
                    };
                }
                () = self.world.sleep(GRACE) => {
                    self.world.reached("postgres: claim waits for a former owner");
                    let other = self.session().await?;
                    // Without the right to, the time-outs of that session have to do.
                    let _ = other.query_one(&self.evict, &[&process]).await;
                }
            }
        }
    }

    async fn hindered(&self, error: tokio_postgres::Error, process: i32) -> OwnerError {
        let timed_out = error.code() == Some(&SqlState::QUERY_CANCELED);
        let failed = Failed::from(error);
        match timed_out {
            true => OwnerError::Unavailable(format!(
                "{failed}: another session holds the partition's row (this one is process {process}); \
                 look for it in pg_stat_activity"
            )),
            false => failed.into(),
        }
    }

    pub(crate) async fn renew(
        &self,
        partition: Partition,
        epoch: Epoch,
        floor: Stamp,
    ) -> Result<(), OwnerError> {
        let (number, owned) = (partition.0 as i16, epoch.0 as i64);
        self.prove(&self.renew, partition, &[&number, &owned, &floor.0])
            .await
    }

    pub(crate) async fn release(
        &self,
        partition: Partition,
        epoch: Epoch,
    ) -> Result<(), OwnerError> {
        let (number, owned) = (partition.0 as i16, epoch.0 as i64);
        self.prove(&self.release, partition, &[&number, &owned])
            .await
    }

    pub(crate) async fn confirm(
        &self,
        partition: Partition,
        epoch: Epoch,
    ) -> Result<(), OwnerError> {
        let (number, owned) = (partition.0 as i16, epoch.0 as i64);
        self.prove(&self.confirm, partition, &[&number, &owned])
            .await
    }

    async fn session(&self) -> Result<Object, OwnerError> {
        let client = self.pool.get().await;
        client.map_err(|error| Failed::from(error).into())
    }

    /// Runs a statement that touches a row if the partition is owned.
    async fn prove(
        &self,
        text: &str,
        partition: Partition,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<(), OwnerError> {
        let client = self.session().await?;
        let proof = self.prove_with(&client, text, partition, parameters);
        let proven = self.patiently(proof).await;
        settled(client, proven)
    }

    async fn prove_with(
        &self,
        client: &Object,
        text: &str,
        partition: Partition,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<(), OwnerError> {
        let statement = client.prepare_cached(text).await.map_err(Failed::from)?;
        // Counts the rows of a query too.
        let rows = client.execute(&statement, parameters).await;
        if rows.map_err(Failed::from)? > 0 {
            return Ok(());
        }
        let current = client
            .prepare_cached(&self.current)
            .await
            .map_err(Failed::from)?;
        let current = client.query_opt(&current, &[&(partition.0 as i16)]).await;
        let current = current.map_err(Failed::from)?;
        Err(OwnerError::Fenced {
            partition,
            current: current.map(|row| Epoch(row.get::<_, i64>(0) as u64)),
        })
    }

    /// `None` when nothing came back for long: time-outs of the server end no statement that waits
    /// for replicas, and none of a server that is stopped.
    async fn patiently<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! { biased;
            done = work => Some(done),
            () = self.world.sleep(PATIENCE) => None,
        }
    }
}

fn settled<T>(client: Object, outcome: Option<Result<T, OwnerError>>) -> Result<T, OwnerError> {
    outcome.unwrap_or_else(|| {
        // Whatever this session is still doing, nobody waits for it here.
        drop(Object::take(client));
        Err(OwnerError::Unavailable(
            "the server does not answer".to_owned(),
        ))
    })
}
