//! Writers: each carries what waits, of all partitions, in one statement and one commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use deadpool_postgres::{Object, Pool};
use everfold_engine::engine::{AppendError, Appended, Epoch, Statement};
use everfold_engine::{Offset, Partition, Stamp, World};
use futures_util::future::join_all;
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, oneshot};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use crate::beside;
use crate::connect::PATIENCE;
use crate::error::{Failed, append_error};
use crate::row::Rows;

/// Records and bytes carried in one statement at most, unless a single batch has more.
const CARRIED: (usize, usize) = (4096, 8 << 20);

/// How often others are let run before a statement is sent off, if nothing more comes.
const YIELDS: usize = 4;

/// What is known of a partition that was claimed here.
#[derive(Debug, Default)]
pub(crate) struct Owned {
    pub(crate) epoch: Epoch,
    pub(crate) floor: Stamp,
    pub(crate) head: Offset,
}

/// A batch on its way.
pub(crate) struct Ticket {
    pub(crate) partition: Partition,
    pub(crate) epoch: Epoch,
    pub(crate) batch: u64,
    pub(crate) rows: Rows,
    pub(crate) statements: Vec<Statement>,
    /// Held until the outcome is known: batches of a partition follow each other.
    pub(crate) turn: OwnedMutexGuard<Owned>,
    pub(crate) answer: oneshot::Sender<Result<Appended, AppendError>>,
}

impl Ticket {
    /// Where the batch has to begin; -1 where this engine does not know, for it did not claim.
    fn expected(&self) -> i64 {
        match self.turn.epoch == self.epoch {
            true => self.turn.head.0 as i64,
            false => -1,
        }
    }

    fn settle(mut self, outcome: Result<Appended, AppendError>, told: &dyn Fn(Partition, Offset)) {
        if let Ok(appended) = &outcome {
            if self.turn.epoch == self.epoch {
                self.turn.head = appended.last;
                let last = self.rows.stamps.last().copied().unwrap_or_default();
                self.turn.floor = Stamp(last).max(self.turn.floor);
            }
            told(self.partition, appended.last);
        }
        drop(self.turn);
        // Whoever asked may have gone.
        let _ = self.answer.send(outcome);
    }
}

/// The texts of the statements.
pub(crate) struct Carrying {
    append: String,
    /// The same, but an error if the ownership is over: for a transaction with more in it.
    append_or_fail: String,
}

impl Carrying {
    pub(crate) fn new(schema: &str) -> Self {
        // The lock on the row holds claims off until the commit, and finds those that came before:
        // it waits for them and then sees their epoch. The row itself is not changed.
        let append = format!(
            "with held as materialized ( \
               select p.partition, w.epoch, w.batch, w.head \
               from unnest($1::int2[], $2::int8[], $3::int8[], $4::int8[]) \
                 as w(partition, epoch, batch, head) \
               join {schema}.partition p on p.partition = w.partition and p.epoch = w.epoch \
               order by p.partition for no key update of p), \
             owned as materialized ( \
               select b.partition, b.epoch, b.batch, b.base from ( \
                 select h.*, coalesce((select e.log_offset from {schema}.event e \
                   where e.partition = h.partition order by e.log_offset desc limit 1), 0) as base \
                 from held h offset 0) b \
               where b.head in (-1, b.base)), \
             stored as ( \
               insert into {schema}.event (partition, log_offset, epoch, batch, kind, tenant, \
                 entity_type, entity_id, version, event_id, event_type, schema_version, effective, \
                 recorded, labels, payload, payload_bytes, stamp, link, rest) \
               select o.partition, o.base + r.place, o.epoch, o.batch, r.kind, r.tenant, \
                 r.entity_type, r.entity_id, r.version, r.event_id, r.event_type, r.schema_version, \
                 r.effective, r.recorded, r.labels::text[], r.payload::json, r.payload_bytes, \
                 r.stamp, r.link, r.rest \
               from unnest($5::int2[], $6::int4[], $7::int2[], $8::text[], $9::text[], \
                 $10::text[], $11::int8[], $12::uuid[], $13::text[], $14::int8[], \
                 $15::timestamptz[], $16::timestamptz[], $17::text[], $18::text[], $19::bytea[], \
                 $20::int8[], $21::bytea[], $22::bytea[]) \
                 as r(partition, place, kind, tenant, entity_type, entity_id, version, event_id, \
                   event_type, schema_version, effective, recorded, labels, payload, \
                   payload_bytes, stamp, link, rest) \
               join owned o on o.partition = r.partition)"
        );
        Self {
            append_or_fail: format!(
                "{append} select (select partition from owned), \
                 (select base from owned) + 0 / (select count(*) from owned)"
            ),
            append: format!("{append} select partition, base from owned"),
        }
    }
}

