//! Questions that any node can answer: rows of views, and the history of an entity.

use std::sync::Arc;
use std::time::Duration;

use everfold_engine::position::Offset;
use everfold_engine::record::{Link, Origin, codec};
use everfold_engine::{Bytes, EntityKey, Partition, Position, Record, Text};
use serde::{Deserialize, Serialize};

use super::Filter;
use crate::error::{CommandError, QueryError};
use crate::node::Node;
use crate::owner::Router;
use crate::remote::{Outcome, What};

/// Records of one answer at most.
const MOST_RECORDS: u32 = 1000;
/// Bytes of records in one answer; at least one record is in it.
const MOST_BYTES: usize = 1 << 20;

/// What is asked of a view.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RowsAsked {
    pub(crate) view: Text,
    pub(crate) version: u32,
    /// This row alone.
    pub(crate) key: Option<Text>,
    pub(crate) from: Option<Text>,
    pub(crate) before: Option<Text>,
    pub(crate) above: Option<Text>,
    pub(crate) filter: Filter,
    /// A token that the answer has to reflect.
    pub(crate) after: Option<Text>,
    pub(crate) patience: Duration,
    pub(crate) most: u32,
}

impl RowsAsked {
    /// Whether a row of this key is asked for.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.from.as_deref().is_none_or(|from| key >= from)
            && self.before.as_deref().is_none_or(|before| key < before)
            && self.above.as_deref().is_none_or(|above| key > above)
    }
}

/// Rows of a view, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RowsPage {
    /// In the order of the text of their keys.
    pub(crate) rows: Vec<(Text, Bytes)>,
    pub(crate) more: bool,
    /// What the rows reflect, as a token.
    pub(crate) position: Text,
}

/// A record on its way to a client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sheet {
    offset: Offset,
    epoch: u64,
    batch: u64,
    bytes: Bytes,
}

fn frame(partition: Partition, (offset, epoch, batch): (Offset, u64, u64)) -> codec::Frame {
    codec::Frame {
        // Any will do that is the same on both sides.
        origin: Origin::default(),
        partition,
        epoch,
        batch,
        first: offset,
        chained: true,
        previous_link: Link::default(),
    }
}

fn pack(partition: Partition, record: &Record) -> Sheet {
    let local = &record.local;
    let (offset, epoch, batch) = (local.offset, local.epoch, local.batch);
    let mut bytes = Vec::new();
    let records = std::slice::from_ref(record);
    codec::encode(
        &mut bytes,
        records,
        &frame(partition, (offset, epoch, batch)),
    );
    Sheet {
        offset,
        epoch,
        batch,
        bytes: bytes.into(),
    }
}

fn unpack(partition: Partition, sheet: &Sheet) -> Result<Arc<Record>, CommandError> {
    let frame = frame(partition, (sheet.offset, sheet.epoch, sheet.batch));
    let unread = || CommandError::Encoding("a record that came cannot be read".to_owned());
    let records = codec::decode(&sheet.bytes, 1, &frame).map_err(|_| unread())?;
    records.into_iter().next().map(Arc::new).ok_or_else(unread)
}

/// Events of an entity from the log that this node has.
pub(crate) async fn history_here(
    node_engine: Arc<dyn everfold_engine::engine::Engine>,
    entity: EntityKey,
    after: u64,
    limit: u32,
) -> Outcome {
    let partition = node_engine.identity().layout.partition(&entity.id);
    let limit = limit.min(MOST_RECORDS) as usize;
    let read = node_engine.read_entity(partition, &entity, after, limit);
    match read.await {
        Ok(records) => {
            let mut bytes = 0;
            let mut sheets = Vec::new();
            for record in &records {
                let sheet = pack(partition, record);
                bytes += sheet.bytes.len();
                sheets.push(sheet);
                if bytes >= MOST_BYTES {
                    break;
                }
            }
            Outcome::History(sheets)
        }
        Err(error) => Outcome::Failed(CommandError::Unavailable {
            partition,
            reason: error.to_string(),
        }),
    }
}

