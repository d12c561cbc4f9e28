//! The ledger as a target of clients.

use std::path::Path;
use std::sync::Arc;

use anyhow::anyhow;
use everfold::engine::uuid7;
use everfold_ledger::account::{Account, AccountId, Open};
use everfold_ledger::amount::{Amount, Balance};
use everfold_ledger::transfer::Transfer;
use tokio::task::JoinSet;

use crate::load::Target;
use crate::order::ORDERS;
use crate::running::Running;

/// Where the runtime keeps the views' rows.
const VIEW_AREAS: &[&str] = &["view/balances/1", "view/books/2"];
/// So many accounts share a tag. As many accounts as there are orders in the log.
const BRANCH: usize = 10;
/// No transfer is refused: what is measured is what is done.
const OVERDRAFT: Balance = Balance::new(1 << 40);

/// The whole ledger, views included, on the embedded log.
pub(super) struct Ledger {
    pub(super) running: Running,
}

impl Ledger {
    pub(super) async fn open(directory: &Path) -> anyhow::Result<Self> {
        let application = everfold_ledger::application();
        let running = Running::open(application, directory, VIEW_AREAS).await?;
        Ok(Self { running })
    }

    /// Opens all accounts, many at a time.
    pub(super) async fn open_accounts(self: &Arc<Self>) -> anyhow::Result<()> {
        const AT_ONCE: usize = 512;
        let mut clients = JoinSet::new();
        for client in 0..AT_ONCE {
            let ledger = self.clone();
            clients.spawn(async move {
                for number in (client..ORDERS).step_by(AT_ONCE) {
                    let open = Open {
                        overdraft: OVERDRAFT,
                    };
                    let account = ledger.running.node().entity::<Account>(id(number));
                    account.send(open).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(client) = clients.join_next().await {
            client??;
        }
        Ok(())
    }
}

fn id(number: usize) -> AccountId {
    format!("{{branch-{:05}}}acct-{number:06}", number / BRANCH).into()
}

impl Target for Ledger {
    async fn send(&self, order: usize, seed: u64) -> anyhow::Result<()> {
        let node = self.running.node();
        let world = node.world();
        let command = uuid7(world.now(), world.random(), world.random());
        let first = order / BRANCH * BRANCH;
        let payee = first + (order - first + 1 + (seed >> 8) as usize % (BRANCH - 1)) % BRANCH;
        let transfer = Transfer {
            transfer: command.simple().to_string().into(),
            from: id(order),
            to: id(payee),
            amount: Amount::new(i128::from(1 + seed % 100))?,
        };
        let sent = node.together().send(transfer).id(command).await;
        sent.map(drop).map_err(|error| anyhow!("{error:?}"))
    }
}
