//! The handler of a saga: sends what the stream of an instance says, and brings answers back.

use std::any::TypeId;
use std::sync::Arc;
use std::time::Duration;

use everfold_engine::engine::BoxFuture;
use everfold_engine::{EntityKey, Text};

use super::definition::{Begins, Definitions};
use super::event::{Json, Operation, SagaEvent, StepOutcome, TimerPurpose};
use super::instance::Instance;
use super::step::StepAnswer;
use super::turn::Input;
use super::work::SagaWork;
use crate::error::{CommandError, SendError};
use crate::handler::Delivered;
use crate::owner::{Envelope, Router, Strength, Watch};
use crate::reactor::{
    At, Cancelled, Outcome, Outgoing, Reaction, Reactor, Subscription, Timer, nothing,
};

/// The handler of all versions of a saga.
pub(crate) fn dispatcher(
    name: &'static str,
    definitions: &Arc<Definitions>,
    begins: Vec<Begins>,
) -> Reactor {
    let mut reactor = Reactor::named(format!("saga {name}"));
    let newest = definitions.keys().next_back().copied().unwrap_or(1);
    let begin = |begins: Begins| {
        let (definitions, begin) = (definitions.clone(), begins.begin);
        let react = move |delivered: &Delivered| {
            let Some((id, data)) = begin(delivered)? else {
                return Ok(nothing());
            };
            let input = Input::Begin {
                version: newest,
                data,
            };
            let instance = EntityKey::new(Text::from_static(name), id);
            Ok(just(Told::new(&definitions, instance, input)))
        };
        Subscription {
            event: begins.event,
            event_name: begins.event_name,
            kind: None,
            react: Arc::new(react),
        }
    };
    reactor.subscriptions = begins.into_iter().map(begin).collect();
    let definitions = definitions.clone();
    let react = move |delivered: &Delivered| {
        let event = delivered.event::<SagaEvent>()?;
        let instance = &delivered.record().portable.entity;
        Ok(follow(&definitions, instance, &event))
    };
    reactor.subscriptions.push(Subscription {
        event: TypeId::of::<SagaEvent>(),
        event_name: std::any::type_name::<SagaEvent>(),
        kind: Some(Text::from_static(name)),
        react: Arc::new(react),
    });
    reactor
}

fn just(outgoing: impl Outgoing + 'static) -> Reaction {
    Reaction {
        outgoing: vec![Box::new(outgoing)],
        ..Reaction::default()
    }
}

/// What follows from an event of an instance.
fn follow(definitions: &Arc<Definitions>, instance: &EntityKey, event: &SagaEvent) -> Reaction {
    let tell = |input| Told::new(definitions, instance.clone(), input);
    match event {
        SagaEvent::Asked {
            version,
            step,
            undo,
            attempt,
            entity,
            body,
            ..
        } => {
            // Steps do not wait for each other; the undoing of a step waits for the step.
            let strand = Text::from(step.as_str());
            let known = definitions.contains_key(version);
            let outgoing: Vec<Box<dyn Outgoing>> = if known {
                vec![Box::new(Sent {
                    definitions: definitions.clone(),
                    instance: instance.clone(),
                    version: *version,
                    step: step.clone(),
                    undo: *undo,
                    attempt: *attempt,
                    entity: EntityKey::of_stream(entity),
                    body: body.clone(),
                })]
            } else {
                orphan(tell, instance, *version)
            };
            Reaction {
                outgoing,
                strand,
                ..Reaction::default()
            }
        }
        SagaEvent::TimerSet {
            version,
            timer,
            step,
            undo,
            purpose,
            millis,
        } => {
            let told = tell(Input::Timer { timer: *timer });
            let outgoing: Vec<Box<dyn Outgoing>> = if definitions.contains_key(version) {
                vec![Box::new(told)]
            } else {
                orphan(tell, instance, *version)
            };
            let timer = Timer {
                name: timer_name(*purpose, step.as_deref(), *undo),
                after: Duration::from_millis(*millis),
                outgoing,
            };
            Reaction {
                timers: vec![timer],
                ..Reaction::default()
            }
        }
        SagaEvent::Answered { outcome, .. } if *outcome == StepOutcome::Again => nothing(),
        SagaEvent::Answered { step, undo, .. } => {
            let purposes = [
                TimerPurpose::Retry,
                TimerPurpose::Deadline,
                TimerPurpose::Pause,
            ];
            let name = |purpose| Cancelled::Named(timer_name(purpose, Some(step), *undo));
            Reaction {
                cancelled: purposes.map(name).into(),
                ..Reaction::default()
            }
        }
        SagaEvent::Undoing { .. } => Reaction {
            cancelled: vec![Cancelled::Named(timer_name(
                TimerPurpose::Deadline,
                None,
                false,
            ))],
            ..Reaction::default()
        },
        SagaEvent::Ended { .. } => Reaction {
            cancelled: vec![Cancelled::All],
            ..Reaction::default()
        },
        // What waited for its definition: whatever a person decides, it has to be answered.
        SagaEvent::Operated { operation } => Reaction {
            unparks: *operation != Operation::Force,
            ..Reaction::default()
        },
        SagaEvent::Begun { .. } | SagaEvent::HelpNeeded { .. } => nothing(),
    }
}

fn timer_name(purpose: TimerPurpose, step: Option<&str>, undo: bool) -> Text {
    let of = if undo { "undoing " } else { "" };
    format!("{purpose:?} of {of}{}", step.unwrap_or_default()).into()
}

/// The instance is told that nobody understands it, and what it wants is set aside for the day on
/// which its definition is there again.
fn orphan(
    tell: impl Fn(Input) -> Told,
    instance: &EntityKey,
    version: u32,
) -> Vec<Box<dyn Outgoing>> {
    // The first place is that of the command which is sent when the definition is there again: its id
    // must not be used for another.
    vec![
        Box::new(Placeholder(instance.clone())),
        Box::new(tell(Input::Orphaned { version })),
        Box::new(Orphan(instance.clone(), version)),
    ]
}

