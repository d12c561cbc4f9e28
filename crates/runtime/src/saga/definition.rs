//! What a saga consists of.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use everfold_engine::{EntityKey, Text};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ask::{Answering, Asks, Written};
use super::event::Json;
use super::step::{Next, Step, StepAnswer, What, fail};
use crate::error::CommandError;
use crate::event::{DecodeError, Event};
use crate::handler::Delivered;
use crate::owner::{Envelope, Router, guard, not_json};
use crate::reactor::At;

/// What a saga is about: kept as JSON in its stream.
pub trait SagaData: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {}
impl<D: Clone + Serialize + DeserializeOwned + Send + Sync + 'static> SagaData for D {}

/// A definition of a saga: steps that are done one after the other, or undone.
///
/// ```
/// # extern crate everfold_runtime as everfold;
/// # use std::time::Duration;
/// # use everfold_runtime::*;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
/// # struct Id(String);
/// # impl Key for Id {
/// #     fn from_text(text: &str) -> Self { Id(text.into()) }
/// #     fn as_text(&self) -> &str { &self.0 }
/// # }
/// # #[derive(everfold_macros::Event)] enum Booked { Taken { trip: String }, Free { trip: String } }
/// # #[derive(everfold_macros::Entity, Default)]
/// # #[entity(name = "seat", id = Id, event = Booked)] struct Seat { taken: Option<String> }
/// # impl Evolve for Seat { fn evolve(&mut self, event: &Booked) { match event {
/// #     Booked::Taken { trip } => self.taken = Some(trip.clone()), Booked::Free { .. } => self.taken = None } } }
/// # #[derive(everfold_macros::Command)] struct Take { trip: String }
/// # #[derive(everfold_macros::Command)] struct Give { trip: String }
/// # impl Decide<Take> for Seat { type Reply = (); type Rejection = String;
/// #     fn decide(&self, c: &Take, _: &Context) -> Decision<Self, Take> {
/// #         if self.taken.is_some() { reject("taken".into()) } else { emit(Booked::Taken { trip: c.trip.clone() }).reply(()) } } }
/// # impl Decide<Give> for Seat { type Reply = (); type Rejection = String;
/// #     fn decide(&self, c: &Give, _: &Context) -> Decision<Self, Give> { emit(Booked::Free { trip: c.trip.clone() }).reply(()) } }
/// #[derive(Clone, Serialize, Deserialize)]
/// struct Trip { name: String, out: Id, back: Id }
///
/// fn book() -> Saga<Trip> {
///     let take = |seat: fn(&Trip) -> &Id| {
///         ask(move |trip: &Trip| command::<Seat, _>(seat(trip), Take { trip: trip.name.clone() }))
///     };
///     let give = |seat: fn(&Trip) -> &Id| {
///         ask(move |trip: &Trip| command::<Seat, _>(seat(trip), Give { trip: trip.name.clone() }))
///     };
///     Saga::named("book")
///         .step(Step::named("out", take(|trip| &trip.out)).undo(give(|trip| &trip.out)))
///         .step(Step::named("back", take(|trip| &trip.back)).within(Duration::from_secs(60)))
/// }
/// # let _ = Application::new("travel").entity::<Seat>().saga(book());
/// ```
#[must_use = "a saga runs only as part of an application"]
pub struct Saga<D> {
    pub(crate) name: &'static str,
    pub(crate) version: u32,
    groups: Vec<Vec<Step<D>>>,
    deadline: Option<Duration>,
    pub(crate) begins: Vec<Begins>,
}

/// An event that begins instances.
#[derive(Clone)]
pub(crate) struct Begins {
    pub(crate) event: TypeId,
    pub(crate) event_name: &'static str,
    pub(crate) begin: Arc<Begin>,
}

type Begin = dyn Fn(&Delivered) -> Result<Option<(Text, Json)>, DecodeError> + Send + Sync;

impl<D: SagaData> Saga<D> {
    /// A saga without steps. The name is that of its instances as entities: it holds no `-`.
    pub fn named(name: &'static str) -> Self {
        Self {
            name,
            version: 1,
            groups: Vec::new(),
            deadline: None,
            begins: Vec::new(),
        }
    }

    /// The version of the definition, from 1. Whoever adds, removes, renames or moves steps gives it a
    /// new one: nobody checks that, and instances under way would go on by the changed steps, those
    /// removed never undone. An instance keeps to the version that it has begun with: as long as there
    /// are some, an application has the older definition beside the newer one.
    pub fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// The next step.
    pub fn step(self, step: Step<D>) -> Self {
        self.parallel([step])
    }

    /// The next steps, all at the same time; the saga goes on when all of them are done. If one
    /// fails, those that are done are undone at once, each of the others when it is answered, and the
    /// steps before only when all of these are undone.
    pub fn parallel(mut self, steps: impl IntoIterator<Item = Step<D>>) -> Self {
        self.groups.push(steps.into_iter().collect());
        self
    }

    /// The whole saga has to be done so long after it has begun; to the millisecond. Otherwise it is
    /// undone.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Events that begin an instance: its id, and what it is about. An instance that there is
    /// already is not begun again. Only the newest version of a saga listens.
    pub fn begins_on<V: Event>(
        mut self,
        begin: impl Fn(&V, &At) -> Option<(String, D)> + Send + Sync + 'static,
    ) -> Self {
        let begin = move |delivered: &Delivered| {
            let event = delivered.event::<V>()?;
            let Some((id, data)) = begin(&event, &At::of(delivered.record().clone())) else {
                return Ok(None);
            };
            let unfit = |error: serde_json::Error| DecodeError::BadPayload {
                name: delivered.record().portable.event_type.to_string(),
                version: delivered.record().portable.schema_version,
                reason: format!("the saga's data cannot be written as JSON: {error}"),
            };
            Ok(Some((id.into(), Json::of(&data).map_err(unfit)?)))
        };
        self.begins.push(Begins {
            event: TypeId::of::<V>(),
            event_name: std::any::type_name::<V>(),
            begin: Arc::new(begin),
        });
        self
    }

