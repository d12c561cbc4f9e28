//! Instances of the saga, as the log has them.

use std::collections::BTreeMap;

use everfold::engine::Record;
use everfold::prelude::*;
use everfold::{SagaEnd, SagaEvent, StepOutcome};

use super::books::Books;
use crate::order::OrderState;

/// Every question is answered, or undone; every instance begins once and ends once.
#[derive(Default)]
pub(super) struct Instances(BTreeMap<String, Instance>);

#[derive(Default)]
struct Instance {
    begun: bool,
    undoing: bool,
    ended: Option<SagaEnd>,
    timers: u64,
    calls: BTreeMap<(String, bool), Call>,
}

/// A step, or its undoing.
#[derive(Default)]
struct Call {
    attempt: u32,
    waits: bool,
    outcome: Option<StepOutcome>,
}

impl Instances {
    pub(super) fn record(&mut self, record: &Record) -> Result<(), String> {
        let portable = &record.portable;
        if &*portable.entity.kind != "placing" {
            return Ok(());
        }
        let (kind, version) = (&portable.event_type, portable.schema_version);
        let event = SagaEvent::decode(kind, version, &portable.payload);
        let event = event.map_err(|error| error.to_string())?;
        let instance = self.0.entry(portable.entity.id.to_string()).or_default();
        let followed = instance.follow(&event);
        followed.map_err(|what| format!("{}: {what}: {event:?}", portable.entity))
    }

    /// When all is over: each order has had its instance, which ended as the order did.
    pub(super) fn check_end(&self, books: &Books) -> Result<(), String> {
        for (id, order) in books.orders() {
            let name = id.as_text();
            let Some(instance) = self.0.get(name) else {
                return Err(format!("nobody led {name}"));
            };
            let fits = match instance.ended {
                Some(SagaEnd::Completed) => order.state != OrderState::Rejected,
                Some(SagaEnd::Undone) => {
                    matches!(order.state, OrderState::Rejected | OrderState::Cancelled)
                }
                Some(SagaEnd::Forced) | None => false,
            };
            if !fits {
                let ended = instance.ended;
                return Err(format!("{name} is {}, its saga {ended:?}", order.state));
            }
        }
        match self.0.len() == books.orders().count() {
            true => Ok(()),
            false => Err("there are more instances than orders".into()),
        }
    }
}

impl Instance {
    fn follow(&mut self, event: &SagaEvent) -> Result<(), &'static str> {
        if self.ended.is_some() {
            return Err("it had ended");
        }
        if self.begun == matches!(event, SagaEvent::Begun { .. }) {
            return Err("it begins once, and first");
        }
        match event {
            SagaEvent::Begun { .. } => self.begun = true,
            SagaEvent::Asked {
                step,
                undo,
                attempt,
                ..
            } => {
                let call = self.calls.entry((step.clone(), *undo)).or_default();
                if call.waits || *attempt != call.attempt + 1 {
                    return Err("asked while a question was open, or out of turn");
                }
                (call.attempt, call.waits) = (*attempt, true);
            }
            SagaEvent::Answered {
                step,
                undo,
                attempt,
                outcome,
                ..
            } => {
                let call = self.calls.entry((step.clone(), *undo)).or_default();
                let again = matches!(call.outcome, Some(StepOutcome::Again | StepOutcome::Late));
                let open = call.waits || *attempt == 0 && call.outcome.is_none();
                if !open && !again || *attempt != call.attempt {
                    return Err("answered what was not asked, or was answered before");
                }
                (call.waits, call.outcome) = (false, Some(*outcome));
            }
            SagaEvent::TimerSet { timer, .. } => {
                if *timer != self.timers + 1 {
                    return Err("timers have numbers in a row");
                }
                self.timers = *timer;
            }
            SagaEvent::Undoing { .. } => {
                if std::mem::replace(&mut self.undoing, true) {
                    return Err("undone twice");
                }
            }
            SagaEvent::Ended { end } => return self.end(*end),
            SagaEvent::HelpNeeded { .. } | SagaEvent::Operated { .. } => {
                return Err("nothing here needs a person");
            }
        }
        Ok(())
    }

    fn end(&mut self, end: SagaEnd) -> Result<(), &'static str> {
        self.ended = Some(end);
        if self.calls.values().any(|call| call.waits) {
            return Err("a question is open");
        }
        if self.undoing != (end == SagaEnd::Undone) {
            return Err("it ends in another direction");
        }
        for ((step, undo), call) in &self.calls {
            let done = matches!(
                call.outcome,
                Some(StepOutcome::Done | StepOutcome::TimedOut)
            );
            let undone = self.calls.get(&(step.clone(), true));
            let undone = undone.is_some_and(|undone| undone.outcome == Some(StepOutcome::Done));
            // The approval is the last step: nothing ever undoes it.
            let must = end == SagaEnd::Undone && !undo && done && step != "approve";
            if must && !undone {
                return Err("a step is left done");
            }
        }
        Ok(())
    }
}
