//! Transfers between tags, move by move. The saga of [`between_tags`](super::between_tags) asks for
//! them in order.
//!
//! Whether money has left the payer is known until the saga says how it ended, so it comes
//! back exactly if it had left, whatever else has happened meanwhile.

use everfold::prelude::*;
use everfold::{DecideTogether, Joint, Members, States};
use serde::{Deserialize, Serialize};

use super::{
    Ruling, TransferRejection, TransferState, Way, check_way, funds, payee, payer, states,
};
use crate::account::{Account, AccountEvent, AccountId, Passed, Received, Sent, TransferId};
use crate::amount::Amount;
use crate::transit::{Transit, TransitEvent, TransitId};

/// Moves money from the payer to the in-transit account of its tag.
#[derive(Command, Clone, Debug, PartialEq)]
pub struct Dispatch {
    /// Names the transfer.
    pub transfer: TransferId,
    /// Who pays.
    pub from: AccountId,
    /// Who is to be paid: an account of another tag.
    pub to: AccountId,
    /// How much.
    pub amount: Amount,
}

impl Dispatch {
    pub(super) fn rule(&self, from: &Account) -> Ruling<AccountEvent> {
        check_way(&self.from, &self.to, Way::InTransit)?;
        let (amount, to) = (self.amount, self.to.clone());
        let reused = Err(TransferRejection::TransferIdReused);
        match (from.sent(&self.transfer), from.passed(&self.transfer)) {
            (Some(sent), _) if *sent == (Sent { amount, to }) => return Ok(None),
            (Some(_), _) => return reused,
            (None, Some(Passed::Returned)) => return Err(TransferRejection::TakenBack),
            (None, Some(Passed::Arrived { amount, to }))
                if (*amount, to) == (self.amount, &self.to) =>
            {
                return Ok(None);
            }
            (None, Some(_)) => return reused,
            (None, None) => {}
        }
        payer(from)?;
        funds(from, amount)?;
        Ok(Some(AccountEvent::Dispatched {
            transfer: self.transfer.clone(),
            amount,
            to: self.to.clone(),
        }))
    }
}

impl DecideTogether for Dispatch {
    type Reply = TransferState;
    type Rejection = TransferRejection;

    fn members(&self) -> Members {
        beside(&self.from)
    }

    fn decide(&self, both: &States<'_>, _: &Context) -> Joint<TransferState, TransferRejection> {
        match states(both, &self.from).and_then(|from| self.rule(from)) {
            Err(rejection) => Joint::reject(rejection),
            Ok(None) => Joint::reply(TransferState::InTransit),
            Ok(Some(dispatched)) => Joint::reply(TransferState::InTransit)
                .emit::<Account>(&self.from, dispatched)
                .emit::<Transit>(
                    &TransitId::beside(&self.from),
                    TransitEvent::TakenIn {
                        transfer: self.transfer.clone(),
                        amount: self.amount,
                        from: self.from.clone(),
                    },
                ),
        }
    }
}

/// An account and the in-transit account beside it.
fn beside(account: &AccountId) -> Members {
    Members::new()
        .and::<Account>(account)
        .and::<Transit>(&TransitId::beside(account))
}

/// Moves money from the in-transit account of the payee's tag to the payee.
#[derive(Command, Clone, Debug, PartialEq)]
pub struct Deliver {
    /// Names the transfer.
    pub transfer: TransferId,
    /// Who has paid: an account of another tag.
    pub from: AccountId,
    /// Who is paid.
    pub to: AccountId,
    /// How much.
    pub amount: Amount,
}

impl Deliver {
    pub(super) fn rule(&self, to: &Account) -> Ruling<AccountEvent> {
        check_way(&self.from, &self.to, Way::InTransit)?;
        let (amount, from) = (self.amount, self.from.clone());
        match to.received(&self.transfer, &from) {
            Some(received) if *received == (Received { amount, from }) => return Ok(None),
            Some(_) => return Err(TransferRejection::TransferIdReused),
            None => {}
        }
        payee(to, amount)?;
        Ok(Some(AccountEvent::Received {
            transfer: self.transfer.clone(),
            amount,
            from: self.from.clone(),
        }))
    }
}

