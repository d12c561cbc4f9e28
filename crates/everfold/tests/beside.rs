//! Decisions that change tables beside the log: together with their events or not at all, and
//! without harm to their neighbours.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "in a test a fault is a panic"
)]

mod tables;

use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use everfold::engine::engine::{Engine, ReadLimit};
use everfold::engine::memory::Memory;
use everfold::engine::record::Kind;
use everfold::engine::world::new_id;
use everfold::engine::{Offset, Record, World};
use everfold::prelude::*;
use everfold::testing::spec;
use everfold::{
    CommandError, Condition, DecideTogether, Expected, Joint, Members, NewEvent, Node, NodeOptions,
    Query, SagaEnd, SendError, States,
};
use everfold_sim::Simulation;
use tables::{COUNT, Contents, Fault, INSERT, Seen, Tables};

#[derive(Key, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct CustomerId(String);

#[derive(Event, Clone, Debug, PartialEq)]
enum CustomerEvent {
    Paid { amount: i64 },
    Billed { invoice: String, amount: i64 },
}

#[derive(Entity, Default)]
#[entity(name = "customer", id = CustomerId, event = CustomerEvent)]
struct Customer {
    balance: i64,
}

impl Evolve for Customer {
    fn evolve(&mut self, event: &CustomerEvent) {
        match event {
            CustomerEvent::Paid { amount } => self.balance += amount,
            CustomerEvent::Billed { amount, .. } => self.balance -= amount,
        }
    }
}

#[derive(Command, Clone)]
struct Pay {
    amount: i64,
}

impl Decide<Pay> for Customer {
    type Reply = i64;
    type Rejection = Never;

    fn decide(&self, command: &Pay, _: &Context) -> Decision<Self, Pay> {
        let amount = command.amount;
        emit(CustomerEvent::Paid { amount }).reply(self.balance + amount)
    }
}

/// Has a row in a table as well as an event.
#[derive(Command, Clone)]
struct Bill {
    invoice: String,
    amount: i64,
}

fn bill(invoice: impl Into<String>, amount: i64) -> Bill {
    let invoice = invoice.into();
    Bill { invoice, amount }
}

fn row(bill: &Bill) -> Statement {
    Statement::new(INSERT)
        .with(&*bill.invoice)
        .with(bill.amount)
}

fn billed(bill: &Bill) -> CustomerEvent {
    CustomerEvent::Billed {
        invoice: bill.invoice.clone(),
        amount: bill.amount,
    }
}

impl Decide<Bill> for Customer {
    type Reply = i64;
    type Rejection = Never;

    fn decide(&self, command: &Bill, _: &Context) -> Decision<Self, Bill> {
        emit(billed(command))
            .beside(row(command))
            .reply(self.balance - command.amount)
    }
}

/// Changes a table and nothing else.
#[derive(Command, Clone)]
struct Visit {
    page: String,
}

impl Decide<Visit> for Customer {
    type Reply = i64;
    type Rejection = Never;

    fn decide(&self, command: &Visit, _: &Context) -> Decision<Self, Visit> {
        let visit = Statement::new(COUNT).with(&*command.page);
        let more = command.page.bytes().filter(|byte| *byte == b'+').count();
        let second = vec![Statement::new("select nonsense"); more];
        beside(visit).beside_all(second).reply(self.balance)
    }
}

/// One customer is billed for what another one paid.
#[derive(Command)]
struct Charge {
    from: CustomerId,
    to: CustomerId,
    invoice: String,
}

impl DecideTogether for Charge {
    type Reply = ();
    type Rejection = Never;

    fn members(&self) -> Members {
        Members::new()
            .and::<Customer>(&self.from)
            .and::<Customer>(&self.to)
    }

    fn decide(&self, _: &States<'_>, _: &Context) -> Joint<(), Never> {
        let bill = bill(&*self.invoice, 5);
        Joint::reply(())
            .emit::<Customer>(&self.from, billed(&bill))
            .emit::<Customer>(&self.to, CustomerEvent::Paid { amount: 5 })
            .beside(row(&bill))
    }
}

fn application() -> Application {
    Application::new("billing").entity::<Customer>()
}

async fn open(
    application: Application,
    engine: Arc<dyn Engine>,
    world: &Arc<dyn World>,
) -> Arc<Node> {
    let node = application.open_on(engine, world.clone(), NodeOptions::default());
    Arc::new(node.await.unwrap())
}

