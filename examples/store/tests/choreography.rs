//! The whole store on a log in memory: customers and orders find each other by their events.

use everfold::engine::Timestamp;
use everfold::prelude::*;
use everfold::{Node, SendError};
use everfold_store::customer::{
    ChangeCreditLimit, Close, Customer, CustomerId, Open, Release, ReleaseCredit, ReserveCredit,
};
use everfold_store::money::Money;
use everfold_store::order::{
    Approve, Cancel, Order, OrderId, OrderRejection, OrderState, Pay, PaymentMethod, Place, Reason,
    Ship,
};
use everfold_store::views::{CustomerRow, Totals, customer_history, low_credit, shipped_orders};

fn money(text: &str) -> Money {
    text.parse().expect("an amount")
}

/// A running store, with words for what tests do to it.
struct Store {
    node: Node,
}

impl Store {
    async fn open() -> Self {
        let node = everfold_store::application().open("memory:").await;
        Self {
            node: node.expect("a store opens in memory"),
        }
    }

    async fn customer(&self, id: &str, limit: &str) {
        let open = Open {
            name: "Ada".into(),
            credit_limit: money(limit),
        };
        let opened = self.node.entity::<Customer>(id).send(open).await;
        opened.expect("a customer opens");
    }

    async fn place(&self, order: &str, customer: &str, total: &str) {
        let place = Place {
            customer: customer.into(),
            items: vec![],
            total: money(total),
            delivery: String::new(),
        };
        let placed = self.node.entity::<Order>(order).send(place).await;
        assert_eq!(
            placed.expect("an order is placed").reply,
            OrderState::Pending
        );
    }

    /// What the order answers, once everything that follows from it has happened.
    async fn order<C: Command>(&self, order: &str, command: C) -> Result<OrderState, OrderRejection>
    where
        Order: Decide<C, Reply = OrderState, Rejection = OrderRejection>,
    {
        let answer = self.node.entity::<Order>(order).send(command).await;
        self.settle().await;
        match answer {
            Ok(sent) => Ok(sent.reply),
            Err(SendError::Rejected(rejection)) => Err(rejection),
            Err(SendError::Failed(error)) => panic!("{error}"),
        }
    }

    async fn state(&self, order: &str) -> (OrderState, Option<Reason>) {
        let order = self.node.entity::<Order>(order);
        let read = order.read(|order, _| (order.state(), order.reason())).await;
        read.expect("an order is read")
    }

    async fn available(&self, customer: &str) -> Money {
        let customer = self.node.entity::<Customer>(customer);
        let read = customer.read(|customer, _| customer.available()).await;
        read.expect("a customer is read")
    }

    async fn settle(&self) {
        self.node.caught_up().await.expect("handlers catch up");
    }

    async fn row(&self, customer: &str) -> CustomerRow {
        let history = self.node.view(&customer_history());
        let row = history.get(&CustomerId::from(customer)).await;
        row.expect("a view answers").expect("a row of the customer")
    }
}

#[tokio::test]
async fn an_order_within_the_limit_is_approved_and_one_beyond_it_rejected() {
    let store = Store::open().await;
    store.customer("c-1", "15.00").await;
    store.place("o-1", "c-1", "12.34").await;
    store.settle().await;
    store.place("o-2", "c-1", "123.40").await;
    store.settle().await;

    assert_eq!(store.state("o-1").await, (OrderState::Approved, None));
    let insufficient = Some(Reason::InsufficientCredit);
    assert_eq!(
        store.state("o-2").await,
        (OrderState::Rejected, insufficient)
    );
    assert_eq!(store.available("c-1").await, money("2.66"));
    let row = store.row("c-1").await;
    assert_eq!(row.available(), money("2.66"));
    assert_eq!(
        row.orders[&OrderId::from("o-1")].state,
        OrderState::Approved
    );
    assert_eq!(row.orders[&OrderId::from("o-2")].reason, insufficient);
}

#[tokio::test]
async fn an_order_without_an_open_customer_is_rejected() {
    let store = Store::open().await;
    store.place("o-1", "nobody", "12.34").await;
    store.customer("c-1", "15.00").await;
    let closed = store.node.entity::<Customer>("c-1").send(Close).await;
    closed.expect("a customer closes");
    store.place("o-2", "c-1", "12.34").await;
    store.settle().await;

    let (unknown, closed) = (Reason::UnknownCustomer, Reason::CustomerClosed);
    assert_eq!(
        store.state("o-1").await,
        (OrderState::Rejected, Some(unknown))
    );
    assert_eq!(
        store.state("o-2").await,
        (OrderState::Rejected, Some(closed))
    );
}

