//! What a hand-written store would do on the same table: all that waits, in one statement and one
//! commit, over a few connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use everfold_engine::record::codec::{Frame, encode};
use everfold_engine::record::{Link, Origin, Record};
use everfold_engine::world::World;
use everfold_engine::{Bytes, Layout, Offset, Partition, Text, Timestamp, Uuid};
use everfold_postgres::Postgres;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;

use crate::log::Append;
use crate::unit::Clock;

/// Appends of one statement at most.
const GROUP: usize = 4096;
/// The epoch in all rows: nobody claims anything here.
const EPOCH: i64 = 1;

/// The rows of a log as its engine fills them, but for two columns that are empty in this load.
fn insert(schema: &str) -> String {
    format!(
        "insert into {schema}.event (partition, log_offset, epoch, batch, kind, tenant, \
           entity_type, entity_id, version, event_id, event_type, schema_version, effective, \
           recorded, payload, stamp, link, rest) \
         select r.partition, r.log_offset, $1, $2, r.kind, r.tenant, r.entity_type, r.entity_id, \
           r.version, r.event_id, r.event_type, r.schema_version, r.effective, r.recorded, \
           r.payload::json, r.stamp, r.link, r.rest \
         from unnest($3::int2[], $4::int8[], $5::int2[], $6::text[], $7::text[], $8::text[], \
           $9::int8[], $10::uuid[], $11::text[], $12::int8[], $13::timestamptz[], \
           $14::timestamptz[], $15::text[], $16::int8[], $17::bytea[], $18::bytea[]) \
           as r(partition, log_offset, kind, tenant, entity_type, entity_id, version, event_id, \
             event_type, schema_version, effective, recorded, payload, stamp, link, rest)"
    )
}

/// What waits, and where each partition is.
struct Queue {
    inbox: mpsc::Receiver<Append>,
    clocks: Vec<Clock>,
}

/// The running loops.
pub(super) struct Groups {
    /// Takes appends of all partitions.
    pub(super) sender: mpsc::Sender<Append>,
    groups: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<anyhow::Result<()>>>,
}

impl Groups {
    /// Over so many connections, with the settings that the engine's own have.
    pub(super) async fn start(
        log: &Postgres,
        schema: &str,
        connections: usize,
        world: &Arc<dyn World>,
        (origin, layout): (Origin, Layout),
    ) -> anyhow::Result<Self> {
        let (sender, inbox) = mpsc::channel(crate::bare_log::QUEUE);
        let clocks = layout.all().map(|_| Clock::default()).collect();
        let queue = Arc::new(Mutex::new(Queue { inbox, clocks }));
        let groups: Arc<AtomicU64> = Arc::default();
        let mut tasks = Vec::new();
        for _ in 0..connections {
            let session = log.session().await?;
            let (queue, groups) = (queue.clone(), groups.clone());
            let (world, origin, text) = (world.clone(), origin.clone(), insert(schema));
            tasks.push(tokio::spawn(async move {
                let statement = session.prepare(&text).await?;
                let mut waiting = Vec::with_capacity(GROUP);
                loop {
                    let mut taken = queue.lock().await;
                    if taken.inbox.recv_many(&mut waiting, GROUP).await == 0 {
                        return Ok(());
                    }
                    let now = world.now();
                    let mut columns = Columns::default();
                    let mut answers = Vec::with_capacity(waiting.len());
                    for append in waiting.drain(..) {
                        let clock = &mut taken.clocks[append.partition.index()];
                        for mut record in append.records {
                            clock.complete(&mut record, &origin, append.partition, now);
                            let offset = Offset(clock.counter);
                            columns.put(record, append.partition, offset, &origin);
                        }
                        answers.push(append.done);
                    }
                    drop(taken);
                    let batch = groups.fetch_add(1, Ordering::Relaxed) as i64;
                    columns.insert(&session, &statement, batch).await?;
                    for done in answers {
                        // Whoever asked may have gone away.
                        let _ = done.send(());
                    }
                }
            }));
        }
        Ok(Self {
            sender,
            groups,
            tasks,
        })
    }