fn with_tables(
    partitions: u16,
    seed: u64,
    test: impl AsyncFnOnce(Arc<Tables>, Arc<dyn World>),
) -> Simulation {
    let simulation = Simulation::new(seed);
    let world = simulation.world();
    let tables = Tables::new(&world, partitions);
    simulation.run(test(tables, world));
    simulation
}

async fn log(engine: &dyn Engine) -> Vec<Arc<Record>> {
    let mut records = Vec::new();
    for partition in engine.identity().layout.all() {
        let mut after = Offset(0);
        loop {
            let limit = ReadLimit::default();
            let chunk = engine.read(partition, after, limit).await.unwrap();
            if chunk.next == after {
                break;
            }
            after = chunk.next;
            records.extend(chunk.records);
        }
    }
    records
}

/// What the events of the log say that the table of invoices holds.
async fn invoices(engine: &dyn Engine) -> BTreeMap<String, i64> {
    let mut invoices = BTreeMap::new();
    for record in log(engine).await {
        let portable = &record.portable;
        if portable.event_type == "Billed" {
            let event = <CustomerEvent as everfold::Event>::decode(
                &portable.event_type,
                portable.schema_version,
                &portable.payload,
            );
            let CustomerEvent::Billed { invoice, amount } = event.unwrap() else {
                panic!("another event under this name");
            };
            assert_eq!(invoices.insert(invoice, amount), None, "billed twice");
        }
    }
    invoices
}

fn failed(why: &str) -> SendError<Never> {
    SendError::Failed(CommandError::Statement(why.into()))
}

/// Attacks: with a unit that is refused nothing else may be, and whatever was decided on top of it
/// is decided again on what is true.
#[test]
fn a_failing_statement_fails_its_command_alone() {
    let simulation = with_tables(1, 1, async |tables, world| {
        let node = open(application(), tables.clone(), &world).await;
        let customer = node.entity::<Customer>("c");
        assert_eq!(customer.send(bill("i-1", 1)).await.unwrap().reply, -1);
        *tables.delay.lock().unwrap() = Duration::from_millis(10);
        tables.seen.lock().unwrap().clear();
        let slow = customer.send(Pay { amount: 1 }).into_future();
        world.sleep(Duration::from_millis(1)).await;
        let before = customer.send(Pay { amount: 2 }).into_future();
        let other = node.entity::<Customer>("d").send(Pay { amount: 7 });
        let other = other.into_future();
        let doubled = customer.send(bill("i-1", 100)).into_future();
        let after = customer.send(Pay { amount: 4 }).into_future();
        let read = customer.read(|customer, _| customer.balance);
        let good = customer.send(bill("i-2", 10)).into_future();
        let last = customer.send(Pay { amount: 8 }).into_future();
        assert_eq!(slow.await.unwrap().reply, 0);
        assert_eq!(before.await.unwrap().reply, 2);
        assert_eq!(other.await.unwrap().reply, 7);
        assert_eq!(doubled.await.unwrap_err(), failed("duplicate key i-1"));
        assert_eq!(after.await.unwrap().reply, 6);
        assert_eq!(read.await, Ok(6));
        assert_eq!(good.await.unwrap().reply, -4);
        assert_eq!(last.await.unwrap().reply, 4);
        let seen = |units, statements| Seen { units, statements };
        let expected = [(1, 0), (2, 0), (1, 1), (1, 0), (1, 1), (1, 0)];
        assert_eq!(
            *tables.seen.lock().unwrap(),
            expected.map(|(units, statements)| seen(units, statements))
        );
        let rows = tables.contents().await.invoices;
        assert_eq!(rows, [("i-1".into(), 1), ("i-2".into(), 10)].into());
        assert_eq!(rows, invoices(tables.as_ref()).await);
    });
    assert!(
        simulation
            .reached()
            .contains_key("owner: statements wait for their turn")
    );
}

