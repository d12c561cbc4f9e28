//! Looking at a running node: JSON below `/_inspect/api`, and a page for people. Nothing here
//! changes anything.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use everfold::Node;

mod answers;
pub mod events;
pub mod record;

pub(crate) use answers::begin;

/// Everything in one file: no build, nothing from elsewhere.
const PAGE: &str = include_str!("inspect/page.html");
/// What the page may do: run itself and ask this server.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// The paths of the inspection.
pub fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route("/_inspect/", get(page))
        .route("/_inspect", get(page))
        .route("/_inspect/api/node", get(answers::node))
        .route("/_inspect/api/partitions", get(answers::partitions))
        .route("/_inspect/api/handlers", get(answers::handlers))
        .route("/_inspect/api/events", get(answers::events))
        .route("/_inspect/api/entity/{kind}/{id}", get(answers::entity))
        .route("/_inspect/api/views", get(answers::views))
        .route("/_inspect/api/view/{name}", get(answers::view))
        .with_state(node)
}

async fn page() -> Response {
    let policy = HeaderValue::from_static(POLICY);
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(PAGE)).into_response()
}
