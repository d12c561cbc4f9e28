//! What answers look like.

use axum::Json;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use everfold::engine::{Position, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};

use crate::customer::CustomerId;
use crate::order::OrderId;
use crate::views::{CustomerRow, OrderLine};

/// The header of the token.
pub(super) const POSITION: &str = "x-everfold-position";

/// An object and the position that it reflects.
pub(super) fn answer(status: StatusCode, mut body: Value, position: &Position) -> Response {
    let token = position.to_string();
    body["position"] = Value::String(token.clone());
    let mut response = (status, Json(body)).into_response();
    if let Ok(value) = HeaderValue::try_from(token) {
        response.headers_mut().insert(POSITION, value);
    }
    response
}

/// A page of things.
pub(super) fn page<T: Serialize>(
    name: &str,
    (shown, next): (Vec<T>, Option<String>),
    position: &Position,
) -> Response {
    let body = json!({ name: shown, "next": next });
    answer(StatusCode::OK, body, position)
}

/// A customer without its orders.
pub(super) fn customer(id: &CustomerId, row: &CustomerRow) -> Value {
    json!({
        "id": id,
        "name": row.name,
        "credit_limit": row.credit_limit,
        "reserved": row.reserved,
        "available_credit": row.available(),
        "opened": moment(row.opened),
        "closed": moment(row.closed),
    })
}

/// An order as its customer's row shows it.
pub(super) fn order(customer: &CustomerId, id: &OrderId, line: &OrderLine) -> Value {
    json!({
        "id": id,
        "customer": customer,
        "state": line.state,
        "reason": line.reason,
        "total": line.total,
        "placed": moment(line.placed),
        "paid": moment(line.paid),
    })
}

fn moment(moment: Option<Timestamp>) -> Option<String> {
    moment.map(|moment| moment.to_string())
}
