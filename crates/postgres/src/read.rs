//! Reading events back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use deadpool_postgres::{Object, Pool};
use everfold_engine::engine::{Chunk, Query, ReadLimit, rules::whole_units};
use everfold_engine::record::Origin;
use everfold_engine::{EntityKey, Offset, Partition, Record};
use futures_util::{StreamExt, pin_mut};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::error::Failed;
use crate::row::{COLUMNS, Decoder, EVENT, Moment, Raw, WIDTH};
use crate::text::{array_literal, escape};

/// Rows asked for at once while nothing is known of their size.
const FIRST_PAGE: usize = 256;

/// Rows asked for at once at most, however many are wanted.
const LARGEST_PAGE: usize = 8192;

/// Reads events with a pool of sessions.
pub(crate) struct Reader {
    pool: Pool,
    origin: Origin,
    page: String,
    head: String,
    entity: String,
    find: String,
    /// Bytes of payload of a record, as seen lately.
    usual: AtomicUsize,
}

impl Reader {
    pub(crate) fn new(pool: Pool, schema: &str, origin: &Origin) -> Self {
        Self {
            pool,
            origin: origin.clone(),
            page: format!(
                "select {COLUMNS} from {schema}.event \
                 where partition = $1 and log_offset > $2 order by log_offset limit $3"
            ),
            head: format!(
                "select log_offset from {schema}.event where partition = $1 \
                 order by log_offset desc limit 1"
            ),
            entity: format!(
                "select {COLUMNS} from {schema}.event \
                 where kind = {EVENT} and entity_type = $2 and entity_id = $3 and tenant = $4 \
                 and partition = $1 and version > $5 order by version limit $6"
            ),
            find: format!(
                "select {COLUMNS} from {schema}.event \
                 where partition = $1 and log_offset > $2 and log_offset <= $3 and kind = {EVENT} \
                 and ($4::text[] = '{{}}' or event_type = any($4)) \
                 and ($5::text[] = '{{}}' or entity_type = any($5)) \
                 and ($6::text is null or labels @> $6::text[]) \
                 and ($7::timestamptz is null or recorded >= $7) \
                 and ($8::timestamptz is null or recorded < $8) \
                 order by log_offset limit $9"
            ),
            usual: AtomicUsize::new(0),
        }
    }

    pub(crate) async fn read(
        &self,
        partition: Partition,
        after: Offset,
        limit: ReadLimit,
    ) -> Result<Chunk, Failed> {
        let client = self.pool.get().await?;
        let mut page = self.page_for(limit);
        loop {
            let mut records: Vec<Arc<Record>> = Vec::new();
            let found = self
                .page(&client, partition, after, page, &mut records)
                .await?;
            let at_end = found < page;
            let last = records.last().map_or(after, |record| record.local.offset);
            let seen = records.len();
            let payloads: usize = records
                .iter()
                .map(|record| record.portable.payload.len())
                .sum();
            self.usual.store(payloads / seen.max(1), Ordering::Relaxed);
            whole_units(&mut records, limit);
            if records.is_empty() && !at_end {
                // A unit longer than a page: all of it once more.
                page = page.saturating_mul(2);
                continue;
            }
            let safe_head = match at_end && seen > 0 {
                true => last,
                false => self
                    .head_with(&client, partition)
                    .await?
                    .max(last.min(after)),
            };
            let next = records.last().map_or(after, |record| record.local.offset);
            return Ok(Chunk {
                records,
                next,
                safe_head,
            });
        }
    }

    /// So many rows as the limit will let through, by what records were like lately.
    fn page_for(&self, limit: ReadLimit) -> usize {
        let by_bytes = match self.usual.load(Ordering::Relaxed) {
            0 => FIRST_PAGE,
            usual => (limit.bytes / usual).saturating_add(1),
        };
        by_bytes.clamp(1, limit.records.clamp(1, LARGEST_PAGE))
    }

    async fn page(
        &self,
        client: &Object,
        partition: Partition,
        after: Offset,
        rows: usize,
        records: &mut Vec<Arc<Record>>,
    ) -> Result<usize, Failed> {
        let number = partition.0 as i16;
        let (after, rows) = (after.0.min(i64::MAX as u64) as i64, rows as i64);
        let parameters: [&(dyn ToSql + Sync); 3] = [&number, &after, &rows];
        self.rows(client, &self.page, partition, &parameters, records)
            .await
    }

