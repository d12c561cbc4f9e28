//! Connections: how they are secured, and what every session is told.

use std::future::poll_fn;
use std::time::Duration;

use deadpool_postgres::{
    Connect, Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime,
};
use everfold_engine::engine::BoxFuture;
use everfold_engine::position::Incarnation;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::address::Address;
use crate::error::OpenError;
use crate::schema::check_same;
use crate::tls::secured;

/// How long an ownership is believed without a renewal.
pub(crate) const LEASE: Duration = Duration::from_secs(10);
/// A statement takes no longer, or it is taken back: well below the lease, so that a successor never
/// waits for it.
pub(crate) const STATEMENT: Duration = Duration::from_secs(5);
/// A session that stopped within a transaction is ended.
const IDLE: Duration = Duration::from_secs(3);
/// After so long without an answer a statement counts as lost.
pub(crate) const PATIENCE: Duration = Duration::from_secs(8);

/// What every session of an owner is told when it begins.
pub(crate) fn session(address: &Address, name: &str, statement: Duration) -> Config {
    let mut config = address.config.clone();
    let mut options = config.get_options().unwrap_or_default().to_owned();
    for (setting, value) in [
        ("statement_timeout", statement.as_millis().to_string()),
        ("lock_timeout", "0".to_owned()),
        (
            "idle_in_transaction_session_timeout",
            IDLE.as_millis().to_string(),
        ),
        (
            "default_transaction_isolation",
            "read\\ committed".to_owned(),
        ),
        // Statements are short and always the same: planning them anew, or compiling them, costs
        // more than it can save.
        ("plan_cache_mode", "force_generic_plan".to_owned()),
        // Sessions of a pool are idle for as long as there is nothing to do.
        ("idle_session_timeout", "0".to_owned()),
        // A machine that is gone must not keep locks.
        ("tcp_keepalives_idle", "5".to_owned()),
        ("tcp_keepalives_interval", "2".to_owned()),
        ("tcp_keepalives_count", "3".to_owned()),
        ("jit", "off".to_owned()),
        // A commit that was not waited for is told by a warning only.
        ("client_min_messages", "warning".to_owned()),
    ] {
        options.push_str(&format!(" -c {setting}={value}"));
    }
    config.options(options.trim());
    config.application_name(session_name(address, name));
    config.keepalives_idle(Duration::from_secs(5));
    config.keepalives_interval(Duration::from_secs(2));
    config.keepalives_retries(3);
    config.tcp_user_timeout(LEASE);
    config
}

/// What a session is called: what it is for, the log, and whatever the address adds. It always begins
/// with `everfold`, by which a successor tells sessions of owners from others.
fn session_name(address: &Address, name: &str) -> String {
    // Longer names are cut by the server, with a warning.
    const LENGTH: usize = 63;
    let mut named = format!("{name} {}", address.log());
    if let Some(more) = address.config.get_application_name() {
        named.truncate(named.len().min(LENGTH / 2));
        named.push(' ');
        named.push_str(more);
    }
    named.truncate(named.floor_char_boundary(LENGTH));
    named
}

/// A pool of sessions that all see the same log: a session that finds another incarnation, or a copy
/// that was put into its place, is refused.
pub(crate) fn pool(
    address: &Address,
    name: &str,
    size: usize,
    incarnation: Incarnation,
) -> Result<Pool, OpenError> {
    hurried_pool(address, name, size, incarnation, STATEMENT)
}

/// The same with another time after which statements are taken back.
pub(crate) fn hurried_pool(
    address: &Address,
    name: &str,
    size: usize,
    incarnation: Incarnation,
    statement: Duration,
) -> Result<Pool, OpenError> {
    let recycling_method = RecyclingMethod::Fast;
    let manager = Manager::from_connect(
        session(address, name, statement),
        Attentive(secured(address)?),
        ManagerConfig { recycling_method },
    );
    let schema = address.schema.clone();
    let same_log = Hook::async_fn(move |client, _| {
        let schema = schema.clone();
        Box::pin(async move {
            // An acknowledgement must not be given before the server has flushed it.
            let sql = "select case when current_setting('synchronous_commit') = 'off' \
                       then set_config('synchronous_commit', 'on', false) end";
            client
                .query_one(sql, &[])
                .await
                .map_err(HookError::Backend)?;
            let same = check_same(client, &schema, incarnation).await;
            same.map_err(|error| HookError::message(error.to_string()))
        })
    });
    Pool::builder(manager)
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(PATIENCE))
        .create_timeout(Some(PATIENCE))
        .post_create(same_log)
        .build()
        .map_err(|error| OpenError::Address {
            address: address.shown.clone(),
            reason: error.to_string(),
        })
}

/// Connects, and ends a session in which a commit was not waited for: if somebody cancels the wait for
/// a replica, the server warns and then answers as if all was well.
struct Attentive(MakeRustlsConnect);

impl Connect for Attentive {
    fn connect(
        &self,
        config: &Config,
    ) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), tokio_postgres::Error>> {
        let (config, tls) = (config.clone(), self.0.clone());
        Box::pin(async move {
            let (client, mut connection) = config.connect(tls).await?;
            let driven = tokio::spawn(async move {
                while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                    if let AsyncMessage::Notice(notice) = message
                        && notice.routine() == Some("SyncRepWaitForLSN")
                    {
                        return;
                    }
                }
            });
            Ok((client, driven))
        })
    }
}
