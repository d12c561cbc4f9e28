//! The same domain code in three forms comes to the same results: by what follows from events, by a
//! saga, and as one decision under a condition.

use std::sync::Arc;
use std::time::Duration;

use everfold::engine::engine::Engine;
use everfold::engine::memory::Memory;
use everfold::prelude::*;
use everfold::{Node, NodeOptions, SendError};
use everfold_sim::Simulation;
use everfold_store::customer::{Customer, CustomerId, Open, Release, ReleaseCredit, ReserveCredit};
use everfold_store::money::Money;
use everfold_store::order::{Cancel, Order, OrderId, OrderState, Place, Reason};
use everfold_store::{boundary, reactions};
use tokio::task::JoinSet;

fn money(text: &str) -> Money {
    text.parse().expect("an amount")
}

const CUSTOMERS: [(&str, &str); 3] = [("c-1", "100.00"), ("c-2", "15.00"), ("c-3", "0.00")];
/// Order, customer and total.
const ORDERS: [(&str, &str, &str); 9] = [
    ("o-1", "c-1", "60.00"),
    ("o-2", "c-1", "40.00"),
    ("o-3", "c-1", "0.01"),
    ("o-4", "c-2", "15.01"),
    ("o-5", "c-2", "15.00"),
    ("o-6", "c-3", "1.00"),
    ("o-7", "c-3", "0.00"),
    ("o-8", "nobody", "1.00"),
    ("o-9", "c-1", "0.00"),
];

fn opening(limit: &str) -> Open {
    Open {
        name: "Ada".into(),
        credit_limit: money(limit),
    }
}

fn placing(customer: &str, total: &str) -> Place {
    Place {
        customer: customer.into(),
        items: vec![],
        total: money(total),
        delivery: String::new(),
    }
}

type Results = Vec<(OrderState, Option<Reason>, Money)>;

async fn by_entities(node: &Node) -> Results {
    for (customer, limit) in CUSTOMERS {
        let customer = node.entity::<Customer>(customer);
        customer.send(opening(limit)).await.expect("a customer");
    }
    let mut results = Vec::new();
    for (id, customer, total) in ORDERS {
        let order = node.entity::<Order>(id);
        order
            .send(placing(customer, total))
            .await
            .expect("an order");
        node.caught_up().await.expect("handlers catch up");
        let (state, reason) = order
            .read(|order, _| (order.state(), order.reason()))
            .await
            .expect("an order is read");
        let customer = node.entity::<Customer>(customer);
        let available = customer.read(|customer, _| customer.available()).await;
        results.push((state, reason, available.expect("a customer is read")));
    }
    results
}

async fn by_boundary(node: &Node) -> Results {
    for (customer, limit) in CUSTOMERS {
        let opened = boundary::open(node, &customer.into(), &opening(limit)).await;
        opened.expect("a customer");
    }
    let mut results = Vec::new();
    for (id, customer, total) in ORDERS {
        let (id, customer) = (OrderId::from(id), CustomerId::from(customer));
        let place = placing(customer.as_text(), total);
        boundary::place(node, &id, &place).await.expect("an order");
        let result = boundary::look(node, &customer, &id, |customer, order| {
            (order.state(), order.reason(), customer.available())
        });
        results.push(result.await.expect("an order is read"));
    }
    results
}

async fn open(application: Application) -> Node {
    let node = application.open("memory:").await;
    node.expect("a store opens in memory")
}

#[tokio::test]
async fn three_forms_of_one_domain_come_to_the_same_results() {
    let choreographed = by_entities(&open(everfold_store::application()).await).await;
    let orchestrated = by_entities(&open(everfold_store::orchestrated()).await).await;
    let decided = by_boundary(&open(boundary::application()).await).await;
    assert_eq!(choreographed.len(), ORDERS.len());
    let approved = |it: &&(OrderState, Option<Reason>, Money)| it.0 == OrderState::Approved;
    assert_eq!(choreographed.iter().filter(approved).count(), 5);
    assert_eq!(orchestrated, choreographed);
    assert_eq!(decided, choreographed);
}