    async fn rows(
        &self,
        client: &Object,
        text: &str,
        partition: Partition,
        parameters: &[&(dyn ToSql + Sync)],
        records: &mut Vec<Arc<Record>>,
    ) -> Result<usize, Failed> {
        let statement = client.prepare_cached(text).await?;
        let stream = client
            .query_raw(&statement, parameters.iter().copied())
            .await?;
        pin_mut!(stream);
        let mut decoder = Decoder::new(&self.origin, partition);
        let before = records.len();
        while let Some(row) = stream.next().await {
            records.push(decode(&mut decoder, &row?)?);
        }
        Ok(records.len() - before)
    }

    pub(crate) async fn head(&self, partition: Partition) -> Result<Offset, Failed> {
        let client = self.pool.get().await?;
        self.head_with(&client, partition).await
    }

    async fn head_with(&self, client: &Object, partition: Partition) -> Result<Offset, Failed> {
        let statement = client.prepare_cached(&self.head).await?;
        let row = client
            .query_opt(&statement, &[&(partition.0 as i16)])
            .await?;
        Ok(Offset(row.map_or(0, |row| row.get::<_, i64>(0) as u64)))
    }

    pub(crate) async fn entity(
        &self,
        partition: Partition,
        entity: &EntityKey,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Arc<Record>>, Failed> {
        let client = self.pool.get().await?;
        let number = partition.0 as i16;
        let (kind, id, tenant) = (
            escape(&entity.kind),
            escape(&entity.id),
            escape(&entity.tenant),
        );
        let (after, limit) = (
            after.min(i64::MAX as u64) as i64,
            limit.min(i64::MAX as usize) as i64,
        );
        let parameters: [&(dyn ToSql + Sync); 6] =
            [&number, &&*kind, &&*id, &&*tenant, &after, &limit];
        let mut records = Vec::new();
        self.rows(&client, &self.entity, partition, &parameters, &mut records)
            .await?;
        Ok(records)
    }

    pub(crate) async fn find(
        &self,
        partition: Partition,
        query: &Query,
        after: Offset,
        limit: usize,
    ) -> Result<Chunk, Failed> {
        let client = self.pool.get().await?;
        let safe_head = self.head_with(&client, partition).await?;
        let number = partition.0 as i16;
        let (from, to) = (after.0.min(i64::MAX as u64) as i64, safe_head.0 as i64);
        let texts = |texts: &[everfold_engine::Text]| -> Vec<String> {
            texts.iter().map(|text| escape(text).into_owned()).collect()
        };
        let (event_types, entity_types) = (texts(&query.event_types), texts(&query.entity_types));
        let labels = query
            .labels
            .iter()
            .map(|(name, value)| (name.as_ref(), value.as_ref()));
        let labels = (!query.labels.is_empty()).then(|| array_literal(labels));
        let (since, until) = (query.since.map(Moment), query.until.map(Moment));
        let count = limit.max(1).min(i64::MAX as usize) as i64;
        let parameters: [&(dyn ToSql + Sync); 9] = [
            &number,
            &from,
            &to,
            &event_types,
            &entity_types,
            &labels,
            &since,
            &until,
            &count,
        ];
        let mut records = Vec::new();
        let found = self
            .rows(&client, &self.find, partition, &parameters, &mut records)
            .await?;
        let last = records.last().map_or(after, |record| record.local.offset);
        let next = match found < count as usize {
            true => safe_head.max(after),
            false => last,
        };
        // Labels whose names hold a `=` are told apart only here.
        records.retain(|record| query.matches(record));
        Ok(Chunk {
            records,
            next,
            safe_head,
        })
    }
}

fn decode(decoder: &mut Decoder, row: &Row) -> Result<Arc<Record>, Failed> {
    let mut columns: [Option<&[u8]>; WIDTH] = [None; WIDTH];
    for (at, column) in columns.iter_mut().enumerate() {
        *column = row.try_get::<_, Option<Raw<'_>>>(at)?.map(|raw| raw.0);
    }
    decoder.record(|at| columns[at])
}
