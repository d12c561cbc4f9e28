//! The store over HTTP and JSON.
//!
//! | | |
//! |---|---|
//! | `POST /customers` | open a customer: `name`, `credit_limit` |
//! | `GET /customers` | all customers, a page at a time |
//! | `GET /customers/{id}` | limit and available credit |
//! | `PUT /customers/{id}/credit-limit` | set another `credit_limit` |
//! | `DELETE /customers/{id}` | close it for good |
//! | `GET /customers/{id}/orderhistory` | a customer with all its orders |
//! | `GET /customers/low-credit?below=50.00` | customers with less credit left |
//! | `POST /orders` | place an order: `customer`, `items` or `total`, `delivery` |
//! | `GET /orders` | all orders, a page at a time |
//! | `GET /orders/{id}` | where an order stands, and why |
//! | `GET /orders/customer/{id}` | the orders of a customer |
//! | `GET /orders/shipped?total_over=100.00&customer_after=1997-03-01` | shipped to new customers |
//! | `POST /orders/{id}/cancel`, `ship`, `payment` | what happens to an order; a payment has a `method` |
//!
//! An order is answered `202` while it waits for credit; `GET /orders/{id}` says how that went.
//! An order for a customer that does not exist is rejected in the same way.
//!
//! **Positions.** Every answer carries a token, `position` in the body and `X-Everfold-Position` in
//! the head. A read that is given one, in that header or as `?position=` (or `?after=` where there
//! is one thing to read), reflects it, or answers `503` and says by how much it is behind. Without
//! one a read reflects everything that was acknowledged before it came. A write that is given one
//! answers with a token for both: who passes on the last token always sees all its own writes.
//!
//! **Repeats.** `Idempotency-Key` makes a write repeatable: a repeat gets the first answer. A
//! version 7 UUID, made when the write was first meant, is recognised for 24 hours. Any other text
//! is a best effort: recognised until midnight UTC.
//!
//! **Pages.** Lists take `limit` (100 unless given, 1,000 at most) and `after`, the `next` of the
//! page before.
//!
//! **Failures** are `{"error": {"kind": ..., "message": ...}}`. Amounts are decimal strings.
//! `X-Principal` names who asks; it is noted with every event.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post, put};
use everfold::{Node, View};

use crate::customer::CustomerId;
use crate::views::{
    CustomerRow, LowCreditRow, ShippedRow, customer_history, low_credit, shipped_orders,
};

mod customers;
mod failure;
mod intent;
mod orders;
mod read;
mod received;
mod shown;

pub use failure::Failure;
pub use received::{Body, Name};

/// The most that a request's body may hold.
pub const BODY_BYTES: usize = 64 << 10;

/// What every request needs.
struct Shop {
    node: Arc<Node>,
    history: View<CustomerId, CustomerRow>,
    low_credit: View<CustomerId, LowCreditRow>,
    shipped: View<CustomerId, ShippedRow>,
}

type State = axum::extract::State<Arc<Shop>>;

/// All paths of the store.
pub fn router(node: Arc<Node>) -> Router {
    let shop = Arc::new(Shop {
        node,
        history: customer_history(),
        low_credit: low_credit(),
        shipped: shipped_orders(),
    });
    Router::new()
        .route("/customers", post(customers::open).get(customers::all))
        .route("/customers/low-credit", get(customers::low_credit))
        .route(
            "/customers/{id}",
            get(customers::one).delete(customers::close),
        )
        .route("/customers/{id}/credit-limit", put(customers::change_limit))
        .route(
            "/customers/{id}/orderhistory",
            get(customers::order_history),
        )
        .route("/orders", post(orders::place).get(orders::all))
        .route("/orders/shipped", get(orders::shipped))
        .route("/orders/customer/{id}", get(orders::of_customer))
        .route("/orders/{id}", get(orders::one))
        .route("/orders/{id}/cancel", post(orders::cancel))
        .route("/orders/{id}/ship", post(orders::ship))
        .route("/orders/{id}/payment", post(orders::pay))
        .fallback(failure::no_such_path)
        .method_not_allowed_fallback(failure::no_such_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(shop)
}
