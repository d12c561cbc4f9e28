//! Letting go of history on request: of one entity, or of everything recorded before a time.

use std::sync::Arc;

use everfold_engine::engine::{self, ReadError, ReadLimit, Trim, Trimmed};
use everfold_engine::map::{Set, seeded_set};
use everfold_engine::record::{Kind, Record};
use everfold_engine::slot::Partition;
use everfold_engine::{EntityKey, Offset, Timestamp};

use crate::entity::Entity;
use crate::error::CommandError;
use crate::handler::foreign_kind;
use crate::node::Node;
use crate::owner::{ANSWERED, Stand};

/// Baselines on their way at once.
const AT_ONCE: usize = 256;

impl Node {
    /// Trims the history of one entity: its present state becomes a baseline, and the events that it
    /// stands for go from every full segment, as far as all handlers have stored that they are done
    /// with them (they do so every few seconds) and have none of them parked. Events of the last 24
    /// hours and a few minutes stay: answers of commands that may be repeated go with them. So does
    /// what is younger than an event of any partition that a reactor is not done with. Views keep what
    /// they have folded; a view that is made anew later does not see these events any more. There is
    /// no way back but a backup.
    ///
    /// # Errors
    /// [`TrimError`]: nothing went, or less than asked for; the call may be repeated.
    pub async fn trim_entity<E: Entity>(&self, id: impl Into<E::Id>) -> Result<Trimmed, TrimError> {
        let entity = self.entity::<E>(id).key().clone();
        self.trim_key(entity).await
    }

    /// Refuses if another application has run on the log: this one can neither write down the states
    /// of its entities nor know what its handlers still need.
    async fn only_ours(&self) -> Result<(), TrimError> {
        match foreign_kind(self.engine.as_ref(), &self.registry).await? {
            Some(kind) => Err(TrimError::OtherApplication(kind)),
            None => Ok(()),
        }
    }

    /// The same for an entity that is known by type and id.
    ///
    /// # Errors
    /// Those of [`Node::trim_entity`].
    pub async fn trim_key(&self, entity: EntityKey) -> Result<Trimmed, TrimError> {
        let partition = self.engine.identity().layout.partition(&entity.id);
        self.only_ours().await?;
        self.stand(&entity).await?;
        let until = self.end_before(partition, self.answered().await?).await?;
        let until = until.min(self.done_with(partition).await?);
        let trim = Trim::Entity {
            partition,
            entity,
            until,
        };
        Ok(self.engine.trim(trim).await?)
    }

    /// Trims everything recorded before `time`, at least 24 hours and 6 minutes ago, as far as whole segments end before, and all handlers
    /// are done as in [`Node::trim_entity`]: every entity with events there gets a baseline first.
    /// Returns what went.
    ///
    /// # Errors
    /// [`TrimError`]: nothing went, or less than asked for; the call may be repeated.
    pub async fn trim_before(&self, time: Timestamp) -> Result<Trimmed, TrimError> {
        if time > self.young() {
            return Err(TrimError::TooYoung);
        }
        self.only_ours().await?;
        let time = time.min(self.answered().await?);
        let mut ends = Vec::new();
        for partition in self.engine.identity().layout.all() {
            let end = self.end_before(partition, time).await?;
            let end = end.min(self.done_with(partition).await?);
            self.stand_for_all(partition, end).await?;
            ends.push(end);
        }
        Ok(self.engine.trim(Trim::Before(ends)).await?)
    }

    /// Outside commands recorded since then may be repeated.
    fn young(&self) -> Timestamp {
        Timestamp(self.world().now().0 - ANSWERED.as_micros() as i64)
    }

    /// Nobody asks any more for answers of commands that were recorded before. Reactors send again
    /// what follows from events that they are not done with, of whatever partition; the commands were
    /// recorded after the events.
    async fn answered(&self) -> Result<Timestamp, ReadError> {
        let mut time = self.young();
        for partition in self.engine.identity().layout.all() {
            if let Some(done) = self.reactors_done(partition)
                && let Some(open) = self.first_after(partition, done).await?
            {
                time = time.min(open.recorded());
            }
        }
        Ok(time)
    }

