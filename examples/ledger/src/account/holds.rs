//! Holds: money set aside for a payment whose amount or moment is not known yet.
//!
//! A hold is captured by [`crate::transfer::Capture`], for that takes two accounts.

use everfold::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Account, AccountEvent, HoldId, NotOpen, TransferId};
use crate::amount::{Amount, Balance};

/// The most holds that one account has at once.
pub(super) const MOST_HOLDS: usize = 1000;

/// How a hold has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum HoldEnd {
    /// Paid out.
    Captured {
        /// The transfer that it was paid by.
        by: TransferId,
    },
    /// Given back.
    Released,
    /// Ended by itself.
    Expired,
}

/// Where a hold stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum HoldState {
    /// It sets money aside.
    Placed,
    /// It does not any more.
    Ended(HoldEnd),
}

/// Why a hold is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum HoldRejection {
    /// Never opened.
    #[error("there is no such account; open it first")]
    UnknownAccount,
    /// Opened once, closed since.
    #[error("the account was closed")]
    Closed,
    /// Not in place, and not ended lately.
    #[error("there is no such hold on this account")]
    UnknownHold,
    /// More than there is.
    #[error("{available} are available; ask for less, or wait until more has come")]
    InsufficientFunds {
        /// What there is, overdraft included.
        available: Balance,
    },
    /// The id names another hold.
    #[error("this hold was placed before, with another amount; give the new one another id")]
    HoldIdReused,
    /// One more would be too many.
    #[error("an account has {MOST_HOLDS} holds at most; capture or release some")]
    TooManyHolds,
}

impl From<NotOpen> for HoldRejection {
    fn from(fault: NotOpen) -> Self {
        match fault {
            NotOpen::Unknown => Self::UnknownAccount,
            NotOpen::Closed => Self::Closed,
        }
    }
}

/// Sets money aside. Asking again for the same hold changes nothing and says where it stands.
#[derive(Command, Clone, Debug)]
pub struct PlaceHold {
    /// The hold.
    pub hold: HoldId,
    /// How much.
    pub amount: Amount,
    /// After so many seconds it ends by itself; never if absent.
    pub expires_after: Option<u32>,
}

impl Decide<PlaceHold> for Account {
    type Reply = HoldState;
    type Rejection = HoldRejection;

    fn decide(&self, command: &PlaceHold, _: &Context) -> Decision<Self, PlaceHold> {
        let PlaceHold {
            hold,
            amount,
            expires_after,
        } = command.clone();
        let available = self.available();
        if let Err(fault) = self.open() {
            reject(fault.into())
        } else if let Some(held) = self.hold(&hold) {
            match held == amount {
                true => reply(HoldState::Placed),
                false => reject(HoldRejection::HoldIdReused),
            }
        } else if let Some(end) = self.ended(&hold) {
            reply(HoldState::Ended(end.clone()))
        } else if self.holds.len() >= MOST_HOLDS {
            reject(HoldRejection::TooManyHolds)
        } else if available < amount.into() {
            reject(HoldRejection::InsufficientFunds { available })
        } else {
            emit(AccountEvent::HoldPlaced {
                hold,
                amount,
                expires_after,
            })
            .reply(HoldState::Placed)
        }
    }
}

/// Gives back what a hold set aside. Says how the hold has ended, now or before.
#[derive(Command, Clone, Debug)]
pub struct Release {
    /// The hold.
    pub hold: HoldId,
}

impl Decide<Release> for Account {
    type Reply = HoldEnd;
    type Rejection = HoldRejection;

    fn decide(&self, command: &Release, _: &Context) -> Decision<Self, Release> {
        let hold = command.hold.clone();
        if let Some(held) = self.hold(&hold) {
            emit(AccountEvent::HoldReleased { hold, held }).reply(HoldEnd::Released)
        } else if let Some(end) = self.ended(&hold) {
            reply(end.clone())
        } else if let Err(fault) = self.open() {
            reject(fault.into())
        } else {
            reject(HoldRejection::UnknownHold)
        }
    }
}

/// Ends a hold whose time is over. One that has ended before stays as it is.
#[derive(Command, Clone, Debug)]
pub struct Expire {
    /// The hold.
    pub hold: HoldId,
}

impl Decide<Expire> for Account {
    type Reply = ();
    type Rejection = Never;

    fn decide(&self, command: &Expire, _: &Context) -> Decision<Self, Expire> {
        let hold = command.hold.clone();
        match self.hold(&hold) {
            Some(held) => emit(AccountEvent::HoldExpired { hold, held }).reply(()),
            None => reply(()),
        }
    }
}
