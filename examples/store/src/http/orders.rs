//! Paths about orders.

use axum::http::StatusCode;
use axum::response::Response;
use everfold::engine::{EntityKey, Position, Timestamp};
use everfold::{Command, CommandError, Decide, Entity, Key};
use serde::Deserialize;
use serde_json::{Value, json};

use super::customers::row;
use super::failure::Failure;
use super::intent::Intent;
use super::read::{One, PATIENCE, Page, Question, Read};
use super::received::{Body, Name};
use super::{Shop, State, shown};
use crate::customer::{Customer, CustomerId};
use crate::money::Money;
use crate::order::{
    Cancel, Item, Order, OrderId, OrderRejection, OrderState, Pay, PaymentMethod, Place, Ship,
};
use crate::views::{CustomerRow, ShippedRow};

type Answer = Result<Response, Failure>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewOrder {
    customer: CustomerId,
    #[serde(default)]
    items: Vec<Item>,
    /// The sum of the items unless given.
    total: Option<Money>,
    #[serde(default)]
    delivery: String,
}

pub(super) async fn place(shop: State, intent: Intent, Body(new): Body<NewOrder>) -> Answer {
    let total = match new.total {
        Some(total) => total,
        None if new.items.is_empty() => {
            return Err(Failure::bad_request("an order has `items` or a `total`"));
        }
        None => Money::sum(new.items.iter().map(|item| item.amount))
            .ok_or_else(|| Failure::bad_request("the items cost more than an amount can say"))?,
    };
    // No customer can have such a name, so nobody would ever decide on the order.
    let customer = EntityKey::new(Customer::NAME, new.customer.as_text());
    customer.check().map_err(CommandError::from)?;
    let id = OrderId::from(intent.new_id.as_str());
    let command = Place {
        customer: new.customer,
        items: new.items,
        total,
        delivery: new.delivery,
    };
    let order = shop.node.entity::<Order>(id.clone());
    let sent = intent.dress(order.send(command)).await?;
    let body = json!({ "id": id, "state": sent.reply });
    Ok(shown::answer(
        StatusCode::ACCEPTED,
        body,
        &intent.seen(sent.position())?,
    ))
}

/// Sends a command that answers with the order's state.
async fn change<C: Command>(shop: &Shop, id: &str, intent: &Intent, command: C) -> Answer
where
    Order: Decide<C, Reply = OrderState, Rejection = OrderRejection>,
{
    let order = shop.node.entity::<Order>(id);
    let sent = intent.dress(order.send(command)).await?;
    let body = json!({ "id": id, "state": sent.reply });
    Ok(shown::answer(
        StatusCode::OK,
        body,
        &intent.seen(sent.position())?,
    ))
}

pub(super) async fn cancel(shop: State, Name(id): Name<String>, intent: Intent) -> Answer {
    change(&shop, &id, &intent, Cancel).await
}

