//! Areas: keys and values under one compare-and-set per partition.

use std::collections::BTreeMap;

use bytes::Bytes;
use deadpool_postgres::Pool;
use everfold_engine::engine::{Area, Entries, Put, PutError, Revision};
use tokio_postgres::types::ToSql;

use crate::error::Failed;
use crate::json::fitting;

/// Bytes of a key at most: an index of PostgreSQL takes no longer ones.
const KEY: usize = 2000;
/// Areas whose values people look at: see the view `view_row`.
const VIEWS: &str = "view/";
/// The first byte of a key there whose value is a row.
const ROW: u8 = b'r';

pub(crate) struct Areas {
    pool: Pool,
    put: String,
    state: String,
    revision: String,
    get: String,
    scan: String,
}

impl Areas {
    pub(crate) fn new(pool: Pool, schema: &str) -> Self {
        Self {
            pool,
            // The weakest lock that a claim waits for: appends go on beside it. Keys are joined, not
            // listed: a list that is a parameter is compared with every entry of the area.
            put: format!(
                "with owned as ( \
                   select partition from {schema}.partition \
                   where partition = $1 and epoch = $2 for key share), \
                 revised as ( \
                   insert into {schema}.area as a (name, partition, revision) \
                   select $3, partition, 1 from owned \
                   where $4::int8 = 0 or exists (select from {schema}.area \
                     where name = $3 and partition = $1) \
                   on conflict (name, partition) do update set revision = a.revision + 1 \
                     where a.revision = $4 \
                   returning a.id, a.revision), \
                 cleared as ( \
                   delete from {schema}.entry e using revised r \
                   where $5 and e.area = r.id \
                   and not exists (select from unnest($6) as n(key) where n.key = e.key)), \
                 gone as ( \
                   delete from {schema}.entry e using revised r, unnest($9::bytea[]) as n(key) \
                   where not $5 and e.area = r.id and e.key = n.key), \
                 kept as ( \
                   insert into {schema}.entry (area, key, value, document) \
                   select r.id, n.key, n.value, n.document::json from revised r, \
                     unnest($6::bytea[], $7::bytea[], $8::text[]) as n(key, value, document) \
                   on conflict (area, key) do update \
                     set value = excluded.value, document = excluded.document) \
                 select revision from revised"
            ),
            state: format!(
                "select p.epoch, coalesce((select revision from {schema}.area \
                   where name = $2 and partition = $1), 0) \
                 from {schema}.partition p where p.partition = $1"
            ),
            revision: format!(
                "select revision from {schema}.area where name = $1 and partition = $2"
            ),
            get: format!(
                "select value, document::text from {schema}.entry where key = $3 \
                 and area = (select id from {schema}.area where name = $1 and partition = $2)"
            ),
            scan: format!(
                "select key, value, document::text from {schema}.entry \
                 where area = (select id from {schema}.area where name = $1 and partition = $2) \
                 and key >= $3 order by key limit $4"
            ),
        }
    }

    pub(crate) async fn put(&self, put: Put) -> Result<Revision, PutError> {
        let client = self.pool.get().await.map_err(Failed::from)?;
        // The last change of a key is the one that counts.
        let changes: BTreeMap<Bytes, Option<Bytes>> = put.changes.into_iter().collect();
        if let Some(long) = changes.keys().find(|key| key.len() > KEY) {
            let length = long.len();
            return Err(PutError::Unavailable(format!(
                "a key of {length} bytes, and an index takes no more than {KEY}"
            )));
        }
        let is_view = put.area.name.starts_with(VIEWS);
        let (mut keys, mut values, mut documents) = (Vec::new(), Vec::new(), Vec::new());
        let mut removed: Vec<&[u8]> = Vec::new();
        for (key, value) in &changes {
            let Some(value) = value else {
                removed.push(key);
                continue;
            };
            let is_row = is_view && key.first() == Some(&ROW);
            let document = is_row.then(|| fitting(value)).flatten();
            keys.push(key.as_ref());
            values.push(document.is_none().then_some(value.as_ref()));
            documents.push(document);
        }
        let (number, epoch) = (put.area.partition.0 as i16, put.epoch.0 as i64);
        let (name, previous) = (put.area.name.as_ref() as &str, put.previous.0 as i64);
        let parameters: [&(dyn ToSql + Sync); 9] = [
            &number, &epoch, &name, &previous, &put.clear, &keys, &values, &documents, &removed,
        ];
        let statement = client
            .prepare_cached(&self.put)
            .await
            .map_err(Failed::from)?;
        let revised = client.query_opt(&statement, &parameters).await;
        if let Some(row) = revised.map_err(Failed::from)? {
            return Ok(Revision(row.get::<_, i64>(0) as u64));
        }
        let state = client
            .prepare_cached(&self.state)
            .await
            .map_err(Failed::from)?;
        let state = client.query_opt(&state, &[&number, &name]).await;
        match state.map_err(Failed::from)? {
            Some(row) if row.get::<_, i64>(0) == epoch => {
                Err(PutError::Changed(Revision(row.get::<_, i64>(1) as u64)))
            }
            _ => Err(PutError::Fenced(put.area.partition)),
        }
    }

    pub(crate) async fn revision(&self, area: &Area) -> Result<Revision, Failed> {
        let client = self.pool.get().await?;
        let statement = client.prepare_cached(&self.revision).await?;
        let (name, number) = (area.name.as_ref() as &str, area.partition.0 as i16);
        let row = client.query_opt(&statement, &[&name, &number]).await?;
        Ok(Revision(row.map_or(0, |row| row.get::<_, i64>(0) as u64)))
    }

    pub(crate) async fn get(&self, area: &Area, key: &[u8]) -> Result<Option<Bytes>, Failed> {
        let client = self.pool.get().await?;
        let statement = client.prepare_cached(&self.get).await?;
        let (name, number) = (area.name.as_ref() as &str, area.partition.0 as i16);
        let row = client
            .query_opt(&statement, &[&name, &number, &key])
            .await?;
        Ok(row.map(|row| value(row.get(0), row.get(1))))
    }

    pub(crate) async fn scan(
        &self,
        area: &Area,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Entries, Failed> {
        let client = self.pool.get().await?;
        let statement = client.prepare_cached(&self.scan).await?;
        let (name, number) = (area.name.as_ref() as &str, area.partition.0 as i16);
        // The first key above another one is that key and a zero byte.
        let from = after.map_or_else(Vec::new, |after| [after, &[0]].concat());
        let limit = limit.min(i64::MAX as usize) as i64;
        let rows = client
            .query(&statement, &[&name, &number, &from, &limit])
            .await?;
        let entry = |row: &tokio_postgres::Row| {
            let key: Vec<u8> = row.get(0);
            (key.into(), value(row.get(1), row.get(2)))
        };
        Ok(rows.iter().map(entry).collect())
    }
}

/// A row of a view is stored as text, everything else as bytes.
fn value(bytes: Option<Vec<u8>>, document: Option<String>) -> Bytes {
    let document = document.map(String::into_bytes);
    bytes.or(document).unwrap_or_default().into()
}
