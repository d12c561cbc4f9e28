//! An application whose customers are rows of a table moves over to entities, while both run.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "in a test a fault is a panic"
)]

mod tables;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everfold::engine::engine::{Engine, ReadLimit};
use everfold::engine::memory::Memory;
use everfold::engine::record::Kind;
use everfold::engine::{Offset, Timestamp, World};
use everfold::prelude::*;
use everfold::{
    AdoptError, AdoptReport, CommandError, FirstEvents, Node, NodeOptions, RowOutcome, SendError,
};
use everfold_sim::Simulation;
use tables::{MOVE, OldCustomer, Tables, UPDATE};

#[derive(Key, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct CustomerId(String);

#[derive(Event, Clone, Debug, PartialEq)]
enum CustomerEvent {
    Opened { balance: i64 },
    Paid { amount: i64 },
}

#[derive(Entity, Default)]
#[entity(name = "customer", id = CustomerId, event = CustomerEvent)]
struct Customer {
    opened: bool,
    balance: i64,
}

impl Evolve for Customer {
    fn evolve(&mut self, event: &CustomerEvent) {
        match event {
            CustomerEvent::Opened { balance } => (self.opened, self.balance) = (true, *balance),
            CustomerEvent::Paid { amount } => self.balance += amount,
        }
    }
}

#[derive(Command)]
struct Pay {
    amount: i64,
}

impl Decide<Pay> for Customer {
    type Reply = i64;
    type Rejection = String;

    fn decide(&self, command: &Pay, context: &Context) -> Decision<Self, Pay> {
        if !self.opened {
            return reject("not here yet".to_owned());
        }
        let (amount, balance) = (command.amount, self.balance + command.amount);
        let update = Statement::new(UPDATE)
            .with(context.entity_id())
            .with(balance);
        emit(CustomerEvent::Paid { amount })
            .beside(update)
            .reply(balance)
    }
}

const CREATED: Timestamp = Timestamp(1_000_000_000_000_000);

fn first(key: &str, row: OldCustomer) -> Result<FirstEvents<Customer>, String> {
    if row.balance < 0 {
        return Err("a balance below zero".into());
    }
    let opened = CustomerEvent::Opened {
        balance: row.balance,
    };
    let moved = Statement::new(MOVE).with(key).with(row.version);
    let id = CustomerId::from(key.to_owned());
    Ok(FirstEvents::of(id, emit(opened).beside(moved)).at(CREATED))
}

/// Seven rows at a time, of those that have not moved.
async fn page(
    tables: Arc<Tables>,
    after: Option<String>,
) -> Result<Vec<(String, OldCustomer)>, String> {
    let rows = tables.contents().await.customers;
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let left = rows
        .range((from, Bound::Unbounded))
        .filter(|(_, row)| !row.moved);
    Ok(left.map(|(key, row)| (key.clone(), *row)).take(7).collect())
}

async fn open(engine: Arc<dyn Engine>, world: &Arc<dyn World>) -> Arc<Node> {
    let application = Application::new("shop").entity::<Customer>();
    let node = application.open_on(engine, world.clone(), NodeOptions::default());
    Arc::new(node.await.unwrap())
}

async fn fill(tables: &Tables, customers: i64) {
    let fill = |number: i64| {
        let balance = number;
        let row = OldCustomer {
            balance,
            ..OldCustomer::default()
        };
        (format!("c-{number:04}"), row)
    };
    let rows = (0..customers).map(fill).collect();
    tables.change(|contents| contents.customers = rows).await;
}

/// The events of each customer, in order; and that each has exactly one beginning.
async fn beginnings(engine: &dyn Engine) -> BTreeMap<String, i64> {
    let mut found = BTreeMap::new();
    for partition in engine.identity().layout.all() {
        let mut after = Offset(0);
        loop {
            let chunk = engine
                .read(partition, after, ReadLimit::default())
                .await
                .unwrap();
            if chunk.next == after {
                break;
            }
            after = chunk.next;
            for record in chunk.records.iter().filter(|it| it.kind == Kind::Event) {
                let portable = &record.portable;
                let (name, version) = (&portable.event_type, portable.schema_version);
                let event = <CustomerEvent as Event>::decode(name, version, &portable.payload);
                if let CustomerEvent::Opened { balance } = event.unwrap() {
                    assert_eq!(record.local.version, 1);
                    assert_eq!(portable.effective, CREATED);
                    assert!(portable.command.is_some());
                    let before = found.insert(portable.entity.id.to_string(), balance);
                    assert_eq!(before, None, "it began twice");
                }
            }
        }
    }
    found
}