impl DecideTogether for Deliver {
    type Reply = TransferState;
    type Rejection = TransferRejection;

    fn members(&self) -> Members {
        beside(&self.to)
    }

    fn decide(&self, both: &States<'_>, _: &Context) -> Joint<TransferState, TransferRejection> {
        match states(both, &self.to).and_then(|to| self.rule(to)) {
            Err(rejection) => Joint::reject(rejection),
            Ok(None) => Joint::reply(TransferState::Completed),
            Ok(Some(received)) => Joint::reply(TransferState::Completed)
                .emit::<Transit>(
                    &TransitId::beside(&self.to),
                    TransitEvent::PaidOut {
                        transfer: self.transfer.clone(),
                        amount: self.amount,
                        from: self.from.clone(),
                        to: self.to.clone(),
                    },
                )
                .emit::<Account>(&self.to, received),
        }
    }
}

/// Undoes [`Dispatch`]: moves money back to the payer if it had left, and keeps it from leaving
/// later if it had not. Only for a transfer that was not delivered and will not be.
#[derive(Command, Clone, Debug, PartialEq)]
pub struct GiveBack {
    /// Names the transfer.
    pub transfer: TransferId,
    /// Who has it again.
    pub from: AccountId,
}

/// Why a transfer cannot be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum NotDelivered {
    /// It has come to the payee, or is of the kind that is never in transit.
    #[error("the transfer has ended, and is not in transit any more")]
    Ended,
}

impl GiveBack {
    pub(super) fn rule(&self, from: &Account) -> Result<Option<AccountEvent>, NotDelivered> {
        let transfer = self.transfer.clone();
        match (from.sent(&transfer), from.passed(&transfer)) {
            (Some(sent), _) => Ok(Some(AccountEvent::Returned {
                transfer,
                amount: sent.amount,
            })),
            (None, Some(Passed::Returned)) => Ok(None),
            (None, Some(_)) => Err(NotDelivered::Ended),
            (None, None) => Ok(Some(AccountEvent::Forgone { transfer })),
        }
    }
}

impl DecideTogether for GiveBack {
    type Reply = TransferState;
    type Rejection = NotDelivered;

    fn members(&self) -> Members {
        beside(&self.from)
    }

    fn decide(&self, both: &States<'_>, _: &Context) -> Joint<TransferState, NotDelivered> {
        let Some(from) = both.of::<Account>(&self.from) else {
            return Joint::reject(NotDelivered::Ended);
        };
        let event = match self.rule(from) {
            Err(rejection) => return Joint::reject(rejection),
            Ok(None) => return Joint::reply(TransferState::Returned),
            Ok(Some(event)) => event,
        };
        let given_back = match &event {
            AccountEvent::Returned { amount, .. } => Some(TransitEvent::GivenBack {
                transfer: self.transfer.clone(),
                amount: *amount,
                to: self.from.clone(),
            }),
            _ => None,
        };
        let joint = Joint::reply(TransferState::Returned);
        let joint = match given_back {
            Some(event) => joint.emit::<Transit>(&TransitId::beside(&self.from), event),
            None => joint,
        };
        joint.emit::<Account>(&self.from, event)
    }
}

/// Tells the payer that its transfer has come to the payee. Asking again changes nothing.
#[derive(Command, Clone, Debug, PartialEq)]
pub struct Settle {
    /// Names the transfer.
    pub transfer: TransferId,
}

impl Decide<Settle> for Account {
    type Reply = TransferState;
    type Rejection = Never;

    fn decide(&self, command: &Settle, _: &Context) -> Decision<Self, Settle> {
        let transfer = command.transfer.clone();
        match self.sent(&transfer) {
            Some(_) => emit(AccountEvent::Arrived { transfer }).reply(TransferState::Completed),
            None => reply(TransferState::Completed),
        }
    }
}
