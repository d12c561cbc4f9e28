//! A client: asks nodes over the network, repeats what was not answered, and notes everything.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everfold::engine::engine::BoxFuture;
use everfold::engine::world::new_id;
use everfold::engine::{Bytes, EntityKey, Offset, Partition, Position, Record, Text, World};
use everfold::{
    Command, CommandError, Decide, DecideTogether, Event, Evolve, Key, Node, SendError, Sent, View,
};
use everfold::{Row, testing};
use everfold_sim::Random;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::cluster::{Cluster, Member};
use crate::door::Door;
use crate::history::{
    Answer, Ask, Fold, History, Judge, Judged, Operation, Strength, Violation, What,
};
use crate::members::anybody;
use crate::network::{Message, Place};

/// How long a client waits for one answer.
const PATIENCE: Duration = Duration::from_millis(1200);
/// When it gives an operation up; long after the last fault is over.
const GIVEN_UP: Duration = Duration::from_secs(120);

/// Something that a node does.
type Job<T> = Arc<dyn Fn(Arc<Node>) -> BoxFuture<'static, T> + Send + Sync>;
/// Something about entities.
type Errand<T> = Arc<dyn Fn(Door) -> BoxFuture<'static, T> + Send + Sync>;

/// A client of a run.
pub struct Client {
    pub(crate) number: u32,
    pub(crate) operation: u32,
    pub(crate) random: Random,
    /// The client's own: its clock, its randomness.
    pub(crate) world: Arc<dyn World>,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) history: Arc<History>,
    /// What this client has seen.
    pub(crate) token: Option<Position>,
    /// The way to several nodes that does not lead through one of them.
    pub(crate) outside: Option<Arc<everfold_cluster::Client>>,
}

impl Client {
    /// Everything random that an operation does comes from here.
    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// The operation's number: different for each, the same whenever the run is repeated.
    pub fn operation(&self) -> u32 {
        self.operation
    }