pub(super) async fn ship(shop: State, Name(id): Name<String>, intent: Intent) -> Answer {
    change(&shop, &id, &intent, Ship).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Payment {
    method: PaymentMethod,
}

pub(super) async fn pay(
    shop: State,
    Name(id): Name<String>,
    intent: Intent,
    Body(Payment { method }): Body<Payment>,
) -> Answer {
    change(&shop, &id, &intent, Pay { method }).await
}

pub(super) async fn one(shop: State, Name(id): Name<String>, read: Read<One>) -> Answer {
    let shown = id.clone();
    let look = move |order: &Order, version: u64| {
        let placed = order.placed()?;
        Some(json!({
            "id": shown,
            "customer": placed.customer,
            "state": order.state(),
            "reason": order.reason(),
            "total": placed.total,
            "items": placed.items,
            "delivery": placed.delivery,
            "paid_by": order.payment(),
            "version": version,
        }))
    };
    let order = shop.node.entity::<Order>(id.as_str());
    let position = read.position_of(&shop, &id).await?;
    let found = match read.token() {
        // Linearizable: whatever was acknowledged before the question is in the answer.
        None => order.read(look).await?,
        Some(token) => match order.read_after(token, PATIENCE, look).await {
            Err(CommandError::Deadline) => return Err(behind(&shop, &id, token).await?),
            found => found?,
        },
    };
    let body = found.ok_or_else(|| Failure::not_found("order", &id))?;
    Ok(shown::answer(StatusCode::OK, body, &position))
}

async fn behind(shop: &Shop, id: &str, token: &Position) -> Result<Failure, Failure> {
    let engine = shop.node.engine();
    let partition = engine.identity().layout.partition(id);
    let head = engine.safe_head(partition).await?;
    let behind = token.offset(partition).0.saturating_sub(head.0);
    let message = format!("order {id:?} is behind by {behind} records after waiting; try again");
    Ok(Failure::behind(behind, message))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct All {
    state: Option<OrderState>,
    position: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

impl Question for All {
    fn token(&self) -> Option<&str> {
        self.position.as_deref()
    }
}

fn offer(
    page: &mut Page<Value>,
    customer: &CustomerId,
    row: &CustomerRow,
    state: Option<OrderState>,
) {
    for (id, line) in &row.orders {
        if state.is_none_or(|state| state == line.state) {
            page.offer(id.as_text(), || shown::order(customer, id, line));
        }
    }
}

pub(super) async fn all(shop: State, read: Read<All>) -> Answer {
    let page = Page::new(&read.query.after, read.query.limit)?;
    let position = read.position(&shop).await?;
    let state = read.query.state;
    let add = move |page: &mut _, customer: &_, row: &_| offer(page, customer, row, state);
    let asked = shop.node.view(&shop.history).fold(page, add);
    let page = asked.after(&position).within(PATIENCE).await?;
    Ok(shown::page("orders", page.finish(), &position))
}

pub(super) async fn of_customer(shop: State, Name(id): Name<String>, read: Read<All>) -> Answer {
    let id = CustomerId::from(id);
    let mut page = Page::new(&read.query.after, read.query.limit)?;
    let position = read.position_of(&shop, id.as_text()).await?;
    let row = row(&shop, &id, &position).await?;
    offer(&mut page, &id, &row, read.query.state);
    Ok(shown::page("orders", page.finish(), &position))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shipped {
    total_over: Money,
    customer_after: Day,
    position: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

impl Question for Shipped {
    fn token(&self) -> Option<&str> {
        self.position.as_deref()
    }
}

pub(super) async fn shipped(shop: State, read: Read<Shipped>) -> Answer {
    let page = Page::new(&read.query.after, read.query.limit)?;
    let position = read.position(&shop).await?;
    // Newer than a day: opened when the day was over.
    let last = Timestamp(read.query.customer_after.0.plus_days(1).0 - 1);
    let total = read.query.total_over;
    let add = move |page: &mut Page<Value>, customer: &CustomerId, row: &ShippedRow| {
        for (id, total) in row.above(total, last) {
            page.offer(id.as_text(), || {
                json!({ "id": id, "customer": customer, "total": total, "state": OrderState::Shipped })
            });
        }
    };
    let asked = shop.node.view(&shop.shipped).fold(page, add);
    let page = asked.after(&position).within(PATIENCE).await?;
    Ok(shown::page("orders", page.finish(), &position))
}

/// A day, written `1997-03-31`.
struct Day(Timestamp);

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bad = || serde::de::Error::custom(format!("{text:?} is no day like 1997-03-31"));
        let parts: Vec<&str> = text.split('-').collect();
        let &[year, month, day] = parts.as_slice() else {
            return Err(bad());
        };
        let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if !parts.iter().all(|part| is_digits(part))
            || [4, 2, 2] != [year.len(), month.len(), day.len()]
        {
            return Err(bad());
        }
        let number = |part: &str| part.parse::<u32>().map_err(|_| bad());
        let (year, month, day) = (i64::from(number(year)?), number(month)?, number(day)?);
        if !(1..=12).contains(&month) {
            return Err(bad());
        }
        let date = Timestamp::from_date(year, month, day);
        if date.date() != (year, month, day) {
            return Err(bad());
        }
        Ok(Self(date))
    }
}