/// What all writers share.
pub(crate) struct Writers {
    pub(crate) pool: Pool,
    pub(crate) world: Arc<dyn World>,
    pub(crate) carrying: Carrying,
    pub(crate) queue: Mutex<mpsc::UnboundedReceiver<Ticket>>,
    /// Writers that carry nothing.
    pub(crate) idle: AtomicUsize,
    /// Told of every acknowledged batch.
    pub(crate) told: Box<dyn Fn(Partition, Offset) + Send + Sync>,
}

impl Writers {
    /// Carries batches until nobody can send any more.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut left = None;
        loop {
            let mut carried = Vec::new();
            match left.take() {
                Some(ticket) => carried.push(ticket),
                None => {
                    self.idle.fetch_add(1, Ordering::Relaxed);
                    let mut queue = self.queue.lock().await;
                    let first = queue.recv().await;
                    if let Some(first) = first {
                        left = self.gather(&mut queue, first, &mut carried).await;
                    }
                    self.idle.fetch_sub(1, Ordering::Relaxed);
                    if carried.is_empty() {
                        return;
                    }
                }
            }
            self.carry(carried).await;
        }
    }

    /// Takes what goes with a first batch into one statement, and leaves their share to other writers
    /// that have nothing to do. What does not fit any more is given back.
    async fn gather(
        &self,
        queue: &mut mpsc::UnboundedReceiver<Ticket>,
        first: Ticket,
        carried: &mut Vec<Ticket>,
    ) -> Option<Ticket> {
        // Whoever heard of a commit just now is about to send: a statement with a single batch in it
        // would make all others wait for the next one.
        let (mut waiting, mut yields) = (queue.len(), 0);
        while yields < YIELDS && first.statements.is_empty() {
            tokio::task::yield_now().await;
            yields = if queue.len() > waiting { 0 } else { yields + 1 };
            waiting = queue.len();
        }
        // Batches of one partition wait for each other: all in one statement would leave the other
        // connections without work until it is committed.
        let share = (1 + waiting).div_ceil(self.idle.load(Ordering::Relaxed).max(1));
        let (mut records, mut bytes) = (first.rows.len(), first.rows.bytes);
        let alone = !first.statements.is_empty();
        carried.push(first);
        while !alone
            && carried.len() < share
            && let Ok(next) = queue.try_recv()
        {
            records += next.rows.len();
            bytes += next.rows.bytes;
            let full = records > CARRIED.0 || bytes > CARRIED.1;
            if full || !next.statements.is_empty() {
                return Some(next);
            }
            carried.push(next);
        }
        None
    }

    async fn carry(&self, mut tickets: Vec<Ticket>) {
        tickets.sort_by_key(|ticket| ticket.partition);
        let refused = match self.try_carry(&tickets).await {
            Ok(bases) => return self.settle(tickets, &bases),
            Err(error) => error,
        };
        let of_store = match &refused {
            AppendError::Refused(refusal) => refusal.is_of_store(),
            _ => true,
        };
        if tickets.len() > 1 && !of_store {
            // One of them is at fault; the others must not suffer from it.
            for ticket in tickets {
                let alone = vec![ticket];
                match self.try_carry(&alone).await {
                    Ok(bases) => self.settle(alone, &bases),
                    Err(error) => self.fail(alone, &error),
                }
            }
        } else {
            self.fail(tickets, &refused);
        }
    }

    fn settle(&self, tickets: Vec<Ticket>, bases: &[(i16, i64)]) {
        for ticket in tickets {
            let own = |(partition, _): &&(i16, i64)| *partition == ticket.partition.0 as i16;
            let outcome = match bases.iter().find(own) {
                Some((_, base)) => Ok(Appended {
                    first: Offset(*base as u64 + 1),
                    last: Offset(*base as u64 + ticket.rows.len() as u64),
                }),
                None => Err(AppendError::Fenced(ticket.partition)),
            };
            ticket.settle(outcome, &self.told);
        }
    }

    fn fail(&self, tickets: Vec<Ticket>, error: &AppendError) {
        for ticket in tickets {
            ticket.settle(Err(error.clone()), &self.told);
        }
    }

    /// The partitions that were still owned, each with the offset before its batch.
    async fn try_carry(&self, tickets: &[Ticket]) -> Result<Vec<(i16, i64)>, AppendError> {
        let client = match self.pool.get().await {
            Ok(client) => client,
            // Nothing was sent. Whether the ownership still holds is for the store to say.
            Err(error) => return Err(AppendError::Unknown(Failed::from(error).to_string())),
        };
        let carried = match tickets {
            [one] if !one.statements.is_empty() => self.with_statements(&client, one),
            _ => self.alone(&client, tickets),
        };
        let patience = self.world.sleep(PATIENCE);
        let outcome = tokio::select! { biased;
            outcome = carried => outcome,
            () = patience => Err(AppendError::Unknown("the server does not answer".into())),
        };
        if matches!(outcome, Err(AppendError::Unknown(_))) {
            // Whatever this session is still doing, nobody waits for it here.
            drop(Object::take(client));
        }
        outcome
    }

    fn alone<'a>(
        &'a self,
        client: &'a Object,
        tickets: &'a [Ticket],
    ) -> futures_util::future::BoxFuture<'a, Result<Vec<(i16, i64)>, AppendError>> {
        Box::pin(async move {
            let statement = client.prepare_cached(&self.carrying.append).await;
            let statement = statement.map_err(|error| append_error(&error))?;
            let columns = Columns::of(tickets);
            let rows = client.query(&statement, &columns.parameters()).await;
            let rows = rows.map_err(|error| append_error(&error))?;
            Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
        })
    }

    /// Statements first, the append last: the lock on the partition's row is held no longer than in
    /// any other append. Everything is sent at once, so no round trip lies within the transaction.
    fn with_statements<'a>(
        &'a self,
        client: &'a Object,
        ticket: &'a Ticket,
    ) -> futures_util::future::BoxFuture<'a, Result<Vec<(i16, i64)>, AppendError>> {
        Box::pin(async move {
            let append = client.prepare_cached(&self.carrying.append_or_fail).await;
            let append = append.map_err(|error| append_error(&error))?;
            let mut prepared = Vec::new();
            for statement in &ticket.statements {
                prepared.push(beside::prepare(client, statement).await?);
            }
            let columns = Columns::of(std::slice::from_ref(ticket));
            let parameters = columns.parameters();
            let runs = prepared
                .iter()
                .map(|(known, values)| client.execute_raw(known, values));
            // Polled in this order, and so sent in this order.
            let (begun, ran, appended, committed) = futures_util::future::join4(
                client.batch_execute("begin"),
                join_all(runs),
                client.query_one(&append, &parameters),
                client.batch_execute("commit"),
            )
            .await;
            let failed = ran.into_iter().find_map(Result::err);
            match (begun, failed, appended, committed) {
                (Err(error), ..) => Err(append_error(&error)),
                (_, Some(error), ..) => Err(beside::error(&error)),
                (.., Err(error), _) if error.code() == Some(&SqlState::DIVISION_BY_ZERO) => {
                    Ok(Vec::new())
                }
                (.., Err(error), _) => Err(append_error(&error)),
                // Constraints that are checked at the end are those of tables beside the log.
                (.., Err(error)) => Err(beside::error(&error)),
                (.., Ok(row), Ok(())) => Ok(vec![(row.get(0), row.get(1))]),
            }
        })
    }
}