/// An input on its way to an instance.
struct Told {
    definitions: Arc<Definitions>,
    instance: EntityKey,
    input: Input,
}

impl Told {
    fn new(definitions: &Arc<Definitions>, instance: EntityKey, input: Input) -> Self {
        Self {
            definitions: definitions.clone(),
            instance,
            input,
        }
    }
}

impl Outgoing for Told {
    fn send(
        self: Box<Self>,
        router: Router,
        envelope: Envelope,
        _: At,
    ) -> BoxFuture<'static, Result<Outcome, CommandError>> {
        let begins = matches!(self.input, Input::Begin { .. });
        let partition = router.partition(&self.instance.id);
        let refused = self.instance.check().err();
        let (work, answer) = SagaWork::new(
            self.definitions,
            self.instance,
            self.input,
            envelope,
            router.world(),
        );
        if refused.is_none() {
            router.submit(partition, Box::new(work));
        }
        Box::pin(async move {
            if let Some(refused) = refused {
                return Err(refused.into());
            }
            match answer.await {
                Ok(Ok(_)) => Ok(Outcome::Done(nothing())),
                // Worth a look: what should have begun has not.
                Ok(Err(SendError::Rejected(_))) if begins => Ok(Outcome::Unmapped),
                Ok(Err(SendError::Rejected(_))) => Ok(Outcome::Done(nothing())),
                Ok(Err(SendError::Failed(error))) => Err(error),
                Err(_) => Err(CommandError::Closed),
            }
        })
    }

    fn target(&self) -> &EntityKey {
        &self.instance
    }

    // However many steps a saga has, it is no loop.
    fn comes_back(&self) -> bool {
        matches!(self.input, Input::Answer { .. })
    }

    fn inspect(&self) -> (String, EntityKey, serde_json::Value) {
        let json = serde_json::to_value(&self.input).unwrap_or_default();
        ("saga".to_owned(), self.instance.clone(), json)
    }
}

/// A step's command on its way to the entity that decides it.
struct Sent {
    definitions: Arc<Definitions>,
    instance: EntityKey,
    version: u32,
    step: String,
    undo: bool,
    attempt: u32,
    entity: EntityKey,
    body: Json,
}

impl Outgoing for Sent {
    fn send(
        self: Box<Self>,
        router: Router,
        envelope: Envelope,
        _: At,
    ) -> BoxFuture<'static, Result<Outcome, CommandError>> {
        let definition = self.definitions.get(&self.version);
        let (step, undo) = (self.step.as_str(), self.undo);
        let entity = self.entity.clone();
        let sent =
            definition.and_then(|it| it.send(step, undo, &router, envelope, entity, &self.body));
        Box::pin(async move {
            let answer = match sent {
                Some(sent) => sent.await?,
                None => StepAnswer::Error("the definition has no such step any more".to_owned()),
            };
            let input = Input::Answer {
                step: self.step,
                undo: self.undo,
                attempt: self.attempt,
                answer,
            };
            let told = Told::new(&self.definitions, self.instance, input);
            Ok(Outcome::Done(just(told)))
        })
    }

    fn target(&self) -> &EntityKey {
        &self.entity
    }

    // The instance may have gone on without the command, or have sent another in its place: what
    // could not be processed was forgotten by whoever decides it, and would be done now.
    fn still_wanted(
        &self,
        router: &Router,
        at: &At,
    ) -> Option<BoxFuture<'static, Result<bool, CommandError>>> {
        let (step, undo, attempt) = (self.step.clone(), self.undo, self.attempt);
        let look = move |instance: &Instance, _| Some(instance.waits_for(&step, undo, attempt));
        let strength = Strength::After(at.record().local.offset);
        let (watch, answer) = Watch::<Instance, _, _>::new(self.instance.clone(), strength, look);
        router.submit(router.partition(&self.instance.id), Box::new(watch));
        Some(Box::pin(async move {
            let seen = answer.await.unwrap_or(Err(CommandError::Closed));
            seen.map(|(wanted, _)| wanted)
        }))
    }

    fn inspect(&self) -> (String, EntityKey, serde_json::Value) {
        let json = serde_json::from_str(self.body.as_str()).unwrap_or_default();
        (self.step.clone(), self.entity.clone(), json)
    }
}

/// Sends nothing.
struct Placeholder(EntityKey);

impl Outgoing for Placeholder {
    fn send(
        self: Box<Self>,
        _: Router,
        _: Envelope,
        _: At,
    ) -> BoxFuture<'static, Result<Outcome, CommandError>> {
        Box::pin(async { Ok(Outcome::Done(nothing())) })
    }

    fn target(&self) -> &EntityKey {
        &self.0
    }

    fn inspect(&self) -> (String, EntityKey, serde_json::Value) {
        let nothing = serde_json::Value::Null;
        ("nothing".to_owned(), self.0.clone(), nothing)
    }
}

/// Fails, so that its event is parked.
struct Orphan(EntityKey, u32);

impl Outgoing for Orphan {
    fn send(
        self: Box<Self>,
        _: Router,
        _: Envelope,
        _: At,
    ) -> BoxFuture<'static, Result<Outcome, CommandError>> {
        Box::pin(async move { Err(CommandError::NoDefinition(self.1)) })
    }

    fn target(&self) -> &EntityKey {
        &self.0
    }

    fn inspect(&self) -> (String, EntityKey, serde_json::Value) {
        let nothing = serde_json::Value::Null;
        ("orphan".to_owned(), self.0.clone(), nothing)
    }
}
