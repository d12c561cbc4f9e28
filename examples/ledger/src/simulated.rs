//! The ledger in the simulated world: what clients do with it, and what must hold whatever goes
//! wrong.

use std::sync::Arc;
use std::time::Duration;

use everfold::SendError;
use everfold::engine::engine::BoxFuture;
use everfold::engine::{EntityKey, Record};
use everfold::prelude::*;
use everfold_world::workload::{Auditor, Workload};
use everfold_world::{Client, Ended, Random};

use crate::account::{
    Account, AccountId, ChangeOverdraft, Close, Expire, HoldId, Open, PlaceHold, Release,
    TransferId,
};
use crate::amount::{Amount, Balance};
use crate::audit::{Audit, audit};
use crate::transfer::{Capture, Transfer, TransferRejection};
use crate::views::{BooksRow, balances, books, the_books};

const TAGS: u64 = 2;
/// The accounts of a tag, its bank not counted.
const ACCOUNTS: u64 = 3;
const HOLDS: u64 = 4;
/// How far below zero a bank may go: all the money that there is.
const MONEY: i128 = 2000;

/// Clients who move money, set it aside, and empty accounts at the same moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Payments;

/// Accounts of one tag: the bank, which brings the money, is number 0.
fn account(tag: u64, number: u64) -> AccountId {
    AccountId::from(format!("{{{tag}}}{number}"))
}

fn amount(minor: u64) -> Amount {
    // Never zero.
    Amount::new(i128::from(minor) + 1).unwrap_or(Amount::MAX)
}

/// What one operation has to choose from.
struct Draw {
    tag: u64,
    one: AccountId,
    other: AccountId,
    amount: Amount,
    hold: HoldId,
}

impl Draw {
    fn new(random: &mut Random) -> Self {
        let tag = random.below(TAGS);
        let (number, step) = (random.below(ACCOUNTS + 1), 1 + random.below(ACCOUNTS));
        Self {
            tag,
            one: account(tag, number),
            other: account(tag, (number + step) % (ACCOUNTS + 1)),
            amount: amount(random.below(300)),
            hold: HoldId::from(format!("h-{}", random.below(HOLDS))),
        }
    }
}

type Operation = for<'a> fn(&'a mut Client, Draw) -> BoxFuture<'a, ()>;

/// Operations, and how many of a hundred are such.
const OPERATIONS: &[(u64, Operation)] = &[
    (18, |client, draw| Box::pin(fund(client, draw))),
    (14, |client, draw| Box::pin(pay(client, draw))),
    (12, |client, draw| Box::pin(send_over(client, draw))),
    (8, |client, draw| Box::pin(pay_again(client, draw))),
    (16, |client, draw| Box::pin(empty(client, draw))),
    (10, |client, draw| Box::pin(place_hold(client, draw))),
    (10, |client, draw| Box::pin(capture(client, draw))),
    (6, |client, draw| Box::pin(end_hold(client, draw))),
    (6, |client, draw| Box::pin(change(client, draw))),
    (6, |client, draw| Box::pin(look_at_books(client, draw))),
    (6, |client, draw| Box::pin(look_at_balances(client, draw))),
];

impl Workload for Payments {
    fn name(&self) -> &'static str {
        "ledger"
    }

    fn application(&self, _: Random) -> Application {
        crate::application()
    }

    /// The last account of the last tag is never opened.
    async fn prepare(&self, client: &mut Client) {
        for (tag, number) in (0..TAGS).flat_map(|tag| (0..=ACCOUNTS).map(move |n| (tag, n))) {
            let overdraft = match number {
                0 => MONEY,
                1 => 50,
                _ => 0,
            };
            let overdraft = Balance::new(overdraft);
            if (tag, number) != (TAGS - 1, ACCOUNTS) {
                let open = Open { overdraft };
                client.send::<Account, _>(account(tag, number), open).await;
            }
        }
    }

    async fn operate(&self, client: &mut Client) {
        let draw = Draw::new(client.random());
        let sum = OPERATIONS.iter().map(|(weight, _)| weight).sum();
        let mut place = client.random().below(sum);
        for (weight, operation) in OPERATIONS {
            if place < *weight {
                return operation(client, draw).await;
            }
            place -= weight;
        }
    }

    fn auditor(&self) -> Option<Box<dyn Auditor>> {
        Some(Box::new(Prefixes::default()))
    }

    fn check(&self, ended: &Ended) -> Result<(), String> {
        let records = ended.units().into_iter().flatten().map(Arc::as_ref);
        let audited = audit(records).map_err(|fault| fault.to_string())?;
        let nothing = Balance::ZERO;
        if (audited.sum, audited.in_transit, audited.on_their_way) != (nothing, nothing, 0) {
            return Err(format!("money was made, lost or left behind: {audited:?}"));
        }
        let sagas = ended.rows::<serde::de::IgnoredAny>("sagas")?;
        if !sagas.is_empty() {
            return Err(format!(
                "transfers that never end: {:?}",
                sagas.keys().collect::<Vec<_>>()
            ));
        }
        let rows = ended.rows::<BooksRow>("books")?;
        let shown = rows.get(the_books().as_ref() as &str).cloned();
        let expected = BooksRow {
            debits: audited.debits,
            credits: audited.credits,
            in_transit: audited.in_transit,
            transfers: audited.transfers,
            between_tags: audited.between_tags,
            accounts: audited.accounts,
            closed: audited.closed,
        };
        match shown.unwrap_or_default() == expected {
            true => Ok(()),
            false => Err(format!("the books show {rows:?}, the log {audited:?}")),
        }
    }
}

