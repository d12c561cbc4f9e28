//! The owner loop against a plain model, in a seeded world, over an engine that goes wrong.
//!
//! Clients send commands with ids and repeat what is not known to be done. Afterwards the log is the
//! order of things; the model replays it and every answer must be the one it gives. Nodes are closed
//! and taken over meanwhile, and everything that was answered is asked again.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "in a test a fault is a panic"
)]

mod bank;
mod faulty;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bank::*;
use everfold::engine::engine::{Engine, ReadLimit};
use everfold::engine::memory::Memory;
use everfold::engine::record::Kind;
use everfold::engine::world::new_id;
use everfold::engine::{Offset, Record, Uuid, World};
use everfold::{
    Application, CommandError, Node, NodeOptions, PartitionPolicy, SendError, SnapshotPolicy,
    StateOptions, StateStore,
};
use everfold_sim::Simulation;
use faulty::{Faulty, Odds};

const PARTITIONS: u16 = 3;
const ACCOUNTS: u64 = 4;

/// One answered command, and when it was asked and answered.
struct Answered {
    id: Uuid,
    account: u64,
    /// Positive: a deposit.
    amount: i64,
    answer: Result<i64, Refused>,
    asked: u64,
    answered: u64,
}

struct Read {
    account: u64,
    version: u64,
    balance: i64,
    asked: u64,
}

#[derive(Default)]
struct History {
    clock: u64,
    answered: Vec<Answered>,
    reads: Vec<Read>,
    failed: u64,
}

fn tick(history: &Mutex<History>) -> u64 {
    let mut history = history.lock().unwrap();
    history.clock += 1;
    history.clock
}

async fn client(node: &Node, world: Arc<dyn World>, history: Arc<Mutex<History>>, commands: u64) {
    for _ in 0..commands {
        let account = world.random() % ACCOUNTS;
        let entity = node.entity::<Account>(format!("account {account}"));
        if world.random().is_multiple_of(4) {
            let asked = tick(&history);
            if let Ok((balance, version)) = entity.read(|state, v| (state.balance, v)).await {
                history.lock().unwrap().reads.push(Read {
                    account,
                    version,
                    balance,
                    asked,
                });
            }
            continue;
        }
        let id = new_id(world.as_ref());
        let amount = (world.random() % 12) as i64 - 5;
        let asked = tick(&history);
        let answer = ask(node, world.as_ref(), &history, (id, account, amount)).await;
        // The answer has left: what it rests on must be in the log by now.
        assert!(
            find(node.engine().as_ref(), id).await.is_some(),
            "{id} is not in the log"
        );
        let answered = tick(&history);
        let done = Answered {
            id,
            account,
            amount,
            answer,
            asked,
            answered,
        };
        history.lock().unwrap().answered.push(done);
    }
}

