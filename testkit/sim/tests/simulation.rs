//! A simulation repeats itself, and does what a world does.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everfold_engine::World;
use everfold_engine::world::{Machine, Progress};
use everfold_sim::{Cause, Settings, Simulation, yield_now};
use tokio::sync::{Notify, mpsc, oneshot, watch};

const MILLI: Duration = Duration::from_millis(1);

/// Tasks, timers, jobs and a machine that all talk to each other.
fn busy_run(seed: u64) -> (Vec<u8>, u64, Vec<u64>) {
    let simulation = Simulation::new(seed);
    let world = simulation.world();
    let (sender, mut receiver) = mpsc::unbounded_channel();
    for task in 0..5u64 {
        let (world, sender) = (world.clone(), sender.clone());
        world.clone().spawn(
            "talker",
            Box::pin(async move {
                for _ in 0..10 {
                    world.sleep(MILLI * (world.random() % 3) as u32).await;
                    yield_now().await;
                    let (job_sender, done) = oneshot::channel();
                    world.block(
                        "job",
                        Box::new(move || {
                            let _ = job_sender.send(task);
                        }),
                    );
                    let _ = sender.send(done.await.unwrap());
                }
            }),
        );
    }
    drop(sender);
    let heard = simulation.run(async {
        let mut heard = Vec::new();
        while let Some(task) = receiver.recv().await {
            simulation.note(task);
            heard.push(task);
        }
        heard
    });
    (simulation.trace(), simulation.trace_hash(), heard)
}

#[test]
fn two_runs_of_a_seed_are_equal_byte_by_byte() {
    for seed in 0..20 {
        assert_eq!(busy_run(seed), busy_run(seed));
    }
}

/// Its receivers are spread over several lists by a generator that has no seed.
#[test]
fn the_order_in_which_a_watch_wakes_makes_no_difference() {
    let trace = || {
        let simulation = Simulation::new(9);
        let (sender, receiver) = watch::channel(0);
        for _ in 0..30 {
            let mut receiver = receiver.clone();
            let heard = async move { while receiver.changed().await.is_ok() {} };
            simulation.world().spawn("receiver", Box::pin(heard));
        }
        simulation.settle();
        for value in 1..5 {
            sender.send_replace(value);
            simulation.settle();
        }
        simulation.trace()
    };
    assert!((0..10).all(|_| trace() == trace()));
}

#[test]
fn different_seeds_differ() {
    let (trace, hash, heard) = busy_run(1);
    let (other_trace, other_hash, other_heard) = busy_run(2);
    assert!(trace != other_trace && hash != other_hash && heard != other_heard);
}

#[test]
fn timers_end_in_order_and_no_real_time_passes() {
    let simulation = Simulation::new(3);
    let world = simulation.world();
    let ended = Arc::new(Mutex::new(Vec::new()));
    for hours in [5u32, 1, 4, 2, 3] {
        let (world, ended) = (world.clone(), ended.clone());
        world.clone().spawn(
            "sleeper",
            Box::pin(async move {
                let duration = Duration::from_secs(3600) * hours;
                world.sleep(duration).await;
                assert_eq!(world.elapsed(), duration);
                ended.lock().unwrap().push(hours);
            }),
        );
    }
    let begin = world.now();
    simulation.run(world.sleep(Duration::from_secs(24 * 3600)));
    assert_eq!(*ended.lock().unwrap(), [1, 2, 3, 4, 5]);
    assert_eq!(world.now().0 - begin.0, 24 * 3_600_000_000);
}

#[test]
fn a_dropped_timer_holds_nothing_up() {
    let simulation = Simulation::new(3);
    let world = simulation.world();
    drop(world.sleep(MILLI));
    simulation.run(async {
        tokio::select! {
            biased;
            () = world.sleep(MILLI) => {}
            () = world.sleep(Duration::from_secs(9)) => unreachable!(),
        }
        world.sleep(MILLI).await;
    });
    assert_eq!(simulation.elapsed(), MILLI * 2);
}