/// Attacks: who waits for a state shares the batch of the unit that made it, and must not be shown
/// what never was.
#[test]
fn who_waits_for_a_state_is_not_shown_what_a_statement_undid() {
    with_tables(1, 2, async |tables, world| {
        let node = open(application(), tables.clone(), &world).await;
        let customer = node.entity::<Customer>("c");
        customer.send(bill("i-1", 1)).await.unwrap();
        *tables.delay.lock().unwrap() = Duration::from_millis(10);
        let look = |customer: &Customer| (customer.balance < -1).then_some(customer.balance);
        let found = customer.until(Duration::from_secs(5), look);
        world.sleep(Duration::from_millis(1)).await;
        let refused = customer.send(bill("i-1", 100)).into_future();
        let good = customer.send(bill("i-2", 2)).into_future();
        assert_eq!(refused.await.unwrap_err(), failed("duplicate key i-1"));
        assert_eq!(good.await.unwrap().reply, -3);
        assert_eq!(found.await, Ok(-3));
    });
}

/// Attacks: of two statements the first is undone with the second.
#[test]
fn the_statements_of_a_command_are_done_together_or_not_at_all() {
    with_tables(1, 3, async |tables, world| {
        let node = open(application(), tables.clone(), &world).await;
        let customer = node.entity::<Customer>("c");
        let refused = customer.send(Visit { page: "a+".into() }).await;
        assert_eq!(
            refused.unwrap_err(),
            failed("syntax error at \"select nonsense\"")
        );
        assert_eq!(tables.contents().await, Contents::default());
        assert_eq!(customer.read(|_, version| version).await, Ok(0));
    });
}

/// Attacks: a repeated command whose answer was lost runs its statements a second time.
#[test]
fn a_repeated_command_runs_its_statements_once() {
    for fault in [Fault::LostAnswer, Fault::LostAppend, Fault::Full] {
        with_tables(1, 4, async |tables, world| {
            let node = open(application(), tables.clone(), &world).await;
            let customer = node.entity::<Customer>("c");
            tables.faults.lock().unwrap().push_back(fault);
            let (one, two) = (new_id(world.as_ref()), new_id(world.as_ref()));
            let page = || Visit { page: "a".into() };
            let lost = customer.send(page()).id(one).await.unwrap_err();
            let known = matches!(lost, SendError::Failed(CommandError::Unavailable { .. }));
            let unknown = matches!(lost, SendError::Failed(CommandError::Unknown(_)));
            assert!(if fault == Fault::Full { known } else { unknown });
            for _ in 0..3 {
                let mut sent = customer.send(page()).id(one).await;
                while let Err(SendError::Failed(CommandError::Unavailable { .. })) = sent {
                    world.sleep(Duration::from_millis(100)).await;
                    sent = customer.send(page()).id(one).await;
                }
                assert_eq!(sent.unwrap().reply, 0);
            }
            assert_eq!(tables.contents().await.visits, [("a".into(), 1)].into());
            // The same at the same time, and over the end of an ownership.
            let both = [(); 2].map(|()| customer.send(bill("i-1", 1)).id(two).into_future());
            for sent in both {
                assert_eq!(sent.await.unwrap().reply, -1);
            }
            let node = open(application(), tables.clone(), &world).await;
            let again = node.entity::<Customer>("c").send(bill("i-1", 1)).id(two);
            assert_eq!(again.await.unwrap().reply, -1);
            let rows = tables.contents().await.invoices;
            assert_eq!(rows, invoices(tables.as_ref()).await);
        });
    }
}

/// Attacks: a failed statement leaves the command's id behind as if it had been decided.
#[test]
fn a_command_that_failed_by_its_statement_may_be_sent_again() {
    with_tables(1, 5, async |tables, world| {
        let node = open(application(), tables.clone(), &world).await;
        let customer = node.entity::<Customer>("c");
        customer.send(bill("i-1", 1)).await.unwrap();
        let id = new_id(world.as_ref());
        let both = [(); 2].map(|()| customer.send(bill("i-1", 2)).id(id).into_future());
        for sent in both {
            assert_eq!(sent.await.unwrap_err(), failed("duplicate key i-1"));
        }
        // Another content under the id: nothing is remembered of the first.
        let sent = customer.send(bill("i-2", 2)).id(id).await;
        assert_eq!(sent.unwrap().reply, -3);
    });
}

