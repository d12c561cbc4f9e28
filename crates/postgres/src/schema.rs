//! The schema of a log: creating and migrating it, and telling whose it is.

use everfold_engine::engine::Identity;
use everfold_engine::position::Incarnation;
use everfold_engine::record::Origin;
use everfold_engine::slot::Layout;
use everfold_engine::{Text, Uuid};
use futures_util::future::{Either, select};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use crate::address::Address;
use crate::error::{OpenError, replaced, told};
use crate::tls::secured;

/// What brings a schema from each format to the next.
const MIGRATIONS: &[&str] = &[include_str!("schema/1.sql"), include_str!("schema/2.sql")];
/// The format that this version reads and writes.
const FORMAT: i32 = MIGRATIONS.len() as i32;
/// How many partitions a log gets that nobody said anything about.
const PARTITIONS: u16 = 16;
/// The first major version that has everything, as `server_version_num` says it.
const OLDEST: i32 = 150_000;

/// Whether opening may create what is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Write,
    Look,
}

/// What was found behind an address.
pub(crate) struct Found {
    pub(crate) identity: Identity,
    /// What records are stored relative to.
    pub(crate) origin: Origin,
    /// Whether the number of the server's timeline can be asked for; epochs grow with it.
    pub(crate) timelines: bool,
}

/// Where a database is, as far as that can be told from inside.
#[derive(Debug, PartialEq)]
struct Place {
    server: Option<String>,
    database: u32,
    /// The number of the table of events: a schema that was dropped and restored has other ones.
    relation: u32,
    timeline: i64,
    replicated: bool,
}

/// The SQL that makes a schema from nothing, for who must run it under another role.
pub fn schema_sql(schema: &str) -> String {
    let mut sql = format!("create schema if not exists {schema};\n\n");
    for from in 0..MIGRATIONS.len() {
        sql.push_str(&step(schema, from));
    }
    sql
}

/// One migration with what records it.
fn step(schema: &str, from: usize) -> String {
    let mut sql = MIGRATIONS[from].replace("{schema}", schema);
    if from == 0 {
        sql.push_str(&format!("\ncreate table {schema}.format (format integer not null);\ninsert into {schema}.format values (0);\n"));
    }
    sql.push_str(&format!(
        "\nupdate {schema}.format set format = {};\n",
        from + 1
    ));
    sql
}

/// Creates the schema of a log, or brings it to the present format. A log is made in it when it is
/// first opened.
///
/// # Errors
/// [`OpenError`]: the address, the rights of the user or a newer format are in the way.
pub async fn migrate(address: &str) -> Result<(), OpenError> {
    let address = Address::parse(address)?;
    with_client(&address, async |client| {
        migrate_with(&address, client).await
    })
    .await
}

/// Lets a restored or moved log live on, under a new incarnation: tokens, nodes and owners of the old
/// one are refused from now on.
///
/// # Errors
/// [`OpenError`]: there is no log, or the database cannot be written.
pub async fn adopt(address: &str) -> Result<Incarnation, OpenError> {
    let address = Address::parse(address)?;
    with_client(&address, async |client| {
        check_format(&address, client, Access::Look).await?;
        let (place, _) = place(client, &address.schema).await?;
        let sql = format!(
            "with raised as (update {s}.partition set epoch = epoch + 1000000, owner = null), \
             gone as (delete from {s}.node) \
             update {s}.log set incarnation = gen_random_uuid(), server = $1, \
             database = $2, timeline = $3, replicated = $4, relation = $5 returning incarnation",
            s = address.schema
        );
        let row = client
            .query_one(
                sql.as_str(),
                &[
                    &place.server,
                    &place.database,
                    &place.timeline,
                    &place.replicated,
                    &place.relation,
                ],
            )
            .await
            .map_err(refused)?;
        Ok(Incarnation(row.get::<_, Uuid>(0).as_u128()))
    })
    .await
}

/// Drops the schema of a log with everything in it. A schema that holds no log is left alone.
///
/// # Errors
/// [`OpenError`]: it holds something else, or the rights are missing.
pub async fn remove(address: &str) -> Result<(), OpenError> {
    let address = Address::parse(address)?;
    with_client(&address, async |client| {
        match check_format(&address, client, Access::Look).await {
            Err(OpenError::NoLog(_)) => return Ok(()),
            Ok(()) | Err(OpenError::Older { .. }) => {}
            Err(error) => return Err(error),
        }
        let sql = format!("drop schema {} cascade", address.schema);
        client.batch_execute(&sql).await.map_err(refused)
    })
    .await
}