/// Takes its work in three steps, and looks at its queue in the first of them only.
struct Slow {
    queue: Arc<Mutex<Vec<oneshot::Sender<()>>>>,
    held: Vec<oneshot::Sender<()>>,
    phase: u32,
    ends: bool,
}

impl Machine for Slow {
    fn step(&mut self) -> Progress {
        self.phase = (self.phase + 1) % 3;
        match self.phase {
            1 => {
                self.held.append(&mut self.queue.lock().unwrap());
                Progress::Busy
            }
            2 => Progress::Busy,
            _ => {
                let idle = self.held.is_empty();
                for waiting in self.held.drain(..) {
                    let _ = waiting.send(());
                }
                match (idle, self.ends) {
                    (false, true) => Progress::Finished,
                    _ => Progress::Idle,
                }
            }
        }
    }
}

#[test]
fn a_poke_between_any_two_steps_of_a_machine_is_not_lost() {
    for seed in 0..200 {
        let simulation = Simulation::new(seed);
        let world = simulation.world();
        let queue = Arc::new(Mutex::new(Vec::new()));
        let machine = Slow {
            queue: queue.clone(),
            held: Vec::new(),
            phase: 0,
            ends: false,
        };
        let poke = world.drive("slow", Box::new(machine));
        simulation.run(async {
            for _ in 0..5 {
                for _ in 0..world.random() % 6 {
                    yield_now().await;
                }
                let (sender, receiver) = oneshot::channel();
                queue.lock().unwrap().push(sender);
                poke.poke();
                receiver.await.unwrap();
            }
        });
    }
}

#[test]
fn a_finished_machine_is_dropped_and_its_poke_does_nothing() {
    let simulation = Simulation::new(1);
    let (sender, receiver) = oneshot::channel();
    let queue = Arc::new(Mutex::new(vec![sender]));
    let machine = Slow {
        queue: queue.clone(),
        held: Vec::new(),
        phase: 0,
        ends: true,
    };
    let poke = simulation.world().drive("slow", Box::new(machine));
    simulation.run(receiver).unwrap();
    simulation.settle();
    assert_eq!(Arc::strong_count(&queue), 1);
    poke.poke();
    simulation.settle();
}

#[test]
fn a_deadlock_is_reported_with_the_seed_and_what_rests() {
    let simulation = Simulation::new(4711);
    let notify = Arc::new(Notify::new());
    let waiting = notify.clone();
    simulation
        .world()
        .spawn("waiter", Box::pin(async move { waiting.notified().await }));
    let stuck = simulation.try_run(notify.notified()).unwrap_err();
    assert_eq!(stuck.seed, 4711);
    assert!(stuck.to_string().contains("4711"), "{stuck}");
    assert!(stuck.to_string().contains("waiter"), "{stuck}");
    assert!(matches!(stuck.cause, Cause::Deadlock(_)));
}

#[test]
fn a_spinning_task_ends_at_the_limit_of_steps() {
    let settings = Settings {
        steps: 1000,
        ..Settings::default()
    };
    let simulation = Simulation::with(1, settings);
    let spin = async {
        loop {
            yield_now().await;
        }
    };
    let stuck = simulation.try_run::<()>(spin).unwrap_err();
    assert_eq!(stuck.cause, Cause::Steps(1000));
    assert_eq!(simulation.run(async { 5 }), 5);
}

#[test]
fn settling_moves_no_clock_and_advancing_stops_where_told() {
    let simulation = Simulation::new(1);
    let world = simulation.world();
    let count = Arc::new(AtomicU32::new(0));
    let (ticker, counted) = (world.clone(), count.clone());
    world.spawn(
        "ticker",
        Box::pin(async move {
            loop {
                counted.fetch_add(1, Relaxed);
                ticker.sleep(MILLI * 10).await;
            }
        }),
    );
    simulation.settle();
    assert_eq!(
        (count.load(Relaxed), simulation.elapsed()),
        (1, Duration::ZERO)
    );
    simulation.advance(MILLI * 25);
    assert_eq!((count.load(Relaxed), simulation.elapsed()), (3, MILLI * 25));
}

