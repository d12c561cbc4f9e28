//! Transfers: money moves from one account to another.
//!
//! Which [`Way`] a transfer goes depends on the two ids alone. Accounts of one tag change together,
//! in one unit of the log ([`Transfer`], [`Capture`]). Between tags money goes through the
//! in-transit accounts: [`Dispatch`] from the payer, [`Deliver`] to the payee, and then [`Settle`]
//! tells the payer; or [`GiveBack`] takes it back. Each of these is one unit that balances by itself;
//! the saga [`between_tags`] asks for them in order.
//!
//! [`transfer`] takes any transfer, goes the way that its ids say, and gives one answer. What names
//! accounts of different tags is never decided as one, not even where both happen to lie in one
//! partition: that another partitioning refuses must not depend on this one.
//!
//! Two things stay refused:
//!
//! - A [`Capture`] between tags ([`TransferRejection::OtherWay`]). A capture ends its hold and pays
//!   in the same unit; a payee of another tag may refuse when the hold has long ended, and what comes
//!   back could not be set aside again, as it may be beyond the limit or out of its time by then.
//!   Release the hold and transfer, or capture to an account of the payer's tag and transfer from
//!   there.
//! - An id that comes again for something else ([`TransferRejection::TransferIdReused`]), within the
//!   payer's tag, or at the payee's account while that remembers it.

use everfold::prelude::*;
use everfold::{DecideTogether, Joint, Members, States};
use serde::{Deserialize, Serialize};

use crate::account::{Account, AccountEvent, AccountId, HoldId, NotOpen, Passed, TransferId};
use crate::amount::{Amount, Balance};

mod asking;
mod between;
mod saga;
#[cfg(test)]
mod tests;

pub use asking::{Transferred, Transferring, transfer};
pub use between::{Deliver, Dispatch, GiveBack, NotDelivered, Settle};
pub use saga::{DEPARTURE, Moving, between_tags};

/// How money gets from one account to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// In one atomic change of both accounts: [`Transfer`].
    Together,
    /// Through the in-transit accounts of both tags.
    InTransit,
}

impl Way {
    /// The way between two accounts. However the log is partitioned, it is the same.
    pub fn between(from: &AccountId, to: &AccountId) -> Self {
        match (from.tag(), to.tag()) {
            (Some(from), Some(to)) if from == to => Self::Together,
            _ => Self::InTransit,
        }
    }
}

/// Where an accepted transfer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TransferState {
    /// The payee has it.
    Completed,
    /// It has left the payer.
    InTransit,
    /// The payer has it again, or it never left and never will.
    Returned,
}

/// Why a transfer is refused; nothing has moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TransferRejection {
    /// The payer was never opened.
    #[error("the payer's account does not exist; open it first")]
    UnknownPayer,
    /// The payer was closed.
    #[error("the payer's account was closed")]
    PayerClosed,
    /// The payee was never opened.
    #[error("the payee's account does not exist; open it first")]
    UnknownPayee,
    /// The payee was closed.
    #[error("the payee's account was closed")]
    PayeeClosed,
    /// Payer and payee are one account.
    #[error("payer and payee are the same account")]
    SameAccount,
    /// The ids of the two accounts ask for the other way.
    #[error("accounts that share a tag change together, others by way of in-transit accounts")]
    OtherWay,
    /// More than there is.
    #[error("{available} are available; ask for less, or wait until more has come")]
    InsufficientFunds {
        /// What there is, overdraft included.
        available: Balance,
    },
    /// The payee's account cannot hold so much.
    #[error("the payee's account would hold more than {}", Balance::ACCOUNT_MAX)]
    PayeeFull,
    /// The id names another transfer.
    #[error("this id was used for another transfer; give the new one an id of its own")]
    TransferIdReused,
    /// Asked back before it had left.
    #[error("the transfer was taken back")]
    TakenBack,
    /// It had not left when its time was over.
    #[error("the money could not leave in time; ask again under another id")]
    TimedOut,
    /// Not in place, and not ended lately.
    #[error("there is no such hold on the payer's account")]
    UnknownHold,
    /// Captured by another transfer, released or expired.
    #[error("the hold has ended")]
    HoldEnded,
    /// More than the hold sets aside.
    #[error("the hold sets aside {held}; capture at most that")]
    BeyondHold {
        /// What it holds.
        held: Amount,
    },
}

/// An open payer, or why it is none.
fn payer(account: &Account) -> Result<(), TransferRejection> {
    account.open().map_err(|fault| match fault {
        NotOpen::Unknown => TransferRejection::UnknownPayer,
        NotOpen::Closed => TransferRejection::PayerClosed,
    })
}

/// An open payee with room for so much, or why it is none.
fn payee(account: &Account, amount: Amount) -> Result<(), TransferRejection> {
    account.open().map_err(|fault| match fault {
        NotOpen::Unknown => TransferRejection::UnknownPayee,
        NotOpen::Closed => TransferRejection::PayeeClosed,
    })?;
    let room = account.has_room(amount);
    room.then_some(()).ok_or(TransferRejection::PayeeFull)
}

/// Whether the payer may go on with so much less.
fn funds(account: &Account, amount: Amount) -> Result<(), TransferRejection> {
    let available = account.available();
    if available < amount.into() {
        return Err(TransferRejection::InsufficientFunds { available });
    }
    Ok(())
}

/// Something that happens, or nothing because it has happened before.
type Ruling<Event> = Result<Option<Event>, TransferRejection>;