    fn find(&self, step: &str) -> Option<&Step<D>> {
        self.groups.iter().flatten().find(|it| it.name == step)
    }

    fn asks(&self, step: &str, undo: bool) -> Option<&Asks<D>> {
        let step = self.find(step)?;
        match &step.what {
            _ if undo => step.undo.as_ref(),
            What::Ask(ask) => Some(ask),
            What::Pause(_) | What::Nothing => None,
        }
    }

    /// Runs application code on the data; the data it leaves, if it has changed it.
    fn with_data<T>(
        &self,
        data: &Json,
        code: impl FnOnce(&mut D) -> Result<T, CommandError>,
    ) -> Result<(T, Option<Json>), CommandError> {
        let place = EntityKey::new(Text::from_static(self.name), Text::new());
        guard(&place, || {
            let mut typed: D = serde_json::from_str(data.as_str()).map_err(not_json)?;
            let result = code(&mut typed)?;
            let after = Json::of(&typed).map_err(not_json)?;
            Ok((result, Some(after).filter(|after| after != data)))
        })
        .flatten()
    }
}

/// What the machinery needs to know of a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outline {
    pub(crate) name: &'static str,
    pub(crate) pause: Option<Duration>,
    /// It was done before.
    pub(crate) done: bool,
    pub(crate) undo: bool,
    pub(crate) within: Option<Duration>,
    pub(crate) attempts: u32,
    pub(crate) between: Duration,
    /// Types of entities that are asked.
    pub(crate) kinds: [Option<&'static str>; 2],
}

/// A definition, the type of its data erased.
pub(crate) trait Definition: Send + Sync {
    fn name(&self) -> &'static str;
    fn version(&self) -> u32;
    fn deadline(&self) -> Option<Duration>;
    fn groups(&self) -> Vec<Vec<Outline>>;

    fn is_wanted(&self, step: &str, data: &Json) -> Result<bool, CommandError>;

    fn question(&self, step: &str, undo: bool, data: &Json) -> Result<Written, CommandError>;

    /// What an answer means, and the data if that has changed.
    fn judge(
        &self,
        step: &str,
        undo: bool,
        data: &Json,
        answer: &StepAnswer,
    ) -> Result<(Next, Option<Json>), CommandError>;

    fn timed_out(&self, step: &str, data: &Json) -> Result<(Next, Option<Json>), CommandError>;

    fn send(
        &self,
        step: &str,
        undo: bool,
        router: &Router,
        envelope: Envelope,
        entity: EntityKey,
        body: &Json,
    ) -> Option<Answering>;
}

impl<D: SagaData> Definition for Saga<D> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    fn groups(&self) -> Vec<Vec<Outline>> {
        let outline = |step: &Step<D>| Outline {
            name: step.name,
            pause: match step.what {
                What::Pause(duration) => Some(duration),
                What::Ask(_) | What::Nothing => None,
            },
            done: matches!(step.what, What::Nothing),
            undo: step.undo.is_some(),
            within: step.within,
            attempts: step.attempts,
            between: step.pause,
            kinds: [false, true].map(|undo| self.asks(step.name, undo)?.0.kind()),
        };
        let group = |steps: &Vec<Step<D>>| steps.iter().map(outline).collect();
        self.groups.iter().map(group).collect()
    }

    fn is_wanted(&self, step: &str, data: &Json) -> Result<bool, CommandError> {
        let Some(when) = self.find(step).and_then(|step| step.when.as_ref()) else {
            return Ok(true);
        };
        Ok(self.with_data(data, |data| Ok(when(data)))?.0)
    }

    fn question(&self, step: &str, undo: bool, data: &Json) -> Result<Written, CommandError> {
        let asks = self.asks(step, undo).ok_or_else(|| gone(step))?;
        Ok(self.with_data(data, |data| asks.0.write(data))?.0)
    }

    fn judge(
        &self,
        step: &str,
        undo: bool,
        data: &Json,
        answer: &StepAnswer,
    ) -> Result<(Next, Option<Json>), CommandError> {
        let asks = self.asks(step, undo).ok_or_else(|| gone(step))?;
        self.with_data(data, |data| asks.0.judge(data, answer, undo))
    }

    fn timed_out(&self, step: &str, data: &Json) -> Result<(Next, Option<Json>), CommandError> {
        match self.find(step).and_then(|step| step.timed_out.as_ref()) {
            Some(means) => self.with_data(data, |data| Ok(means(data))),
            None => Ok((fail(format!("{step} was not answered in time")), None)),
        }
    }

    fn send(
        &self,
        step: &str,
        undo: bool,
        router: &Router,
        envelope: Envelope,
        entity: EntityKey,
        body: &Json,
    ) -> Option<Answering> {
        let asks = self.asks(step, undo)?;
        Some(asks.0.send(router, envelope, entity, body))
    }
}

fn gone(step: &str) -> CommandError {
    CommandError::Encoding(format!("the definition has no step {step:?} any more"))
}

/// All versions of one saga.
pub(crate) type Definitions = BTreeMap<u32, Arc<dyn Definition>>;
