//! Guarantee: statements beside the log happen with their batch or not at all, and one that fails or
//! waits fails its own batch alone.

use std::sync::Arc;

use everfold_engine::engine::{AppendError, Appended, Parameter, Refusal, Statement};
use everfold_engine::{Bytes, Partition, Timestamp, Uuid};
use everfold_postgres::Postgres;
use tokio_postgres::Client;

use crate::owner::{Owner, event, names, sound};
use crate::servers::{Server, open, outsider};

struct Setting {
    _server: Arc<Server>,
    address: String,
    log: Arc<Postgres>,
    outsider: Client,
}

impl Setting {
    /// A log, and a table beside it with these columns.
    async fn new(table: &str) -> Self {
        let server = Server::shared();
        let address = server.fresh();
        let log = open(&address).await;
        let outsider = outsider(&address).await;
        outsider.batch_execute(table).await.unwrap();
        Self {
            _server: server,
            address,
            log,
            outsider,
        }
    }

    async fn count(&self, table: &str) -> i64 {
        let sql = format!("select count(*) from {table}");
        self.outsider.query_one(&sql, &[]).await.unwrap().get(0)
    }
}

async fn append(
    owner: &mut Owner,
    name: &str,
    statements: Vec<Statement>,
) -> Result<Appended, AppendError> {
    let mut fresh = Owner::of(owner.engine.clone(), owner.partition, owner.claim.clone())
        .await
        .unwrap();
    let mut batch = fresh.batch(vec![event(name)]);
    batch.statements = statements;
    owner.try_append(batch).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_fails_leaves_nothing_and_ends_nothing() {
    let setting = Setting::new(
        "create table stock (item text primary key, pieces int not null check (pieces >= 0)); \
         create table line (item text references stock deferrable initially deferred)",
    )
    .await;
    let mut owner = Owner::claim(setting.log.clone(), 0).await.unwrap();
    let first = Statement::new("insert into stock values ($1, $2)");
    let first = first.with("pen").with(3_i64);
    append(&mut owner, "first", vec![first]).await.unwrap();
    let good = || Statement::new("update stock set pieces = pieces - 1 where item = 'pen'");
    let bad = [
        "update stok set pieces = 1",
        "update stock set",
        "insert into stock values ('pen', 1)",
        "update stock set pieces = pieces - 100",
        // Checked when the transaction ends.
        "insert into line values ('nothing')",
        "update stock set pieces = 1 / 0",
        "insert into stock values ($1, 1)",
        "insert into stock values ('a', 1); insert into stock values ('b', 1)",
        "commit",
        "  ROLLBACK",
        "begin",
        "savepoint s",
        "end",
        "abort",
        "set statement_timeout = 0",
        "prepare transaction 'x'",
        "truncate stock",
        "do $$ begin commit; end $$",
        "copy stock to stdout",
        "select pg_terminate_backend(0) from nothing",
    ];
    for text in bad {
        for statements in [
            vec![good(), Statement::new(text)],
            vec![Statement::new(text), good()],
        ] {
            let refused = append(&mut owner, "bad", statements).await;
            let as_meant = matches!(refused, Err(AppendError::Refused(Refusal::Statement(_))));
            assert!(as_meant, "{text}: {refused:?}");
        }
    }
    append(&mut owner, "last", vec![good()]).await.unwrap();
    owner.confirm().await.unwrap();
    let records = sound(&*setting.log, Partition(0)).await;
    assert_eq!(names(&records), ["first", "last"]);
    let row = "select pieces from stock where item = 'pen'";
    let row = setting.outsider.query_one(row, &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 2);
    assert_eq!(setting.count("line").await, 0);
}

/// A procedure may not end the transaction that it is called in.
#[tokio::test(flavor = "multi_thread")]
async fn a_procedure_cannot_commit_on_its_own() {
    let setting = Setting::new(
        "create table told (n int); create procedure tell() language plpgsql as \
         $$ begin insert into told values (1); commit; end $$",
    )
    .await;
    let mut owner = Owner::claim(setting.log.clone(), 0).await.unwrap();
    let refused = append(&mut owner, "a", vec![Statement::new("call tell()")]).await;
    let as_meant = matches!(refused, Err(AppendError::Refused(Refusal::Statement(_))));
    assert!(as_meant, "{refused:?}");
    assert_eq!(setting.count("told").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_append_leaves_no_trace_of_its_statements() {
    let setting = Setting::new("create table trace (n int)").await;
    let mut former = Owner::claim(setting.log.clone(), 0).await.unwrap();
    let insert = || vec![Statement::new("insert into trace values (1)")];
    append(&mut former, "first", insert()).await.unwrap();
    let other = open(&setting.address).await;
    let mut owner = Owner::claim(other, 0).await.unwrap();
    let fenced = append(&mut former, "second", insert()).await;
    assert!(matches!(fenced, Err(AppendError::Fenced(_))), "{fenced:?}");
    append(&mut owner, "third", insert()).await.unwrap();
    assert_eq!(setting.count("trace").await, 2);
    let records = sound(&*setting.log, Partition(0)).await;
    assert_eq!(names(&records), ["first", "third"]);
}

/// Somebody else's transaction locks rows that statements of several partitions want: more of them
/// than there are writers. Appends of other partitions go on meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn locks_of_others_hold_up_only_the_statements_that_want_them() {
    let setting = Setting::new(
        "create table held (n int primary key); insert into held select generate_series(0, 2)",
    )
    .await;
    setting
        .outsider
        .batch_execute("begin; update held set n = n")
        .await
        .unwrap();
    let mut waiting = Vec::new();
    for partition in 0..3 {
        let mut owner = Owner::claim(setting.log.clone(), partition).await.unwrap();
        waiting.push(tokio::spawn(async move {
            let want = Statement::new("update held set n = n where n = $1");
            let want = want.with(i64::from(partition));
            let outcome = append(&mut owner, "waits", vec![want]).await;
            (owner, outcome)
        }));
    }
    let other = outsider(&setting.address).await;
    let stuck = "select count(*) from pg_stat_activity \
                 where wait_event_type = 'Lock' and query like 'update held%'";
    while other.query_one(stuck, &[]).await.unwrap().get::<_, i64>(0) < 3 {
        tokio::task::yield_now().await;
    }
    let mut free = Owner::claim(setting.log.clone(), 3).await.unwrap();
    for number in 0..200 {
        free.append(&[&format!("free-{number}")]).await.unwrap();
    }
    let still: i64 = other.query_one(stuck, &[]).await.unwrap().get(0);
    assert_eq!(still, 3, "appends of another partition waited for these");
    for waits in waiting {
        let (mut owner, outcome) = waits.await.unwrap();
        let as_meant = matches!(outcome, Err(AppendError::Refused(Refusal::Statement(_))));
        assert!(as_meant, "{outcome:?}");
        owner.append(&["goes on"]).await.unwrap();
        let records = sound(&*setting.log, owner.partition).await;
        assert_eq!(names(&records), ["goes on"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_every_type_arrive_as_they_are() {
    let setting = Setting::new(
        "create table kinds (i2 smallint, i4 int, i8 bigint, n numeric(20,4), f float8, b boolean, \
         d date, t timestamptz, j jsonb, u uuid, y bytea, s text, v varchar(9), a text[])",
    )
    .await;
    let mut owner = Owner::claim(setting.log.clone(), 0).await.unwrap();
    let id = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
    let insert = "insert into kinds values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14)";
    let full = Statement::new(insert)
        .with(-7_i64)
        .with(i64::from(i32::MIN))
        .with(i64::MIN)
        .with("12345678901234.5678")
        .with(-1.5e300)
        .with(true)
        .with("2024-02-29")
        .with(Timestamp(1_709_164_800_123_456))
        .with(r#"{"a": ["ü", null]}"#)
        .with(id)
        .with(Bytes::from_static(&[0, 255, b'\\', b'\'']))
        .with("it's \"quoted\" ␀ €")
        .with("'; --")
        .with(r#"{a,"b,c"}"#);
    let mut empty = Statement::new(insert);
    empty.parameters = vec![Parameter::Null; 14];
    append(&mut owner, "a", vec![full, empty]).await.unwrap();
    let sql = "select count(*) from kinds where i2 = -7 and i4 = -2147483648 \
               and i8 = -9223372036854775808 and n = 12345678901234.5678 and f = -1.5e300 and b \
               and d = date '2024-02-29' and t = timestamptz '2024-02-29 00:00:00.123456+00' \
               and j = '{\"a\": [\"ü\", null]}' and u = '01234567-89ab-cdef-0123-456789abcdef' \
               and y = '\\x00ff5c27' and s = 'it''s \"quoted\" ␀ €' and v = '''; --' \
               and a = array['a', 'b,c']";
    let found = setting.outsider.query_one(sql, &[]).await.unwrap();
    assert_eq!(found.get::<_, i64>(0), 1);
    let sql = "select count(*) from kinds where num_nulls(i2, i4, i8, n, f, b, d, t, j, u, y, s, v, a) = 14";
    let found = setting.outsider.query_one(sql, &[]).await.unwrap();
    assert_eq!(found.get::<_, i64>(0), 1);
    for wrong in [
        Statement::new("insert into kinds (i2) values ($1)").with(70_000_i64),
        Statement::new("insert into kinds (d) values ($1)").with("no date"),
        Statement::new("insert into kinds (s) values ($1)").with("a\0b"),
        Statement::new("insert into kinds (v) values ($1)").with("ten letters"),
    ] {
        let text = wrong.text.clone();
        let refused = append(&mut owner, "b", vec![wrong]).await;
        let as_meant = matches!(refused, Err(AppendError::Refused(Refusal::Statement(_))));
        assert!(as_meant, "{text}: {refused:?}");
    }
}

/// Tables beside the log change while it is open, and statements are kept ready.
#[tokio::test(flavor = "multi_thread")]
async fn statements_go_on_after_their_table_has_changed() {
    let setting = Setting::new("create table changing (n int)").await;
    let mut owner = Owner::claim(setting.log.clone(), 0).await.unwrap();
    let statements = || {
        vec![
            Statement::new("insert into changing values ($1)").with("1"),
            Statement::new("select * from changing"),
        ]
    };
    append(&mut owner, "a", statements()).await.unwrap();
    for change in ["alter column n type text", "add column more int"] {
        let sql = format!("alter table changing {change}");
        setting.outsider.batch_execute(&sql).await.unwrap();
        // What was made ready for the table as it was may fail, once.
        let _ = append(&mut owner, "b", statements()).await;
        append(&mut owner, "c", statements()).await.unwrap();
    }
}
