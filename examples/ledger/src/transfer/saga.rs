//! The saga that leads a transfer from one tag to another.
//!
//! Once the payee has the money there is no way back: whoever calls the saga off then makes it tell
//! the payer that the transfer has arrived. How an instance ended stands in its data.

use std::time::Duration;

use everfold::prelude::*;
use everfold::{CommandError, Next, SagaEnd, SendError};
use serde::{Deserialize, Serialize};

use super::{Deliver, Dispatch, GiveBack, Settle, Transfer, TransferRejection, TransferState};
use crate::account::{Account, AccountId, TransferId};
use crate::amount::Amount;

#[cfg(test)]
mod tests;

/// Money that has not left its payer after so long does not leave any more.
pub const DEPARTURE: Duration = Duration::from_secs(60);

/// What cannot be processed is tried so often, with growing pauses, for about half an hour; then a
/// person has to look at it.
const ATTEMPTS: (u32, Duration) = (12, Duration::from_secs(1));

/// A transfer from one tag to another, and what has become of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moving {
    /// The transfer.
    pub transfer: TransferId,
    /// Who pays.
    pub from: AccountId,
    /// Who is to be paid.
    pub to: AccountId,
    /// How much.
    pub amount: Amount,
    /// Whether the payee has it.
    pub delivered: bool,
    /// Why the payee does not get it.
    pub refused: Option<TransferRejection>,
}

impl Moving {
    pub(super) fn new(transfer: Transfer) -> Self {
        let Transfer {
            transfer,
            from,
            to,
            amount,
        } = transfer;
        Self {
            transfer,
            from,
            to,
            amount,
            delivered: false,
            refused: None,
        }
    }

    /// The instance that leads a transfer: kept beside the payer, one for all transfers of this name
    /// in the payer's tag.
    pub fn instance(from: &AccountId, transfer: &TransferId) -> String {
        format!("{{{}}}{transfer}", from.place())
    }

    /// The answer to whoever asked for the transfer.
    pub(super) fn answer(
        self,
        end: SagaEnd,
    ) -> Result<TransferState, SendError<TransferRejection>> {
        let rejected = match (end, self.refused) {
            _ if self.delivered => return Ok(TransferState::Completed),
            (SagaEnd::Undone, Some(refused)) => refused,
            (SagaEnd::Undone, None) => TransferRejection::TakenBack,
            (SagaEnd::Completed | SagaEnd::Forced, _) => {
                return Err(SendError::Failed(CommandError::Unknown(
                    "a person has ended the transfer where it stood".to_owned(),
                )));
            }
        };
        Err(SendError::Rejected(rejected))
    }

    fn refuse(&mut self, reason: TransferRejection) -> Next {
        let next = fail(reason.to_string());
        self.refused = Some(reason);
        next
    }
}

/// Money leaves the payer, comes to the payee, and the payer learns of it; or it comes back.
///
/// Only the departure has a deadline. Whether money that is brought to its payee has come there must
/// be known before anything else is done, however long that takes.
pub fn between_tags() -> Saga<Moving> {
    let dispatch = ask_together(|it: &Moving| Dispatch {
        transfer: it.transfer.clone(),
        from: it.from.clone(),
        to: it.to.clone(),
        amount: it.amount,
    });
    let give_back = ask_together(|it: &Moving| GiveBack {
        transfer: it.transfer.clone(),
        from: it.from.clone(),
    });
    let deliver = ask_together(|it: &Moving| Deliver {
        transfer: it.transfer.clone(),
        from: it.from.clone(),
        to: it.to.clone(),
        amount: it.amount,
    });
    let deliver = deliver.replied(|it, _| {
        it.delivered = true;
        done()
    });
    let settle = || {
        ask(|it: &Moving| {
            let transfer = it.transfer.clone();
            command::<Account, _>(&it.from, Settle { transfer })
        })
    };
    let (attempts, pause) = ATTEMPTS;
    Saga::named("transfer")
        .step(
            Step::named("dispatch", dispatch.rejected(Moving::refuse))
                // What has arrived does not come back.
                .undo(give_back.rejected(|_, _| done()))
                .attempts(attempts, pause)
                .within(DEPARTURE)
                .timed_out(|it| it.refuse(TransferRejection::TimedOut)),
        )
        .step(
            Step::named("deliver", deliver.rejected(Moving::refuse))
                .undo(settle())
                .attempts(attempts, pause),
        )
        .step(Step::named("settle", settle()).attempts(attempts, pause))
}