    /// Says what does not hold, unless it does: after a read, or whenever else a client can tell.
    pub fn require(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.history.violated(Violation::new("workload", what()));
        }
    }

    /// Sends a command with a new id, again and again until it is decided. `None` if that never
    /// came to be known.
    ///
    /// The decision is checked against the entity's state at that point of the log, so it may
    /// depend on state and command only, not on clock or fresh ids.
    pub async fn send<E, C>(
        &mut self,
        entity: impl Into<E::Id>,
        command: C,
    ) -> Option<Result<E::Reply, E::Rejection>>
    where
        E: Decide<C>,
        E::Event: PartialEq + std::fmt::Debug,
        C: Command,
    {
        let entity: E::Id = entity.into();
        let key = EntityKey::new(Text::from_static(E::NAME), entity.as_text());
        let id = new_id(self.world.as_ref());
        let bytes = encoded(&command)?;
        let again = bytes.clone();
        let ask: Ask = Arc::new(move |door| {
            let (entity, bytes) = (entity.clone(), again.clone());
            Box::pin(async move {
                let command = decoded::<C>(&bytes)?;
                let sent = door.entity::<E>(entity).send(command).id(id).await;
                answer_of(sent)
            })
        });
        let judge = judge::<E, C>(key.id.clone(), bytes);
        let answer = self.insist(key, id, C::NAME, Some(judge), ask).await?;
        decided(answer)
    }

    /// The same for a command that several entities decide together. Only the recorded answer is
    /// compared; what the command may do is for the workload's [`crate::Auditor`] to say.
    pub async fn send_together<C: DecideTogether>(
        &mut self,
        entity: EntityKey,
        command: C,
    ) -> Option<Result<C::Reply, C::Rejection>> {
        let id = new_id(self.world.as_ref());
        let bytes = encoded(&command)?;
        let ask: Ask = Arc::new(move |door| {
            let bytes = bytes.clone();
            Box::pin(async move {
                let command = decoded::<C>(&bytes)?;
                answer_of(door.together().send(command).id(id).await)
            })
        });
        let answer = self.insist(entity, id, C::NAME, None, ask).await?;
        decided(answer)
    }

    async fn insist(
        &mut self,
        entity: EntityKey,
        id: everfold::engine::Uuid,
        name: &'static str,
        judge: Option<Judge>,
        ask: Ask,
    ) -> Option<Answer> {
        let partition = self.cluster.layout().partition(&entity.id);
        let what = What::Command {
            id,
            name,
            answer: None,
            judge,
        };
        let place = self.begin(entity, partition, what);
        let deadline = self.world.elapsed() + GIVEN_UP;
        let mut answer = None;
        while answer.is_none() && self.world.elapsed() < deadline {
            match self.errand(ask.clone(), Message::Acknowledgement).await {
                Some(Ok(found)) => answer = Some(found),
                Some(Err(CommandError::IdExpired { .. })) => {
                    // The clocks differ by more than the window. Refused is not undone: a repeat
                    // may have been late.
                    self.cluster.counts.count("command id outside the window");
                    self.history.book().given_up += 1;
                    return None;
                }
                Some(Err(error)) if is_passing(&error) => self.again().await,
                Some(Err(error)) => {
                    let what = format!("{name} {id} failed for a reason that is none: {error}");
                    self.history.violated(Violation::new("errors", what));
                    return None;
                }
                None => self.again().await,
            }
        }
        let Some(answer) = answer else {
            let what = format!("{name} {id} was not decided though all faults are over");
            self.history.violated(Violation::new("progress", what));
            return None;
        };
        self.cluster.content();
        let answered = self.history.tick();
        let mut book = self.history.book();
        let operation = &mut book.operations[place];
        operation.answered = Some(answered);
        if let What::Command { answer: noted, .. } = &mut operation.what {
            *noted = Some(answer.clone());
        }
        book.again.push((place, ask));
        drop(book);
        if let Some(offset) = answer.offset {
            self.saw(partition, offset);
        }
        Some(answer)
    }

    /// Reads an entity as it is now. `None` if no node answered.
    pub async fn read<E: Evolve>(&mut self, entity: impl Into<E::Id>) -> Option<(E, u64)> {
        self.read_as::<E>(entity.into(), Strength::Linearizable)
            .await
    }

    /// Reads an entity as any node has it.
    pub async fn read_eventual<E: Evolve>(&mut self, entity: impl Into<E::Id>) -> Option<(E, u64)> {
        self.read_as::<E>(entity.into(), Strength::Eventual).await
    }

    /// Reads an entity with everything that this client has seen of its partition.
    pub async fn read_session<E: Evolve>(&mut self, entity: impl Into<E::Id>) -> Option<(E, u64)> {
        let entity: E::Id = entity.into();
        let partition = self.cluster.layout().partition(entity.as_text());
        let seen = self.token.as_ref().map(|token| token.offset(partition));
        self.read_as::<E>(entity, Strength::Session(seen.unwrap_or_default()))
            .await
    }

    async fn read_as<E: Evolve>(&mut self, entity: E::Id, strength: Strength) -> Option<(E, u64)> {
        let key = EntityKey::new(Text::from_static(E::NAME), entity.as_text());
        let partition = self.cluster.layout().partition(&key.id);
        let token = self.token.clone();
        let errand: Errand<Result<(Vec<u8>, u64), CommandError>> = Arc::new(move |door| {
            let (entity, token) = (entity.clone(), token.clone());
            Box::pin(async move {
                let reference = door.entity::<E>(entity);
                let look = |state: &E, version: u64| {
                    let mut bytes = Vec::new();
                    let written = state.encode_state(&mut bytes);
                    (written.map(|()| bytes).unwrap_or_default(), version)
                };
                match (strength, token) {
                    (Strength::Linearizable, _) => reference.read(look).await,
                    (Strength::Session(_), Some(token)) => {
                        reference.read_after(&token, PATIENCE / 2, look).await
                    }
                    _ => reference.read_eventual(look).await,
                }
            })
        });
        for _ in 0..6 {
            let asked = self.history.tick();
            match self.errand(errand.clone(), Message::Answer).await {
                Some(Ok((bytes, version))) => {
                    let state: Value = serde_json::from_slice(&bytes).ok()?;
                    let operation = Operation {
                        number: self.operation,
                        entity: key.clone(),
                        partition,
                        asked,
                        answered: Some(self.history.tick()),
                        what: What::Read {
                            strength,
                            version,
                            state,
                            fold: fold::<E>(),
                        },
                    };
                    self.history.note(operation);
                    self.cluster.content();
                    return Some((E::decode_state(&bytes).ok()?, version));
                }
                Some(Err(error)) if !is_passing(&error) => {
                    let what = format!("reading {key} failed for a reason that is none: {error}");
                    self.history.violated(Violation::new("errors", what));
                    return None;
                }
                _ => self.again().await,
            }
        }
        None
    }

    /// All rows of a view, with everything that this client has seen if `mine`. `None` if no node
    /// answered in time. Whole units are seen, and rows that agree: check what must hold of them
    /// with [`Client::require`].
    pub async fn rows<K: Key, R: Row>(
        &mut self,
        view: fn() -> View<K, R>,
        mine: bool,
    ) -> Option<Vec<(K, R)>> {
        let token = self.token.clone().filter(|_| mine);
        let job: Job<_> = Arc::new(move |node: Arc<Node>| {
            let token = token.clone();
            Box::pin(async move {
                let ask = node.view(&view()).select(|_, _| true);
                match token {
                    Some(token) => ask.after(&token).within(PATIENCE / 2).await,
                    None => ask.within(PATIENCE / 2).await,
                }
            })
        });
        let rows = self.once(job, Message::Answer).await?.ok()?;
        self.history.book().view_reads += 1;
        Some(rows)
    }

    /// One row of a view, with everything that this client has seen.
    pub async fn row<K: Key, R: Row>(
        &mut self,
        view: fn() -> View<K, R>,
        key: K,
    ) -> Option<Option<R>> {
        let token = self.token.clone();
        let job: Job<_> = Arc::new(move |node: Arc<Node>| {
            let (token, key) = (token.clone(), key.clone());
            Box::pin(async move {
                let ask = node.view(&view()).get(&key);
                match token {
                    Some(token) => ask.after(&token).within(PATIENCE / 2).await,
                    None => ask.within(PATIENCE / 2).await,
                }
            })
        });
        let row = self.once(job, Message::Answer).await?.ok()?;
        self.history.book().view_reads += 1;
        Some(row)
    }

    /// Has something done by whichever node is there, once; `None` if no answer came. Nothing of it
    /// is noted or repeated: for everything that the other methods do not offer.
    pub async fn ask<T: Send + 'static>(
        &mut self,
        job: impl Fn(Arc<Node>) -> BoxFuture<'static, T> + Send + Sync + 'static,
    ) -> Option<T> {
        self.once(Arc::new(job), Message::Answer).await
    }

    fn begin(&self, entity: EntityKey, partition: Partition, what: What) -> usize {
        let asked = self.history.tick();
        self.history.note(Operation {
            number: self.operation,
            entity,
            partition,
            asked,
            answered: None,
            what,
        })
    }

    fn saw(&mut self, partition: Partition, offset: Offset) {
        let start = self.cluster.start_position();
        self.token.get_or_insert(start).advance(partition, offset);
    }

    /// Waits a little before the next try.
    async fn again(&mut self) {
        self.cluster.complain();
        let pause = Duration::from_millis(10 + self.random.below(300));
        self.world.sleep(pause).await;
    }

    /// Asks for something about entities, once: a node, or whoever owns them.
    async fn errand<T: Send + 'static>(&mut self, errand: Errand<T>, answer: Message) -> Option<T> {
        if self.cluster.store.setup.is_cluster() && self.random.one_in(2) {
            return self.ask_outside(errand).await;
        }
        let job: Job<T> = Arc::new(move |node| errand(Door::Node(node)));
        self.once(job, answer).await
    }

    async fn ask_outside<T>(&mut self, errand: Errand<T>) -> Option<T> {
        let again = self.outside.is_none() || self.random.one_in(8);
        let through = match self.random.one_in(4) {
            true => anybody(&self.cluster.names(), &mut self.random),
            false => None,
        };
        let mut over = self.world.sleep(PATIENCE);
        let asked = async {
            if again {
                let opened = self.cluster.outside(self.number, &self.world, through);
                self.outside = Some(Arc::new(opened.await?));
            }
            self.cluster.counts.count("asked from outside of all nodes");
            Some(errand(Door::Outside(self.outside.clone()?)).await)
        };
        tokio::select! { biased;
            answer = asked => answer,
            () = &mut over => None,
        }
    }

    /// One request, and its answer if it comes.
    async fn once<T: Send + 'static>(&mut self, job: Job<T>, answer: Message) -> Option<T> {
        let member = self.cluster.choose(&mut self.random)?;
        let (tell, told) = oneshot::channel();
        let tell = Arc::new(Mutex::new(Some(tell)));
        let (here, there) = (Place::Client(self.number), Place::Node(member.number));
        let network = self.cluster.network.clone();
        let ways = network.travel(here, there, Message::Request);
        if ways.is_empty() {
            network.never_answer(tell.clone());
        }
        for delay in ways {
            let (cluster, member, job) = (self.cluster.clone(), member.clone(), job.clone());
            let tell = tell.clone();
            network.after(delay, move || {
                serve(&cluster, member, job, (there, here, answer), tell);
            });
        }
        drop(tell);
        let mut over = self.world.sleep(PATIENCE);
        tokio::select! { biased;
            told = told => told.ok(),
            () = &mut over => None,
        }
    }
}

