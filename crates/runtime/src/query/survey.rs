//! Looking at the entities of one partition, at its owner.

use std::sync::Arc;

use everfold_engine::engine::Engine;
use everfold_engine::slot::Partition;
use everfold_engine::{Bytes, EntityKey, Offset, Text};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::Filter;
use super::directory::{Directory, Range};
use crate::error::CommandError;
use crate::options::StateOptions;
use crate::owner::{
    Answer, Desk, Envelope, Loader, Resident, Residents, Router, Ruling, Strength, Work, guard,
    not_json,
};
use crate::remote::What;
use crate::schema::Registry;

/// Entities looked at in one turn of the owner's loop.
const AT_A_TIME: usize = 64;
/// Entities looked at for one answer, however few match.
const MOST_LOOKED_AT: usize = 4096;
/// Bytes of states in one answer; at least one state is in it.
const MOST_BYTES: usize = 1 << 20;

/// What is asked of one partition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) kind: Text,
    pub(crate) from: Option<Text>,
    pub(crate) before: Option<Text>,
    /// Where the last answer ended.
    pub(crate) above: Option<Text>,
    pub(crate) filter: Filter,
    pub(crate) linearizable: bool,
    pub(crate) most: u32,
}

/// One entity that was found; its state as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) id: Text,
    pub(crate) state: Bytes,
    pub(crate) version: u64,
}

/// Entities in the order of their ids.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Page {
    pub(crate) entries: Vec<Entry>,
    /// Where to go on, if there may be more.
    pub(crate) next: Option<Text>,
    /// Everything up to here is in what was found.
    pub(crate) offset: Offset,
}

/// What a node needs to look at the entities it owns.
pub(crate) struct Surveyor {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) router: Router,
    pub(crate) options: StateOptions,
    pub(crate) directory: Directory,
}

impl Surveyor {
    /// Looks at entities of a partition that this node owns.
    pub(crate) async fn look(&self, at: Partition, asked: Asked) -> Result<Page, CommandError> {
        if self.registry.named(&asked.kind).is_none() {
            return Err(CommandError::UnknownEntity(asked.kind.to_string()));
        }
        let unavailable = |error: everfold_engine::engine::ReadError| CommandError::Unavailable {
            partition: at,
            reason: error.to_string(),
        };
        let engine = self.engine.as_ref();
        let head = engine.safe_head(at).await.map_err(unavailable)?;
        let mut page = Page {
            entries: Vec::new(),
            next: asked.above.clone(),
            offset: head,
        };
        let (most, mut bytes, mut looked_at) = (asked.most.max(1) as usize, 0, 0);
        loop {
            let range = Range {
                from: asked.from.as_deref(),
                before: asked.before.as_deref(),
                above: page.next.as_deref(),
            };
            let names = self
                .directory
                .names(engine, (at, head), &asked.kind, &range, AT_A_TIME);
            let names = names.await.map_err(unavailable)?;
            let all = names.len() < AT_A_TIME;
            looked_at += names.len();
            if names.is_empty() {
                page.next = None;
                return Ok(page);
            }
            let strength = if asked.linearizable {
                Strength::Linearizable
            } else {
                // An owner that was succeeded without knowing it has not come so far.
                Strength::After(head)
            };
            let key = |id: &Text| EntityKey::new(asked.kind.clone(), id.clone());
            let keys: Vec<EntityKey> = names.iter().map(key).collect();
            let (work, answer) = Survey::new(at, keys.clone(), strength);
            self.router.submit_here(at, Box::new(work));
            let seen = answer.await.unwrap_or(Err(CommandError::Closed))?;
            for (key, seen) in keys.iter().zip(seen) {
                let seen = match seen {
                    Some(seen) => Some(seen),
                    // Read beside the owner's loop: others need not wait, nor leave memory for it.
                    None => self.load(key).await?,
                };
                page.next = Some(key.id.clone());
                if let Some((state, version)) = seen
                    && version > 0
                    && matches(&asked.filter, &state)?
                {
                    bytes += state.len();
                    let id = key.id.clone();
                    page.entries.push(Entry { id, state, version });
                    if page.entries.len() >= most || bytes >= MOST_BYTES {
                        return Ok(page);
                    }
                }
            }
            if all {
                page.next = None;
                return Ok(page);
            }
            if looked_at >= MOST_LOOKED_AT {
                return Ok(page);
            }
        }
    }

