//! Given events, when a command, then events and an answer.

use std::fmt::Debug;
use std::marker::PhantomData;

use everfold_engine::Timestamp;
use everfold_engine::engine::Statement;
use serde_json::Value;

use super::{MOMENT, json, lossy, through_the_log};
use crate::decision::{Context, Verdict};
use crate::entity::{Command, Decide, Entity, Evolve};

/// Starts a specification of an entity that has no history yet.
///
/// Events, state, commands and answers pass through their stored forms: what is compared is what
/// a caller on another node would see.
///
/// ```text
/// spec::<Customer>()
///     .given([opened(100), reserved("o-1", 90)])
///     .when(ReserveCredit { order: "o-2".into(), total: money(20) })
///     .then([CustomerEvent::CreditRefused { order: "o-2".into(), total: money(20) }])
///     .replies(Credit::Refused);
/// ```
pub fn spec<E: Evolve>() -> Spec<E>
where
    E::Event: PartialEq + Debug,
{
    let context = Context::outside("spec", 0, MOMENT);
    Spec {
        state: E::default(),
        context,
    }
}

/// An entity with its history so far.
pub struct Spec<E> {
    state: E,
    context: Context,
}

impl<E: Evolve> Spec<E>
where
    E::Event: PartialEq + Debug,
{
    /// The id that the entity has; `spec` otherwise.
    #[must_use]
    pub fn id(mut self, id: &str) -> Self {
        self.context.entity = id.into();
        self
    }

    /// When the following commands are decided; [`MOMENT`] otherwise.
    #[must_use]
    pub fn at(mut self, moment: Timestamp) -> Self {
        (self.context.now, self.context.effective) = (moment, moment);
        self
    }

    /// Who sends the following commands; nobody otherwise.
    #[must_use]
    pub fn by(mut self, principal: &str) -> Self {
        self.context.principal = principal.into();
        self
    }

    /// What has happened to the entity.
    #[must_use]
    #[track_caller]
    pub fn given(mut self, events: impl IntoIterator<Item = E::Event>) -> Self {
        for event in events {
            self.fold(&event);
        }
        self
    }

    /// What somebody asks of it now.
    #[must_use = "say what should follow: `.then(...)`, `.replies(...)`, `.rejected(...)`"]
    #[track_caller]
    pub fn when<C: Command>(mut self, command: C) -> Decided<E, C>
    where
        E: Decide<C>,
    {
        let mut bytes = Vec::new();
        if let Err(error) = command.encode(&mut bytes) {
            panic!("{} cannot be written as JSON: {error}", C::NAME);
        }
        let command = match C::decode(&bytes) {
            Ok(command) => command,
            Err(error) => panic!(
                "{} cannot be read back: {error}; written as {}",
                C::NAME,
                lossy(&bytes)
            ),
        };
        let (events, statements, answer) = match self.state.decide(&command, &self.context) {
            Verdict::Accepted {
                events,
                statements,
                reply,
            } => (events, statements, Answer::Reply(json(&reply))),
            Verdict::Rejected(rejection) => {
                let answer = Answer::Rejection(json(&rejection));
                (Vec::new(), Vec::new(), answer)
            }
        };
        for event in &events {
            self.fold(event);
        }
        Decided {
            spec: self,
            events,
            statements,
            answer,
            command: PhantomData,
        }
    }

    /// The state that the history leads to.
    pub fn state(&self) -> &E {
        &self.state
    }

    #[track_caller]
    fn fold(&mut self, event: &E::Event) {
        let read = through_the_log(event);
        assert_eq!(
            &read, event,
            "an event changes when it is stored and read back"
        );
        self.state.evolve(&read);
        self.state = through_a_snapshot(&self.state);
        self.context.version += 1;
    }
}

#[track_caller]
fn through_a_snapshot<E: Entity>(state: &E) -> E {
    let encode = |state: &E| {
        let mut bytes = Vec::new();
        match state.encode_state(&mut bytes) {
            Ok(()) => bytes,
            Err(error) => panic!(
                "the state of {} cannot be written as JSON: {error}",
                E::NAME
            ),
        }
    };
    let bytes = encode(state);
    let read = match E::decode_state(&bytes) {
        Ok(read) => read,
        Err(error) => panic!(
            "the state of {} cannot be read back: {error}; written as {}",
            E::NAME,
            lossy(&bytes)
        ),
    };
    let again = encode(&read);
    assert_eq!(
        lossy(&again),
        lossy(&bytes),
        "the state of {} changes when it is stored and read back",
        E::NAME
    );
    read
}