#[tokio::test]
async fn a_cancelled_order_frees_its_credit_for_the_next() {
    let store = Store::open().await;
    store.customer("c-1", "15.00").await;
    store.place("o-1", "c-1", "12.34").await;
    store.settle().await;
    assert_eq!(store.order("o-1", Cancel).await, Ok(OrderState::Cancelled));
    assert_eq!(store.available("c-1").await, money("15.00"));
    store.place("o-2", "c-1", "12.34").await;
    store.settle().await;
    assert_eq!(store.state("o-2").await, (OrderState::Approved, None));
}

#[tokio::test]
async fn an_order_cancelled_while_it_waits_holds_no_credit_in_the_end() {
    let store = Store::open().await;
    store.customer("c-1", "15.00").await;
    store.place("o-1", "c-1", "12.34").await;
    // Whether the credit has answered by now is open; the end is not.
    let state = store
        .order("o-1", Cancel)
        .await
        .expect("it can be cancelled");
    assert!(matches!(
        state,
        OrderState::CancelPending | OrderState::Cancelled
    ));
    assert_eq!(store.state("o-1").await, (OrderState::Cancelled, None));
    assert_eq!(store.available("c-1").await, money("15.00"));
}

#[tokio::test]
async fn payment_frees_credit_and_ends_what_may_be_done() {
    let store = Store::open().await;
    store.customer("c-1", "15.00").await;
    store.place("o-1", "c-1", "12.34").await;
    store.settle().await;
    let card = || Pay {
        method: PaymentMethod::Card,
    };
    assert_eq!(store.order("o-1", card()).await, Ok(OrderState::Approved));
    assert_eq!(store.available("c-1").await, money("15.00"));
    assert_eq!(
        store.order("o-1", card()).await,
        Err(OrderRejection::AlreadyPaid)
    );
    assert_eq!(
        store.order("o-1", Cancel).await,
        Err(OrderRejection::AlreadyPaid)
    );
    assert_eq!(store.order("o-1", Ship).await, Ok(OrderState::Shipped));

    let shipped = store.node.view(&shipped_orders());
    let row = shipped.get(&CustomerId::from("c-1")).await;
    let row = row.expect("a view answers").expect("a row of the customer");
    let found: Vec<_> = row.above(money("12.33"), Timestamp(0)).collect();
    assert_eq!(found, [(&OrderId::from("o-1"), money("12.34"))]);
}

#[tokio::test]
async fn credit_reserved_for_an_order_that_needs_none_comes_back() {
    let store = Store::open().await;
    store.place("o-1", "c-1", "12.34").await;
    store.settle().await;
    assert_eq!(store.state("o-1").await.0, OrderState::Rejected);

    // The request for credit comes once more, now that there is a customer.
    store.customer("c-1", "15.00").await;
    let reserve = ReserveCredit {
        order: "o-1".into(),
        total: money("12.34"),
    };
    let reserved = store.node.entity::<Customer>("c-1").send(reserve).await;
    reserved.expect("credit is reserved");
    store.settle().await;
    assert_eq!(store.available("c-1").await, money("15.00"));
    assert_eq!(store.state("o-1").await.0, OrderState::Rejected);
    let state = OrderState::Rejected;
    assert_eq!(
        store.order("o-1", Approve).await,
        Err(OrderRejection::NeedsNoCredit { state })
    );
    let release = ReleaseCredit {
        order: "o-1".into(),
    };
    let again = store.node.entity::<Customer>("c-1").send(release).await;
    assert_eq!(
        again.expect("a release is accepted").reply,
        Release::NothingReserved
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_orders_never_pass_the_limit() {
    let store = Store::open().await;
    store.customer("c-1", "100.00").await;
    // On their way at once, awaited later.
    let places: Vec<_> = (0..50)
        .map(|number| {
            let place = Place {
                customer: "c-1".into(),
                items: vec![],
                total: money("10.00"),
                delivery: String::new(),
            };
            store
                .node
                .entity::<Order>(format!("o-{number}"))
                .send(place)
                .into_future()
        })
        .collect();
    for placed in places {
        placed.await.expect("an order is placed");
    }
    store.settle().await;

    let history = store.node.view(&customer_history());
    let totals = history
        .fold(Totals::default(), |totals, _, row| totals.add(row))
        .await;
    let expected = Totals {
        customers: 1,
        orders: 50,
        approved: 10,
        approved_total: money("100.00"),
        rejected: 40,
        reserved: money("100.00"),
    };
    assert_eq!(totals.expect("a view answers"), expected);
    assert_eq!(store.available("c-1").await, Money::ZERO);

    let lower = ChangeCreditLimit {
        credit_limit: money("90.00"),
    };
    let lowered = store.node.entity::<Customer>("c-1").send(lower).await;
    lowered.expect("a limit is lowered");
    store.settle().await;
    let low = store.node.view(&low_credit());
    let low = low
        .select(|_, row| row.is_below(Money::ZERO))
        .await
        .expect("a view answers");
    assert_eq!(low.len(), 1);
}
