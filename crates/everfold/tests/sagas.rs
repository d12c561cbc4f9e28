//! Sagas over the runtime: done in order or undone in reverse, over crashes, with people's help.

#![allow(clippy::unwrap_used, reason = "in a test a fault is a panic")]

mod part;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use everfold::prelude::*;
use everfold::{
    Node, NodeOptions, Operation, Question, SagaEnd, SagaOutcome, SagaRejection, SendError,
    StartError,
};
use part::{Act, Part, PartEvent, PartId, Works, acted, helpless};
use serde::{Deserialize, Serialize};

/// How many more times what is said to be broken breaks.
static BREAKS: AtomicU32 = AtomicU32::new(0);

/// Tests that set it take turns.
static TURN: Mutex<()> = Mutex::new(());

fn breaks() -> bool {
    let once = |left: u32| left.checked_sub(1);
    let (set, fetch) = (Ordering::SeqCst, Ordering::SeqCst);
    BREAKS.fetch_update(set, fetch, once).is_ok()
}

impl Decide<Act> for Part {
    type Reply = usize;
    type Rejection = String;

    fn decide(&self, command: &Act, _: &Context) -> Decision<Self, Act> {
        let what = command.what.clone();
        if what.contains("refuses") {
            return reject(what);
        }
        if what.contains("busy") && breaks() {
            return reject("busy".to_owned());
        }
        assert!(!what.contains("panics") || !breaks(), "{what}");
        emit(PartEvent::Acted { what }).reply(self.done.len() + 1)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Plan {
    part: String,
    /// What the steps are, by place.
    steps: Vec<String>,
    replies: Vec<usize>,
}

fn plan(part: &str, steps: [&str; 4]) -> Plan {
    Plan {
        part: part.to_owned(),
        steps: steps.map(str::to_owned).into(),
        replies: Vec::new(),
    }
}

fn act(place: usize) -> Question<Plan, usize, String> {
    ask(move |plan: &Plan| {
        let what = plan.steps[place].clone();
        command::<Part, _>(PartId::from(plan.part.clone()), Act { what })
    })
}

fn undo(place: usize) -> Question<Plan, usize, String> {
    ask(move |plan: &Plan| {
        let what = format!("undo {}", plan.steps[place].replace("then-", ""));
        command::<Part, _>(PartId::from(plan.part.clone()), Act { what })
    })
}

/// One step, then two at the same time, then a last one.
fn working() -> Saga<Plan> {
    let first = act(0).replied(|plan, count| {
        plan.replies.push(count);
        done()
    });
    let last = act(3).rejected(|_, why| match &why[..] {
        "busy" => again(why),
        _ => fail(why),
    });
    Saga::named("working")
        .step(Step::named("first", first).undo(undo(0)))
        .parallel([
            Step::named("left", act(1)).undo(undo(1)),
            Step::named("right", act(2)).undo(undo(2)),
        ])
        .step(
            Step::named("last", last)
                .attempts(3, Duration::from_secs(1))
                .within(Duration::from_secs(60)),
        )
}

fn works() -> Application {
    Application::new("works").entity::<Part>().saga(working())
}

const PATIENCE: Duration = Duration::from_secs(600);

async fn ends(node: &Node, id: &str) -> SagaOutcome<Plan> {
    node.saga(&working()).outcome(id, PATIENCE).await.unwrap()
}

#[test]
fn steps_are_done_in_order_and_their_replies_change_the_data() {
    Works::new(1).run(works(), async |node| {
        let saga = node.saga(&working());
        saga.start("w", plan("p", ["a", "b", "c", "d"]))
            .await
            .unwrap();
        let outcome = ends(node, "w").await;
        assert_eq!(outcome.end, SagaEnd::Completed);
        assert_eq!(outcome.data.replies, [1]);
        let done = acted(node, "p").await;
        assert_eq!((&done[0][..], &done[3][..], done.len()), ("a", "d", 4));
        // Begun again it changes nothing, unless it is another.
        saga.start("w", plan("p", ["a", "b", "c", "d"]))
            .await
            .unwrap();
        let other = saga.start("w", plan("q", ["a", "b", "c", "d"])).await;
        let rejected = SendError::Rejected(SagaRejection::BegunDifferently);
        assert_eq!(other.unwrap_err(), rejected);
        node.caught_up().await.unwrap();
        assert_eq!(acted(node, "p").await.len(), 4);
        assert!(node.sagas("", 10).is_empty(), "it has ended");
        let nobody = saga.act("x", Operation::Retry).await.unwrap_err();
        assert_eq!(nobody, SendError::Rejected(SagaRejection::NotBegun));
    });
}

/// Attacks: compensation runs in the reverse of the order in which the steps were done, also of the
/// one of two parallel steps that was done.
#[test]
fn a_failing_step_undoes_those_before_it_in_reverse() {
    for seed in 0..20 {
        Works::new(seed).run(works(), async |node| {
            let saga = node.saga(&working());
            saga.start("w", plan("p", ["a", "b", "c", "refuses"]))
                .await
                .unwrap();
            saga.start("v", plan("q", ["a", "b", "refuses", "d"]))
                .await
                .unwrap();
            let outcome = ends(node, "w").await;
            assert_eq!(outcome.end, SagaEnd::Undone);
            assert!(outcome.reason.unwrap().contains("refuses"));
            let done = acted(node, "p").await;
            assert_eq!(done.len(), 6, "{done:?}");
            assert_eq!((&done[0][..], &done[5][..]), ("a", "undo a"));
            assert_eq!(ends(node, "v").await.end, SagaEnd::Undone);
            assert_eq!(acted(node, "q").await, ["a", "b", "undo b", "undo a"]);
        });
    }
}

#[test]
fn what_is_busy_is_tried_again_with_pauses_and_fails_in_the_end() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    Works::new(2).run(works(), async |node| {
        let saga = node.saga(&working());
        BREAKS.store(2, Ordering::SeqCst);
        saga.start("w", plan("p", ["a", "b", "c", "busy"]))
            .await
            .unwrap();
        assert_eq!(ends(node, "w").await.end, SagaEnd::Completed);
        BREAKS.store(3, Ordering::SeqCst);
        saga.start("v", plan("q", ["a", "b", "c", "busy"]))
            .await
            .unwrap();
        let outcome = ends(node, "v").await;
        assert_eq!(
            (outcome.end, &outcome.reason.unwrap()[..]),
            (SagaEnd::Undone, "busy")
        );
        BREAKS.store(0, Ordering::SeqCst);
    });
}

/// Attacks: what a person decides about an instance that cannot go on.
#[test]
fn a_person_helps_where_a_saga_cannot_go_on() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    Works::new(3).run(works(), async |node| {
        let saga = node.saga(&working());
        for (id, operation) in [
            ("retry", Operation::Retry),
            ("skip", Operation::Skip),
            ("compensate", Operation::Compensate),
            ("force", Operation::Force),
        ] {
            BREAKS.store(3, Ordering::SeqCst);
            saga.start(id, plan(id, ["a", "b", "c", "panics"]))
                .await
                .unwrap();
            helpless(node, &working(), id).await;
            node.caught_up().await.unwrap();
            let live = node.sagas("", 10);
            assert_eq!((live.len(), &live[0].status.id[..]), (1, id));
            let reason = saga.status(id).await.unwrap().unwrap();
            assert!(
                reason
                    .steps
                    .iter()
                    .any(|step| step.state.contains("panicked"))
            );
            saga.act(id, operation).by("ann").await.unwrap();
            let outcome = ends(node, id).await;
            let done = acted(node, id).await.len();
            let expected = match operation {
                Operation::Retry => (SagaEnd::Completed, 4),
                Operation::Skip => (SagaEnd::Completed, 3),
                Operation::Compensate => (SagaEnd::Undone, 6),
                Operation::Force => (SagaEnd::Forced, 3),
            };
            assert_eq!((outcome.end, done), expected, "{operation}");
            let late = saga.act(id, operation).await.unwrap_err();
            assert_eq!(late, SendError::Rejected(SagaRejection::Ended));
        }
    });
}