/// Attacks: statements without events and without an id have no record that they could go with.
#[test]
fn statements_alone_leave_an_outcome_in_the_log() {
    with_tables(1, 6, async |tables, world| {
        let node = open(application(), tables.clone(), &world).await;
        let customer = node.entity::<Customer>("c");
        let page = || Visit { page: "a".into() };
        assert_eq!(customer.send(page()).by("ann").await.unwrap().reply, 0);
        let id = new_id(world.as_ref());
        assert_eq!(customer.send(page()).id(id).await.unwrap().reply, 0);
        assert_eq!(tables.contents().await.visits, [("a".into(), 2)].into());
        let records = log(tables.as_ref()).await;
        let outcomes = records.iter().filter(|it| it.kind == Kind::Outcome);
        let told: Vec<_> = outcomes
            .map(|it| {
                let principal = it.portable.principal.to_string();
                (principal, it.portable.command, it.local.reply.is_some())
            })
            .collect();
        let expected = [("ann".into(), None, false), (String::new(), Some(id), true)];
        assert_eq!(told, expected);
        let node = open(application(), tables.clone(), &world).await;
        let customer = node.entity::<Customer>("c");
        assert_eq!(customer.send(Pay { amount: 1 }).await.unwrap().reply, 1);
        assert_eq!(customer.read(|_, version| version).await, Ok(1));
    });
}

/// Attacks: a crowd. Every answer is right, rows and events agree, and statements go alone,
/// whatever else goes wrong.
#[test]
fn rows_and_events_agree_among_a_thousand_commands() {
    let mut refused = 0;
    for seed in 0..12 {
        with_tables(2, seed, async |tables, world| {
            let odds = if seed % 3 == 0 { 0 } else { 4 };
            *tables.odds.lock().unwrap() = odds;
            *tables.delay.lock().unwrap() = Duration::from_micros(300);
            let node = open(application(), tables.clone(), &world).await;
            let mut clients = Vec::new();
            for number in 0..1000_u64 {
                let (node, inner) = (node.clone(), world.clone());
                let (done, over) = tokio::sync::oneshot::channel();
                let task = async move {
                    let _ = done.send(client(&node, inner.as_ref(), number).await);
                };
                world.spawn("client", Box::pin(task));
                clients.push(over);
            }
            let (mut billed, mut paid) = (BTreeMap::new(), 0);
            for over in clients {
                match over.await.unwrap() {
                    Done::Paid => paid += 1,
                    Done::Billed(invoice, amount) => {
                        assert_eq!(billed.insert(invoice, amount), None, "billed twice");
                    }
                    Done::Refused => refused += 1,
                }
            }
            assert_eq!(paid, 950);
            *tables.odds.lock().unwrap() = 0;
            let rows = tables.contents().await.invoices;
            assert_eq!(rows, billed, "answers and rows differ");
            assert_eq!(rows, invoices(tables.as_ref()).await);
            let balances = (0..5).map(|number| {
                let customer = node.entity::<Customer>(format!("customer {number}"));
                customer.read(|customer, _| customer.balance)
            });
            let mut sum = 0;
            for balance in balances {
                sum += balance.await.unwrap();
            }
            assert_eq!(sum, 950 - rows.values().sum::<i64>());
            let seen = tables.seen.lock().unwrap();
            let alone = |seen: &Seen| seen.statements == 0 || seen.units == 1;
            assert!(seen.iter().all(alone), "statements went with others");
            if odds == 0 {
                let batches = seen.len();
                assert!(batches < 300, "{batches} batches: nothing is shared");
            }
        });
    }
    assert!(refused > 0, "no statement failed");
}

enum Done {
    Paid,
    Billed(String, i64),
    Refused,
}