/// The old application: changes rows that have not moved, and asks the entity of those that have.
async fn old_application(node: &Node, tables: &Tables, world: &dyn World, payments: u64) {
    for _ in 0..payments {
        let key = format!("c-{:04}", world.random() % 200);
        let in_row = tables.change(|contents| {
            let row = contents.customers.get_mut(&key).unwrap();
            if !row.moved {
                row.balance += 1000;
                row.version += 1;
            }
            !row.moved
        });
        if !in_row.await {
            let id = everfold::engine::world::new_id(world);
            let customer = node.entity::<Customer>(key);
            while let Err(error) = customer.send(Pay { amount: 1000 }).id(id).await {
                assert!(matches!(
                    error,
                    SendError::Failed(CommandError::Unknown(_) | CommandError::Unavailable { .. })
                ));
                world.sleep(Duration::from_millis(100)).await;
            }
        }
        let pause = Duration::from_micros(world.random() % 2000);
        world.sleep(pause).await;
    }
}

/// Attacks: payments get lost between the worlds, rows move twice, or with a content that was
/// changed meanwhile.
#[test]
fn no_payment_is_lost_while_rows_become_entities() {
    let (mut changed, mut asked) = (0, 0);
    for seed in 0..8 {
        let simulation = Simulation::new(seed);
        let world = simulation.world();
        let tables = Tables::new(&world, 2);
        simulation.run(async {
            fill(&tables, 200).await;
            *tables.odds.lock().unwrap() = seed % 4;
            *tables.delay.lock().unwrap() = Duration::from_micros(500);
            let node = open(tables.clone(), &world).await;
            let (done, over) = tokio::sync::oneshot::channel();
            let (one, two, inner) = (node.clone(), tables.clone(), world.clone());
            let task = async move {
                old_application(&one, &two, inner.as_ref(), 300).await;
                let _ = done.send(());
            };
            world.spawn("the old application", Box::pin(task));
            let mut adopted = 0;
            loop {
                let adoption = node.adopt::<Customer, _>("customer", first).at_once(9);
                let adoption = adoption.each(|_, outcome| match outcome {
                    RowOutcome::Failed(CommandError::Statement(why)) => {
                        assert!(why.contains("moved is null"), "{why}");
                        changed += 1;
                    }
                    RowOutcome::Adopted => {}
                    other => panic!("{other:?}"),
                });
                let report = adoption
                    .rows(|after| page(tables.clone(), after))
                    .await
                    .unwrap();
                adopted += report.adopted;
                if report == AdoptReport::default() {
                    break;
                }
            }
            over.await.unwrap();
            assert_eq!(adopted, 200);
            *tables.odds.lock().unwrap() = 0;
            let rows = tables.contents().await.customers;
            let total: i64 = rows.values().map(|row| row.balance).sum();
            assert_eq!(
                total,
                (0..200).sum::<i64>() + 300 * 1000,
                "payments were lost"
            );
            for (key, row) in &rows {
                assert!(row.moved);
                let customer = node.entity::<Customer>(key.clone());
                let balance = customer.read(|customer, _| customer.balance).await;
                assert_eq!(balance, Ok(row.balance), "{key}: row and entity differ");
            }
            let began = beginnings(tables.as_ref()).await;
            assert_eq!(began.len(), 200);
            asked += rows
                .iter()
                .filter(|(key, row)| began[*key] < row.balance)
                .count();
        });
    }
    assert!(changed > 0, "no row changed between reading and moving");
    assert!(asked > 0, "nobody asked an entity meanwhile");
}