/// Attacks: an undoing that is refused must not end the saga as if it were done.
#[test]
fn an_undoing_that_is_refused_needs_a_person() {
    let stubborn = || {
        let refused = ask(|plan: &Plan| {
            let what = "refuses to undo".to_owned();
            command::<Part, _>(PartId::from(plan.part.clone()), Act { what })
        });
        Saga::named("stubborn")
            .step(Step::named("first", act(0)).undo(refused))
            .step(Step::named("last", act(3)))
    };
    let application = Application::new("works").entity::<Part>().saga(stubborn());
    Works::new(4).run(application, async |node| {
        let saga = node.saga(&stubborn());
        saga.start("s", plan("p", ["a", "", "", "refuses"]))
            .await
            .unwrap();
        helpless(node, &stubborn(), "s").await;
        let compensate = saga.act("s", Operation::Compensate).await.unwrap_err();
        let undone = SendError::Rejected(SagaRejection::UndoneAlready);
        assert_eq!(compensate, undone);
        saga.act("s", Operation::Skip).await.unwrap();
        let outcome = saga.outcome("s", PATIENCE).await.unwrap();
        assert_eq!(outcome.end, SagaEnd::Undone);
    });
}

/// Attacks: an instance keeps to its definition. Without it nothing is lost and nothing guessed;
/// when it is there again a person lets it go on.
#[test]
fn an_instance_keeps_to_the_version_that_it_began_with() {
    let pausing = |version: u32, what: &'static str| {
        let second = ask(move |plan: &Plan| {
            let what = what.to_owned();
            command::<Part, _>(PartId::from(plan.part.clone()), Act { what })
        });
        Saga::named("pausing")
            .version(version)
            .step(Step::named("first", act(0)))
            .step(Step::pause("night", Duration::from_secs(8 * 3600)))
            .step(Step::named("second", second))
    };
    let old = || {
        Application::new("works")
            .entity::<Part>()
            .saga(pausing(1, "old"))
    };
    let both = || old().saga(pausing(2, "new"));
    let new = || {
        Application::new("works")
            .entity::<Part>()
            .saga(pausing(2, "new"))
    };
    let works = Works::new(5);
    let begin = async |node: &Node, id: &str| {
        let saga = node.saga(&pausing(1, ""));
        saga.start(id, plan(id, ["a", "", "", ""])).await.unwrap();
        node.caught_up().await.unwrap();
    };
    works.run(old(), async |node| {
        begin(node, "i").await;
        begin(node, "j").await;
    });
    works.run(both(), async |node| {
        begin(node, "k").await;
        node.world().sleep(Duration::from_secs(3600)).await;
    });
    works.run(new(), async |node| {
        let saga = node.saga(&pausing(2, ""));
        for id in ["i", "j"] {
            loop {
                node.world().sleep(Duration::from_secs(600)).await;
                if saga.status(id).await.unwrap().unwrap().state == "needs_help" {
                    break;
                }
            }
        }
        assert_eq!(
            saga.outcome("k", PATIENCE).await.unwrap().end,
            SagaEnd::Completed
        );
        assert_eq!(acted(node, "k").await, ["a", "new"]);
        let refused = saga.act("i", Operation::Skip).await.unwrap_err();
        let missing = SagaRejection::NoDefinition { version: 1 };
        assert_eq!(refused, SendError::Rejected(missing));
        saga.act("j", Operation::Force).await.unwrap();
        assert_eq!(
            saga.outcome("j", PATIENCE).await.unwrap().end,
            SagaEnd::Forced
        );
    });
    works.run(both(), async |node| {
        let saga = node.saga(&pausing(2, ""));
        saga.act("i", Operation::Retry).await.unwrap();
        assert_eq!(
            saga.outcome("i", PATIENCE).await.unwrap().end,
            SagaEnd::Completed
        );
        assert_eq!(acted(node, "i").await, ["a", "old"]);
        assert_eq!(acted(node, "j").await, ["a"]);
        node.caught_up().await.unwrap();
        assert!(node.parked().is_empty(), "who has ended wants nothing");
    });
}

