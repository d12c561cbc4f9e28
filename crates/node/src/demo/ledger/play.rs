//! Plays a plan: many clients, each one transfer after the other.
//!
//! A run that goes on asks for everything again, under the same ids, and is told what was decided
//! the first time.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::anyhow;
use everfold::{CommandError, Node, SendError};
use everfold_ledger::account::{Account, Close, Open};
use everfold_ledger::transfer;
use tokio::task::JoinSet;

use super::plan::{Plan, Purpose};
use crate::demo::patience::answered;
use crate::failure::refused;

/// What was answered.
#[derive(Default)]
pub struct Tally {
    /// Accounts that stand as planned.
    pub accounts: AtomicU64,
    /// Transfers that were accepted.
    pub accepted: AtomicU64,
    /// Transfers that were rejected.
    pub rejected: AtomicU64,
}

impl Tally {
    /// Transfers that were decided.
    pub fn transfers(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed) + self.rejected.load(Ordering::Relaxed)
    }
}

struct Player {
    node: Arc<Node>,
    plan: Plan,
    tally: Arc<Tally>,
}

/// Opens all accounts of a plan, and closes those that are to be closed.
///
/// # Errors
/// A command that failed.
pub async fn open_accounts(
    node: Arc<Node>,
    plan: Plan,
    clients: usize,
    tally: Arc<Tally>,
) -> anyhow::Result<()> {
    let accounts = plan.accounts();
    each(node, plan, clients, tally, accounts, Player::open).await
}

/// Asks for all transfers of a plan.
///
/// # Errors
/// A command that failed; a rejection is no failure.
pub async fn transfer(
    node: Arc<Node>,
    plan: Plan,
    clients: usize,
    tally: Arc<Tally>,
) -> anyhow::Result<()> {
    let transfers = plan.transfers();
    each(node, plan, clients, tally, transfers, Player::transfer).await
}

/// Does something for each number below `count`, so many at a time.
async fn each<D>(
    node: Arc<Node>,
    plan: Plan,
    clients: usize,
    tally: Arc<Tally>,
    count: u64,
    act: impl Fn(Arc<Player>, u64) -> D + Copy + Send + Sync + 'static,
) -> anyhow::Result<()>
where
    D: Future<Output = anyhow::Result<()>> + Send,
{
    let player = Arc::new(Player { node, plan, tally });
    let next = Arc::new(AtomicU64::new(0));
    let mut running = JoinSet::new();
    for _ in 0..clients.max(1) {
        let (player, next) = (player.clone(), next.clone());
        running.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return anyhow::Ok(());
                }
                act(player.clone(), number).await?;
            }
        });
    }
    while let Some(client) = running.join_next().await {
        client??;
    }
    Ok(())
}

impl Player {
    async fn open(self: Arc<Self>, number: u64) -> anyhow::Result<()> {
        let (id, overdraft) = self.plan.account(number);
        let account = self.node.entity::<Account>(id);
        let command = self.plan.command(Purpose::Open, number);
        let opened = answered(|| account.send(Open { overdraft }).id(command).by("demo")).await;
        opened.map_err(failed)?;
        if self.plan.is_closed(number) {
            let command = self.plan.command(Purpose::Close, number);
            let closed = answered(|| account.send(Close).id(command).by("demo")).await;
            closed.map_err(failed)?;
        }
        self.tally.accounts.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn transfer(self: Arc<Self>, number: u64) -> anyhow::Result<()> {
        let transfer = self.plan.transfer(number);
        let created = self.plan.created();
        let ask = || transfer::transfer(&self.node, transfer.clone());
        let answer = loop {
            match answered(|| ask().asked(created).by("demo")).await {
                // It takes its time, and is not lost.
                Err(SendError::Failed(CommandError::Deadline)) => {}
                answer => break answer,
            }
        };
        let decided = match answer {
            Ok(_) => &self.tally.accepted,
            Err(SendError::Rejected(_)) => &self.tally.rejected,
            Err(error) => return Err(failed(error)),
        };
        decided.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn failed<R: std::fmt::Debug>(error: SendError<R>) -> anyhow::Error {
    match error {
        SendError::Failed(CommandError::IdExpired { .. }) => refused(
            "this run was begun more than 24 hours ago, or the clock was set: what was decided then \
             cannot be told from what was not; begin anew with --fresh",
        ),
        error => anyhow!("{error}"),
    }
}