/// Finds the log, making it first if it may.
pub(crate) async fn find(address: &Address, access: Access) -> Result<Found, OpenError> {
    with_client(address, async |client| {
        check_server(client).await?;
        match check_format(address, client, access).await {
            Err(OpenError::NoLog(_) | OpenError::Older { .. }) if access == Access::Write => {
                migrate_with(address, client).await?;
            }
            other => other?,
        }
        if access == Access::Write {
            create(address, client).await?;
        }
        identify(address, client, access).await
    })
    .await
}

/// One session for a while, driven beside what is done with it.
async fn with_client<T>(
    address: &Address,
    work: impl AsyncFnOnce(&mut Client) -> Result<T, OpenError>,
) -> Result<T, OpenError> {
    let unreachable = |error: tokio_postgres::Error| OpenError::Unreachable {
        address: address.shown.clone(),
        reason: told(&error),
        passing: error.code().is_none_or(|code| {
            // Of who asks, or of what is asked for.
            !["28", "3D"]
                .iter()
                .any(|class| code.code().starts_with(class))
        }),
    };
    let mut config = address.config.clone();
    if config.get_application_name().is_none() {
        config.application_name(format!("everfold-open {}", address.log()));
    }
    let connecting = config.connect(secured(address)?).await;
    let (mut client, connection) = connecting.map_err(unreachable)?;
    let work = std::pin::pin!(work(&mut client));
    match select(work, std::pin::pin!(connection)).await {
        Either::Left((done, _)) => done,
        Either::Right((Ok(()), work)) => work.await,
        Either::Right((Err(error), _)) => Err(unreachable(error)),
    }
}

async fn check_server(client: &Client) -> Result<(), OpenError> {
    let sql = "select current_setting('server_version_num')::int4, \
               current_setting('server_version'), current_setting('server_encoding')";
    let row = client.query_one(sql, &[]).await.map_err(refused)?;
    let (number, version, encoding): (i32, String, String) = (row.get(0), row.get(1), row.get(2));
    if number < OLDEST {
        return Err(OpenError::Server(format!(
            "it is PostgreSQL {version}; 15 or later is needed"
        )));
    }
    if encoding != "UTF8" {
        return Err(OpenError::Server(format!(
            "the database is encoded in {encoding}; create one with encoding 'UTF8'"
        )));
    }
    Ok(())
}

async fn check_format(address: &Address, client: &Client, access: Access) -> Result<(), OpenError> {
    let schema = &address.schema;
    let sql = "select to_regnamespace($1) is not null, to_regclass($1 || '.format') is not null, \
               exists (select from pg_class where relnamespace = to_regnamespace($1))";
    let row = client.query_one(sql, &[schema]).await.map_err(refused)?;
    let (exists, ours, filled): (bool, bool, bool) = (row.get(0), row.get(1), row.get(2));
    if !ours {
        return Err(match exists && filled {
            true => OpenError::Foreign(schema.clone()),
            false => OpenError::NoLog(schema.clone()),
        });
    }
    let sql = format!("select format from {schema}.format");
    let found: i32 = client.query_one(&sql, &[]).await.map_err(refused)?.get(0);
    if found > FORMAT {
        let (schema, known) = (schema.clone(), FORMAT);
        return Err(OpenError::Newer {
            schema,
            found,
            known,
        });
    }
    if found < FORMAT {
        let schema = schema.clone();
        return Err(OpenError::Older { schema, found });
    }
    let sql = format!("select exists (select from {schema}.log)");
    let created: bool = client.query_one(&sql, &[]).await.map_err(refused)?.get(0);
    match created || access == Access::Write {
        true => Ok(()),
        false => Err(OpenError::NoLog(schema.clone())),
    }
}

