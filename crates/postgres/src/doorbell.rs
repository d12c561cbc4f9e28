//! How readers hear of appends: at once from this process, by a notification from another, and by
//! looking now and then if a notification is lost.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use deadpool_postgres::Pool;
use everfold_engine::{Offset, Partition, World};
use futures_util::future::{Either, select};
use tokio::sync::{Notify, mpsc, watch};
use tokio_postgres::AsyncMessage;

use crate::address::Address;
use crate::connect::{STATEMENT, session};
use crate::error::Failed;
use crate::tls::secured;

/// How often heads are looked at while somebody waits and nothing is heard.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Notifications are not sent more often: each takes a lock of the whole database.
const RING_EVERY: Duration = Duration::from_millis(20);
/// How long to wait before listening again.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// The heads of all partitions, as far as is known here.
pub(crate) struct Doorbell {
    address: Address,
    pool: Pool,
    world: Arc<dyn World>,
    heads: Vec<watch::Sender<Offset>>,
    waiting: AtomicUsize,
    /// There is something to look for, or to end for.
    looked_for: Notify,
    /// Something was appended here.
    appended: Notify,
    stopped: AtomicBool,
    look: String,
    channel: String,
}

impl Doorbell {
    pub(crate) fn new(
        address: &Address,
        pool: Pool,
        world: Arc<dyn World>,
        partitions: usize,
    ) -> Arc<Self> {
        let schema = &address.schema;
        Arc::new(Self {
            pool,
            world,
            heads: (0..partitions)
                .map(|_| watch::Sender::new(Offset(0)))
                .collect(),
            waiting: AtomicUsize::new(0),
            looked_for: Notify::new(),
            appended: Notify::new(),
            stopped: AtomicBool::new(false),
            look: format!(
                "select p.partition, (select e.log_offset from {schema}.event e \
                   where e.partition = p.partition order by e.log_offset desc limit 1) \
                 from {schema}.partition p"
            ),
            channel: format!("everfold_{schema}"),
            address: address.clone(),
        })
    }

    pub(crate) fn head(&self, partition: Partition) -> Option<watch::Receiver<Offset>> {
        self.heads
            .get(partition.index())
            .map(watch::Sender::subscribe)
    }

    /// Something was appended by this process.
    pub(crate) fn appended(&self, partition: Partition, offset: Offset) {
        self.reach(partition, offset);
        self.appended.notify_one();
    }

    fn reach(&self, partition: Partition, offset: Offset) {
        let Some(head) = self.heads.get(partition.index()) else {
            return;
        };
        head.send_if_modified(|head| {
            let further = offset > *head;
            *head = offset.max(*head);
            further
        });
    }

    /// Resolves once the head is past `after`; `None` if the log is closed first.
    pub(crate) async fn wait(&self, partition: Partition, after: Offset) -> Option<Offset> {
        let mut head = self.head(partition)?;
        if *head.borrow() > after {
            return Some(*head.borrow());
        }
        let _waiting = Waiting::count(self);
        self.looked_for.notify_one();
        let reached = head
            .wait_for(|head| *head > after || self.is_stopped())
            .await;
        let reached = *reached.ok()?;
        (reached > after).then_some(reached)
    }

    /// Looks at the heads whenever somebody waits and a bell rings, or has not for a while.
    pub(crate) async fn follow(self: Arc<Self>) {
        let (bell, mut rung) = mpsc::channel(1);
        let listener = self.clone();
        let world = self.world.clone();
        let listen = async move { listener.listen(bell).await };
        world.spawn("listen for notifications", Box::pin(listen));
        while !self.is_stopped() {
            if self.waiting.load(Ordering::Acquire) == 0 {
                self.looked_for.notified().await;
                continue;
            }
            // Errors pass: the next look tries again, and readers see them when they read.
            let _ = self.look().await;
            tokio::select! { biased;
                _ = rung.recv() => {}
                () = self.world.sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn look(&self) -> Result<(), Failed> {
        let client = self.pool.get().await?;
        let statement = client.prepare_cached(&self.look).await?;
        for row in client.query(&statement, &[]).await? {
            let (partition, head): (i16, Option<i64>) = (row.get(0), row.get(1));
            self.reach(
                Partition(partition as u16),
                Offset(head.unwrap_or(0) as u64),
            );
        }
        Ok(())
    }

    /// Hears notifications of other processes for as long as the log is open.
    async fn listen(&self, bell: mpsc::Sender<()>) {
        while !self.is_stopped() {
            // A replica refuses to listen, a pooler may not pass notifications on: then looking has
            // to do.
            let _ = self.listen_once(&bell).await;
            self.world.sleep(LISTEN_AGAIN).await;
        }
    }

    async fn listen_once(&self, bell: &mpsc::Sender<()>) -> Option<()> {
        let config = session(&self.address, "everfold-listen", STATEMENT);
        let connected = config.connect(secured(&self.address).ok()?).await;
        let (client, mut connection) = connected.ok()?;
        let heard = async {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if matches!(message, AsyncMessage::Notification(_)) {
                    // A full channel already says it.
                    let _ = bell.try_send(());
                }
                if self.is_stopped() {
                    return;
                }
            }
        };
        let command = format!("listen {}", self.channel);
        let listening = async {
            if client.batch_execute(&command).await.is_ok() {
                while !self.is_stopped() {
                    self.world.sleep(LISTEN_AGAIN).await;
                }
            }
        };
        match select(std::pin::pin!(heard), std::pin::pin!(listening)).await {
            Either::Left(_) | Either::Right(_) => Some(()),
        }
    }

    /// Tells other processes that something was appended, outside any append.
    pub(crate) async fn ring(self: Arc<Self>) {
        let command = format!("notify {}", self.channel);
        loop {
            self.appended.notified().await;
            if self.is_stopped() {
                return;
            }
            if let Ok(client) = self.pool.get().await {
                // Lost notifications are made up for by looking.
                let _ = client.batch_execute(&command).await;
            }
            self.world.sleep(RING_EVERY).await;
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Ends everything that waits or follows.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.looked_for.notify_one();
        self.appended.notify_one();
        for head in &self.heads {
            head.send_modify(|_| {});
        }
    }
}

/// Counts those who wait, also when they give up.
struct Waiting<'a>(&'a Doorbell);

impl<'a> Waiting<'a> {
    fn count(doorbell: &'a Doorbell) -> Self {
        doorbell.waiting.fetch_add(1, Ordering::AcqRel);
        Self(doorbell)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}