type Tell<T> = Arc<Mutex<Option<oneshot::Sender<T>>>>;

/// What a node does with a request that has arrived.
fn serve<T: Send + 'static>(
    cluster: &Arc<Cluster>,
    member: Member,
    job: Job<T>,
    (here, there, answer): (Place, Place, Message),
    tell: Tell<T>,
) {
    let Some(node) = cluster.node(member.number) else {
        return;
    };
    let network = cluster.network.clone();
    let served = async move {
        let result = job(node).await;
        match network.travel(here, there, answer).into_iter().min() {
            Some(delay) => network.after(delay, move || {
                let first = tell.lock().unwrap_or_else(PoisonError::into_inner).take();
                drop(first.map(|tell| tell.send(result)));
            }),
            None => network.never_answer(tell),
        }
    };
    member.process.world().spawn("request", Box::pin(served));
}

fn encoded<C: Command>(command: &C) -> Option<Bytes> {
    let mut bytes = Vec::new();
    command.encode(&mut bytes).ok()?;
    Some(bytes.into())
}

fn decoded<C: Command>(bytes: &[u8]) -> Result<C, CommandError> {
    C::decode(bytes).map_err(|error| CommandError::Encoding(error.to_string()))
}

/// What is noted of a command that was decided, one way or the other.
fn answer_of<T: Serialize, R: Serialize>(
    sent: Result<Sent<T>, SendError<R>>,
) -> Result<Answer, CommandError> {
    match sent {
        Ok(sent) => Ok(Answer {
            rejected: false,
            body: json(&sent.reply),
            offset: sent.position().offsets().next().map(|(_, offset)| offset),
        }),
        Err(SendError::Rejected(rejection)) => Ok(Answer {
            rejected: true,
            body: json(&rejection),
            offset: None,
        }),
        Err(SendError::Failed(error)) => Err(error),
    }
}

