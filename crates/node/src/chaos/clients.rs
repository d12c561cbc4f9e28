//! Clients that ask in a closed loop: each one thing at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use everfold::engine::World;
use everfold_cluster::{Client, Identity, Peers};
use everfold_world::Random;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::history::Kind;
use super::recorder::Recorder;
use super::workload::{Answer, Request, Workload};

/// An answer that takes longer does not come any more, for a client that asks owners.
const DEADLINE: Duration = Duration::from_secs(5);
/// The same for one that goes through a node: it asks again while that node may still take itself for
/// an owner.
const SOONER: Duration = Duration::from_secs(3);
/// After something that was not done.
const PAUSE: Duration = Duration::from_millis(20);

/// How clients ask.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How many.
    pub clients: u64,
    /// Operations in a second, of all together at most.
    pub rate: u64,
    /// What they draw from.
    pub seed: u64,
}

/// Clients of a workload, connected: half of them ask owners, half go through one node each.
pub struct Clients<W> {
    workload: Arc<W>,
    clients: Vec<Client>,
    terms: Terms,
}

impl<W: Workload> Clients<W> {
    /// Connects them.
    ///
    /// # Errors
    /// No node answers.
    pub async fn connect(
        workload: Arc<W>,
        identity: &Identity,
        nodes: &[String],
        world: &Arc<dyn World>,
        terms: Terms,
    ) -> anyhow::Result<Self> {
        let mut clients = Vec::new();
        for number in 0..terms.clients {
            let road = Arc::new(Peers::new(identity));
            let (application, world) = (workload.application(), world.clone());
            let number = number as usize;
            let at = number / 2 % nodes.len().max(1);
            let client = match nodes.get(at) {
                Some(node) if goes_through(number) => {
                    Client::through(application, node, road, world).await?
                }
                _ => Client::connect(application, nodes, road, world).await?,
            };
            clients.push(client);
        }
        if let Some(client) = clients.first() {
            workload.prepare(client).await?;
        }
        Ok(Self {
            workload,
            clients,
            terms,
        })
    }

    /// Asks until it is told to stop, and then until the last answer or its deadline.
    pub async fn run(self, recorder: Arc<Recorder>, stop: watch::Receiver<bool>) {
        let mut random = Random::new(self.terms.seed);
        // No two faults and operations are drawn from the same numbers.
        random.bits();
        let turns = Arc::new(Turns::new(self.terms.rate));
        let mut asking = JoinSet::new();
        for (number, client) in self.clients.into_iter().enumerate() {
            let (workload, recorder) = (self.workload.clone(), recorder.clone());
            let session = workload.session(number as u64, random.fork());
            let (turns, stop) = (turns.clone(), stop.clone());
            let deadline = if goes_through(number) {
                SOONER
            } else {
                DEADLINE
            };
            asking.spawn(async move {
                let asked = (&client, deadline);
                ask(&*workload, asked, session, &recorder, &turns, stop).await;
            });
        }
        while asking.join_next().await.is_some() {}
    }
}

async fn ask<W: Workload>(
    workload: &W,
    (client, deadline): (&Client, Duration),
    mut session: W::Session,
    recorder: &Recorder,
    turns: &Turns,
    mut stop: watch::Receiver<bool>,
) {
    let mut process = recorder.process();
    loop {
        tokio::select! { biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = turns.take() => {}
        }
        let request = workload.draw(&mut session);
        recorder.invoke(process, &request);
        let asked = timeout(deadline, workload.perform(client, &request)).await;
        let answer = asked.unwrap_or_else(|_| too_late(&request));
        recorder.answered(process, &request, &answer);
        workload.learn(&mut session, &request, &answer);
        match answer.kind {
            Kind::Ok => {}
            Kind::Info => process = recorder.process(),
            Kind::Fail | Kind::Invoke => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Every other client.
fn goes_through(number: usize) -> bool {
    number % 2 == 1
}

fn too_late(request: &Request) -> Answer {
    Answer::unknown(request, "no answer within the deadline")
}

/// Gives out turns at a rate, to whoever asks.
struct Turns {
    began: Instant,
    every: Duration,
    next: AtomicU64,
}

impl Turns {
    fn new(rate: u64) -> Self {
        Self {
            began: Instant::now(),
            every: Duration::from_secs(1) / u32::try_from(rate.max(1)).unwrap_or(u32::MAX),
            next: AtomicU64::new(0),
        }
    }

    /// Waits for the next turn. Turns that nobody took are lost.
    async fn take(&self) {
        let every = self.every.as_nanos().max(1) as u64;
        let now = self.began.elapsed().as_nanos() as u64 / every;
        let later = |next: u64| Some(next.max(now) + 1);
        let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
        let taken = self.next.fetch_update(set, get, later);
        let turn = taken.unwrap_or(now).max(now);
        tokio::time::sleep_until(self.began + Duration::from_nanos(turn * every)).await;
    }
}