    /// The last offset before the unit of the first record, of whatever kind, that was recorded at a
    /// time or later: outcomes carry answers too.
    async fn end_before(&self, partition: Partition, time: Timestamp) -> Result<Offset, ReadError> {
        // Records are in order of their time. All up to `low` are of before; all behind `high` are not.
        let (mut low, mut high) = (Offset(0), self.engine.safe_head(partition).await?);
        while low < high {
            let middle = Offset(low.0 + (high.0 - low.0) / 2);
            match self.first_after(partition, middle).await? {
                Some(record) if record.recorded() < time => low = record.local.offset.min(high),
                _ => high = middle,
            }
        }
        let unit = match self.first_after(partition, low).await? {
            Some(first) if first.local.offset.0 == low.0 + 1 => first.portable.unit.index.into(),
            _ => 0,
        };
        Ok(Offset(low.0.saturating_sub(unit)))
    }

    async fn first_after(
        &self,
        partition: Partition,
        mut after: Offset,
    ) -> Result<Option<Arc<Record>>, ReadError> {
        let limit = ReadLimit {
            records: 1,
            bytes: 1,
        };
        loop {
            let chunk = self.engine.read(partition, after, limit).await?;
            if chunk.next <= after || !chunk.records.is_empty() {
                return Ok(chunk.records.into_iter().next());
            }
            after = chunk.next;
        }
    }

    /// What handlers have not stored as done, they may read again.
    async fn done_with(&self, partition: Partition) -> Result<Offset, ReadError> {
        let done = self.handlers_done(partition).await?;
        Ok(done.into_iter().min().unwrap_or(Offset(u64::MAX)))
    }

    /// Gives a baseline to every entity with events up to `end`.
    async fn stand_for_all(&self, partition: Partition, end: Offset) -> Result<(), TrimError> {
        let mut seen: Set<EntityKey> = seeded_set(self.world().random());
        let mut after = Offset(0);
        while after < end {
            let chunk = self
                .engine
                .read(partition, after, ReadLimit::default())
                .await?;
            let mut waiting = Vec::new();
            for record in &chunk.records {
                let (entity, offset) = (&record.portable.entity, record.local.offset);
                let counts = matches!(record.kind, Kind::Event | Kind::Baseline);
                if counts && offset <= end && seen.insert(entity.clone()) {
                    waiting.push(entity);
                }
            }
            for some in waiting.chunks(AT_ONCE) {
                let answers: Vec<_> = some.iter().map(|entity| self.stand(entity)).collect();
                for answer in answers {
                    answer.await?;
                }
            }
            if chunk.next == after {
                break;
            }
            after = chunk.next;
        }
        Ok(())
    }

    /// Has an entity's baseline appended; on its way when this returns. The offset.
    fn stand(
        &self,
        entity: &EntityKey,
    ) -> impl Future<Output = Result<Offset, CommandError>> + Send + use<> {
        let (work, answer) = Stand::new(entity.clone());
        let partition = self.router.partition(&entity.id);
        self.router.submit(partition, Box::new(work));
        async move { answer.await.unwrap_or(Err(CommandError::Closed)) }
    }
}

/// History that was not trimmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrimError {
    /// Commands of that time may still be repeated.
    #[error(
        "the last 24 hours, and 6 minutes before them, cannot be trimmed: commands of that time may still be repeated and need their answers"
    )]
    TooYoung,
    /// Entities of the log have code in another application, or in another form of this one.
    #[error(
        "the log has entities of the type {0:?}, which this application has no code for: nothing could stand for their history; trim with the application that they belong to"
    )]
    OtherApplication(String),
    /// An entity's state could not be put into a baseline.
    #[error("no baseline: {0}")]
    Baseline(#[from] CommandError),
    /// The engine could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The engine did not trim.
    #[error(transparent)]
    Engine(#[from] engine::TrimError),
}
