//! Attacks on sagas: what must neither be done twice, nor be left done, nor be lost.

#![allow(clippy::unwrap_used, reason = "in a test a fault is a panic")]

mod part;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everfold::engine::World;
use everfold::engine::engine::*;
use everfold::prelude::*;
use everfold::{NodeOptions, Operation, SagaEnd, SagaRejection, SendError, StateOptions};
use part::{Act, Part, PartEvent, PartId, Works, acted, helpless, state};
use serde::{Deserialize, Serialize};

/// What panics as long as it is in here.
static BROKEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn breaks(what: &str) {
    BROKEN.lock().unwrap().insert(what.to_owned());
}

fn works(what: &str) {
    BROKEN.lock().unwrap().remove(what);
}

fn is_broken(what: &str) -> bool {
    BROKEN.lock().unwrap().contains(what)
}

impl Decide<Act> for Part {
    type Reply = usize;
    type Rejection = String;

    fn decide(&self, command: &Act, _: &Context) -> Decision<Self, Act> {
        let what = command.what.clone();
        assert!(!is_broken(&what), "{what} is broken");
        if what.contains("refuses") {
            return reject(what);
        }
        emit(PartEvent::Acted { what }).reply(self.done.len() + 1)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Plan {
    part: String,
}

fn plan(part: &str) -> Plan {
    let part = part.to_owned();
    Plan { part }
}

fn act(what: &'static str) -> everfold::Question<Plan, usize, String> {
    ask(move |plan: &Plan| {
        let what = what.to_owned();
        command::<Part, _>(PartId::from(plan.part.clone()), Act { what })
    })
}

fn application(sagas: Vec<Saga<Plan>>) -> Application {
    let parts = Application::new("works").entity::<Part>();
    sagas.into_iter().fold(parts, Application::saga)
}

const PATIENCE: Duration = Duration::from_secs(100_000);
const SECOND: Duration = Duration::from_secs(1);

/// Attacks: an instance that is begun once more, by a start that is repeated after a deployment,
/// goes on by the steps of the newest version.
#[test]
fn a_repeated_beginning_leaves_an_instance_with_its_definition() {
    let old = || {
        Saga::named("growing")
            .step(Step::named("first", act("a")).undo(act("undo a")))
            .step(Step::pause("night", Duration::from_secs(3600)))
            .step(Step::named("second", act("old")))
    };
    let new = || {
        Saga::named("growing")
            .version(2)
            .step(Step::named("other", act("new")))
    };
    let works = Works::new(1);
    works.run(application(vec![old()]), async |node| {
        node.saga(&old()).start("g", plan("p")).await.unwrap();
        node.caught_up().await.unwrap();
    });
    works.run(application(vec![old(), new()]), async |node| {
        let saga = node.saga(&new());
        saga.start("g", plan("p")).await.unwrap();
        let other = saga.start("g", plan("q")).await.unwrap_err();
        assert_eq!(other, SendError::Rejected(SagaRejection::BegunDifferently));
        node.caught_up().await.unwrap();
        assert_eq!(acted(node, "p").await, ["a"]);
        let outcome = saga.outcome("g", PATIENCE).await.unwrap();
        assert_eq!(outcome.end, SagaEnd::Completed);
        assert_eq!(acted(node, "p").await, ["a", "old"]);
    });
    works.run(application(vec![new()]), async |node| {
        // Whether its definition is there does not matter.
        node.saga(&new()).start("g", plan("p")).await.unwrap();
    });
}

/// Attacks: what was done stays done, though the saga says that everything is undone. The step
/// was carried out, but what its answer means is not known.
#[test]
fn what_a_person_calls_off_is_undone_if_it_may_have_been_done() {
    let saga = || {
        let taken = act("take").replied(|_, _| {
            assert!(!is_broken("judging"), "what does this mean?");
            help("look at it")
        });
        Saga::named("doubtful").step(Step::named("take", taken).undo(act("give back")))
    };
    Works::new(2).run(application(vec![saga()]), async |node| {
        for (id, broken) in [("panics", true), ("asks", false)] {
            if broken {
                breaks("judging");
            }
            node.saga(&saga()).start(id, plan(id)).await.unwrap();
            helpless(node, &saga(), id).await;
            works("judging");
            let doubtful = node.saga(&saga());
            doubtful.act(id, Operation::Compensate).await.unwrap();
            let outcome = doubtful.outcome(id, PATIENCE).await.unwrap();
            assert_eq!(outcome.end, SagaEnd::Undone);
            assert_eq!(acted(node, id).await, ["take", "give back"]);
        }
    });
}

/// Attacks: a step that was not answered in time may be carried out later, whatever the saga makes of
/// the silence: it is undone behind all its commands.
#[test]
fn a_step_that_was_not_answered_in_time_is_undone_whatever_that_means() {
    type Means = fn(&mut Plan) -> everfold::Next;
    let again: Means = |_| again("slow");
    let helped: Means = |_| help("slow");
    let failed: Means = |_| fail("slow");
    let sagas: [(&'static str, u32, Means, usize); 4] = [
        ("once", 1, again, 1),
        ("often", 3, again, 3),
        ("helped", 3, helped, 1),
        ("failed", 3, failed, 1),
    ];
    for (name, attempts, means, commands) in sagas {
        let late = Step::named("take", act("take"))
            .undo(act("give back"))
            .attempts(attempts, SECOND)
            .within(SECOND)
            .timed_out(means);
        let mut played = everfold::testing::saga(Saga::named(name).step(late))
            .begins(plan("p"))
            .passes(Duration::from_secs(1000));
        if name == "helped" {
            played = played.needs_help("slow").operated(Operation::Compensate);
        }
        let issued = |what: &str| {
            let what = what.to_owned();
            everfold::testing::issued::<Part>("p", Act { what })
        };
        let mut asked = vec![issued("take"); commands];
        asked.push(issued("give back"));
        played = played.asks(asked);
        for reply in 0..=commands {
            played = played.replies("take", reply);
        }
        played.ends(SagaEnd::Undone);
    }
}

/// Attacks: once done, twice carried out. A command cannot be processed, the saga writes that down
/// and will send another; the process dies before the first one is stored as finished, and then
/// the first could be processed after all.
#[test]
fn a_command_that_was_given_up_is_not_sent_again_after_a_crash() {
    let saga = || {
        let fragile = Step::named("take", act("fragile")).attempts(3, Duration::from_secs(2));
        Saga::named("given").step(fragile)
    };
    for seed in 0..10 {
        let works_of = Works::new(seed);
        let simulation = &works_of.simulation;
        let process = simulation.process("first");
        breaks("fragile");
        simulation.run(async {
            let opened = application(vec![saga()]);
            let opened = opened.open_on(
                works_of.engine.clone(),
                process.world(),
                NodeOptions::default(),
            );
            let node = opened.await.unwrap();
            node.saga(&saga()).start("g", plan("p")).await.unwrap();
            node.world().sleep(Duration::from_millis(300)).await;
            let status = node.saga(&saga()).status("g").await.unwrap().unwrap();
            assert!(status.steps[0].state.starts_with("to be tried again"));
            std::mem::forget(node);
        });
        process.kill();
        works("fragile");
        works_of.run(application(vec![saga()]), async |node| {
            let outcome = node.saga(&saga()).outcome("g", PATIENCE).await.unwrap();
            assert_eq!(outcome.end, SagaEnd::Completed);
            node.world().sleep(Duration::from_secs(60)).await;
            node.caught_up().await.unwrap();
            assert_eq!(acted(node, "p").await, ["fragile"], "seed {seed}");
            assert!(node.parked().is_empty(), "{:?}", node.parked());
        });
    }
}

fn pausing(version: u32) -> Saga<Plan> {
    Saga::named("pausing")
        .version(version)
        .step(Step::named("first", act("a")).undo(act("undo a")))
        .step(Step::pause("night", Duration::from_secs(3600)))
        .step(Step::named("second", act("b")))
}

/// Attacks: what is set aside of one instance goes when another one ends, whose id its own begins
/// with.
#[test]
fn the_end_of_an_instance_leaves_others_with_what_is_set_aside_for_them() {
    let works = Works::new(3);
    let process = works.simulation.process("first");
    let ids: Vec<String> = (0..20).map(|n| format!("i {n}")).collect();
    works.simulation.run(async {
        let opened = application(vec![pausing(1)]);
        let world = process.world();
        let opened = opened.open_on(works.engine.clone(), world, NodeOptions::default());
        let node = opened.await.unwrap();
        for id in ids.iter().map(String::as_str).chain(["i"]) {
            let pausing = node.saga(&pausing(1));
            // Nothing of it has been sent when the process dies.
            let _ = pausing.start(id, plan(id)).await;
        }
        std::mem::forget(node);
    });
    process.kill();
    works.run(application(vec![pausing(2)]), async |node| {
        node.world().sleep(Duration::from_secs(5000)).await;
        let saga = node.saga(&pausing(2));
        for id in ids.iter().map(String::as_str).chain(["i"]) {
            assert_eq!(state(node, &pausing(2), id).await, "needs_help");
        }
        let others = || {
            let of_another = |key: &str| {
                key.strip_prefix("pausing-i ")
                    .is_some_and(|id| !id.starts_with("first"))
            };
            let parked = node.parked().into_iter().map(|it| it.key);
            let mut others: Vec<String> = parked.filter(|key| of_another(key)).collect();
            others.sort();
            others
        };
        let before = others();
        saga.act("i", Operation::Force).await.unwrap();
        node.caught_up().await.unwrap();
        assert_eq!(others(), before);
        assert!(before.len() >= ids.len());
    });
    works.run(application(vec![pausing(1), pausing(2)]), async |node| {
        for id in &ids {
            let saga = node.saga(&pausing(2));
            saga.act(id, Operation::Retry).await.unwrap();
            let outcome = saga.outcome(id, PATIENCE).await.unwrap();
            assert_eq!(outcome.end, SagaEnd::Completed);
            assert_eq!(acted(node, id).await, ["a", "b"]);
        }
        assert!(node.parked().is_empty());
    });
}

/// Attacks: an instance hangs for ever after a person has called it off, for what it waits for is
/// set aside.
#[test]
fn what_waited_for_its_definition_is_tried_again_by_every_operation() {
    for operation in [Operation::Retry, Operation::Skip, Operation::Compensate] {
        let works = Works::new(4);
        let process = works.simulation.process("first");
        works.simulation.run(async {
            let opened = application(vec![pausing(1)]);
            let world = process.world();
            let opened = opened.open_on(works.engine.clone(), world, NodeOptions::default());
            let node = opened.await.unwrap();
            node.saga(&pausing(1)).start("i", plan("i")).await.unwrap();
            std::mem::forget(node);
        });
        process.kill();
        works.run(application(vec![pausing(2)]), async |node| {
            helpless(node, &pausing(2), "i").await;
            node.world().sleep(Duration::from_secs(60)).await;
            assert_eq!(node.parked().len(), 1, "{:?}", node.parked());
        });
        works.run(application(vec![pausing(1), pausing(2)]), async |node| {
            let saga = node.saga(&pausing(2));
            saga.act("i", operation).await.unwrap();
            let end = saga.outcome("i", PATIENCE).await.unwrap().end;
            let (expected, done) = match operation {
                Operation::Compensate => (SagaEnd::Undone, ["a", "undo a"]),
                _ => (SagaEnd::Completed, ["a", "b"]),
            };
            assert_eq!(end, expected, "{operation}");
            assert_eq!(acted(node, "i").await, done, "{operation}");
            assert!(node.parked().is_empty());
        });
    }
}

/// An engine whose puts of handlers fail, or happen without an answer.
struct Forgetful {
    inner: Arc<dyn Engine>,
    world: Arc<dyn World>,
}

impl Engine for Forgetful {
    fn put(&self, put: Put) -> BoxFuture<'_, Result<Revision, PutError>> {
        Box::pin(async move {
            if !put.area.name.starts_with("reactor/") && !put.area.name.starts_with("view/") {
                return self.inner.put(put).await;
            }
            let dice = self.world.random() % 100;
            let lost = || Err(PutError::Unavailable("the connection broke".into()));
            if dice < 20 {
                return lost();
            }
            let put = self.inner.put(put).await;
            if dice < 40 { lost() } else { put }
        })
    }

    everfold::engine::forward! {
        identity limits coordinator claim renew release confirm append read safe_head wait indexes_entities read_entity revision get scan doctor durability close
    }
}

fn tangled() -> Saga<Plan> {
    let step = |what: &'static str, undo: &'static str| {
        Step::named(what, act(what))
            .undo(act(undo))
            .attempts(2, SECOND)
    };
    Saga::named("tangled")
        .step(step("a", "undo a"))
        .parallel([
            step("b", "undo b").within(Duration::from_secs(5)),
            step("tangle", "undo tangle"),
            Step::pause("pause", Duration::from_secs(2)),
        ])
        .step(step("c", "undo c").when(|plan| plan.part.ends_with('1')))
        .step(step("d", "undo d"))
        .deadline(Duration::from_secs(40))
}

/// Attacks: everything at once. Processes die, puts fail or lose their answers, entities leave
/// memory, steps break and work again, persons act in any state: whatever was done is done once,
/// and by the end all of it, or undone once.
#[test]
fn whatever_happens_all_is_done_once_or_undone() {
    for seed in 0..60 {
        let works_of = Works::new(seed);
        let (simulation, world) = (&works_of.simulation, works_of.simulation.world());
        let engine: Arc<dyn Engine> = Arc::new(Forgetful {
            inner: works_of.engine.clone(),
            world: world.clone(),
        });
        let options = || NodeOptions {
            state: StateOptions {
                memory_bytes: 1,
                ..StateOptions::default()
            },
            ..NodeOptions::default()
        };
        let mut ids: Vec<String> = Vec::new();
        for life in 0..5 {
            let process = simulation.process(&format!("life {life}"));
            simulation.run(async {
                let opened = application(vec![tangled()]);
                let node = opened.open_on(engine.clone(), process.world(), options());
                let node = node.await.unwrap();
                let saga = node.saga(&tangled());
                for n in 0..world.random() % 6 {
                    match world.random() % 6 {
                        0 => breaks("tangle"),
                        1 => works("tangle"),
                        2 if !ids.is_empty() => {
                            let id = &ids[world.random() as usize % ids.len()];
                            let operations =
                                [Operation::Retry, Operation::Compensate, Operation::Retry];
                            let operation = operations[world.random() as usize % 3];
                            let _ = saga.act(id, operation).await;
                        }
                        _ => {
                            let id = format!("{life}-{n}");
                            saga.start(&id, plan(&id)).await.unwrap();
                            saga.start(&id, plan(&id)).await.unwrap();
                            ids.push(id);
                        }
                    }
                    let millis = world.random() % 4000;
                    world.sleep(Duration::from_millis(millis)).await;
                }
                std::mem::forget(node);
            });
            process.kill();
        }
        works("tangle");
        works_of.run(application(vec![tangled()]), async |node| {
            let saga = node.saga(&tangled());
            for id in &ids {
                let mut end = saga.outcome(id, Duration::from_secs(100)).await;
                while end.is_err() {
                    let _ = saga.act(id, Operation::Retry).await;
                    end = saga.outcome(id, Duration::from_secs(100)).await;
                }
                let done = acted(node, id).await;
                let mut left = done.clone();
                left.retain(|what| !what.starts_with("undo"));
                let once: BTreeSet<String> = left.iter().cloned().collect();
                assert_eq!(once.len(), left.len(), "seed {seed}, {id}: {done:?}");
                let undone = done.iter().filter_map(|what| what.strip_prefix("undo "));
                for what in undone {
                    let place = left.iter().position(|it| it == what);
                    left.remove(place.unwrap_or_else(|| panic!("seed {seed}, {id}: {done:?}")));
                }
                left.sort();
                let expected: &[&str] = match end.unwrap().end {
                    SagaEnd::Completed if id.ends_with('1') => &["a", "b", "c", "d", "tangle"],
                    SagaEnd::Completed => &["a", "b", "d", "tangle"],
                    _ => &[],
                };
                assert_eq!(left, expected, "seed {seed}, {id}: {done:?}");
            }
            node.caught_up().await.unwrap();
            assert!(node.sagas("", 100).is_empty(), "seed {seed}");
            assert!(node.parked().is_empty(), "seed {seed}: {:?}", node.parked());
        });
    }
}

/// Attacks: a step that needs help holds up the undoing, and can only be skipped, or done after all.
#[test]
fn a_step_that_needs_help_can_be_called_off_while_its_saga_is_undone() {
    let issued = |what: &str| {
        let what = what.to_owned();
        everfold::testing::issued::<Part>("p", Act { what })
    };
    let left = Step::named("left", act("left").replied(|_, _| help("look")));
    let saga = Saga::named("both")
        .step(Step::named("first", act("first")).undo(act("undo first")))
        .parallel([
            left.undo(act("undo left")),
            Step::named("right", act("right")),
        ]);
    everfold::testing::saga(saga)
        .begins(plan("p"))
        .asks([issued("first")])
        .replies("first", 1usize)
        .asks([issued("left"), issued("right")])
        .replies("left", 2usize)
        .rejects("right", "no")
        .needs_help("look")
        .asks([])
        .operated(Operation::Compensate)
        .asks([issued("undo left"), issued("undo first")])
        .replies("left", 3usize)
        .replies("first", 4usize)
        .ends(SagaEnd::Undone);
}
