//! What an account's history is made of.

use everfold::prelude::*;

use super::{AccountId, HoldId, TransferId};
use crate::amount::{Amount, Balance};

/// What can happen to an account.
#[derive(Event, Clone, Debug, PartialEq)]
pub enum AccountEvent {
    /// The account exists from now on, at zero.
    Opened {
        /// How far below zero it may go; zero or more.
        overdraft: Balance,
    },
    /// Another limit holds from now on.
    OverdraftChanged {
        /// How far below zero it may go; zero or more.
        overdraft: Balance,
    },
    /// Money left for an account of the same tag.
    Debited {
        /// The transfer.
        transfer: TransferId,
        /// How much.
        amount: Amount,
        /// Who has it now.
        to: AccountId,
    },
    /// Money came from an account of the same tag.
    Credited {
        /// The transfer.
        transfer: TransferId,
        /// How much.
        amount: Amount,
        /// Whose it was.
        from: AccountId,
    },
    /// Money came from an account of another tag, by way of the in-transit accounts.
    Received {
        /// The transfer.
        transfer: TransferId,
        /// How much.
        amount: Amount,
        /// Whose it was.
        from: AccountId,
    },
    /// Money left for an account of another tag: it is in transit.
    Dispatched {
        /// The transfer.
        transfer: TransferId,
        /// How much.
        amount: Amount,
        /// Who is to have it.
        to: AccountId,
    },
    /// What was in transit has come to where it was sent.
    Arrived {
        /// The transfer.
        transfer: TransferId,
    },
    /// What was in transit has come back.
    Returned {
        /// The transfer.
        transfer: TransferId,
        /// How much.
        amount: Amount,
    },
    /// A transfer that never left will not leave any more.
    Forgone {
        /// The transfer.
        transfer: TransferId,
    },
    /// Part of what is available is set aside.
    HoldPlaced {
        /// The hold.
        hold: HoldId,
        /// How much.
        amount: Amount,
        /// After so many seconds it ends by itself; never if absent.
        expires_after: Option<u32>,
    },
    /// A hold was paid out to an account of the same tag; what it held beyond that is free again.
    HoldCaptured {
        /// The hold.
        hold: HoldId,
        /// What it held.
        held: Amount,
        /// The transfer.
        transfer: TransferId,
        /// How much was paid.
        amount: Amount,
        /// Who has it now.
        to: AccountId,
    },
    /// What a hold set aside is free again.
    HoldReleased {
        /// The hold.
        hold: HoldId,
        /// What it held.
        held: Amount,
    },
    /// A hold has ended by itself.
    HoldExpired {
        /// The hold.
        hold: HoldId,
        /// What it held.
        held: Amount,
    },
    /// The account is gone; its id is not used again.
    Closed,
}
