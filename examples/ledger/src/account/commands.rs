//! Opening, closing, and the overdraft limit.

use everfold::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Account, AccountEvent, AccountId, NotOpen, Opening};
use crate::amount::Balance;

/// Why an account refuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AccountRejection {
    /// Never opened.
    #[error("there is no such account; open it first")]
    UnknownAccount,
    /// Opened once, closed since.
    #[error("the account was closed, and its id is not used again")]
    Closed,
    /// An id with braces that are no tag, or too long.
    #[error(
        "an account's id is like {{branch-7}}acct-42: one tag in braces or no braces, and {} bytes at most",
        AccountId::MOST_BYTES
    )]
    BadId,
    /// A limit below zero or beyond 2^63 - 1.
    #[error("an overdraft limit lies between 0 and {}", Balance::ACCOUNT_MAX)]
    BadOverdraft,
    /// The id is taken.
    #[error("this account was opened before, with another overdraft limit")]
    OpenedDifferently,
    /// The new limit is below what is used of the old one.
    #[error("{used} of the overdraft is used or held: the limit cannot be lower")]
    OverdraftInUse {
        /// How much of it.
        used: Balance,
    },
    /// There is money, or debt.
    #[error("the account stands at {balance}: bring it to zero before closing it")]
    NotEmpty {
        /// How much.
        balance: Balance,
    },
    /// Holds set money aside.
    #[error("{holds} holds are in place: capture or release them before closing")]
    Held {
        /// How many.
        holds: usize,
    },
    /// Money may come back.
    #[error("{transfers} transfers are on their way: close it when they have ended")]
    InTransit {
        /// How many.
        transfers: usize,
    },
}

impl From<NotOpen> for AccountRejection {
    fn from(fault: NotOpen) -> Self {
        match fault {
            NotOpen::Unknown => Self::UnknownAccount,
            NotOpen::Closed => Self::Closed,
        }
    }
}

fn is_limit(overdraft: Balance) -> bool {
    (Balance::ZERO..=Balance::ACCOUNT_MAX).contains(&overdraft)
}

/// Opens an account at zero. Asking again with the same limit changes nothing.
#[derive(Command, Clone, Debug)]
pub struct Open {
    /// How far below zero it may go; zero or more.
    pub overdraft: Balance,
}

impl Decide<Open> for Account {
    type Reply = ();
    type Rejection = AccountRejection;

    fn decide(&self, command: &Open, context: &Context) -> Decision<Self, Open> {
        let Open { overdraft } = *command;
        if !AccountId::from(context.entity_id()).is_well_formed() {
            return reject(AccountRejection::BadId);
        }
        if !is_limit(overdraft) {
            return reject(AccountRejection::BadOverdraft);
        }
        match self.opening {
            None => emit(AccountEvent::Opened { overdraft }).reply(()),
            Some(_) if self.closed => reject(AccountRejection::Closed),
            Some(opening) if opening == (Opening { overdraft }) => reply(()),
            Some(_) => reject(AccountRejection::OpenedDifferently),
        }
    }
}

/// Sets another overdraft limit; not below what is used.
#[derive(Command, Clone, Debug)]
pub struct ChangeOverdraft {
    /// How far below zero it may go; zero or more.
    pub overdraft: Balance,
}

impl Decide<ChangeOverdraft> for Account {
    type Reply = ();
    type Rejection = AccountRejection;

    fn decide(&self, command: &ChangeOverdraft, _: &Context) -> Decision<Self, ChangeOverdraft> {
        let ChangeOverdraft { overdraft } = *command;
        let used = self.held().minus(self.balance);
        if !is_limit(overdraft) {
            reject(AccountRejection::BadOverdraft)
        } else if let Err(fault) = self.open() {
            reject(fault.into())
        } else if overdraft == self.overdraft {
            reply(())
        } else if overdraft < used {
            reject(AccountRejection::OverdraftInUse { used })
        } else {
            emit(AccountEvent::OverdraftChanged { overdraft }).reply(())
        }
    }
}

/// Closes an account for good, at zero and without holds. Asking again changes nothing.
#[derive(Command, Clone, Debug)]
pub struct Close;

impl Decide<Close> for Account {
    type Reply = ();
    type Rejection = AccountRejection;

    fn decide(&self, _: &Close, _: &Context) -> Decision<Self, Close> {
        match self.open() {
            Err(NotOpen::Unknown) => return reject(AccountRejection::UnknownAccount),
            Err(NotOpen::Closed) => return reply(()),
            Ok(()) => {}
        }
        let (holds, transfers) = (self.holds.len(), self.in_transit.len());
        if holds > 0 {
            reject(AccountRejection::Held { holds })
        } else if transfers > 0 {
            reject(AccountRejection::InTransit { transfers })
        } else if self.balance != Balance::ZERO {
            let balance = self.balance;
            reject(AccountRejection::NotEmpty { balance })
        } else {
            emit(AccountEvent::Closed).reply(())
        }
    }
}