/// Attacks: a saga of many steps taken for reactors that answer each other in a loop.
#[test]
fn a_long_saga_is_no_loop() {
    const STEPS: usize = 100;
    let long = || {
        let names: [&'static str; STEPS] =
            std::array::from_fn(|step| &*Box::leak(format!("step {step}").into_boxed_str()));
        let steps = names.into_iter().map(|name| Step::named(name, act(0)));
        steps.fold(Saga::named("long"), |saga, step| saga.step(step))
    };
    let application = Application::new("works").entity::<Part>().saga(long());
    Works::new(7).run(application, async |node| {
        let saga = node.saga(&long());
        saga.start("l", plan("p", ["a", "", "", ""])).await.unwrap();
        let outcome = saga.outcome("l", PATIENCE).await.unwrap();
        assert_eq!(outcome.end, SagaEnd::Completed);
        assert_eq!(acted(node, "p").await.len(), STEPS);
    });
}

#[test]
fn mistakes_in_a_definition_are_found_at_the_start() {
    let start = |application: Application| {
        let works = Works::new(6);
        let world = works.simulation.world();
        let opened = application.open_on(works.engine.clone(), world, NodeOptions::default());
        works.simulation.run(opened).map(drop).unwrap_err()
    };
    let empty = Application::new("works")
        .entity::<Part>()
        .saga(Saga::<Plan>::named("empty"));
    assert_eq!(start(empty), StartError::NoSteps("empty".into()));
    let nobody = Application::new("works").saga(working());
    assert!(matches!(start(nobody), StartError::NobodyAsked { .. }));
    let twice = works().saga(working());
    assert_eq!(start(twice), StartError::TwoSagas("working".into(), 1));
    let same = Saga::named("same")
        .step(Step::named("one", act(0)))
        .step(Step::named("one", act(1)));
    let same = Application::new("works").entity::<Part>().saga(same);
    assert_eq!(
        start(same),
        StartError::TwoSteps("same".into(), "one".into())
    );
}

/// Attacks: all done or all undone, each command once, over processes that die at random moments.
#[test]
fn sagas_end_once_over_crashes_at_any_moment() {
    for seed in 0..40 {
        let works_of = Works::new(seed);
        let (simulation, engine) = (&works_of.simulation, works_of.engine.clone());
        let world = simulation.world();
        let mut begun = Vec::new();
        for life in 0..6 {
            let process = simulation.process(&format!("life {life}"));
            simulation.run(async {
                let opened =
                    works().open_on(engine.clone(), process.world(), NodeOptions::default());
                let node = opened.await.unwrap();
                for n in 0..world.random() % 4 {
                    let id = format!("{life}-{n}");
                    let last = ["d", "refuses"][(world.random() % 2) as usize];
                    let start = node.saga(&working());
                    let start = start.start(&id, plan(&id, ["a", "b", "c", last]));
                    if start.await.is_ok() {
                        begun.push((id, last));
                    }
                }
                let millis = world.random() % 40;
                world.sleep(Duration::from_millis(millis)).await;
                std::mem::forget(node);
            });
            process.kill();
        }
        works_of.run(works(), async |node| {
            for (id, last) in &begun {
                let end = ends(node, id).await.end;
                let done = acted(node, id).await;
                let expected = match *last {
                    "d" => (SagaEnd::Completed, 4),
                    _ => (SagaEnd::Undone, 6),
                };
                assert_eq!((end, done.len()), expected, "seed {seed}, {id}: {done:?}");
            }
            node.caught_up().await.unwrap();
            assert!(node.sagas("", 100).is_empty());
            assert!(node.parked().is_empty());
        });
    }
}

/// Attacks: who only looks at a log must see what its owner sees.
#[test]
fn a_log_that_somebody_else_owns_tells_of_its_sagas() {
    let slow = || {
        Saga::named("slow")
            .step(Step::named("first", act(0)).undo(undo(0)))
            .step(Step::pause("night", Duration::from_secs(3600)))
            .step(Step::named("last", act(3)))
    };
    let application = || works().saga(slow());
    let works = Works::new(7);
    let engine = works.engine.clone();
    works.run(application(), async |node| {
        let saga = node.saga(&slow());
        for id in ["a", "b-1", "c"] {
            let plan = plan(id, ["a", "b", "c", "d"]);
            saga.start(id, plan).await.unwrap();
        }
        node.caught_up().await.unwrap();
        saga.act("c", Operation::Force).await.unwrap();
        node.caught_up().await.unwrap();
        let inspector = application().inspector(engine).unwrap();
        assert_eq!(inspector.saga_names(), ["slow", "working"]);
        assert_eq!(node.saga_names(), ["slow", "working"]);
        let live = inspector.sagas().await.unwrap();
        assert_eq!(live.len(), 2);
        // As values: a row of the view has its data in another order.
        let value = |live: &Vec<everfold::LiveSaga>| serde_json::to_value(live).unwrap();
        assert_eq!(value(&live), value(&node.sagas("", 10)));
        assert_eq!(live[0].status.timers.len(), 1);
        for id in ["a", "b-1", "c", "nobody"] {
            let seen = inspector.saga("slow", id).await.unwrap();
            assert_eq!(seen, saga.status(id).await.unwrap(), "{id}");
        }
        let part = inspector.saga("part", "a").await.unwrap_err();
        assert_eq!(part, everfold::CommandError::UnknownEntity("part".into()));
    });
}