/// Attacks: a limit that holds for each order, but not for all of them at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_orders_at_once_for_the_credit_of_ten() {
    for application in [
        everfold_store::application(),
        everfold_store::orchestrated(),
    ] {
        let node = Arc::new(open(application).await);
        let customer = node.entity::<Customer>("c");
        customer.send(opening("100.00")).await.expect("a customer");
        let mut all = JoinSet::new();
        for n in 0..50 {
            let node = node.clone();
            all.spawn(async move {
                let order = node.entity::<Order>(format!("o-{n}"));
                order.send(placing("c", "10.00")).await.map(drop)
            });
        }
        while let Some(placed) = all.join_next().await {
            placed.expect("no panic").expect("an order");
        }
        node.caught_up().await.expect("handlers catch up");
        let mut approved = 0;
        for n in 0..50 {
            let order = node.entity::<Order>(format!("o-{n}"));
            let state = order.read(|order, _| order.state()).await;
            match state.expect("an order is read") {
                OrderState::Approved => approved += 1,
                state => assert_eq!(state, OrderState::Rejected),
            }
        }
        assert_eq!(approved, 10);
        node.close().await;
    }
    let node = Arc::new(open(boundary::application()).await);
    let opened = boundary::open(&node, &"c".into(), &opening("100.00")).await;
    opened.expect("a customer");
    let mut all = JoinSet::new();
    for n in 0..50 {
        let node = node.clone();
        all.spawn(async move {
            let place = placing("c", "10.00");
            boundary::place(&node, &format!("o-{n}").into(), &place).await
        });
    }
    let mut approved = 0;
    while let Some(placed) = all.join_next().await {
        let state = placed.expect("no panic").expect("a decision");
        approved += u32::from(state == OrderState::Approved);
    }
    assert_eq!(approved, 10);
}

/// Attacks: an order that waits for ever because the customers' side is away, and credit that is
/// reserved for it when that comes back.
#[test]
fn an_order_that_nobody_decides_is_rejected_in_time_and_late_credit_comes_back() {
    let simulation = Simulation::new(1);
    let world = simulation.world();
    simulation.run(async {
        let engine: Arc<dyn Engine> = Arc::new(Memory::new(world.clone(), 2).expect("a log"));
        // Nobody asks the customers.
        let store = Application::new("store")
            .entity::<Customer>()
            .entity::<Order>()
            .reactor(reactions::decide_order())
            .reactor(reactions::time_out());
        let node = store.open_on(engine, world.clone(), NodeOptions::default());
        let node = node.await.expect("a store opens");
        let customer = node.entity::<Customer>("c");
        customer.send(opening("10.00")).await.expect("a customer");
        let (order, called_off) = (node.entity::<Order>("o"), node.entity::<Order>("p"));
        order.send(placing("c", "4.00")).await.expect("an order");
        called_off
            .send(placing("c", "4.00"))
            .await
            .expect("an order");
        called_off.send(Cancel).await.expect("a cancellation");
        world
            .sleep(reactions::DECISION - Duration::from_secs(1))
            .await;
        let state = async |order: &str| {
            let order = node.entity::<Order>(order);
            let read = order.read(|order, _| (order.state(), order.reason())).await;
            read.expect("an order is read")
        };
        assert_eq!(state("o").await, (OrderState::Pending, None));
        world.sleep(Duration::from_secs(3)).await;
        node.caught_up().await.expect("handlers catch up");
        let timed_out = (OrderState::Rejected, Some(Reason::TimedOut));
        assert_eq!(state("o").await, timed_out);
        assert_eq!(state("p").await, (OrderState::Cancelled, None));
        for order in ["o", "p"] {
            let late = ReserveCredit {
                order: order.into(),
                total: money("4.00"),
            };
            customer.send(late).await.expect("late credit");
        }
        node.caught_up().await.expect("handlers catch up");
        assert_eq!(state("o").await, timed_out);
        let available = customer.read(|customer, _| customer.available()).await;
        assert_eq!(available.expect("a customer is read"), money("10.00"));
        let again = ReleaseCredit { order: "o".into() };
        let released: Result<_, SendError<Never>> = customer.send(again).await;
        assert_eq!(released.expect("an answer").reply, Release::NothingReserved);
        node.close().await;
    });
}
