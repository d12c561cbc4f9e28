//! Looking at a running node: JSON below `/_inspect/api`, and a page for people. Nothing here
//! changes anything, but that people may help instances of sagas.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use everfold::Node;

mod answers;
pub mod events;
pub mod record;
pub mod sagas;

pub(crate) use answers::begin;

/// Everything in one file: no build, nothing from elsewhere.
const PAGE: &str = include_str!("inspect/page.html");
/// What the page may do: run itself and ask this server.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// The paths of the inspection. A node may come to serve several logs, so each is below its name.
pub fn router(node: Arc<Node>) -> Router {
    let log = Router::new()
        .route("/node", get(answers::node))
        .route("/partitions", get(answers::partitions))
        .route("/handlers", get(answers::handlers))
        .route("/events", get(answers::events))
        .route("/entities/{kind}", get(answers::entities))
        .route("/placed", get(answers::placed))
        .route("/entity/{kind}/{id}", get(answers::entity))
        .route("/sagas", get(sagas::list))
        .route("/sagas/{saga}/{id}", get(sagas::show).post(sagas::act))
        .route("/views", get(answers::views))
        .route("/view/{name}", get(answers::view));
    let name = &node.engine().identity().log;
    Router::new()
        .route("/_inspect/", get(page))
        .route("/_inspect", get(page))
        .route("/_inspect/api/logs", get(answers::logs))
        .nest(&format!("/_inspect/api/logs/{name}"), log)
        .with_state(node)
}

async fn page() -> Response {
    let policy = HeaderValue::from_static(POLICY);
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(PAGE)).into_response()
}
