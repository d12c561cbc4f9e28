//! Decisions that change tables beside the log: together with their events or not at all, and
//! without harm to their neighbours.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "in a test a fault is a panic"
)]

mod alone;
#[path = "../tables/mod.rs"]
mod tables;
mod ways;

use std::collections::BTreeMap;
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