async fn migrate_with(address: &Address, client: &mut Client) -> Result<(), OpenError> {
    let schema = &address.schema;
    let transaction = client.transaction().await.map_err(refused)?;
    // Nodes that start together must not create it together.
    transaction
        .execute(
            "select pg_advisory_xact_lock(hashtextextended('everfold schema ' || $1, 0))",
            &[schema],
        )
        .await
        .map_err(refused)?;
    let from = match check_format(address, transaction.client(), Access::Write).await {
        Ok(()) => FORMAT,
        Err(OpenError::Older { found, .. }) => found,
        Err(OpenError::NoLog(_)) => {
            // Even an `if not exists` needs the right to create one.
            let exists = transaction
                .query_one("select to_regnamespace($1) is not null", &[schema])
                .await
                .map_err(refused)?;
            if !exists.get::<_, bool>(0) {
                let sql = format!("create schema {schema}");
                transaction.batch_execute(&sql).await.map_err(refused)?;
            }
            0
        }
        Err(error) => return Err(error),
    };
    for from in from..FORMAT {
        let sql = step(schema, from as usize);
        transaction.batch_execute(&sql).await.map_err(refused)?;
    }
    transaction.commit().await.map_err(refused)
}

/// Makes the log in its schema, if nobody has.
async fn create(address: &Address, client: &Client) -> Result<(), OpenError> {
    let (place, _) = place(client, &address.schema).await?;
    let partitions = address.partitions.unwrap_or(PARTITIONS);
    let sql = format!(
        "with made as ( \
           insert into {s}.log (name, site, incarnation, original, layout, partitions, chained, \
             server, database, timeline, replicated, relation) \
           select $1, 'local', drawn, drawn, 1, $2::int4, true, $3, $4::oid, $5::int8, $6::boolean, $7::oid \
           from (select gen_random_uuid() as drawn) d \
           on conflict do nothing returning partitions) \
         insert into {s}.partition (partition) \
         select generate_series(0, partitions - 1) from made",
        s = address.schema
    );
    let made = client
        .execute(
            sql.as_str(),
            &[
                &address.log(),
                &i32::from(partitions),
                &place.server,
                &place.database,
                &place.timeline,
                &place.replicated,
                &place.relation,
            ],
        )
        .await;
    made.map(drop).map_err(refused)
}

/// That the log is the one that was opened, and where it was written.
pub(crate) async fn check_same(
    client: &Client,
    schema: &str,
    expected: Incarnation,
) -> Result<(), OpenError> {
    let sql = format!(
        "select incarnation, server, database, timeline, replicated, relation from {schema}.log"
    );
    let row = client.query_one(sql.as_str(), &[]).await.map_err(refused)?;
    if row.get::<_, Uuid>(0).as_u128() != expected.0 {
        return Err(OpenError::Refused(replaced(expected)));
    }
    let known = Place {
        server: row.get(1),
        database: row.get(2),
        timeline: row.get(3),
        replicated: row.get(4),
        relation: row.get(5),
    };
    let (here, _) = place(client, schema).await?;
    match difference(&known, &here) {
        Some(difference) => Err(OpenError::Restored {
            schema: schema.to_owned(),
            difference,
        }),
        None => Ok(()),
    }
}

async fn identify(address: &Address, client: &Client, access: Access) -> Result<Found, OpenError> {
    let sql = format!(
        "select name, site, incarnation, layout, partitions, chained, server, database, timeline, \
         replicated, original, relation from {}.log",
        address.schema
    );
    let row = client.query_one(sql.as_str(), &[]).await.map_err(refused)?;
    let (layout, partitions): (i32, i32) = (row.get(3), row.get(4));
    let layout = Layout {
        number: layout as u32,
        partitions: partitions as u16,
    };
    if let Some(asked) = address
        .partitions
        .filter(|asked| *asked != layout.partitions)
    {
        let actual = layout.partitions;
        return Err(OpenError::Partitions { actual, asked });
    }
    let known = Place {
        server: row.get(6),
        database: row.get(7),
        timeline: row.get(8),
        replicated: row.get(9),
        relation: row.get(11),
    };
    let (here, timelines) = place(client, &address.schema).await?;
    if let Some(difference) = difference(&known, &here) {
        let schema = address.schema.clone();
        return Err(OpenError::Restored { schema, difference });
    }
    if access == Access::Write && known != here {
        let sql = format!(
            "update {}.log set timeline = $1, replicated = $2",
            address.schema
        );
        let places: [&(dyn ToSql + Sync); 2] = [&here.timeline, &here.replicated];
        let noted = client.execute(sql.as_str(), &places).await;
        noted.map_err(refused)?;
    }
    let identity = Identity {
        log: Text::from(row.get::<_, String>(0)),
        site: Text::from(row.get::<_, String>(1)),
        incarnation: Incarnation(row.get::<_, Uuid>(2).as_u128()),
        layout,
        chained: row.get(5),
    };
    let original = Incarnation(row.get::<_, Uuid>(10).as_u128());
    Ok(Found {
        origin: Origin {
            incarnation: original,
            ..identity.origin()
        },
        identity,
        timelines,
    })
}

