//! What came of it, as the views and the log say.

use everfold::Node;
use everfold_ledger::amount::Balance;
use everfold_ledger::audit::{Audited, audit_log};
use everfold_ledger::views::{BalanceRow, BooksRow, balances, books, the_books};
use serde::Serialize;

/// The result of a demonstration.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Transfers that were decided.
    pub transfers: u64,
    /// Those of them that took place.
    pub accepted: u64,
    /// Those of the accepted ones that went from one tag to another, by way of in-transit accounts.
    pub between_tags: u64,
    /// Those of them that were refused.
    pub rejected: u64,
    /// Whether the books balance, at the end and at every moment of the log before it.
    pub balanced: bool,
    /// Accounts that were opened.
    pub accounts: u64,
    /// Those of them that were closed.
    pub closed: u64,
    /// All that was debited.
    pub debits: Balance,
    /// All that was credited.
    pub credits: Balance,
    /// What has left a payer and is not with its payee yet.
    pub in_transit: Balance,
    /// Transfers that this run has asked for, by the seconds that they took.
    pub transfers_per_second: u64,
    /// How long this run took, from the start to these figures.
    pub seconds: f64,
    /// What an acknowledged transfer survives.
    pub durability: String,
}

/// What the ledger says of itself when nothing is under way.
pub struct Checked {
    /// The view of the books.
    pub books: BooksRow,
    /// Why it does not balance, if it does not.
    pub fault: Option<String>,
}

/// Reads the views and the whole log, and compares them.
///
/// # Errors
/// They cannot be read.
pub async fn check(node: &Node) -> anyhow::Result<Checked> {
    let position = node.caught_up().await?;
    let row = node
        .view(&books())
        .get(&the_books())
        .after(&position)
        .await?;
    let books = row.unwrap_or_default();
    let add = |sums: &mut (Balance, u64), _: &_, row: &BalanceRow| {
        sums.0 = sums.0.plus(row.balance);
        sums.1 += u64::from(row.available().is_negative());
    };
    let start = (Balance::ZERO, 0);
    let sums = node.view(&balances()).fold(start, add).after(&position);
    let (sum, past_limit) = sums.await?;
    let fault = match audit_log(&**node.engine()).await {
        Err(error) => Some(error.to_string()),
        Ok(audited) => difference(&books, sum, past_limit, &audited),
    };
    Ok(Checked { books, fault })
}

fn difference(
    books: &BooksRow,
    sum: Balance,
    past_limit: u64,
    audited: &Audited,
) -> Option<String> {
    let zero = Balance::ZERO;
    let checks = [
        (books.balance(), "the books' debits are not their credits"),
        (books.in_transit == zero, "money is in transit at the end"),
        (sum == zero, "the accounts do not add up to zero"),
        (past_limit == 0, "accounts are past their limit"),
        (
            audited.sum == zero,
            "the log's accounts do not add up to zero",
        ),
        (
            audited.on_their_way == 0,
            "transfers are under way at the end",
        ),
        (
            (audited.debits, audited.credits) == (books.debits, books.credits),
            "the books say other sums than the log",
        ),
        (
            (
                audited.transfers,
                audited.between_tags,
                audited.accounts,
                audited.closed,
            ) == (
                books.transfers,
                books.between_tags,
                books.accounts,
                books.closed,
            ),
            "the books count otherwise than the log",
        ),
    ];
    let failed = checks.iter().find(|(holds, _)| !holds);
    failed.map(|(_, fault)| (*fault).to_owned())
}
