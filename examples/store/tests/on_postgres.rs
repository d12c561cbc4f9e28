//! The store on PostgreSQL: the same results, and questions in SQL.

#![allow(clippy::unwrap_used, reason = "what supports a test fails with it")]

use std::sync::Arc;

use everfold::engine::Timestamp;
use everfold::engine::engine::Engine;
use everfold::engine::world::System;
use everfold::{Node, NodeOptions};
use everfold_postgres::server::PrivateServer;
use everfold_postgres::{Options, Postgres};
use everfold_store::customer::{Customer, Open};
use everfold_store::order::{Order, OrderState, Pay, PaymentMethod, Place, Ship};
use everfold_store::reports::{BUSINESS, LARGE_SHIPPED};

struct Store {
    _directory: tempfile::TempDir,
    server: PrivateServer,
}

impl Store {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = PrivateServer::start(&directory.path().join("server"), &[]).unwrap();
        server.create_database("shop").unwrap();
        Self {
            _directory: directory,
            server,
        }
    }

    async fn open(&self) -> (Arc<Postgres>, Node) {
        let address = format!("{}?schema=store&partitions=4", self.server.address("shop"));
        let log = Postgres::open(&address, System::current(), Options::default());
        let log = log.await.unwrap();
        let node = everfold_store::application()
            .open_on(log.clone(), System::current(), NodeOptions::default())
            .await
            .unwrap();
        (log, node)
    }
}

/// Customers with the day they were opened and their limit.
const CUSTOMERS: [(&str, &str, &str); 3] = [
    ("ann", "1997-01-05", "500.00"),
    ("bob", "1997-03-01", "100.00"),
    ("cem", "1998-02-10", "1000.00"),
];
/// Orders with their customer, day and total.
const ORDERS: [(&str, &str, &str, &str); 6] = [
    ("o-1", "ann", "1997-01-10", "120.50"),
    ("o-2", "ann", "1997-03-02", "30.00"),
    ("o-3", "bob", "1997-03-03", "100.01"),
    ("o-4", "bob", "1997-03-04", "99.99"),
    ("o-5", "cem", "1998-02-11", "640.00"),
    ("o-6", "cem", "1998-02-12", "50.00"),
];

fn day(text: &str) -> Timestamp {
    text.parse().unwrap()
}

async fn trade(node: &Node) {
    for (id, opened, limit) in CUSTOMERS {
        let open = Open {
            name: id.to_uppercase(),
            credit_limit: limit.parse().unwrap(),
        };
        let customer = node.entity::<Customer>(id);
        customer.send(open).at(day(opened)).await.unwrap();
    }
    for (id, customer, placed, total) in ORDERS {
        let place = Place {
            customer: customer.into(),
            items: vec![],
            total: total.parse().unwrap(),
            delivery: String::new(),
        };
        let order = node.entity::<Order>(id);
        order.send(place).at(day(placed)).await.unwrap();
        node.caught_up().await.unwrap();
        if order.read(|order, _| order.state()).await.unwrap() == OrderState::Approved {
            order.send(Ship).await.unwrap();
        }
    }
    let paid = node.entity::<Order>("o-1");
    let method = PaymentMethod::Card;
    paid.send(Pay { method }).await.unwrap();
    node.caught_up().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_agree_with_the_views_and_outlive_the_node() {
    let store = Store::start();
    let (_, node) = store.open().await;
    trade(&node).await;
    // The last checkpoint of the views is made when the node closes.
    node.close().await;
    drop(node);

    let (log, node) = store.open().await;
    let session = log.session().await.unwrap();
    let rows = session
        .query(&BUSINESS.sql(log.schema()), &[])
        .await
        .unwrap();
    let found: Vec<(String, [i64; 4], String, String)> = rows
        .iter()
        .map(|row| {
            let count = |at: usize| row.get(at);
            let counts = [count(1), count(2), count(3), count(4)];
            (row.get(0), counts, row.get(5), row.get(6))
        })
        .collect();
    let month = |month: &str, counts: [i64; 4], approved: &str, paid: &str| {
        (
            month.to_owned(),
            counts,
            approved.to_owned(),
            paid.to_owned(),
        )
    };
    assert_eq!(
        found,
        [
            month("1997-01", [1, 1, 0, 1], "120.50", "120.50"),
            month("1997-03", [3, 2, 1, 2], "129.99", "0.00"),
            month("1998-02", [2, 2, 0, 1], "690.00", "0.00"),
        ]
    );

    let sql = LARGE_SHIPPED.sql(log.schema());
    let rows = session
        .query(&sql, &[&"60.00", &"1997-02-01"])
        .await
        .unwrap();
    let found: Vec<(String, String, String)> = rows
        .iter()
        .map(|row| (row.get(0), row.get(2), row.get(3)))
        .collect();
    let line = |customer: &str, order: &str, total: &str| {
        (customer.to_owned(), order.to_owned(), total.to_owned())
    };
    assert_eq!(
        found,
        [line("cem", "o-5", "640.00"), line("bob", "o-4", "99.99")]
    );
    drop(session);
    node.close().await;
    log.close().await;
}
