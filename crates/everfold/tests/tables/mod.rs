//! An engine with tables beside the log, as plainly as it can be said: a batch and its statements are
//! done together or not at all.

#![allow(dead_code, reason = "each test uses its part")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everfold::engine::World;
use everfold::engine::engine::*;
use everfold::engine::memory::Memory;
use everfold::engine::slot::Partition;

/// Adds a row; fails if there is one of this id.
pub const INSERT: &str = "insert into invoice (id, total) values ($1, $2)";
/// Counts in a row of this id.
pub const COUNT: &str = "insert into visit values ($1, 1) on conflict do update set n = n + 1";

/// Marks a row as moved; fails if it is not of this version.
pub const MOVE: &str =
    "update customer set moved = case when version = $2 then true end where id = $1";
/// Keeps a row that has moved up to date.
pub const UPDATE: &str = "update customer set balance = $2 where id = $1";

type Rows = BTreeMap<String, i64>;

/// A row of a table that was there before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OldCustomer {
    pub balance: i64,
    pub version: i64,
    pub moved: bool,
}

/// What becomes of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing goes wrong.
    None,
    /// Refused because of the store.
    Full,
    /// Appended, but the answer is lost.
    LostAnswer,
    /// Not appended, and nobody says so.
    LostAppend,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    pub invoices: Rows,
    pub visits: Rows,
    pub customers: BTreeMap<String, OldCustomer>,
}

impl Contents {
    fn run(&mut self, statement: &Statement) -> Result<(), String> {
        let (table, new) = match (&*statement.text, &statement.parameters[..]) {
            (INSERT, [Parameter::Text(id), Parameter::Integer(total)]) => {
                if self.invoices.contains_key(&**id) {
                    return Err(format!("duplicate key {id}"));
                }
                (&mut self.invoices, (id, *total))
            }
            (COUNT, [Parameter::Text(id)]) => (&mut self.visits, (id, 1)),
            (MOVE, [Parameter::Text(id), Parameter::Integer(version)]) => {
                let row = self.customers.get_mut(&**id).ok_or("no such row")?;
                if row.version != *version {
                    return Err(format!("moved is null in row {id}"));
                }
                row.moved = true;
                return Ok(());
            }
            (UPDATE, [Parameter::Text(id), Parameter::Integer(balance)]) => {
                let row = self.customers.get_mut(&**id).ok_or("no such row")?;
                row.balance = *balance;
                return Ok(());
            }
            (text, _) => return Err(format!("syntax error at {text:?}")),
        };
        *table.entry(new.0.to_string()).or_default() += new.1;
        Ok(())
    }
}

/// One batch as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub units: usize,
    pub statements: usize,
}

pub struct Tables {
    inner: Arc<dyn Engine>,
    world: Arc<dyn World>,
    contents: tokio::sync::Mutex<Contents>,
    /// Every append takes so long.
    pub delay: Mutex<Duration>,
    /// What becomes of the next appends that carry statements.
    pub faults: Mutex<VecDeque<Fault>>,
    /// Out of a hundred appends, so many go wrong in each way.
    pub odds: Mutex<u64>,
    pub seen: Mutex<Vec<Seen>>,
}

impl Tables {
    pub fn new(world: &Arc<dyn World>, partitions: u16) -> Arc<Self> {
        let memory = Memory::new(world.clone(), partitions).unwrap();
        Arc::new(Self {
            inner: Arc::new(memory),
            world: world.clone(),
            contents: tokio::sync::Mutex::default(),
            delay: Mutex::default(),
            faults: Mutex::default(),
            odds: Mutex::default(),
            seen: Mutex::default(),
        })
    }

    pub async fn contents(&self) -> Contents {
        self.contents.lock().await.clone()
    }

    /// Somebody else changes the tables, in a transaction of his own.
    pub async fn change<T>(&self, change: impl FnOnce(&mut Contents) -> T) -> T {
        change(&mut *self.contents.lock().await)
    }

    fn fault(&self, batch: &Batch) -> Fault {
        let planned = match batch.statements.is_empty() {
            true => None,
            false => self.faults.lock().unwrap().pop_front(),
        };
        let odds = *self.odds.lock().unwrap();
        let faults = [Fault::Full, Fault::LostAnswer, Fault::LostAppend];
        planned.unwrap_or_else(|| match self.world.random() % 100 {
            dice if odds > 0 && dice < 3 * odds => faults[(dice / odds) as usize],
            _ => Fault::None,
        })
    }
}

impl Engine for Tables {
    fn runs_statements(&self) -> bool {
        true
    }

    fn append(
        &self,
        partition: Partition,
        epoch: Epoch,
        mut batch: Batch,
    ) -> BoxFuture<'_, Result<Appended, AppendError>> {
        Box::pin(async move {
            let delay = *self.delay.lock().unwrap();
            if delay > Duration::ZERO {
                self.world.sleep(delay).await;
            }
            let last = |record: &&everfold::engine::Record| record.portable.unit.is_last();
            self.seen.lock().unwrap().push(Seen {
                units: batch.records.iter().filter(last).count(),
                statements: batch.statements.len(),
            });
            let fault = self.fault(&batch);
            let unknown = || AppendError::Unknown("the connection broke".into());
            match fault {
                Fault::Full => return Err(Refusal::Full("for now".into()).into()),
                Fault::LostAppend => return Err(unknown()),
                Fault::None | Fault::LostAnswer => {}
            }
            let mut contents = self.contents.lock().await;
            let mut changed = contents.clone();
            for statement in std::mem::take(&mut batch.statements) {
                changed.run(&statement).map_err(Refusal::Statement)?;
            }
            let appended = self.inner.append(partition, epoch, batch).await?;
            *contents = changed;
            match fault {
                Fault::LostAnswer => Err(unknown()),
                _ => Ok(appended),
            }
        })
    }

    everfold::engine::forward! {
        identity limits coordinator claim renew release confirm read safe_head wait indexes_entities read_entity
        find trim put revision get scan doctor durability close
    }
}
