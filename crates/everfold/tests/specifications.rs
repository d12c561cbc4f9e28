//! The test kit must fail when the code under test is wrong: each fault here is one that it exists
//! to find.

use std::time::Duration;

use everfold::prelude::*;
use everfold::testing::{Issued, SagaSpec, issued, reactor, saga, spec, view};
use everfold::{Operation, SagaEnd};
use serde::{Deserialize, Serialize};

#[derive(Event, Clone, Debug, PartialEq)]
enum LampEvent {
    Lit {
        watts: u32,
    },
    Named {
        #[serde(skip)]
        name: String,
    },
    Dimmed,
}

#[derive(Entity, Default)]
#[entity(name = "lamp", id = String, event = LampEvent)]
struct Lamp {
    watts: u32,
    #[serde(skip)]
    dimmed: bool,
    #[serde(with = "growing")]
    lit: u32,
}

/// A field that is written as another value than it was read from.
mod growing {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &u32, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u32(if *value > 2 { value + 1 } else { *value })
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
        u32::deserialize(from)
    }
}

impl Evolve for Lamp {
    fn evolve(&mut self, event: &LampEvent) {
        match event {
            LampEvent::Lit { watts } => {
                self.watts = *watts;
                self.lit += 1;
            }
            LampEvent::Named { .. } => {}
            LampEvent::Dimmed => self.dimmed = true,
        }
    }
}

#[derive(Command)]
struct Light {
    watts: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct TooBright;

impl Decide<Light> for Lamp {
    type Reply = u32;
    type Rejection = TooBright;