    /// What the store has of an entity that is not in memory.
    async fn load(&self, key: &EntityKey) -> Result<Option<(Bytes, u64)>, CommandError> {
        let loader = Loader {
            engine: self.engine.as_ref(),
            options: &self.options,
        };
        let loaded = loader.load(self.registry.of(key), key, u64::MAX).await?;
        written(key, &loaded.resident)
    }
}

/// A state as JSON, and its version; nothing if nothing has happened to it.
fn written(key: &EntityKey, resident: &Resident) -> Result<Option<(Bytes, u64)>, CommandError> {
    if resident.version == 0 {
        return Ok(None);
    }
    let mut state = Vec::new();
    let encode = || (resident.kind.encode_state)(resident.state.as_ref(), &mut state);
    guard(key, encode)?.map_err(not_json)?;
    Ok(Some((state.into(), resident.version)))
}

fn matches(filter: &Filter, state: &[u8]) -> Result<bool, CommandError> {
    if filter.is_everything() {
        return Ok(true);
    }
    let state = serde_json::from_slice(state).map_err(not_json)?;
    Ok(filter.matches(&state))
}

/// By entity: its state and version, or nothing if it is not in memory.
type Seen = Vec<Option<(Bytes, u64)>>;

/// Looks at those of some entities that are in memory.
struct Survey {
    envelope: Envelope,
    partition: Partition,
    keys: Vec<EntityKey>,
    strength: Strength,
    seen: Seen,
    answer: Option<oneshot::Sender<Result<Seen, CommandError>>>,
}

impl Survey {
    fn new(
        partition: Partition,
        keys: Vec<EntityKey>,
        strength: Strength,
    ) -> (Self, oneshot::Receiver<Result<Seen, CommandError>>) {
        let (answer, receiver) = oneshot::channel();
        let survey = Self {
            envelope: Envelope::default(),
            partition,
            keys,
            strength,
            seen: Vec::new(),
            answer: Some(answer),
        };
        (survey, receiver)
    }
}

impl Work for Survey {
    fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    fn envelope_mut(&mut self) -> &mut Envelope {
        &mut self.envelope
    }

    /// Whoever asked asks again, the new owner then.
    fn carried(&self) -> Result<What, CommandError> {
        Err(CommandError::Fenced(self.partition))
    }

    /// None has to be.
    fn entities(&self) -> &[EntityKey] {
        &[]
    }

    fn digest(&self) -> Result<u128, CommandError> {
        Ok(0)
    }

    fn decide(&mut self, desk: &Desk<'_>) -> Result<Ruling, CommandError> {
        let see = |key: &EntityKey| match desk.residents.get(key) {
            Ok(resident) => written(key, resident).map(|seen| seen.or(Some((Bytes::new(), 0)))),
            Err(_) => Ok(None),
        };
        self.seen = self.keys.iter().map(see).collect::<Result<_, _>>()?;
        Ok(Ruling::Read {
            fenced: self.strength.asks_for_proof(desk.durable),
        })
    }

    fn evolve(&mut self, _: &mut Residents) -> Result<(), CommandError> {
        Ok(())
    }

    fn is_abandoned(&self) -> bool {
        self.answer.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    fn answer(mut self: Box<Self>, answer: Answer) {
        let result = match answer {
            Answer::Durable(_) => Ok(std::mem::take(&mut self.seen)),
            Answer::Failed(error) => Err(error),
            Answer::Again(..) => Err(CommandError::Closed),
        };
        if let Some(sender) = self.answer.take() {
            let _ = sender.send(result);
        }
    }
}
