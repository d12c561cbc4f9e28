//! An application moves from a table of a real database to entities, while both run.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "in a test a fault is a panic"
)]

use std::sync::Arc;

use everfold::engine::World;
use everfold::engine::world::System;
use everfold::prelude::*;
use everfold::{CommandError, FirstEvents, Node, NodeOptions, SendError};
use everfold_postgres::server::PrivateServer;
use everfold_postgres::{Options, Postgres};
use tokio::sync::Barrier;

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
        let kept = Statement::new("update customer set balance = $2 where id = $1")
            .with(context.entity_id())
            .with(balance);
        emit(CustomerEvent::Paid { amount })
            .beside(kept)
            .reply(balance)
    }
}

/// The row is marked in the transaction of the first event, and only if it is as it was read.
const MOVE: &str = "update customer set moved = case when version = $2 then true end where id = $1";
const PAGE: &str = "select id, balance, version from customer where not moved and id > $1 \
                    order by id limit 7";
/// What the old application does; it knows nothing of entities but the column `moved`.
const OLD_PAY: &str = "update customer set balance = balance + $2, version = version + 1 \
                       where id = $1 and not moved";

const CUSTOMERS: i64 = 40;
const PAYMENTS: i64 = 250;

async fn page(log: Arc<Postgres>, after: Option<String>) -> Result<Vec<(String, Row)>, String> {
    let session = log.session().await.map_err(|error| error.to_string())?;
    let rows = session.query(PAGE, &[&after.unwrap_or_default()]).await;
    let rows = rows.map_err(|error| error.to_string())?;
    let rows = rows.iter().map(|row| {
        let (balance, version) = (row.get(1), row.get(2));
        (row.get(0), Row { balance, version })
    });
    Ok(rows.collect())
}

#[derive(Clone, Copy)]
struct Row {
    balance: i64,
    version: i64,
}

fn first(key: &str, row: Row) -> Result<FirstEvents<Customer>, String> {
    let opened = CustomerEvent::Opened {
        balance: row.balance,
    };
    let moved = Statement::new(MOVE).with(key).with(row.version);
    let id = CustomerId::from(key.to_owned());
    Ok(FirstEvents::of(id, emit(opened).beside(moved)))
}

/// Pays by SQL what has not moved, and by a command what has.
async fn old_application(node: &Node, log: &Postgres, world: &dyn World) {
    for _ in 0..PAYMENTS {
        let key = format!("c-{:04}", world.random() % CUSTOMERS as u64);
        let session = log.session().await.unwrap();
        let changed = session.execute(OLD_PAY, &[&key, &1000_i64]).await.unwrap();
        drop(session);
        if changed == 0 {
            node.entity::<Customer>(key)
                .send(Pay { amount: 1000 })
                .await
                .unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_payment_is_lost_while_rows_become_entities() {
    let directory = tempfile::tempdir().unwrap();
    let server = PrivateServer::start(&directory.path().join("server"), &[]).unwrap();
    server.create_database("shop").unwrap();
    let address = format!("{}?schema=shop&partitions=4", server.address("shop"));
    let world: Arc<dyn World> = System::current();
    let log = Postgres::open(&address, world.clone(), Options::default());
    let log = log.await.unwrap();
    let session = log.session().await.unwrap();
    let table = "create table customer (id text primary key, balance bigint not null, \
                 version bigint not null default 1, moved boolean not null default false)";
    session.batch_execute(table).await.unwrap();
    let fill = "insert into customer (id, balance) \
                select 'c-' || to_char(n, 'FM0000'), n from generate_series(0, $1::bigint - 1) n";
    session.execute(fill, &[&CUSTOMERS]).await.unwrap();

    let application = Application::new("shop").entity::<Customer>();
    let node = application.open_on(log.clone(), world.clone(), NodeOptions::default());
    let node = Arc::new(node.await.unwrap());
    let together = Arc::new(Barrier::new(2));
    let old = {
        let (node, log, world) = (node.clone(), log.clone(), world.clone());
        let together = together.clone();
        tokio::spawn(async move {
            together.wait().await;
            old_application(&node, &log, world.as_ref()).await;
        })
    };
    together.wait().await;
    // A row that was changed between reading and moving is left for the next run.
    loop {
        let inner = log.clone();
        let adoption = node.adopt::<Customer, _>("customer", first).at_once(4);
        let moved = adoption.rows(move |after| page(inner.clone(), after)).await;
        moved.unwrap();
        let left = "select count(*) from customer where not moved";
        let left: i64 = session.query_one(left, &[]).await.unwrap().get(0);
        if left == 0 {
            break;
        }
    }
    old.await.unwrap();

    let mut total = 0;
    let rows = session.query("select id, balance from customer", &[]).await;
    for row in rows.unwrap() {
        let (id, balance): (String, i64) = (row.get(0), row.get(1));
        let customer = node.entity::<Customer>(id.clone());
        let of_entity = customer.read(|customer, _| customer.balance).await.unwrap();
        assert_eq!(of_entity, balance, "row and entity of {id} differ");
        total += balance;
    }
    assert_eq!(total, (0..CUSTOMERS).sum::<i64>() + PAYMENTS * 1000);

    // A command whose statement fails leaves neither event nor row, and its neighbours go on.
    let broken = "alter table customer add check (balance < 1000000000)";
    session.batch_execute(broken).await.unwrap();
    let customer = node.entity::<Customer>("c-0000");
    let (one, failed, other) = tokio::join!(
        customer.send(Pay { amount: 1 }),
        customer.send(Pay {
            amount: 1_000_000_000
        }),
        customer.send(Pay { amount: 2 }),
    );
    let error = failed.unwrap_err();
    assert!(
        matches!(&error, SendError::Failed(CommandError::Statement(why)) if why.contains("check")),
        "{error}"
    );
    assert_eq!(other.unwrap().reply, one.unwrap().reply + 2);
    let balance = "select balance from customer where id = 'c-0000'";
    let balance: i64 = session.query_one(balance, &[]).await.unwrap().get(0);
    let of_entity = customer.read(|customer, _| customer.balance).await.unwrap();
    assert_eq!(of_entity, balance);
    drop(session);
    node.close().await;
}
