//! A log in a database: opening it, and what it is made of.

use std::sync::Arc;

use deadpool_postgres::{Object, Pool};
use everfold_engine::engine::{Finding, Identity, Limits};
use everfold_engine::record::Origin;
use everfold_engine::{Partition, World};
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::address::Address;
use crate::area::Areas;
use crate::connect::{hurried_pool, pool};
use crate::coordination::{self, Coordination};
use crate::doctor;
use crate::doorbell::Doorbell;
use crate::error::{Failed, OpenError};
use crate::ownership::{self, Ownerships};
use crate::read::Reader;
use crate::schema::{Access, find};
use crate::writer::{Appends, Carrying, Owned, Writers};

/// What sessions are called, in `pg_stat_activity`.
const READ: &str = "everfold";
const APPEND: &str = "everfold-append";
const OWN: &str = "everfold-own";
const BESIDE: &str = "everfold-beside";
const COORDINATE: &str = "everfold-coordinate";

/// How a log in a database is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many partitions a new log gets (16); an existing one must have as many.
    pub partitions: Option<u16>,
    /// What one call may carry.
    pub limits: Limits,
    /// Connections that append (2). More of them overlap the server's flushes, fewer carry more in
    /// each.
    pub writers: usize,
    /// Connections that read, at most (8), and again as many at most for statements beside the log.
    /// Another four are for ownership, and four for coordination where there are several nodes.
    pub readers: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            partitions: None,
            limits: Limits::default(),
            writers: 2,
            readers: 8,
        }
    }
}

/// A log in a schema of a PostgreSQL database.
///
/// ```no_run
/// # async fn open() -> Result<(), everfold_postgres::OpenError> {
/// use everfold_engine::world::System;
/// use everfold_postgres::{Options, Postgres};
///
/// let address = "postgres://shop:secret@localhost/shop?schema=orders";
/// let log = Postgres::open(address, System::current(), Options::default()).await?;
/// # drop(log);
/// # Ok(())
/// # }
/// ```
pub struct Postgres {
    pub(crate) identity: Identity,
    /// What records are stored relative to.
    pub(crate) origin: Origin,
    schema: String,
    pub(crate) limits: Limits,
    pub(crate) reader: Reader,
    pub(crate) ownerships: Ownerships,
    pub(crate) areas: Areas,
    pub(crate) coordination: Arc<Coordination>,
    pub(crate) doorbell: Arc<Doorbell>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) durability: String,
    /// None where the log is only looked at.
    pub(crate) appends: std::sync::Mutex<Option<Appends>>,
    pub(crate) turns: Vec<Arc<Mutex<Owned>>>,
    /// One for each writer; resolves when it has ended.
    pub(crate) writing: Mutex<Vec<oneshot::Receiver<()>>>,
    pub(crate) pools: Vec<Pool>,
    pub(crate) writable: bool,
}

impl Postgres {
    /// Opens a log for writing; creates it, or brings its schema to the present format, first.
    ///
    /// # Errors
    /// [`OpenError`] says what is in the way, and what to do.
    pub async fn open(
        address: &str,
        world: Arc<dyn World>,
        options: Options,
    ) -> Result<Arc<Self>, OpenError> {
        Self::open_for(address, world, options, Access::Write).await
    }

    /// Opens a log to be looked at, also on a replica. Nothing is changed; what a replica does not
    /// have yet is waited for, by [`wait`](everfold_engine::Engine::wait).
    ///
    /// # Errors
    /// As for [`Postgres::open`]; a log that does not exist is not made.
    pub async fn open_read_only(
        address: &str,
        world: Arc<dyn World>,
        options: Options,
    ) -> Result<Arc<Self>, OpenError> {
        Self::open_for(address, world, options, Access::Look).await
    }