/// The parameters of the append: the batches, then their records, column by column.
struct Columns<'a> {
    partitions: Vec<i16>,
    epochs: Vec<i64>,
    batches: Vec<i64>,
    heads: Vec<i64>,
    of: Vec<i16>,
    places: Vec<i32>,
    kinds: Vec<i16>,
    tenants: Vec<&'a str>,
    entity_types: Vec<&'a str>,
    entity_ids: Vec<&'a str>,
    versions: Vec<i64>,
    event_ids: Vec<everfold_engine::Uuid>,
    event_types: Vec<&'a str>,
    schema_versions: Vec<i64>,
    effective: Vec<crate::row::Moment>,
    recorded: Vec<crate::row::Moment>,
    labels: Vec<Option<&'a str>>,
    payloads: Vec<Option<&'a str>>,
    payload_bytes: Vec<Option<&'a [u8]>>,
    stamps: Vec<i64>,
    links: Vec<Option<&'a [u8]>>,
    rests: Vec<&'a [u8]>,
}

impl<'a> Columns<'a> {
    fn of(tickets: &'a [Ticket]) -> Self {
        let rows = || tickets.iter().map(|ticket| &ticket.rows);
        let places = |ticket: &'a Ticket| 1..=ticket.rows.len() as i32;
        let json = |(payload, fits): &'a (bytes::Bytes, bool)| {
            // Checked when the rows were made.
            fits.then(|| std::str::from_utf8(payload).unwrap_or_default())
        };
        Self {
            partitions: tickets
                .iter()
                .map(|ticket| ticket.partition.0 as i16)
                .collect(),
            epochs: tickets.iter().map(|ticket| ticket.epoch.0 as i64).collect(),
            batches: tickets.iter().map(|ticket| ticket.batch as i64).collect(),
            heads: tickets.iter().map(Ticket::expected).collect(),
            of: tickets
                .iter()
                .flat_map(|ticket| places(ticket).map(|_| ticket.partition.0 as i16))
                .collect(),
            places: tickets.iter().flat_map(places).collect(),
            kinds: rows().flat_map(|rows| rows.kinds.iter().copied()).collect(),
            tenants: rows()
                .flat_map(|rows| rows.tenants.iter().map(AsRef::as_ref))
                .collect(),
            entity_types: rows()
                .flat_map(|rows| rows.entity_types.iter().map(AsRef::as_ref))
                .collect(),
            entity_ids: rows()
                .flat_map(|rows| rows.entity_ids.iter().map(AsRef::as_ref))
                .collect(),
            versions: rows()
                .flat_map(|rows| rows.versions.iter().copied())
                .collect(),
            event_ids: rows()
                .flat_map(|rows| rows.event_ids.iter().copied())
                .collect(),
            event_types: rows()
                .flat_map(|rows| rows.event_types.iter().map(AsRef::as_ref))
                .collect(),
            schema_versions: rows()
                .flat_map(|rows| rows.schema_versions.iter().copied())
                .collect(),
            effective: rows()
                .flat_map(|rows| rows.effective.iter().copied())
                .collect(),
            recorded: rows()
                .flat_map(|rows| rows.recorded.iter().copied())
                .collect(),
            labels: rows()
                .flat_map(|rows| rows.labels.iter().map(Option::as_deref))
                .collect(),
            payloads: rows()
                .flat_map(|rows| rows.payloads.iter().map(json))
                .collect(),
            payload_bytes: rows()
                .flat_map(|rows| &rows.payloads)
                .map(|(payload, fits)| (!fits).then_some(payload.as_ref()))
                .collect(),
            stamps: rows()
                .flat_map(|rows| rows.stamps.iter().copied())
                .collect(),
            links: rows()
                .flat_map(|rows| {
                    rows.links
                        .iter()
                        .map(|link| link.as_ref().map(<[u8; 32]>::as_slice))
                })
                .collect(),
            rests: rows()
                .flat_map(|rows| rows.rests.iter().map(Vec::as_slice))
                .collect(),
        }
    }

    fn parameters(&self) -> [&(dyn ToSql + Sync); 22] {
        [
            &self.partitions,
            &self.epochs,
            &self.batches,
            &self.heads,
            &self.of,
            &self.places,
            &self.kinds,
            &self.tenants,
            &self.entity_types,
            &self.entity_ids,
            &self.versions,
            &self.event_ids,
            &self.event_types,
            &self.schema_versions,
            &self.effective,
            &self.recorded,
            &self.labels,
            &self.payloads,
            &self.payload_bytes,
            &self.stamps,
            &self.links,
            &self.rests,
        ]
    }
}
