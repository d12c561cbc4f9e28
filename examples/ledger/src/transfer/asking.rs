//! One way to ask for any transfer.

use std::future::IntoFuture;
use std::pin::Pin;
use std::time::Duration;

use everfold::engine::{Timestamp, Uuid, name_based_id};
use everfold::{CommandError, Key, Node, SagaRejection, SendError};
use xxhash_rust::xxh3::xxh3_128;

use super::{Moving, Transfer, TransferRejection, TransferState, Way, between_tags};

/// How long somebody waits for money that goes to another tag, unless they say otherwise.
const PATIENCE: Duration = Duration::from_secs(300);

/// What became of a transfer.
///
/// # Errors
/// [`SendError::Rejected`]: it was refused, and the payer has what it had.
/// [`SendError::Failed`]: it is not known yet, or never will be. Ask again for the same transfer.
/// [`CommandError::Deadline`] in it: the transfer has not ended so far, and goes on by itself; see
/// the instance of the saga `transfer`. [`CommandError::IdExpired`]: it is too late to ask again.
pub type Transferred = Result<TransferState, SendError<TransferRejection>>;

/// Asks for a transfer, whichever [`Way`] it goes; asked for when it is awaited, and answered when it
/// has ended.
///
/// The id names one transfer within the payer's tag. Asked for again it is not done again, and gets
/// the same answer: between tags for ever, within a tag until 24 hours after it was decided.
pub fn transfer(node: &Node, transfer: Transfer) -> Transferring<'_> {
    Transferring {
        node,
        transfer,
        asked: None,
        principal: String::new(),
        patience: PATIENCE,
    }
}

/// A transfer about to be asked for.
#[must_use = "a transfer is asked for when it is awaited"]
pub struct Transferring<'a> {
    node: &'a Node,
    transfer: Transfer,
    asked: Option<Timestamp>,
    principal: String,
    patience: Duration,
}

impl<'a> Transferring<'a> {
    /// When the transfer was first meant; now, unless set. Whoever may ask again after a day has to
    /// say it: a transfer within a tag that was meant more than 24 hours ago is refused with
    /// [`CommandError::IdExpired`], as what was answered then may be forgotten.
    pub fn asked(mut self, moment: Timestamp) -> Self {
        self.asked = Some(moment);
        self
    }

    /// Who asks.
    pub fn by(mut self, principal: impl Into<String>) -> Self {
        self.principal = principal.into();
        self
    }

    /// How long to wait for the end of a transfer between tags; five minutes unless set.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    async fn together(self) -> Transferred {
        let id = id_of(&self.transfer);
        let asked = self.asked.unwrap_or_else(|| self.node.world().now());
        let sending = self.node.together().send(self.transfer).id(id);
        match sending.issued(asked).by(self.principal).await {
            Ok(sent) => Ok(sent.reply),
            Err(SendError::Failed(CommandError::IdReused(_))) => {
                Err(SendError::Rejected(TransferRejection::TransferIdReused))
            }
            Err(error) => Err(error),
        }
    }

    async fn in_transit(self) -> Transferred {
        let saga = self.node.saga(&between_tags());
        let instance = Moving::instance(&self.transfer.from, &self.transfer.transfer);
        let moving = Moving::new(self.transfer);
        match saga.start(&*instance, moving).by(self.principal).await {
            Ok(_) => {}
            Err(SendError::Rejected(SagaRejection::BegunDifferently)) => {
                return Err(SendError::Rejected(TransferRejection::TransferIdReused));
            }
            Err(SendError::Rejected(other)) => {
                return Err(CommandError::Unknown(other.to_string()).into());
            }
            Err(SendError::Failed(error)) => return Err(error.into()),
        }
        let outcome = saga.outcome(&instance, self.patience).await?;
        outcome.data.answer(outcome.end)
    }
}

impl<'a> IntoFuture for Transferring<'a> {
    type Output = Transferred;
    type IntoFuture = Pin<Box<dyn Future<Output = Transferred> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        let Transfer { from, to, .. } = &self.transfer;
        // What nobody could keep cannot be asked.
        let refused = if from == to {
            Some(TransferRejection::SameAccount)
        } else if !from.is_well_formed() {
            Some(TransferRejection::UnknownPayer)
        } else if !to.is_well_formed() {
            Some(TransferRejection::UnknownPayee)
        } else {
            None
        };
        match (refused, Way::between(from, to)) {
            (Some(refused), _) => Box::pin(async move { Err(SendError::Rejected(refused)) }),
            (None, Way::Together) => Box::pin(self.together()),
            (None, Way::InTransit) => Box::pin(self.in_transit()),
        }
    }
}

/// The id of the command that carries out a transfer within a tag.
fn id_of(transfer: &Transfer) -> Uuid {
    let (place, id) = (transfer.from.place(), transfer.transfer.as_text());
    let name = format!("transfer\0{place}\0{id}");
    name_based_id(xxh3_128(name.as_bytes()).to_le_bytes())
}