/// Events of an entity, from its owner or any other node.
pub(crate) async fn history(
    router: &Router,
    entity: &EntityKey,
    mut after: u64,
    limit: usize,
) -> Result<Vec<Arc<Record>>, CommandError> {
    let partition = router.partition(&entity.id);
    let mut records: Vec<Arc<Record>> = Vec::new();
    while records.len() < limit {
        let what = What::History {
            entity: entity.clone(),
            after,
            limit: u32::try_from(limit - records.len()).unwrap_or(u32::MAX),
        };
        match ask(router, partition, &what).await? {
            Outcome::History(sheets) if sheets.is_empty() => break,
            Outcome::History(sheets) => {
                for sheet in &sheets {
                    let record = unpack(partition, sheet)?;
                    after = record.local.version;
                    records.push(record);
                }
            }
            _ => return Err(unasked()),
        }
    }
    Ok(records)
}

/// Rows of a view, from any node that runs it.
pub(crate) async fn rows(router: &Router, asked: RowsAsked) -> Result<RowsPage, QueryError> {
    // Different views are asked for at different nodes.
    let partition = router.partition(&asked.view);
    let view = asked.view.to_string();
    match ask(router, partition, &What::Rows(asked)).await? {
        Outcome::Rows(page) => Ok(page),
        Outcome::Behind(behind) => Err(QueryError::Behind { view, behind }),
        Outcome::UnknownView => Err(QueryError::UnknownView(view)),
        _ => Err(QueryError::Owner(unasked())),
    }
}

fn unasked() -> CommandError {
    CommandError::Encoding("a node has answered something else than was asked".to_owned())
}

/// The owner of a partition answers; or, if it does not, one of the others.
async fn ask(router: &Router, at: Partition, what: &What) -> Result<Outcome, CommandError> {
    const PAUSE: Duration = Duration::from_millis(20);
    let remote = router.remote().ok_or(CommandError::Closed)?;
    let world = router.world();
    let until = world.elapsed() + remote.membership.patience;
    loop {
        let plan = remote.membership.plan.borrow().clone();
        let mut nodes: Vec<_> = plan.place(at).and_then(|it| it.owner).into_iter().collect();
        for place in &plan.places {
            for node in place.owner.iter().chain(&place.standbys) {
                if !nodes.contains(node) {
                    nodes.push(*node);
                }
            }
        }
        let mut reason = "no node is known".to_owned();
        for node in nodes {
            let left = until.saturating_sub(world.elapsed());
            match remote.question(node, at, what, left).await {
                Ok(Outcome::Failed(error)) if !error.is_moving() => return Err(error),
                Ok(Outcome::Failed(error)) => reason = error.to_string(),
                Ok(outcome) => return Ok(outcome),
                Err(error) => reason = error,
            }
        }
        if world.elapsed() >= until {
            let partition = at;
            return Err(CommandError::Unavailable { partition, reason });
        }
        world.sleep(PAUSE).await;
    }
}

impl Node {
    /// What the node says of a view that it runs.
    pub(crate) fn rows_here(
        &self,
        asked: RowsAsked,
    ) -> everfold_engine::engine::BoxFuture<'static, Outcome> {
        let running = self.running(&asked.view, asked.version);
        let after = asked.after.as_deref().map(str::parse::<Position>);
        Box::pin(async move {
            let Some(view) = running else {
                return Outcome::UnknownView;
            };
            let after = match after.transpose() {
                Ok(after) => after,
                Err(error) => return Outcome::Failed(CommandError::Conflict(error.to_string())),
            };
            match view.page(asked, after).await {
                Ok(page) => Outcome::Rows(page),
                Err(QueryError::Behind { behind, .. }) => Outcome::Behind(behind),
                Err(error) => Outcome::Failed(CommandError::Conflict(error.to_string())),
            }
        })
    }
}
