//! Paths about customers.

use axum::http::StatusCode;
use axum::response::Response;
use everfold::Key;
use serde::Deserialize;
use serde_json::{Value, json};

use super::failure::Failure;
use super::intent::Intent;
use super::read::{One, PATIENCE, Page, Question, Read};
use super::received::{Body, Name};
use super::{Shop, State, shown};
use crate::customer::{ChangeCreditLimit, Close, Customer, CustomerId, Open};
use crate::money::Money;
use crate::views::CustomerRow;
use everfold::engine::Position;

type Answer = Result<Response, Failure>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewCustomer {
    name: String,
    credit_limit: Money,
}

pub(super) async fn open(shop: State, intent: Intent, Body(new): Body<NewCustomer>) -> Answer {
    let id = CustomerId::from(intent.new_id.as_str());
    let command = Open {
        name: new.name,
        credit_limit: new.credit_limit,
    };
    let customer = shop.node.entity::<Customer>(id.clone());
    let sent = intent.dress(customer.send(command)).await?;
    let body = json!({ "id": id });
    Ok(shown::answer(
        StatusCode::CREATED,
        body,
        &intent.seen(sent.position())?,
    ))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewLimit {
    credit_limit: Money,
}

pub(super) async fn change_limit(
    shop: State,
    Name(id): Name,
    intent: Intent,
    Body(NewLimit { credit_limit }): Body<NewLimit>,
) -> Answer {
    let customer = shop.node.entity::<Customer>(id.as_str());
    let command = ChangeCreditLimit { credit_limit };
    let sent = intent.dress(customer.send(command)).await?;
    let body = json!({ "id": id, "credit_limit": credit_limit });
    Ok(shown::answer(
        StatusCode::OK,
        body,
        &intent.seen(sent.position())?,
    ))
}

pub(super) async fn close(shop: State, Name(id): Name, intent: Intent) -> Answer {
    let customer = shop.node.entity::<Customer>(id.as_str());
    let sent = intent.dress(customer.send(Close)).await?;
    Ok(shown::answer(
        StatusCode::OK,
        json!({ "id": id }),
        &intent.seen(sent.position())?,
    ))
}

/// The row of a customer that was opened.
pub(super) async fn row(
    shop: &Shop,
    id: &CustomerId,
    position: &Position,
) -> Result<CustomerRow, Failure> {
    let asked = shop.node.view(&shop.history).get(id);
    let row = asked.after(position).within(PATIENCE).await?;
    row.filter(|row| row.opened.is_some())
        .ok_or_else(|| Failure::not_found("customer", id.as_text()))
}

pub(super) async fn one(shop: State, Name(id): Name, read: Read<One>) -> Answer {
    let id = CustomerId::from(id);
    let position = read.position_of(&shop, id.as_text()).await?;
    let row = row(&shop, &id, &position).await?;
    let body = shown::customer(&id, &row);
    Ok(shown::answer(StatusCode::OK, body, &position))
}

pub(super) async fn order_history(shop: State, Name(id): Name, read: Read<One>) -> Answer {
    let id = CustomerId::from(id);
    let position = read.position_of(&shop, id.as_text()).await?;
    let row = row(&shop, &id, &position).await?;
    let orders = row.orders.iter();
    let orders: Vec<Value> = orders
        .map(|(order, line)| shown::order(&id, order, line))
        .collect();
    let mut body = shown::customer(&id, &row);
    body["orders"] = orders.into();
    Ok(shown::answer(StatusCode::OK, body, &position))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct All {
    position: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

impl Question for All {
    fn token(&self) -> Option<&str> {
        self.position.as_deref()
    }
}

pub(super) async fn all(shop: State, read: Read<All>) -> Answer {
    let page = Page::new(&read.query.after, read.query.limit)?;
    let position = read.position(&shop).await?;
    let add = |page: &mut Page<Value>, id: &CustomerId, row: &CustomerRow| {
        if row.opened.is_some() {
            page.offer(id.as_text(), || shown::customer(id, row));
        }
    };
    let asked = shop.node.view(&shop.history).fold(page, add);
    let page = asked.after(&position).within(PATIENCE).await?;
    Ok(shown::page("customers", page.finish(), &position))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LowCredit {
    below: Money,
    position: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

impl Question for LowCredit {
    fn token(&self) -> Option<&str> {
        self.position.as_deref()
    }
}

pub(super) async fn low_credit(shop: State, read: Read<LowCredit>) -> Answer {
    let page = Page::new(&read.query.after, read.query.limit)?;
    let position = read.position(&shop).await?;
    let below = read.query.below;
    let asked =
        shop.node
            .view(&shop.low_credit)
            .fold(page, move |page: &mut Page<Value>, id, row| {
                if row.is_below(below) {
                    page.offer(id.as_text(), || {
                        json!({
                            "id": id,
                            "credit_limit": row.credit_limit,
                            "available_credit": row.available,
                        })
                    });
                }
            });
    let page = asked.after(&position).within(PATIENCE).await?;
    Ok(shown::page("customers", page.finish(), &position))
}