/// Every twentieth command has a statement, and every third of these meets an invoice that may be
/// there already. Repeats what is not known to be done.
async fn client(node: &Node, world: &dyn World, number: u64) -> Done {
    let customer = node.entity::<Customer>(format!("customer {}", number % 5));
    let id = new_id(world);
    let new = if number.is_multiple_of(60) { 0 } else { number };
    let bill = bill(format!("i-{new}"), 1 + number as i64);
    loop {
        let sent = if number.is_multiple_of(20) {
            customer.send(bill.clone()).id(id).await
        } else {
            customer.send(Pay { amount: 1 }).id(id).await
        };
        match sent {
            Ok(_) if number.is_multiple_of(20) => return Done::Billed(bill.invoice, bill.amount),
            Ok(_) => return Done::Paid,
            Err(SendError::Failed(CommandError::Statement(_))) => return Done::Refused,
            Err(SendError::Failed(CommandError::Unknown(_) | CommandError::Unavailable { .. })) => {
                let pause = Duration::from_millis(world.random() % 400);
                world.sleep(pause).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Attacks: statements that nobody runs are lost without a word.
#[test]
fn an_engine_without_tables_says_so_before_anything_happens() {
    let simulation = Simulation::new(7);
    let world = simulation.world();
    let memory = Arc::new(Memory::new(world.clone(), 1).unwrap());
    simulation.run(async {
        let node = open(application(), memory, &world).await;
        let customer = node.entity::<Customer>("c");
        let error = customer.send(bill("i-1", 1)).await.unwrap_err();
        assert_eq!(error, SendError::Failed(CommandError::NoTables));
        assert!(error.to_string().contains("PostgreSQL"), "{error}");
        let seen = customer.read(|customer, version| (customer.balance, version));
        assert_eq!(seen.await, Ok((0, 0)));
        assert_eq!(node.owners().await.unwrap()[0].batches, 0);
        assert_eq!(customer.send(Pay { amount: 1 }).await.unwrap().reply, 1);
    });
}

/// Attacks: what statements hold is not counted.
#[test]
fn statements_count_against_the_limits() {
    with_tables(1, 8, async |tables, world| {
        let node = open(application(), tables.clone(), &world).await;
        let customer = node.entity::<Customer>("c");
        let page = "x".repeat(5 << 20);
        let refused = customer.send(Visit { page }).await;
        let too_large = |error| matches!(error, SendError::Failed(CommandError::TooLarge(_)));
        assert!(refused.is_err_and(too_large));
        assert_eq!(tables.contents().await, Contents::default());
        assert_eq!(tables.seen.lock().unwrap().len(), 0);
    });
}

/// Attacks: several entities and a table change as one, or none of them.
#[test]
fn commands_over_several_entities_carry_statements_too() {
    with_tables(3, 9, async |tables, world| {
        let node = open(application(), tables.clone(), &world).await;
        let id = |name: &str| CustomerId::from(format!("{name}{{t}}"));
        let charge = || Charge {
            from: id("a"),
            to: id("b"),
            invoice: "i-1".into(),
        };
        node.together().send(charge()).await.unwrap();
        let refused = node.together().send(charge()).await.unwrap_err();
        assert_eq!(refused, failed("duplicate key i-1"));
        for (name, balance) in [("a", -5), ("b", 5)] {
            let read = node.entity::<Customer>(id(name));
            let read = read.read(|customer, version| (customer.balance, version));
            assert_eq!(read.await, Ok((balance, 1)));
        }
        assert_eq!(tables.contents().await.invoices, [("i-1".into(), 5)].into());
    });
}

/// Attacks: a handler's command runs its statements again after a restart, or a failing one stops
/// everybody.
#[test]
fn commands_of_reactors_carry_statements_too() {
    with_tables(2, 10, async |tables, world| {
        let billing = || {
            let reactor = Reactor::named("bill").on(|event: &CustomerEvent, at| match event {
                CustomerEvent::Paid { amount } => {
                    let id = format!("bill of {}", at.entity_id::<String>());
                    command::<Customer, _>(CustomerId::from(id), bill(format!("i-{amount}"), 1))
                        .into()
                }
                CustomerEvent::Billed { .. } => nothing(),
            });
            application().reactor(reactor)
        };
        let node = open(billing(), tables.clone(), &world).await;
        for (name, amount) in [("a", 1), ("b", 1), ("c", 2)] {
            let customer = node.entity::<Customer>(name);
            customer.send(Pay { amount }).await.unwrap();
            node.caught_up().await.unwrap();
        }
        let parked = node.parked();
        assert_eq!(parked.len(), 1, "{parked:?}");
        assert!(parked[0].reason.contains("duplicate key i-1"), "{parked:?}");
        // Taken over before its checkpoints are stored: it sends all of it again.
        let node = open(billing(), tables.clone(), &world).await;
        node.caught_up().await.unwrap();
        let rows = tables.contents().await.invoices;
        assert_eq!(rows, [("i-1".into(), 1), ("i-2".into(), 1)].into());
        assert_eq!(rows, invoices(tables.as_ref()).await);
    });
}

/// Attacks: raw appends forget their statements, or take a command for another one's repeat that
/// differs in nothing else.
#[test]
fn raw_appends_carry_statements_too() {
    with_tables(1, 11, async |tables, world| {
        let application = application().boundary("shop");
        let node = open(application, tables.clone(), &world).await;
        let stream = node.stream("note-1");
        let event = || vec![NewEvent::json("Noted", "{}")];
        let row = |invoice: &str| row(&bill(invoice, 1));
        let id = new_id(world.as_ref());
        for _ in 0..2 {
            let sent = stream.append(event(), Expected::Any).beside(row("i-1"));
            assert_eq!(sent.id(id).await.unwrap().reply, 1);
        }
        let other = stream.append(event(), Expected::Any).beside(row("i-2"));
        let reused = Err(CommandError::IdReused(id));
        assert_eq!(other.id(id).await.map(|sent| sent.reply), reused);
        let boundary = node.boundary("shop", "all");
        for _ in 0..2 {
            let none = Condition::none_ever(Query::everything());
            let sent = boundary.append(event(), Some(none)).beside(row("i-3"));
            let sent = sent.await.map(|sent| sent.reply);
            assert!(matches!(sent, Ok(1) | Err(CommandError::Conflict(_))));
        }
        let doubled = boundary.append(event(), None).beside(row("i-3")).await;
        let failed = Err(CommandError::Statement("duplicate key i-3".into()));
        assert_eq!(doubled.map(|sent| sent.reply), failed);
        let rows = tables.contents().await.invoices;
        assert_eq!(rows, [("i-1".into(), 1), ("i-3".into(), 1)].into());
    });
}

/// Two bills, both or none.
fn billing_twice() -> Saga<(String, String)> {
    let ask_bill = |customer: &'static str, pick: fn(&(String, String)) -> String| {
        ask(move |plan: &(String, String)| {
            let customer = CustomerId::from(customer.to_owned());
            command::<Customer, _>(customer, bill(pick(plan), 1))
        })
    };
    let back = ask(|_: &(String, String)| {
        let customer = CustomerId::from("a".to_owned());
        command::<Customer, _>(customer, Pay { amount: 1 })
    });
    Saga::named("twice")
        .step(Step::named("one", ask_bill("a", |plan| plan.0.clone())).undo(back))
        .step(Step::named("two", ask_bill("b", |plan| plan.1.clone())))
}

/// Attacks: a statement that fails a step is taken for done, or for a store that will come back.
#[test]
fn steps_of_sagas_carry_statements_too() {
    with_tables(2, 12, async |tables, world| {
        let application = application().saga(billing_twice());
        let node = open(application, tables.clone(), &world).await;
        let saga = node.saga(&billing_twice());
        let start = async |id: &str, one: &str, two: &str| {
            saga.start(id, (one.into(), two.into())).await.unwrap();
        };
        start("good", "i-1", "i-2").await;
        let outcome = saga.outcome("good", Duration::from_secs(60)).await;
        assert_eq!(outcome.unwrap().end, SagaEnd::Completed);
        start("bad", "i-3", "i-2").await;
        let state = async || saga.status("bad").await.unwrap().unwrap();
        while state().await.state == "running" {
            world.sleep(Duration::from_secs(1)).await;
        }
        let status = state().await;
        let told = format!("{:?} {:?}", status.reason, status.steps);
        assert!(told.contains("duplicate key i-2"), "{told}");
        let rows = tables.contents().await.invoices;
        let expected = ["i-1", "i-2", "i-3"].map(|invoice| (invoice.to_owned(), 1));
        assert_eq!(rows, expected.into());
    });
}

#[test]
fn specifications_name_statements() {
    let bill = bill("i-1", 5);
    let decided = spec::<Customer>()
        .given([CustomerEvent::Paid { amount: 7 }])
        .when(bill.clone())
        .then_beside([billed(&bill)], [row(&bill)])
        .replies(2);
    assert_eq!(decided.statements(), [row(&bill)]);
    decided
        .when(Pay { amount: 1 })
        .then([CustomerEvent::Paid { amount: 1 }]);
}

#[test]
#[should_panic(expected = "name them with `.then_beside(...)`")]
fn a_specification_that_does_not_name_the_statements_does_not_hold() {
    let bill = bill("i-1", 5);
    spec::<Customer>().when(bill.clone()).then([billed(&bill)]);
}

#[test]
#[should_panic(expected = "name them with `.then_beside(...)`")]
fn a_specification_without_events_does_not_overlook_statements() {
    let page = "a".into();
    spec::<Customer>().when(Visit { page }).then_nothing();
}