/// The states of payer and payee. What is no member of a command cannot be asked for.
fn states<'a>(states: &'a States<'_>, id: &AccountId) -> Result<&'a Account, TransferRejection> {
    let unknown = TransferRejection::UnknownPayer;
    states.of::<Account>(id).ok_or(unknown)
}

/// Money from one account to another of the same tag: both change, or neither.
///
/// Asking again with the same content changes nothing, under the same command id or, for a while,
/// under another one.
#[derive(Command, Clone, Debug, PartialEq)]
pub struct Transfer {
    /// Names it.
    pub transfer: TransferId,
    /// Who pays.
    pub from: AccountId,
    /// Who is paid.
    pub to: AccountId,
    /// How much.
    pub amount: Amount,
}

impl Transfer {
    fn rule(&self, from: &Account, to: &Account) -> Ruling<AccountEvent> {
        let amount = self.amount;
        check_way(&self.from, &self.to, Way::Together)?;
        let same = |passed: &Passed| matches!(passed, Passed::Paid { amount: paid, to } if *paid == amount && *to == self.to);
        if is_repeated(from, &self.transfer, same)? {
            return Ok(None);
        }
        payer(from)?;
        payee(to, amount)?;
        funds(from, amount)?;
        Ok(Some(AccountEvent::Debited {
            transfer: self.transfer.clone(),
            amount,
            to: self.to.clone(),
        }))
    }
}

fn check_way(from: &AccountId, to: &AccountId, way: Way) -> Result<(), TransferRejection> {
    if from == to {
        return Err(TransferRejection::SameAccount);
    }
    let is_right = Way::between(from, to) == way;
    is_right.then_some(()).ok_or(TransferRejection::OtherWay)
}

/// Whether the payer knows this transfer already; refuses another one of the same name.
fn is_repeated(
    from: &Account,
    transfer: &TransferId,
    same: impl Fn(&Passed) -> bool,
) -> Result<bool, TransferRejection> {
    match from.passed(transfer) {
        None if from.sent(transfer).is_some() => Err(TransferRejection::TransferIdReused),
        None => Ok(false),
        Some(passed) if same(passed) => Ok(true),
        Some(_) => Err(TransferRejection::TransferIdReused),
    }
}

impl DecideTogether for Transfer {
    type Reply = TransferState;
    type Rejection = TransferRejection;

    fn members(&self) -> Members {
        Members::new()
            .and::<Account>(&self.from)
            .and::<Account>(&self.to)
    }

    fn decide(&self, both: &States<'_>, _: &Context) -> Joint<TransferState, TransferRejection> {
        let rule = || self.rule(states(both, &self.from)?, states(both, &self.to)?);
        moved(rule(), &self.from, &self.to, &self.transfer, self.amount)
    }
}

/// Pays out of a hold to another account of the same tag. What the hold sets aside beyond that is
/// free again.
#[derive(Command, Clone, Debug, PartialEq)]
pub struct Capture {
    /// Names the transfer.
    pub transfer: TransferId,
    /// Which hold.
    pub hold: HoldId,
    /// Whose hold; who pays.
    pub from: AccountId,
    /// Who is paid.
    pub to: AccountId,
    /// How much: at most what is held.
    pub amount: Amount,
}

impl Capture {
    fn rule(&self, from: &Account, to: &Account) -> Ruling<AccountEvent> {
        let (amount, transfer) = (self.amount, self.transfer.clone());
        check_way(&self.from, &self.to, Way::Together)?;
        let same = Passed::Captured {
            hold: self.hold.clone(),
            amount,
            to: self.to.clone(),
        };
        if is_repeated(from, &transfer, |passed| *passed == same)? {
            return Ok(None);
        }
        payer(from)?;
        let Some(held) = from.hold(&self.hold) else {
            let ended = from.ended(&self.hold);
            return Err(match ended {
                Some(_) => TransferRejection::HoldEnded,
                None => TransferRejection::UnknownHold,
            });
        };
        if amount > held {
            return Err(TransferRejection::BeyondHold { held });
        }
        payee(to, amount)?;
        Ok(Some(AccountEvent::HoldCaptured {
            hold: self.hold.clone(),
            held,
            transfer,
            amount,
            to: self.to.clone(),
        }))
    }
}

impl DecideTogether for Capture {
    type Reply = TransferState;
    type Rejection = TransferRejection;

    fn members(&self) -> Members {
        Members::new()
            .and::<Account>(&self.from)
            .and::<Account>(&self.to)
    }

    fn decide(&self, both: &States<'_>, _: &Context) -> Joint<TransferState, TransferRejection> {
        let rule = || self.rule(states(both, &self.from)?, states(both, &self.to)?);
        moved(rule(), &self.from, &self.to, &self.transfer, self.amount)
    }
}

/// What the payer's debit comes with: the payee's credit.
fn moved(
    ruling: Ruling<AccountEvent>,
    from: &AccountId,
    to: &AccountId,
    transfer: &TransferId,
    amount: Amount,
) -> Joint<TransferState, TransferRejection> {
    let credited = || AccountEvent::Credited {
        transfer: transfer.clone(),
        amount,
        from: from.clone(),
    };
    match ruling {
        Err(rejection) => Joint::reject(rejection),
        Ok(None) => Joint::reply(TransferState::Completed),
        Ok(Some(debited)) => Joint::reply(TransferState::Completed)
            .emit::<Account>(from, debited)
            .emit::<Account>(to, credited()),
    }
}
