//! What an acknowledgement means on this server.

use deadpool_postgres::Pool;
use everfold_engine::engine::Finding;

use crate::address::Address;
use crate::error::Failed;

/// Settings that are looked at, each with its values under which acknowledged events can be lost.
const SETTINGS: &[(&str, &[&str])] = &[
    ("server_version", &[]),
    ("fsync", &["off"]),
    ("full_page_writes", &["off"]),
    ("synchronous_commit", &["off"]),
    (STANDBYS, &[]),
    ("wal_level", &[]),
    ("wal_sync_method", &[]),
    ("data_checksums", &[]),
    ("statement_timeout", &["0"]),
    ("idle_in_transaction_session_timeout", &["0"]),
    ("tcp_user_timeout", &[]),
    ("max_connections", &[]),
];

const STANDBYS: &str = "synchronous_standby_names";

/// What was found, and in one line what an acknowledged append survives.
pub(crate) async fn examine(
    pool: &Pool,
    address: &Address,
) -> Result<(Vec<Finding>, String), Failed> {
    let client = pool.get().await?;
    let mut findings = Vec::new();
    for &(name, losing) in SETTINGS {
        // A setting that a later version has dropped, or that may not be seen.
        let row = client
            .query_one("select current_setting($1, true)", &[&name])
            .await;
        let value: Option<String> = row.ok().and_then(|row| row.get(0));
        findings.push(Finding {
            name,
            loses_data: value
                .as_deref()
                .is_some_and(|value| losing.contains(&value)),
            value: match value {
                None => "cannot be seen".to_owned(),
                Some(value) if value.is_empty() => "none".to_owned(),
                Some(value) => value,
            },
        });
    }
    let sql = format!(
        "select pg_is_in_recovery(), (select count(*) from pg_stat_replication), \
         (select c.relpersistence = 'p' from pg_class c where c.oid = '{}.event'::regclass), \
         (select count(*) from pg_stat_activity where state like 'idle in transaction%' \
            and clock_timestamp() - state_change > interval '1 minute')",
        address.schema
    );
    let row = client.query_one(&sql, &[]).await?;
    let (recovering, replicas, logged, idle): (bool, i64, bool, i64) =
        (row.get(0), row.get(1), row.get(2), row.get(3));
    findings.push(Finding {
        name: "role",
        value: if recovering { "replica" } else { "primary" }.to_owned(),
        loses_data: false,
    });
    findings.push(Finding {
        name: "replicas connected",
        value: replicas.to_string(),
        loses_data: false,
    });
    findings.push(Finding {
        name: "table event",
        value: if logged {
            "logged"
        } else {
            "unlogged: empty after a crash"
        }
        .to_owned(),
        loses_data: !logged,
    });
    findings.push(Finding {
        name: "sessions idle in a transaction for a minute",
        value: idle.to_string(),
        loses_data: false,
    });
    let durability = durability(&findings);
    Ok((findings, durability))
}

/// Whether a commit is acknowledged only when replicas have it.
pub(crate) fn waits_for_replicas(findings: &[Finding]) -> bool {
    let commit = value(findings, "synchronous_commit");
    value(findings, STANDBYS) != "none" && commit != "local" && commit != "off"
}

fn value<'a>(findings: &'a [Finding], name: &str) -> &'a str {
    let found = findings.iter().find(|finding| finding.name == name);
    found.map_or("", |finding| finding.value.as_str())
}

fn durability(findings: &[Finding]) -> String {
    let version = value(findings, "server_version");
    let losing = findings.iter().filter(|finding| finding.loses_data);
    let losing: Vec<_> = losing
        .map(|finding| format!("{} = {}", finding.name, finding.value))
        .collect();
    if !losing.is_empty() {
        return format!(
            "PostgreSQL {version}, and may be lost: {}",
            losing.join(", ")
        );
    }
    let replicas = match waits_for_replicas(findings) {
        true => format!(" and on replicas ({})", value(findings, STANDBYS)),
        false => String::new(),
    };
    format!(
        "flushed by PostgreSQL {version} ({}){replicas}: survives a crash of process, server and \
         machine",
        value(findings, "wal_sync_method")
    )
}