/// Why this is not the place where the log was written, if it is not. A server that was promoted to
/// take over is such a place only if it had every acknowledgement.
fn difference(known: &Place, here: &Place) -> Option<String> {
    if let (Some(known), Some(here)) = (&known.server, &here.server)
        && known != here
    {
        return Some(format!(
            "it was written on server {known}, this is server {here}"
        ));
    }
    if known.database != here.database {
        return Some(format!(
            "it was written in another database (number {}, this is {})",
            known.database, here.database
        ));
    }
    if known.relation != here.relation {
        return Some(format!(
            "its tables were made anew (number {}, now {}), as restoring a dump does",
            known.relation, here.relation
        ));
    }
    let moved = here.timeline > 0 && known.timeline > 0 && here.timeline != known.timeline;
    (moved && !known.replicated).then(|| {
        format!(
            "the server was promoted or recovered to a moment (timeline {}, now {}), and \
             acknowledgements did not wait for a second server",
            known.timeline, here.timeline
        )
    })
}

/// Where this database is, and whether it tells its timeline. Managed servers keep some of it to
/// themselves.
async fn place(client: &Client, schema: &str) -> Result<(Place, bool), OpenError> {
    let sql = "select oid, current_setting('synchronous_standby_names') <> '' \
               and current_setting('synchronous_commit') not in ('off', 'local') \
               from pg_database where datname = current_database()";
    let row = client.query_one(sql, &[]).await.map_err(refused)?;
    let server = "select system_identifier::text from pg_control_system()";
    let server = client.query_one(server, &[]).await.map(|row| row.get(0));
    let timeline = format!("select {TIMELINE}");
    let timeline = client.query_one(&timeline, &[]).await;
    let timeline: Option<i64> = timeline.ok().map(|row| row.get(0));
    let relation = format!("select '{schema}.event'::regclass::oid");
    let relation = client.query_one(&relation, &[]).await;
    let place = Place {
        server: server.ok(),
        database: row.get(0),
        timeline: timeline.unwrap_or(0),
        relation: relation.map_err(refused)?.get(0),
        replicated: row.get(1),
    };
    Ok((place, timeline.is_some()))
}

/// The number of the server's timeline: it grows whenever a copy is promoted.
pub(crate) const TIMELINE: &str =
    "('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int8";

fn refused(error: tokio_postgres::Error) -> OpenError {
    OpenError::Refused(told(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(server: &str, timeline: i64, replicated: bool) -> Place {
        Place {
            server: Some(server.into()),
            database: 5,
            relation: 7,
            timeline,
            replicated,
        }
    }

    #[test]
    fn a_promoted_server_is_the_same_only_if_acknowledgements_waited_for_it() {
        let known = place("a", 1, false);
        assert_eq!(difference(&known, &place("a", 1, true)), None);
        assert!(difference(&known, &place("a", 2, true)).is_some());
        assert_eq!(
            difference(&place("a", 1, true), &place("a", 2, false)),
            None
        );
        assert!(difference(&place("a", 1, true), &place("b", 1, true)).is_some());
    }

    #[test]
    fn tables_that_were_made_anew_are_another_copy() {
        let known = place("a", 1, true);
        let relation = 8;
        let restored = Place {
            relation,
            ..place("a", 1, true)
        };
        assert!(difference(&known, &restored).is_some());
    }

    #[test]
    fn servers_that_tell_nothing_are_believed() {
        let silent = Place {
            server: None,
            ..place("a", 0, false)
        };
        assert_eq!(difference(&place("a", 1, false), &silent), None);
    }
}