async fn transfer(client: &mut Client, id: String, draw: Draw, amount: Amount) {
    let first = EntityKey::new("account", draw.one.as_text());
    let transfer = Transfer {
        transfer: TransferId::from(id),
        from: draw.one,
        to: draw.other,
        amount,
    };
    client.send_together(first, transfer).await;
}

/// The bank gives an account something to move.
async fn fund(client: &mut Client, draw: Draw) {
    let number = 1 + client.random().below(ACCOUNTS);
    let draw = Draw {
        one: account(draw.tag, 0),
        other: account(draw.tag, number),
        ..draw
    };
    pay(client, draw).await;
}

async fn pay(client: &mut Client, draw: Draw) {
    let (id, amount) = (format!("t-{}", client.operation()), draw.amount);
    transfer(client, id, draw, amount).await;
}

/// To an account of another tag, by a saga; some of them again and again. Whoever asks may not learn
/// the end: the log has it.
async fn send_over(client: &mut Client, draw: Draw) {
    let number = client.random().below(ACCOUNTS + 1);
    let to = account((draw.tag + 1) % TAGS, number);
    let again = client.random().one_in(3);
    let (id, from, amount) = match again {
        true => (
            format!("over-again-{number}"),
            account(draw.tag, 0),
            amount(40),
        ),
        false => (
            format!("over-{}", client.operation()),
            draw.one,
            draw.amount,
        ),
    };
    let transfer = Transfer {
        transfer: TransferId::from(id),
        from,
        to,
        amount,
    };
    let shown = format!("{transfer:?}");
    let answer = client.ask(move |node| {
        let transfer = transfer.clone();
        let patience = Duration::from_secs(1);
        Box::pin(async move {
            crate::transfer::transfer(&node, transfer)
                .patience(patience)
                .await
        })
    });
    let reused = Err(SendError::Rejected(TransferRejection::TransferIdReused));
    let answer = answer.await;
    client.require(answer != Some(reused), || {
        format!("a transfer asked for again is taken for another one: {shown}")
    });
}

/// One of few transfers, always with the same contents: asked for again and again.
async fn pay_again(client: &mut Client, draw: Draw) {
    let number = client.random().below(3);
    let draw = Draw {
        one: account(draw.tag, 0),
        other: account(draw.tag, 1 + number),
        ..draw
    };
    transfer(client, format!("again-{number}"), draw, amount(70)).await;
}

/// All that an account has, to the last unit; others do the same.
async fn empty(client: &mut Client, draw: Draw) {
    let number = 1 + client.random().below(ACCOUNTS);
    let one = account(draw.tag, number);
    let other = account(draw.tag, client.random().below(number));
    let Some((found, _)) = client.read::<Account>(one.clone()).await else {
        return;
    };
    if let Ok(all) = Amount::new(found.available().minor()) {
        let id = format!("all-{}", client.operation());
        transfer(client, id, Draw { one, other, ..draw }, all).await;
    }
}

async fn place_hold(client: &mut Client, draw: Draw) {
    let place = PlaceHold {
        hold: draw.hold,
        amount: draw.amount,
        expires_after: None,
    };
    client.send::<Account, _>(draw.one, place).await;
}

async fn capture(client: &mut Client, draw: Draw) {
    let first = EntityKey::new("account", draw.one.as_text());
    let capture = Capture {
        transfer: TransferId::from(format!("c-{}", client.operation())),
        hold: draw.hold,
        from: draw.one,
        to: draw.other,
        amount: draw.amount,
    };
    client.send_together(first, capture).await;
}

async fn end_hold(client: &mut Client, draw: Draw) {
    let hold = draw.hold;
    match client.random().one_in(2) {
        true => drop(client.send::<Account, _>(draw.one, Release { hold }).await),
        false => drop(client.send::<Account, _>(draw.one, Expire { hold }).await),
    }
}

async fn change(client: &mut Client, draw: Draw) {
    if client.random().one_in(4) {
        client.send::<Account, _>(draw.one, Close).await;
        return;
    }
    let number = 1 + client.random().below(ACCOUNTS);
    let overdraft = Balance::new(i128::from(client.random().below(100)));
    let change = ChangeOverdraft { overdraft };
    client
        .send::<Account, _>(account(draw.tag, number), change)
        .await;
}

async fn look_at_books(client: &mut Client, _: Draw) {
    if let Some(Some(row)) = client.row(books, the_books()).await {
        client.require(row.balance(), || {
            format!("the books do not balance: {row:?}")
        });
    }
}

/// No account is past its limit, whenever somebody looks.
async fn look_at_balances(client: &mut Client, _: Draw) {
    let mine = client.random().one_in(2);
    let Some(rows) = client.rows(balances, mine).await else {
        return;
    };
    for (id, row) in &rows {
        client.require(!row.available().is_negative(), || {
            format!("{} is past its limit: {row:?}", id.as_text())
        });
    }
}

/// The books balance, and no account is past its limit, at every prefix of the log.
#[derive(Default)]
struct Prefixes(Audit);

impl Auditor for Prefixes {
    fn unit(&mut self, unit: &[Arc<Record>]) -> Result<(), String> {
        for record in unit {
            self.0.read(record).map_err(|fault| fault.to_string())?;
        }
        Ok(())
    }
}