/// Attacks: a run that was cut short loses its place, or does again what it has done.
#[test]
fn a_run_goes_on_where_it_stopped() {
    let simulation = Simulation::new(20);
    let world = simulation.world();
    let memory: Arc<dyn Engine> = Arc::new(Memory::new(world.clone(), 2).unwrap());
    simulation.run(async {
        let node = open(memory.clone(), &world).await;
        let rows: Vec<_> = (0..100).map(|n| (format!("c-{n:02}"), n - 1)).collect();
        let make = |key: &str, balance: i64| match balance {
            -1 => Err("a balance below zero".to_owned()),
            balance => {
                let id = CustomerId::from(key.to_owned());
                let opened = CustomerEvent::Opened { balance };
                Ok(FirstEvents::of(id, emit(opened)).at(CREATED))
            }
        };
        let told = Mutex::new(Vec::new());
        let page = async |after: Option<String>, broken: bool| {
            let after = after.unwrap_or_default();
            if broken && *after > *"c-40" {
                return Err("the connection broke");
            }
            let left = rows.iter().filter(|(key, _)| *key > after);
            Ok(left.take(10).cloned().collect::<Vec<_>>())
        };
        let each = |key: &str, _: &RowOutcome| told.lock().unwrap().push(key.to_owned());
        let run = node.adopt::<Customer, _>("customer", make).each(each);
        let error = run.rows(|after| page(after, true)).await.unwrap_err();
        let AdoptError::Rows { after, error } = error else {
            panic!("{error}");
        };
        assert_eq!(
            (after.as_deref(), error),
            (Some("c-49"), "the connection broke")
        );
        let run = node
            .adopt::<Customer, _>("customer", make)
            .each(each)
            .after("c-49");
        let report = run.rows(|after| page(after, false)).await.unwrap();
        assert_eq!((report.adopted, report.present, report.failed), (50, 0, 0));
        assert_eq!(report.last.as_deref(), Some("c-99"));
        let keys: Vec<_> = rows.iter().map(|(key, _)| key.clone()).collect();
        assert_eq!(*told.lock().unwrap(), keys);
        // From the start, with rows that read differently now, a day later and once more.
        for pause in [0, 25 * 3600] {
            world.sleep(Duration::from_secs(pause)).await;
            let run = node.adopt::<Customer, _>("customer", |key, row: i64| make(key, row + 1));
            let report = run.rows(|after| page(after, false)).await.unwrap();
            let adopted = if pause == 0 { 100 } else { 0 };
            assert_eq!((report.adopted, report.present), (adopted, 100 - adopted));
        }
        let began = beginnings(memory.as_ref()).await;
        let expected = rows.iter().map(|(key, n)| (key.clone(), (*n).max(0)));
        assert_eq!(began, expected.collect());
    });
}

/// Attacks: a source that gives the same page for ever.
#[test]
fn a_source_that_does_not_move_on_is_noticed() {
    let simulation = Simulation::new(21);
    let world = simulation.world();
    let memory: Arc<dyn Engine> = Arc::new(Memory::new(world.clone(), 1).unwrap());
    simulation.run(async {
        let node = open(memory, &world).await;
        let run = node.adopt::<Customer, _>("customer", |key, balance: i64| {
            let opened = CustomerEvent::Opened { balance };
            Ok(FirstEvents::of(
                CustomerId::from(key.to_owned()),
                emit(opened),
            ))
        });
        let same = |_| async { Ok::<_, String>(vec![("c-1".to_owned(), 1)]) };
        let error = run.rows(same).await.unwrap_err();
        assert_eq!(error, AdoptError::Again("c-1".into()));
    });
}

/// Attacks: a store that does not come back, or has no tables, is taken for done.
#[test]
fn a_run_stops_where_the_store_does_not_come_back() {
    let simulation = Simulation::new(22);
    let world = simulation.world();
    let tables = Tables::new(&world, 1);
    simulation.run(async {
        fill(&tables, 3).await;
        let node = open(tables.clone(), &world).await;
        let adoption = node.adopt::<Customer, _>("customer", first);
        *tables.odds.lock().unwrap() = 33;
        tables
            .faults
            .lock()
            .unwrap()
            .extend([tables::Fault::Full; 30]);
        let error = adoption
            .rows(|after| page(tables.clone(), after))
            .await
            .unwrap_err();
        let AdoptError::Stopped { after, key, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!((after.as_deref(), &**key), (None, "c-0000"));
        *tables.odds.lock().unwrap() = 0;
        tables.faults.lock().unwrap().clear();
        let adoption = node.adopt::<Customer, _>("customer", first);
        let report = adoption
            .rows(|after| page(tables.clone(), after))
            .await
            .unwrap();
        assert_eq!((report.adopted + report.present, report.failed), (3, 0));
        let refused = node
            .entity::<Customer>("nobody")
            .send(Pay { amount: 1 })
            .await;
        assert!(matches!(refused, Err(SendError::Rejected(_))));
    });
}
