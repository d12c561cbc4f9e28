//! Orders that are placed, shipped, paid and cancelled; handlers decide on them.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use everfold::engine::engine::Engine;
use everfold::engine::world::System;
use everfold::{Application, Entity, Event, Key, NodeOptions};
use everfold_cluster::Client;
use everfold_store::customer::{Customer, CustomerEvent, CustomerId, Open};
use everfold_store::money::Money;
use everfold_store::order::{Cancel, Order, OrderEvent, Pay, PaymentMethod, Place, Ship};
use everfold_store::views::{CustomerRow, customer_history};
use everfold_world::Random;
use serde_json::{Value, json};

use super::{Answer, Request, Workload, events};
use crate::chaos::check::Violation;
use crate::chaos::check::store::{Logged, check};
use crate::chaos::history::{Kind, Operation};

const LIMIT: i64 = 5_000;
const MOST: u64 = 1_000;
/// Orders that a client has open at once.
const OPEN: usize = 8;

/// So many customers.
#[derive(Clone, Copy, Debug)]
pub struct Customers {
    /// How many.
    pub customers: u64,
}

/// A client sees its own orders through.
pub struct Session {
    client: u64,
    placed: u64,
    open: Vec<String>,
    random: Random,
}

fn customer(number: u64) -> CustomerId {
    CustomerId::from(format!("c-{number}"))
}

impl Workload for Customers {
    type Session = Session;

    fn name(&self) -> &'static str {
        "store"
    }

    fn application(&self) -> Application {
        everfold_store::application()
    }

    async fn prepare(&self, client: &Client) -> anyhow::Result<()> {
        for number in 0..self.customers {
            let open = Open {
                name: format!("customer {number}"),
                credit_limit: Money::from_cents(LIMIT),
            };
            let opened = client.entity::<Customer>(customer(number)).send(open).await;
            opened.with_context(|| format!("customer {number} is not opened"))?;
        }
        Ok(())
    }

    fn session(&self, client: u64, random: Random) -> Session {
        Session {
            client,
            placed: 0,
            open: Vec::new(),
            random,
        }
    }

    fn draw(&self, session: &mut Session) -> Request {
        let random = &mut session.random;
        if session.open.is_empty() || session.open.len() < OPEN && random.one_in(3) {
            session.placed += 1;
            let order = format!("o-{}-{}", session.client, session.placed);
            session.open.push(order.clone());
            let (whose, cents) = (random.below(self.customers), random.below(MOST));
            return Request {
                f: "place",
                key: order,
                value: json!({"customer": customer(whose).as_text(), "cents": cents}),
            };
        }
        let at = random.index(session.open.len());
        let key = session.open[at].clone();
        let f = match random.below(8) {
            0..3 => "ship",
            3..7 => "pay",
            _ => "cancel",
        };
        let value = Value::Null;
        Request { f, key, value }
    }

    async fn perform(&self, client: &Client, request: &Request) -> Answer {
        let order = client.entity::<Order>(&*request.key);
        let state = |state| json!(state);
        match request.f {
            "place" => {
                let customer = request.value["customer"].as_str().unwrap_or_default();
                let cents = request.value["cents"].as_i64().unwrap_or_default();
                let place = Place {
                    customer: CustomerId::from(customer),
                    items: Vec::new(),
                    total: Money::from_cents(cents),
                    delivery: "here".to_owned(),
                };
                let outcome = order.send(place).await;
                Answer::of(request, outcome, |sent| state(sent.reply))
            }
            "ship" => {
                let outcome = order.send(Ship).await;
                Answer::of(request, outcome, |sent| state(sent.reply))
            }
            "pay" => {
                let method = PaymentMethod::Card;
                let outcome = order.send(Pay { method }).await;
                Answer::of(request, outcome, |sent| state(sent.reply))
            }
            _ => {
                let outcome = order.send(Cancel).await;
                Answer::of(request, outcome, |sent| state(sent.reply))
            }
        }
    }

    /// What is paid or cancelled is not asked for any more.
    fn learn(&self, session: &mut Session, request: &Request, answer: &Answer) {
        let ends = matches!(request.f, "pay" | "cancel");
        let none = request.f == "place" && answer.kind == Kind::Fail;
        let over = ends && answer.kind != Kind::Fail || none;
        if over || session.random.one_in(12) {
            session.open.retain(|order| *order != request.key);
        }
    }

    async fn check(
        &self,
        engine: &Arc<dyn Engine>,
        operations: &[Operation],
    ) -> anyhow::Result<Vec<Violation>> {
        let mut logged = Logged::default();
        // One node alone brings everything to its end.
        let opened =
            self.application()
                .open_on(engine.clone(), System::current(), NodeOptions::default());
        let node = opened.await?;
        let rows = settle(&node).await;
        for record in events(engine.as_ref()).await? {
            let portable = &record.portable;
            let (kind, version) = (&portable.event_type, portable.schema_version);
            let id = portable.entity.id.to_string();
            if portable.entity.kind == Order::NAME {
                let event = OrderEvent::decode(kind, version, &portable.payload)?;
                logged.orders.entry(id).or_default().push(event);
            } else if portable.entity.kind == Customer::NAME {
                let event = CustomerEvent::decode(kind, version, &portable.payload)?;
                logged.customers.entry(id).or_default().push(event);
            }
        }
        node.close().await;
        logged.rows = rows?;
        Ok(check(operations, &logged))
    }
}

async fn settle(node: &everfold::Node) -> anyhow::Result<BTreeMap<String, CustomerRow>> {
    let position = node.caught_up().await?;
    let add = |rows: &mut BTreeMap<_, _>, id: &CustomerId, row: &CustomerRow| {
        rows.insert(id.as_text().to_owned(), row.clone());
    };
    let history = customer_history();
    let asked = node.view(&history).fold(BTreeMap::new(), add);
    Ok(asked.after(&position).await?)
}