    /// Statements so far.
    pub(super) fn groups(&self) -> u64 {
        self.groups.load(Ordering::Relaxed)
    }

    /// Ends them; says what went wrong, if anything did.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        drop(self.sender);
        for task in self.tasks {
            task.await?.context("the bare loop")?;
        }
        Ok(())
    }
}

/// The parameters of one statement.
#[derive(Default)]
struct Columns {
    partitions: Vec<i16>,
    offsets: Vec<i64>,
    kinds: Vec<i16>,
    tenants: Vec<Text>,
    entity_types: Vec<Text>,
    entity_ids: Vec<Text>,
    versions: Vec<i64>,
    event_ids: Vec<Uuid>,
    event_types: Vec<Text>,
    schema_versions: Vec<i64>,
    effective: Vec<SystemTime>,
    recorded: Vec<SystemTime>,
    payloads: Vec<Bytes>,
    stamps: Vec<i64>,
    links: Vec<[u8; 32]>,
    rests: Vec<Vec<u8>>,
}

impl Columns {
    fn put(&mut self, mut record: Record, partition: Partition, offset: Offset, origin: &Origin) {
        self.partitions.push(partition.0 as i16);
        self.offsets.push(offset.0 as i64);
        self.kinds.push(record.kind as i16);
        self.versions.push(record.local.version as i64);
        self.stamps.push(record.local.stamp.0);
        self.recorded.push(moment(record.recorded()));
        let portable = &mut record.portable;
        self.event_ids.push(portable.event_id);
        self.schema_versions
            .push(i64::from(portable.schema_version));
        self.effective.push(moment(portable.effective));
        self.tenants
            .push(std::mem::take(&mut portable.entity.tenant));
        self.entity_types
            .push(std::mem::take(&mut portable.entity.kind));
        self.entity_ids
            .push(std::mem::take(&mut portable.entity.id));
        self.event_types
            .push(std::mem::take(&mut portable.event_type));
        self.payloads.push(std::mem::take(&mut portable.payload));
        // As long as a link, but nothing is computed for it.
        let mut link = [0; 32];
        link[..16].copy_from_slice(portable.event_id.as_bytes());
        link[16..].copy_from_slice(portable.event_id.as_bytes());
        self.links.push(link);
        let frame = Frame {
            origin: origin.clone(),
            partition,
            epoch: 0,
            batch: 0,
            first: Offset(0),
            chained: false,
            previous_link: Link::default(),
        };
        let mut rest = Vec::with_capacity(128);
        encode(&mut rest, std::slice::from_ref(&record), &frame);
        self.rests.push(rest);
    }

    async fn insert(
        &self,
        session: &tokio_postgres::Client,
        statement: &tokio_postgres::Statement,
        batch: i64,
    ) -> anyhow::Result<()> {
        let payloads = self.payloads.iter().map(|it| std::str::from_utf8(it));
        let payloads = payloads.collect::<Result<Vec<_>, _>>()?;
        let links: Vec<&[u8]> = self.links.iter().map(<[u8; 32]>::as_slice).collect();
        session
            .execute(
                statement,
                &[
                    &EPOCH,
                    &batch,
                    &self.partitions,
                    &self.offsets,
                    &self.kinds,
                    &texts(&self.tenants),
                    &texts(&self.entity_types),
                    &texts(&self.entity_ids),
                    &self.versions,
                    &self.event_ids,
                    &texts(&self.event_types),
                    &self.schema_versions,
                    &self.effective,
                    &self.recorded,
                    &payloads,
                    &self.stamps,
                    &links,
                    &self.rests,
                ],
            )
            .await?;
        Ok(())
    }
}

fn moment(time: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(time.0.max(0) as u64)
}

fn texts(of: &[Text]) -> Vec<&str> {
    of.iter().map(AsRef::as_ref).collect()
}
