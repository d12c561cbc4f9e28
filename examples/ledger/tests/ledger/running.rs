//! A running ledger, with words for what tests do to it.

use std::path::Path;
use std::sync::Arc;

use everfold::engine::engine::ReadLimit;
use everfold::engine::memory::Memory;
use everfold::engine::world::{System, World};
use everfold::engine::{Offset, Record};
use everfold::prelude::*;
use everfold::{DecideTogether, Node, NodeOptions, SendError};
use everfold_ledger::account::{Account, AccountId, Open};
use everfold_ledger::amount::{Amount, Balance};
use everfold_ledger::audit::{Audited, audit_log};
use everfold_ledger::transfer::{Transfer, TransferRejection, TransferState};
use everfold_ledger::views::{BooksRow, balances, books, the_books};

pub(crate) fn amount(minor: i128) -> Amount {
    Amount::new(minor).unwrap()
}

pub(crate) fn transfer(id: &str, from: &str, to: &str, minor: i128) -> Transfer {
    Transfer {
        transfer: id.into(),
        from: from.into(),
        to: to.into(),
        amount: amount(minor),
    }
}

pub(crate) struct Ledger {
    pub(crate) node: Arc<Node>,
}

impl Ledger {
    pub(crate) async fn in_memory() -> Self {
        Self::partitioned(16).await
    }

    pub(crate) async fn partitioned(partitions: u16) -> Self {
        Self::within(System::current(), partitions).await
    }

    pub(crate) async fn within(world: Arc<dyn World>, partitions: u16) -> Self {
        let engine = Arc::new(Memory::new(world.clone(), partitions).unwrap());
        let options = NodeOptions::default();
        let opened = everfold_ledger::application().open_on(engine, world, options);
        let node = Arc::new(opened.await.unwrap());
        Self { node }
    }

    pub(crate) async fn on(directory: &Path) -> Self {
        let address = format!("file:{}", directory.display());
        let opened = everfold_ledger::application().open(&address).await;
        let node = Arc::new(opened.unwrap());
        Self { node }
    }

    pub(crate) async fn open(&self, id: &str, overdraft: i128) {
        let open = Open {
            overdraft: Balance::new(overdraft),
        };
        let account = self.node.entity::<Account>(id);
        account.send(open).await.unwrap();
    }

    /// What one entity's command led to.
    pub(crate) async fn account<C: Command>(
        &self,
        id: &str,
        command: C,
    ) -> Result<<Account as Decide<C>>::Reply, <Account as Decide<C>>::Rejection>
    where
        Account: Decide<C>,
        <Account as Decide<C>>::Rejection: std::fmt::Debug,
    {
        let sent = self.node.entity::<Account>(id).send(command).await;
        answered(sent.map(|sent| sent.reply))
    }

    /// What a command over several entities led to.
    pub(crate) async fn together<C: DecideTogether>(
        &self,
        command: C,
    ) -> Result<C::Reply, C::Rejection>
    where
        C::Rejection: std::fmt::Debug,
    {
        let sent = self.node.together().send(command).await;
        answered(sent.map(|sent| sent.reply))
    }

    pub(crate) async fn transfer(
        &self,
        id: &str,
        from: &str,
        to: &str,
        minor: i128,
    ) -> Result<TransferState, TransferRejection> {
        self.together(transfer(id, from, to, minor)).await
    }

    /// What a transfer led to, whichever way it went.
    pub(crate) async fn ask(
        &self,
        id: &str,
        from: &str,
        to: &str,
        minor: i128,
    ) -> Result<TransferState, TransferRejection> {
        let asked = everfold_ledger::transfer::transfer(&self.node, transfer(id, from, to, minor));
        answered(asked.await)
    }

    pub(crate) async fn balance(&self, id: &str) -> i128 {
        let account = self.node.entity::<Account>(id);
        let read = account.read(|account, _| account.balance().minor());
        read.await.unwrap()
    }

    /// The books, once everything has taken effect; checks them against the log and all balances.
    pub(crate) async fn books(&self) -> BooksRow {
        let position = self.node.caught_up().await.unwrap();
        let asked = self.node.view(&books()).get(&the_books());
        let books = asked.after(&position).await.unwrap().unwrap_or_default();
        let audited: Audited = audit_log(&**self.node.engine()).await.unwrap();
        assert!(books.balance(), "{books:?}");
        assert_eq!(audited.sum, Balance::ZERO);
        assert_eq!(
            (audited.debits, audited.credits, audited.in_transit),
            (books.debits, books.credits, books.in_transit)
        );
        let add = |sum: &mut Balance, _: &AccountId, row: &_| {
            let row: &everfold_ledger::views::BalanceRow = row;
            *sum = sum.plus(row.balance);
        };
        let asked = self.node.view(&balances()).fold(Balance::ZERO, add);
        let sum = asked.after(&position).await.unwrap();
        assert_eq!(sum, Balance::ZERO.minus(books.in_transit));
        books
    }

    /// All records, partition after partition.
    pub(crate) async fn records(&self) -> Vec<Arc<Record>> {
        let engine = self.node.engine();
        let mut records = Vec::new();
        for partition in engine.identity().layout.all() {
            let head = engine.safe_head(partition).await.unwrap();
            let mut after = Offset(0);
            while after < head {
                let read = engine.read(partition, after, ReadLimit::default());
                let chunk = read.await.unwrap();
                records.extend(chunk.records.iter().cloned());
                after = chunk.next;
            }
        }
        records
    }
}

fn answered<T, R: std::fmt::Debug>(answer: Result<T, SendError<R>>) -> Result<T, R> {
    match answer {
        Ok(reply) => Ok(reply),
        Err(SendError::Rejected(rejection)) => Err(rejection),
        Err(SendError::Failed(error)) => panic!("a command failed: {error}"),
    }
}
