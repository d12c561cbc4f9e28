//! A node over HTTP, to this machine only: there is no authentication.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Router, http::uri::Authority};
use everfold::Node;
use everfold_store::http::Failure;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::refused;
use crate::output::say;

/// The port unless told otherwise.
pub const PORT: u16 = 4600;
/// How many ports are tried when the first is taken.
const TRIES: u16 = 100;
/// How long requests in flight may take once the end was asked for.
const DRAIN: Duration = Duration::from_secs(10);

/// This machine, on a port.
pub fn here(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Serves an application's API, and a page to look into it, until the process is asked to end; then
/// finishes what was begun.
///
/// # Errors
/// The address is one of a network, or no port is free.
pub async fn serve(node: Arc<Node>, api: Router, address: SocketAddr) -> anyhow::Result<()> {
    let mut stop = Stop::new()?;
    let listener = listen(address).await?;
    let bound = listener.local_addr()?;
    if address.port() != 0 && bound.port() != address.port() {
        say(&format!(
            "port {} is taken; using the next free one",
            address.port()
        ));
    }
    say(&format!("listening on http://{bound}/ until Ctrl-C"));
    let (asked, mut ending) = tokio::sync::watch::channel(false);
    let mut end = ending.clone();
    let serving = axum::serve(listener, router(node, api)).with_graceful_shutdown(async move {
        let _ = end.wait_for(|end| *end).await;
    });
    let serving = tokio::spawn(serving.into_future());
    stop.asked().await;
    say("finishing what was begun; Ctrl-C again ends at once");
    asked.send_replace(true);
    let _ = ending.wait_for(|end| *end).await;
    tokio::select! { biased;
        ended = serving => ended??,
        () = tokio::time::sleep(DRAIN) => say("some requests took too long and were left"),
        () = stop.asked() => say("ended at once"),
    }
    Ok(())
}

/// Refuses an address that others than this machine can reach.
///
/// # Errors
/// It is one.
pub fn check(address: SocketAddr) -> anyhow::Result<()> {
    if !address.ip().is_loopback() {
        return Err(refused(format!(
            "{address} can be reached from a network, and there is no authentication: refuses the \
             network without authentication; listen on 127.0.0.1 or [::1]"
        )));
    }
    Ok(())
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    check(address)?;
    let last = match address.port() {
        0 => 0,
        port => port.saturating_add(TRIES),
    };
    for port in address.port()..=last {
        match TcpListener::bind(SocketAddr::new(address.ip(), port)).await {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => return Err(error).context(format!("cannot listen on {address}")),
        }
    }
    Err(anyhow!(
        "the ports {} to {last} are taken; name a free one, or 0 for any",
        address.port()
    ))
}

/// Everything that is served.
pub fn router(node: Arc<Node>, api: Router) -> Router {
    api.merge(crate::inspect::router(node))
        .route("/", get(async || Redirect::to("/_inspect/")))
        .layer(middleware::from_fn(guard))
}

/// A page of somewhere else must not reach this machine through a browser: neither by a name that
/// it lets point here, nor by having our answers taken for something that they are not.
async fn guard(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST);
    let named = host.map(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let is_ours = match named {
        None => true,
        Some(None) => false,
        Some(Some(authority)) => {
            let host = authority.host().trim_matches(['[', ']']);
            let address = host.parse::<std::net::IpAddr>();
            host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|ip| ip.is_loopback())
        }
    };
    if !is_ours {
        let message = "this server answers to localhost and 127.0.0.1 only";
        return Failure::new(StatusCode::FORBIDDEN, "UNKNOWN_HOST", message).into_response();
    }
    let mut response = next.run(request).await;
    let no_guessing = HeaderValue::from_static("nosniff");
    response
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, no_guessing);
    response
}

/// Ctrl-C, or a polite request of the system.
pub struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Stop {
    /// Begins to listen; from now on the process does not end by itself.
    ///
    /// # Errors
    /// What the system says.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Completes when the process is asked to end.
    pub async fn asked(&mut self) {
        tokio::select! { biased;
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