    async fn open_for(
        text: &str,
        world: Arc<dyn World>,
        options: Options,
        access: Access,
    ) -> Result<Arc<Self>, OpenError> {
        let mut address = Address::parse(text)?;
        address.partitions = address.partitions.or(options.partitions);
        if let Some(asked) = address
            .partitions
            .filter(|count| !(1..=1024).contains(count))
        {
            return Err(OpenError::Address {
                address: address.shown,
                reason: format!("{asked} partitions: a log has 1 to 1024 of them"),
            });
        }
        let found = find(&address, access).await?;
        let identity = found.identity;
        let incarnation = identity.incarnation;
        let readers = pool(&address, READ, options.readers.max(2), incarnation)?;
        let (findings, durability) =
            doctor::examine(&readers, &address)
                .await
                .map_err(|failed| OpenError::Unreachable {
                    address: address.shown.clone(),
                    reason: failed.to_string(),
                    passing: true,
                })?;
        let partitions = usize::from(identity.layout.partitions);
        let doorbell = Doorbell::new(&address, readers.clone(), world.clone(), partitions);
        let writers = pool(&address, APPEND, options.writers.max(1), incarnation)?;
        let beside = pool(&address, BESIDE, options.readers.max(2), incarnation)?;
        let (mut appends, mut writing) = (None, Vec::new());
        if access == Access::Write {
            let rung = doorbell.clone();
            let shared = Arc::new(Writers {
                pool: writers.clone(),
                beside: beside.clone(),
                world: world.clone(),
                carrying: Carrying::new(&address.schema),
                told: Box::new(move |partition, offset| rung.appended(partition, offset)),
            });
            let mut queues = Vec::new();
            for _ in 0..options.writers.max(1) {
                let (sender, queue) = mpsc::unbounded_channel();
                queues.push(sender);
                let (ended, ending) = oneshot::channel();
                let writer = shared.clone();
                let run = async move {
                    writer.run(queue).await;
                    let _ = ended.send(());
                };
                world.spawn("carry appends", Box::pin(run));
                writing.push(ending);
            }
            appends = Some(Appends {
                queues,
                writers: shared,
            });
        }
        let schema = &address.schema;
        let owners = pool(&address, OWN, ownership::SESSIONS, incarnation)?;
        let ownerships = Ownerships::new(
            owners.clone(),
            schema,
            found.timelines,
            &findings,
            incarnation,
            world.clone(),
        );
        let coordinating = hurried_pool(
            &address,
            COORDINATE,
            coordination::SESSIONS,
            incarnation,
            coordination::STATEMENT,
        )?;
        let coordination = Coordination::new(
            coordinating.clone(),
            schema,
            (incarnation, identity.layout),
            access == Access::Write,
            world.clone(),
        );
        let log = Self {
            coordination: Arc::new(coordination),
            limits: options.limits,
            reader: Reader::new(readers.clone(), schema, &found.origin),
            ownerships,
            areas: Areas::new(readers.clone(), schema),
            identity,
            origin: found.origin,
            schema: schema.clone(),
            doorbell: doorbell.clone(),
            findings,
            durability,
            appends: std::sync::Mutex::new(appends),
            turns: (0..partitions).map(|_| Arc::default()).collect(),
            writing: Mutex::new(writing),
            pools: vec![readers, writers, owners, beside, coordinating],
            writable: access == Access::Write,
        };
        world.spawn("follow heads", Box::pin(doorbell.clone().follow()));
        if access == Access::Write {
            world.spawn("ring the doorbell", Box::pin(doorbell.ring()));
        }
        Ok(Arc::new(log))
    }

    /// A session, for questions that the engine contract does not ask: reports over rows of views
    /// and over tables beside the log. It sees the same log and ends statements that take long.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn session(&self) -> Result<Object, everfold_engine::engine::ReadError> {
        let session = self.pools[0].get().await;
        session.map_err(|error| Failed::from(error).into())
    }

    /// The schema that holds the log: what [`Postgres::session`] asks is asked of its tables.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    pub(crate) fn has(&self, partition: Partition) -> bool {
        partition.index() < self.turns.len()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.doorbell.stop();
    }
}
