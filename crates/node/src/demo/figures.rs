//! What came of it, as the views and the log say.

use everfold::Node;
use everfold::engine::engine::{Engine, ReadError, ReadLimit};
use everfold::engine::{Offset, Partition, Position};
use everfold_store::views::{Totals, customer_history};
use serde::Serialize;

use everfold_store::money::Money;

/// The result of a demonstration.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Customers that were opened.
    pub customers: u64,
    /// Orders that were placed.
    pub orders: u64,
    /// Orders that were ever approved.
    pub approved: u64,
    /// Orders that were rejected.
    pub rejected: u64,
    /// What the ever approved orders cost.
    pub approved_total: Money,
    /// What is reserved at the end.
    pub reserved_at_end: Money,
    /// Events in the log.
    pub events: u64,
    /// Commands that this run has sent; those of reactors come on top.
    pub commands: u64,
    /// How long this run took, from the start to these figures.
    pub seconds: f64,
    /// The commands of this run by its seconds.
    pub commands_per_second: u64,
    /// What an acknowledged event survives.
    pub durability: String,
}

/// The business figures, once everything has taken effect, and the position that they reflect.
///
/// # Errors
/// The log cannot be read.
pub async fn totals(node: &Node) -> anyhow::Result<(Totals, Position)> {
    let position = node.caught_up().await?;
    let add = |totals: &mut Totals, _: &_, row: &_| totals.add(row);
    let asked = node.view(&customer_history()).fold(Totals::default(), add);
    Ok((asked.after(&position).await?, position))
}

/// How many events the log holds.
///
/// # Errors
/// The log cannot be read.
pub async fn count_events(node: &Node) -> Result<u64, ReadError> {
    let mut events = 0;
    for partition in node.engine().identity().layout.all() {
        events += events_of(&**node.engine(), partition).await?;
    }
    Ok(events)
}

/// Events are counted without gaps in each partition, so the last one says how many there are.
async fn events_of(engine: &dyn Engine, partition: Partition) -> Result<u64, ReadError> {
    let head = engine.safe_head(partition).await?;
    let mut stretch = 64;
    loop {
        let begin = Offset(head.0.saturating_sub(stretch));
        let mut after = begin;
        let mut last = None;
        while after < head {
            let chunk = engine.read(partition, after, ReadLimit::default()).await?;
            let mut dots = chunk.records.iter().filter_map(|r| r.portable.dot.as_ref());
            last = dots.next_back().map(|dot| dot.counter).or(last);
            if chunk.next <= after {
                break;
            }
            after = chunk.next;
        }
        match last {
            Some(events) => return Ok(events),
            None if begin == Offset(0) => return Ok(0),
            None => stretch *= 16,
        }
    }
}