/// The reply or the rejection that was noted.
fn decided<T: DeserializeOwned, R: DeserializeOwned>(answer: Answer) -> Option<Result<T, R>> {
    Some(match answer.rejected {
        false => Ok(serde_json::from_value(answer.body).ok()?),
        true => Err(serde_json::from_value(answer.body).ok()?),
    })
}

fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// Errors after which the same is asked again.
pub(crate) fn is_passing(error: &CommandError) -> bool {
    matches!(
        error,
        CommandError::Unavailable { .. }
            | CommandError::Overloaded { .. }
            | CommandError::NewerBuild { .. }
            | CommandError::Fenced(_)
            | CommandError::Unknown(_)
            | CommandError::Deadline
            | CommandError::Closed
            | CommandError::NoOwner { .. }
    )
}

fn events<E: Evolve>(records: &[Arc<Record>]) -> Result<Vec<E::Event>, String> {
    let event = |record: &Arc<Record>| {
        let portable = &record.portable;
        E::Event::decode(
            &portable.event_type,
            portable.schema_version,
            &portable.payload,
        )
        .map_err(|error| error.to_string())
    };
    records.iter().map(event).collect()
}

fn fold<E: Evolve>() -> Fold {
    Arc::new(|records| {
        let mut state = E::default();
        for event in events::<E>(records)? {
            state.evolve(&event);
        }
        let mut bytes = Vec::new();
        state
            .encode_state(&mut bytes)
            .map_err(|error| error.to_string())?;
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())
    })
}

fn judge<E, C>(entity: Text, bytes: Bytes) -> Judge
where
    E: Decide<C>,
    E::Event: PartialEq + std::fmt::Debug,
    C: Command,
{
    Arc::new(move |judged: &Judged<'_>| {
        let command = C::decode(&bytes).map_err(|error| error.to_string())?;
        let before = events::<E>(judged.before)?;
        let happened: Vec<_> = judged
            .unit
            .iter()
            .filter(|record| record.local.version > 0)
            .cloned()
            .collect();
        let happened = events::<E>(&happened)?;
        let answer = judged.answer;
        // A specification says what differs by panicking.
        let decide = std::panic::AssertUnwindSafe(|| {
            let decided = testing::spec::<E>().id(&entity).given(before).when(command);
            let decided = match answer.rejected {
                false => {
                    let reply = serde_json::from_value(answer.body.clone());
                    decided.then(happened).replies(reply.map_err(unreadable)?)
                }
                true => {
                    let rejection = serde_json::from_value(answer.body.clone());
                    decided.rejected(rejection.map_err(unreadable)?)
                }
            };
            drop(decided);
            Ok(())
        });
        std::panic::catch_unwind(decide).unwrap_or_else(|panic| Err(said(panic.as_ref())))
    })
}

fn unreadable(error: serde_json::Error) -> String {
    format!("its answer cannot be read back: {error}")
}

/// What a panic said.
pub(crate) fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it panicked").to_owned()
}