#[derive(Debug)]
enum Answer {
    Reply(Value),
    Rejection(Value),
}

/// What a command led to.
pub struct Decided<E: Entity, C> {
    spec: Spec<E>,
    events: Vec<E::Event>,
    statements: Vec<Statement>,
    answer: Answer,
    command: PhantomData<fn() -> C>,
}

impl<E: Decide<C>, C: Command> Decided<E, C>
where
    E::Event: PartialEq + Debug,
{
    /// It was accepted, and exactly these events happened; no table beside the log changed with
    /// them, see [`Decided::then_beside`].
    #[track_caller]
    pub fn then(self, events: impl IntoIterator<Item = E::Event>) -> Self {
        self.then_beside(events, [])
    }

    /// It was accepted, and exactly these events happened, with exactly these statements for tables
    /// beside the log.
    ///
    /// ```text
    /// spec::<Order>()
    ///     .when(Bill { total: "12.50".into() })
    ///     .then_beside(
    ///         [OrderEvent::Billed { total: "12.50".into() }],
    ///         [Statement::new("insert into invoice (total) values ($1::numeric)").with("12.50")],
    ///     );
    /// ```
    #[track_caller]
    pub fn then_beside(
        self,
        events: impl IntoIterator<Item = E::Event>,
        statements: impl IntoIterator<Item = Statement>,
    ) -> Self {
        let expected: Vec<E::Event> = events.into_iter().collect();
        if let Answer::Rejection(rejection) = &self.answer {
            panic!(
                "expected {expected:?}, but {} was rejected: {rejection}",
                C::NAME
            );
        }
        assert_eq!(
            self.events,
            expected,
            "other events than expected of {}",
            C::NAME
        );
        let expected: Vec<Statement> = statements.into_iter().collect();
        assert_eq!(
            self.statements,
            expected,
            "other statements beside the log than expected of {}: name them with `.then_beside(...)`",
            C::NAME
        );
        self
    }

    /// It was accepted, and nothing happened, beside the log neither.
    #[track_caller]
    pub fn then_nothing(self) -> Self {
        self.then([])
    }

    /// It was accepted with this answer.
    #[track_caller]
    pub fn replies(self, reply: E::Reply) -> Self {
        match &self.answer {
            Answer::Reply(actual) => {
                assert_eq!(
                    actual,
                    &json(&reply),
                    "another reply than expected of {}",
                    C::NAME
                );
                assert_reads_back::<E::Reply>(actual);
            }
            Answer::Rejection(rejection) => panic!(
                "expected the reply {}, but {} was rejected: {rejection}",
                json(&reply),
                C::NAME
            ),
        }
        self
    }

    /// It was rejected for this reason.
    #[track_caller]
    pub fn rejected(self, rejection: E::Rejection) -> Self {
        match &self.answer {
            Answer::Rejection(actual) => {
                let expected = json(&rejection);
                assert_eq!(
                    actual,
                    &expected,
                    "another rejection than expected of {}",
                    C::NAME
                );
                assert_reads_back::<E::Rejection>(actual);
            }
            Answer::Reply(reply) => panic!(
                "expected the rejection {}, but {} was accepted with {reply} and {:?}",
                json(&rejection),
                C::NAME,
                self.events
            ),
        }
        self
    }

    /// What somebody asks next, after these events.
    #[must_use = "say what should follow: `.then(...)`, `.replies(...)`, `.rejected(...)`"]
    #[track_caller]
    pub fn when<D: Command>(self, command: D) -> Decided<E, D>
    where
        E: Decide<D>,
    {
        self.spec.when(command)
    }

    /// The state that all this leads to.
    pub fn state(&self) -> &E {
        &self.spec.state
    }

    /// What changes beside the log.
    pub fn statements(&self) -> &[Statement] {
        &self.statements
    }

    /// The entity after this command, and what happened: for specifications that compare with a
    /// model of their own.
    pub fn outcome(self) -> (Spec<E>, Vec<E::Event>) {
        (self.spec, self.events)
    }
}

/// An answer is stored with the command, to be given again.
#[track_caller]
fn assert_reads_back<T: serde::Serialize + serde::de::DeserializeOwned>(stored: &Value) {
    match serde_json::from_value::<T>(stored.clone()) {
        Ok(read) => assert_eq!(
            &json(&read),
            stored,
            "an answer changes when it is read back"
        ),
        Err(error) => panic!("an answer cannot be read back: {error}; written as {stored}"),
    }
}
