//! What the owner loop works on.

use std::sync::{Arc, OnceLock};

use everfold_engine::engine::Statement;
use everfold_engine::record::{Dot, Reply, Source};
use everfold_engine::time::{HybridTime, Stamp};
use everfold_engine::{Bytes, EntityKey, Offset, Text, Timestamp, Uuid};

use serde::{Deserialize, Serialize};

use crate::error::CommandError;
use crate::owner::{Place, Residents};
use crate::remote::What;
use crate::schema::AnyState;

/// What travels with a command beside itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Envelope {
    /// Makes repeats recognisable.
    pub(crate) id: Option<Uuid>,
    /// When the id was made, where the id does not say it itself.
    pub(crate) issued: Option<Timestamp>,
    /// Business time; the recorded time if nobody sets it.
    pub(crate) effective: Option<Timestamp>,
    pub(crate) principal: Text,
    pub(crate) causation: Option<Uuid>,
    pub(crate) correlation: Option<Uuid>,
    pub(crate) trace: Text,
    pub(crate) causes: Vec<Dot>,
    pub(crate) hops: u32,
    /// Stamp and hybrid time that the events must be above.
    pub(crate) after: (Stamp, HybridTime),
    /// The handler that sent it.
    pub(crate) source: Option<Source>,
    /// Told before the answer, for what follows from it.
    #[serde(skip)]
    pub(crate) heard: Option<Arc<OnceLock<Heard>>>,
    /// Its place among what waits here.
    #[serde(skip)]
    pub(crate) place: Place,
}

/// What an answer rests on: whatever follows from it comes after that.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Heard {
    pub(crate) after: (Stamp, HybridTime),
    /// The command's last event.
    pub(crate) dot: Option<Dot>,
}

impl Envelope {
    pub(crate) fn tell(&self, heard: impl FnOnce() -> Heard) {
        if let Some(told) = &self.heard {
            // Told once; a repeated command rests on the same.
            let _ = told.set(heard());
        }
    }
}

/// One piece of work for an owner.
pub(crate) trait Work: Send {
    fn envelope(&self) -> &Envelope;

    fn envelope_mut(&mut self) -> &mut Envelope;

    /// What another node needs to do the same.
    fn carried(&self) -> Result<What, CommandError>;

    /// What it takes while it waits, roughly.
    fn bytes(&self) -> usize {
        self.carried().map_or(0, |what| what.bytes())
    }

    /// Looks at a state that another node has sent. Says whether the work is over with it.
    fn look(&mut self, state: &AnyState, version: u64) -> Result<bool, CommandError> {
        let _ = (state, version);
        Ok(true)
    }

    /// The entities that have to be in memory.
    fn entities(&self) -> &[EntityKey];

    /// Identifies the content, to notice an id that is used twice.
    fn digest(&self) -> Result<u128, CommandError>;

    /// Decides on the present state; may be called again after the state was dropped.
    fn decide(&mut self, desk: &Desk<'_>) -> Result<Ruling, CommandError>;

    /// Folds the events of the last ruling into the states.
    fn evolve(&mut self, residents: &mut Residents) -> Result<(), CommandError>;

    /// Whether nobody waits for the answer any more.
    fn is_abandoned(&self) -> bool {
        false
    }

    /// Answers; the work is over.
    fn answer(self: Box<Self>, answer: Answer);
}

/// What a decision may look at.
pub(crate) struct Desk<'a> {
    pub(crate) residents: &'a Residents,
    pub(crate) now: Timestamp,
    /// When what is decided will be recorded.
    pub(crate) recorded: Timestamp,
    /// Everything up to here is durable.
    pub(crate) durable: Offset,
    pub(crate) seed: Uuid,
}

/// How a piece of work was decided.
pub(crate) enum Ruling {
    /// A command.
    Decided(Decided),
    /// A state that stands for the events up to a version.
    Baseline { state: Bytes, version: u64 },
    /// A read. `fenced`: the answer must wait for a proof of ownership.
    Read { fenced: bool },
    /// To be decided again when one of its entities has changed.
    Wait,
}

/// What was decided on a command.
#[derive(Debug, Default)]
pub(crate) struct Decided {
    pub(crate) drafts: Vec<Draft>,
    /// What changes beside the log.
    pub(crate) statements: Vec<Statement>,
    pub(crate) rejected: bool,
    /// The answer, to be remembered if the command has an id.
    pub(crate) reply: Option<Bytes>,
}

/// An event without its place.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) entity: EntityKey,
    pub(crate) event_id: Option<Uuid>,
    pub(crate) event_type: Text,
    pub(crate) schema_version: u32,
    pub(crate) labels: Vec<(Text, Text)>,
    pub(crate) content_type: Text,
    pub(crate) metadata: Bytes,
    pub(crate) payload: Bytes,
}

impl Draft {
    /// What limits count, without what the envelope adds.
    pub(crate) fn bytes(&self) -> usize {
        let labels = self.labels.iter();
        self.payload.len()
            + self.metadata.len()
            + labels
                .map(|(name, value)| name.len() + value.len())
                .sum::<usize>()
    }
}

/// How a piece of work ended.
pub(crate) enum Answer {
    /// As decided; everything it saw is durable up to here.
    Durable(Offset),
    /// Decided before, under the same id.
    Again(Reply, Offset),
    Failed(CommandError),
}