#[test]
fn with_a_tick_time_passes_while_there_is_work() {
    let settings = Settings {
        tick: MILLI,
        ..Settings::default()
    };
    let simulation = Simulation::with(1, settings);
    let world = simulation.world();
    let done = Arc::new(AtomicU32::new(0));
    let (sleeper, ended) = (world.clone(), done.clone());
    world.spawn(
        "sleeper",
        Box::pin(async move {
            sleeper.sleep(MILLI * 10).await;
            ended.store(1, Relaxed);
        }),
    );
    simulation.run(async {
        while done.load(Relaxed) == 0 {
            yield_now().await;
        }
    });
    assert!(simulation.elapsed() >= MILLI * 10);
}

#[test]
fn a_killed_process_drops_what_it_held_and_runs_no_more() {
    let simulation = Simulation::new(1);
    let node = simulation.process("node");
    let world = node.world();
    let count = Arc::new(AtomicU32::new(0));
    let start = |world: Arc<dyn World>, count: Arc<AtomicU32>| {
        world.clone().spawn(
            "ticker",
            Box::pin(async move {
                loop {
                    count.fetch_add(1, Relaxed);
                    world.sleep(MILLI).await;
                }
            }),
        );
    };
    start(world.clone(), count.clone());
    simulation.advance(MILLI * 5);
    node.kill();
    let seen = count.load(Relaxed);
    start(world, count.clone());
    simulation.advance(MILLI * 5);
    assert_eq!(count.load(Relaxed), seen);
    assert_eq!(Arc::strong_count(&count), 1);
}

#[test]
fn a_process_may_kill_itself() {
    let simulation = Simulation::new(1);
    let node = simulation.process("node");
    let (sender, receiver) = oneshot::channel::<()>();
    let suicide = node.clone();
    node.world().spawn(
        "end",
        Box::pin(async move {
            let _held = sender;
            suicide.kill();
            std::future::pending().await
        }),
    );
    assert!(simulation.run(receiver).is_err());
}

#[test]
fn a_frozen_process_stands_still_while_time_goes_on() {
    let simulation = Simulation::new(1);
    let node = simulation.process("node");
    let world = node.world();
    let woken = Arc::new(Mutex::new(None));
    let seen = woken.clone();
    world.clone().spawn(
        "sleeper",
        Box::pin(async move {
            world.sleep(MILLI * 10).await;
            *seen.lock().unwrap() = Some(world.elapsed());
        }),
    );
    simulation.settle();
    node.freeze();
    simulation.advance(MILLI * 50);
    assert_eq!(*woken.lock().unwrap(), None);
    node.thaw();
    simulation.settle();
    assert_eq!(*woken.lock().unwrap(), Some(MILLI * 50));
}

#[test]
fn a_stepped_clock_leaves_elapsed_time_alone() {
    let simulation = Simulation::new(1);
    let node = simulation.process("node");
    let (world, main) = (node.world(), simulation.world());
    let begin = world.now();
    node.step_clock(-5_000_000);
    assert_eq!(world.now().0, begin.0 - 5_000_000);
    assert_eq!(main.now(), begin);
    assert_eq!(world.elapsed(), Duration::ZERO);
}

/// Attacks: what a run has proven can be told.
#[test]
fn places_that_were_reached_are_counted() {
    let simulation = Simulation::new(1);
    let (first, second) = (simulation.world(), simulation.process("second").world());
    first.reached("here");
    second.reached("here");
    second.reached("there");
    let reached: Vec<_> = simulation.reached().into_iter().collect();
    assert_eq!(reached, [("here", 2), ("there", 1)]);
}