/// Sends a command until it is answered.
async fn ask(
    node: &Node,
    world: &dyn World,
    history: &Mutex<History>,
    (id, account, amount): (Uuid, u64, i64),
) -> Result<i64, Refused> {
    let entity = node.entity::<Account>(format!("account {account}"));
    loop {
        let answer = if amount >= 0 {
            let deposit = Deposit { amount };
            entity.send(deposit).id(id).await.map(|sent| sent.reply)
        } else {
            let withdraw = Withdraw { amount: -amount };
            entity.send(withdraw).id(id).await.map(|sent| sent.reply)
        };
        match answer {
            Ok(reply) => return Ok(reply),
            Err(SendError::Rejected(refused)) => return Err(refused),
            Err(SendError::Failed(CommandError::Unknown(_) | CommandError::Unavailable { .. })) => {
                history.lock().unwrap().failed += 1;
                world
                    .sleep(Duration::from_millis(world.random() % 400))
                    .await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Everything that was answered is answered the same again.
async fn ask_again(node: &Node, world: &dyn World, history: &Mutex<History>) {
    let answered: Vec<_> = {
        let history = history.lock().unwrap();
        let of = |a: &Answered| ((a.id, a.account, a.amount), a.answer.clone());
        history.answered.iter().map(of).collect()
    };
    for (command, answer) in answered {
        assert_eq!(ask(node, world, history, command).await, answer);
    }
}

async fn find(engine: &dyn Engine, id: Uuid) -> Option<Arc<Record>> {
    log(engine)
        .await
        .into_iter()
        .flatten()
        .find(|record| record.portable.command == Some(id) && record.local.reply.is_some())
}

async fn log(engine: &dyn Engine) -> Vec<Vec<Arc<Record>>> {
    let mut partitions = Vec::new();
    for partition in engine.identity().layout.all() {
        let (mut records, mut after) = (Vec::new(), Offset(0));
        loop {
            let chunk = engine
                .read(partition, after, ReadLimit::default())
                .await
                .unwrap();
            if chunk.next == after {
                break;
            }
            after = chunk.next;
            records.extend(chunk.records);
        }
        partitions.push(records);
    }
    partitions
}

/// Hardly anything stays in memory, and everything is stored soon.
fn pressed() -> StateOptions {
    StateOptions {
        memory_bytes: 1,
        replay_on_return: 2,
        snapshots: SnapshotPolicy {
            events: 5,
            ..SnapshotPolicy::default()
        },
        partitions: PartitionPolicy {
            records: 4,
            bytes: u64::MAX,
        },
        ..StateOptions::default()
    }
}

/// Runs one seed; the trace, and how many faults and repeats it had.
fn run(seed: u64, odds: Odds, index: bool) -> (Vec<u8>, u64, u64) {
    run_with(seed, odds, index, StateOptions::default(), 1)
}

/// The same in several lives of a node: every second one ends in order, the others are taken over.
fn run_with(
    seed: u64,
    odds: Odds,
    index: bool,
    state: StateOptions,
    lives: u64,
) -> (Vec<u8>, u64, u64) {
    let simulation = Simulation::new(seed);
    let world = simulation.world();
    let memory = Memory::new(world.clone(), PARTITIONS).unwrap();
    let memory = if index {
        memory
    } else {
        memory.without_index()
    };
    let engine = Arc::new(Faulty::new(Arc::new(memory), world.clone(), odds));
    let history = Arc::new(Mutex::new(History::default()));
    let mut failed = 0;
    simulation.run(async {
        let open = async || {
            let options = NodeOptions {
                state,
                ..NodeOptions::default()
            };
            let application = Application::new("bank")
                .entity::<Account>()
                .view(turnover());
            let node = application.open_on(engine.clone(), world.clone(), options);
            Arc::new(node.await.unwrap())
        };
        let mut node = open().await;
        for life in 1..lives {
            client(&node, world.clone(), history.clone(), 20).await;
            if (seed + life).is_multiple_of(2) {
                node.close().await;
                node = open().await;
            } else {
                let before = std::mem::replace(&mut node, open().await);
                before.close().await;
            }
            ask_again(&node, world.as_ref(), &history).await;
        }
        let clients: Vec<_> = (0..5)
            .map(|_| {
                let (node, world, history) = (node.clone(), world.clone(), history.clone());
                let (done, over) = tokio::sync::oneshot::channel();
                let inner = world.clone();
                let task = async move {
                    client(&node, inner, history, 25).await;
                    let _ = done.send(());
                };
                world.spawn("client", Box::pin(task));
                over
            })
            .collect();
        for over in clients {
            over.await.unwrap();
        }
        engine.now(Odds::default());
        ask_again(&node, world.as_ref(), &history).await;
        let position = node.caught_up().await.unwrap();
        let told = std::mem::take(&mut *history.lock().unwrap());
        failed = told.failed;
        check(engine.as_ref(), &told).await;
        check_view(&node, engine.as_ref(), &position).await;
        if state.memory_bytes == 1 {
            let owners = node.owners().await.unwrap();
            assert!(owners.iter().any(|owner| owner.passivations > 0));
        }
        node.close().await;
    });
    (
        simulation.trace(),
        engine.faults.load(std::sync::atomic::Ordering::Relaxed),
        failed,
    )
}

/// Replays the log in the plain model and compares every answer with it.
async fn check(engine: &dyn Engine, history: &History) {
    let mut states: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    // Where in the log each command was decided: (version or outcome offset, version after).
    let mut decided: BTreeMap<Uuid, (Offset, u64, i64)> = BTreeMap::new();
    for records in log(engine).await {
        let mut link = everfold::engine::record::Link::default();
        for record in records {
            assert!(record.kind != Kind::Claim || record.portable.command.is_none());
            if engine.identity().chained && record.kind != Kind::Claim {
                assert_eq!(
                    record.link_after(link),
                    record.local.link,
                    "the chain is broken"
                );
            }
            link = record.local.link;
            let balances = states
                .entry(record.portable.entity.id.to_string())
                .or_insert(vec![0]);
            let balance = *balances.last().unwrap();
            if record.kind == Kind::Event {
                assert_eq!(
                    record.local.version,
                    balances.len() as u64,
                    "versions are dense"
                );
                let event = <AccountEvent as everfold::Event>::decode(
                    &record.portable.event_type,
                    1,
                    &record.portable.payload,
                );
                balances.push(match event.unwrap() {
                    AccountEvent::Deposited { amount } => balance + amount,
                    AccountEvent::Withdrawn { amount } => balance - amount,
                    AccountEvent::Mirrored { .. } => balance,
                });
                assert!(*balances.last().unwrap() >= 0, "an account went below zero");
            }
            if let Some(id) = record.portable.command {
                assert!(seen.insert(id), "command {id} was decided twice");
                let version = balances.len() as u64 - 1;
                decided.insert(id, (record.local.offset, version, balance));
            }
        }
    }
    for answered in &history.answered {
        let (_, _, balance) = decided[&answered.id];
        let expected = match answered.amount {
            amount if amount >= 0 => Ok(balance + amount),
            amount if balance >= -amount => Ok(balance + amount),
            _ => Err(Refused::TooLittle { balance }),
        };
        assert_eq!(answered.answer, expected, "command {}", answered.id);
    }
    // Real time: what was answered before something was asked was decided before it.
    for early in &history.answered {
        let (early_offset, early_version, _) = decided[&early.id];
        for late in history
            .answered
            .iter()
            .filter(|late| late.account == early.account)
        {
            if early.answered < late.asked {
                assert!(
                    early_offset < decided[&late.id].0,
                    "answers contradict real time"
                );
            }
        }
        for read in history
            .reads
            .iter()
            .filter(|read| read.account == early.account)
        {
            if early.answered < read.asked {
                assert!(
                    early_version <= read.version,
                    "a read missed an answered command"
                );
            }
        }
    }
    for read in &history.reads {
        let balances = &states[&format!("account {}", read.account)];
        assert_eq!(
            balances[read.version as usize], read.balance,
            "a read saw what never was"
        );
    }
}

/// The view equals a fresh fold of the log.
async fn check_view(node: &Node, engine: &dyn Engine, position: &everfold::engine::Position) {
    let mut fresh: BTreeMap<String, Turnover> = BTreeMap::new();
    for record in log(engine)
        .await
        .into_iter()
        .flatten()
        .filter(|r| r.kind == Kind::Event)
    {
        let row = fresh
            .entry(record.portable.entity.id.to_string())
            .or_default();
        let amount: serde_json::Value = serde_json::from_slice(&record.portable.payload).unwrap();
        let amount = amount["amount"].as_i64().unwrap();
        match record.portable.event_type.as_ref() as &str {
            "Deposited" => {
                row.deposits += 1;
                row.deposited += amount;
            }
            _ => row.withdrawn += amount,
        }
    }
    let rows = node
        .view(&turnover())
        .select(|_, _| true)
        .after(position)
        .await
        .unwrap();
    assert_eq!(rows.into_iter().collect::<BTreeMap<_, _>>(), fresh);
}

/// More of them on request: `EVERFOLD_SEEDS=1000`.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    let asked = std::env::var("EVERFOLD_SEEDS")
        .ok()
        .and_then(|seeds| seeds.parse().ok());
    0..asked.unwrap_or(usual)
}

const ALL: Odds = Odds {
    full: 8,
    too_many: 25,
    lost_answer: 8,
    lost_append: 8,
    failed_put: 20,
    lost_put: 20,
    lie: 0,
};

#[test]
fn answers_agree_with_the_model_whatever_the_engine_does() {
    let (mut faults, mut repeats) = (0, 0);
    for seed in seeds(60) {
        let (_, faulted, repeated) = run(seed, ALL, seed % 2 == 0);
        faults += faulted;
        repeats += repeated;
    }
    assert!(
        faults > 200 && repeats > 50,
        "the faults did not happen: {faults} and {repeats}"
    );
}

#[test]
fn answers_agree_with_the_model_on_a_sound_engine() {
    for seed in 100..120 {
        run(seed, Odds::default(), seed % 2 == 0);
    }
}

/// Attacks: what leaves memory is what comes back, and what is stored of a partition knows every id.
#[test]
fn answers_agree_with_the_model_when_hardly_anything_stays_in_memory() {
    for seed in seeds(40) {
        run_with(seed, ALL, seed % 2 == 0, pressed(), 3);
    }
    for seed in 200..210 {
        run_with(seed, Odds::default(), seed % 2 == 0, pressed(), 6);
    }
}

#[test]
fn answers_agree_with_the_model_when_nothing_is_stored() {
    for seed in seeds(20) {
        let options = StateOptions {
            store: StateStore::Memory,
            ..pressed()
        };
        run_with(seed, ALL, seed % 2 == 0, options, 3);
    }
}

#[test]
fn two_runs_of_a_seed_give_the_same_trace_byte_for_byte() {
    for seed in [7, 8, 9] {
        let first = run(seed, ALL, true).0;
        assert!(!first.is_empty());
        assert_eq!(first, run(seed, ALL, true).0, "seed {seed}");
    }
    assert_ne!(run(7, ALL, true).0, run(8, ALL, true).0);
}

/// The check itself is trusted because it catches an engine that acknowledges what it drops.
#[test]
fn an_engine_that_lies_is_caught() {
    let lying = Odds {
        lie: 20,
        ..Odds::default()
    };
    let caught = (0..10).any(|seed| {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed, lying, true))).is_err()
    });
    assert!(caught);
}