    fn decide(&self, command: &Light, context: &Context) -> Decision<Self, Light> {
        match command.watts {
            100.. => reject(TooBright),
            watts if watts == self.watts => reply(watts),
            _ if self.dimmed => emit(LampEvent::Dimmed).reply(0),
            watts => emit(LampEvent::Lit { watts }).reply(context.version() as u32),
        }
    }
}

fn lit(watts: u32) -> LampEvent {
    LampEvent::Lit { watts }
}

#[test]
fn what_holds_passes() {
    spec::<Lamp>()
        .given([lit(40)])
        .when(Light { watts: 60 })
        .then([lit(60)])
        .replies(1)
        .when(Light { watts: 100 })
        .rejected(TooBright);
}

#[test]
#[should_panic(expected = "other events than expected of Light")]
fn another_event_is_found() {
    spec::<Lamp>().when(Light { watts: 40 }).then([lit(41)]);
}

#[test]
#[should_panic(expected = "other events than expected of Light")]
fn an_event_too_many_is_found() {
    spec::<Lamp>().when(Light { watts: 40 }).then_nothing();
}

#[test]
#[should_panic(expected = "another reply than expected of Light")]
fn another_reply_is_found() {
    spec::<Lamp>().when(Light { watts: 40 }).replies(1);
}

#[test]
#[should_panic(expected = "Light was rejected: null")]
fn a_rejection_in_place_of_events_is_found() {
    spec::<Lamp>().when(Light { watts: 100 }).then([lit(100)]);
}

#[test]
#[should_panic(expected = "but Light was accepted with 0 and [Lit { watts: 40 }]")]
fn an_acceptance_in_place_of_a_rejection_is_found() {
    spec::<Lamp>().when(Light { watts: 40 }).rejected(TooBright);
}

#[test]
#[should_panic(expected = "an event changes when it is stored and read back")]
fn an_event_that_loses_a_field_is_found() {
    let name = "desk".to_owned();
    let _ = spec::<Lamp>().given([LampEvent::Named { name }]);
}

#[test]
fn a_state_that_loses_a_field_decides_as_it_would_after_a_restart() {
    spec::<Lamp>()
        .given([LampEvent::Dimmed])
        .when(Light { watts: 40 })
        .then([lit(40)]);
}

#[test]
#[should_panic(expected = "the state of lamp changes when it is stored and read back")]
fn a_state_that_is_written_as_another_is_found() {
    let _ = spec::<Lamp>().given([lit(1), lit(2), lit(3)]);
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Brightest {
    last: u32,
    total: u32,
}

fn everything(_: &LampEvent, _: &At) -> String {
    "all".into()
}

fn brightness(fold: fn(&mut Brightest, u32)) -> View<String, Brightest> {
    View::named("brightness").on(everything, move |row, event: &LampEvent, _| {
        if let LampEvent::Lit { watts } = event {
            fold(row, *watts);
        }
    })
}

#[test]
fn a_row_that_does_not_depend_on_arrival_is_given_back() {
    let sum = brightness(|row, watts| row.total += watts);
    let specified = view(&sum)
        .given::<Lamp>("a", [lit(1), lit(2)])
        .given::<Lamp>("b", [lit(3)]);
    assert_eq!(specified.row(&"all".into()).total, 6);
    assert_eq!(specified.rows().len(), 1);
    assert_eq!(specified.row(&"other".into()), Brightest::default());
}

#[test]
#[should_panic(expected = "the rows of view \"brightness\" depend on the order of arrival")]
fn a_row_that_depends_on_arrival_is_found() {
    let last = brightness(|row, watts| row.last = watts);
    view(&last)
        .given::<Lamp>("a", [lit(1), lit(2)])
        .given::<Lamp>("b", [lit(3)])
        .rows();
}

#[test]
#[should_panic(expected = "depend on the order of arrival")]
fn arrival_counts_among_many_events_as_well() {
    let last = brightness(|row, watts| row.last = (row.last * 31 + watts) % 1009);
    let many = |from: u32| (from..from + 12).map(lit).collect::<Vec<_>>();
    view(&last)
        .given::<Lamp>("a", many(1))
        .given::<Lamp>("b", many(20))
        .given::<Lamp>("c", many(40))
        .rows();
}

fn relight() -> Reactor {
    Reactor::named("relight").on(|event: &LampEvent, at| match event {
        LampEvent::Dimmed => command::<Lamp, _>(at.entity_id::<String>(), Light { watts: 60 })
            .rejected(|_: TooBright, _| nothing())
            .then(command::<Lamp, _>("spare".to_owned(), Light { watts: 20 })),
        _ => nothing(),
    })
}

#[test]
fn the_commands_of_a_reaction_are_given_in_order() {
    let issued_by_both = [
        issued::<Lamp>("desk", Light { watts: 60 }),
        issued::<Lamp>("spare", Light { watts: 20 }),
    ];
    assert_eq!(
        reactor(&relight()).on::<Lamp>("desk", LampEvent::Dimmed),
        issued_by_both
    );
    let none: [Issued; 0] = [];
    assert_eq!(reactor(&relight()).on::<Lamp>("desk", lit(1)), none);
}

#[derive(Entity, Default)]
#[entity(name = "shade", id = String, event = ShadeEvent)]
struct Shade {
    down: bool,
}

#[derive(Event)]
enum ShadeEvent {
    Lowered,
}

#[test]
#[should_panic(expected = "reactor \"relight\" does not listen to")]
fn a_reactor_that_does_not_listen_is_found() {
    reactor(&relight()).on::<Shade>("window", ShadeEvent::Lowered);
}

fn glow() -> Reactor {
    Reactor::named("glow").on(|event: &LampEvent, at| match event {
        LampEvent::Dimmed => command::<Lamp, _>(at.entity_id::<String>(), Light { watts: 5 })
            .after("glow", Duration::from_secs(60)),
        _ => cancel("glow"),
    })
}

#[test]
fn timers_are_part_of_what_follows() {
    let light = issued::<Lamp>("desk", Light { watts: 5 });
    let later = light.after("glow", Duration::from_secs(60));
    let glow = glow();
    let spec = reactor(&glow);
    assert_eq!(spec.on::<Lamp>("desk", LampEvent::Dimmed), [later]);
    assert_eq!(spec.cancelled_on::<Lamp>("desk", lit(1)), ["glow"]);
}

/// Lights one lamp after the other.
fn lighting() -> Saga<Vec<String>> {
    let light = |place: usize| {
        ask(move |lamps: &Vec<String>| command::<Lamp, _>(lamps[place].clone(), Light { watts: 9 }))
    };
    Saga::named("lighting")
        .step(Step::named("first", light(0)).undo(light(0)))
        .step(Step::named("second", light(1)).within(Duration::from_secs(60)))
}

fn begun() -> SagaSpec<Vec<String>> {
    saga(lighting()).begins(vec!["desk".into(), "hall".into()])
}

#[test]
fn a_saga_is_played_in_virtual_time() {
    let light = |lamp| issued::<Lamp>(lamp, Light { watts: 9 });
    begun()
        .asks([light("desk")])
        .replies("first", 9)
        .asks([light("hall")])
        .passes(Duration::from_secs(61))
        .asks([light("desk")])
        .replies("first", 9)
        .ends(SagaEnd::Undone);
}

#[test]
#[should_panic(expected = "other commands than expected")]
fn a_saga_that_asks_somebody_else_is_found() {
    let _ = begun().asks([issued::<Lamp>("hall", Light { watts: 9 })]);
}

#[test]
#[should_panic(expected = "it also asks")]
fn a_saga_that_asks_more_than_was_said_is_found() {
    let ended = begun().replies("first", 9).replies("second", 9);
    let _ = ended.ends(SagaEnd::Completed);
}

#[test]
#[should_panic(expected = "nobody was asked on behalf of")]
fn an_answer_that_nobody_waits_for_is_found() {
    let _ = begun().replies("second", 9);
}

/// The same, but somebody has to look at the first lamp.
fn inspected() -> Saga<Vec<String>> {
    let light = |place: usize| {
        ask(move |lamps: &Vec<String>| command::<Lamp, _>(lamps[place].clone(), Light { watts: 9 }))
    };
    let first = light(0).replied(|lamps, watts| {
        lamps.push(watts.to_string());
        help("look at it")
    });
    Saga::named("inspected")
        .step(Step::named("first", first).undo(light(0)))
        .step(
            Step::named("second", light(1))
                .within(Duration::from_secs(60))
                .timed_out(|_| again("once more")),
        )
}

fn looked_at() -> SagaSpec<Vec<String>> {
    saga(inspected())
        .begins(vec!["desk".into(), "hall".into()])
        .asks([issued::<Lamp>("desk", Light { watts: 9 })])
        .replies("first", 9)
        .needs_help("look at it")
}

/// Attacks: a step that was done is forgotten because a person had to look at it.
#[test]
fn what_may_be_done_is_undone_whatever_a_person_decides() {
    let light = |lamp| issued::<Lamp>(lamp, Light { watts: 9 });
    let called_off = looked_at()
        .operated(Operation::Compensate)
        .asks([light("desk")])
        .replies("first", 9)
        .ends(SagaEnd::Undone);
    assert_eq!(called_off.data(), ["desk", "hall", "9"]);
    looked_at()
        .operated(Operation::Skip)
        .asks([light("hall")])
        .rejects("second", "too bright")
        .asks([light("desk")])
        .replies("first", 9)
        .ends(SagaEnd::Undone);
}

/// Attacks: a step that is tried again after its time was over waits for ever.
#[test]
fn what_is_asked_again_has_its_time_anew() {
    let light = |lamp| issued::<Lamp>(lamp, Light { watts: 9 });
    let mut late = looked_at().operated(Operation::Skip);
    for _ in 0..5 {
        late = late.asks([light("hall")]).passes(Duration::from_secs(62));
    }
    late.asks([light("desk")]);
}

/// Attacks: an answer that comes after the saga has given the step up.
#[test]
fn a_late_answer_changes_nothing() {
    let light = |lamp: &'static str| {
        ask(move |_: &Vec<String>| command::<Lamp, _>(lamp.to_owned(), Light { watts: 9 }))
    };
    let slow = light("desk").replied(|lamps, watts| {
        lamps.push(watts.to_string());
        done()
    });
    let slow = Step::named("slow", slow).undo(light("desk"));
    let patient = Saga::named("patient").step(slow.within(Duration::from_secs(60)));
    let given_up = saga(patient)
        .begins(vec![])
        .passes(Duration::from_secs(61))
        .replies("slow", 9);
    assert_eq!(given_up.data(), Vec::<String>::new());
    let undone = given_up.replies("slow", 9);
    assert_eq!(undone.data(), Vec::<String>::new());
}
