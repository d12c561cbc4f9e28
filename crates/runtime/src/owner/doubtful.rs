//! Work that may have been done already.

use everfold_engine::EntityKey;

use super::Residents;
use super::work::{Answer, Desk, Envelope, Ruling, Work};
use crate::error::CommandError;
use crate::remote::What;
use crate::schema::AnyState;

/// A command that was on its way to the store, or to another node, when the answer was lost. It is
/// asked again under its id; but whoever says then that it was not done speaks of this time only.
pub(crate) struct Doubtful(Box<dyn Work>);

impl Doubtful {
    pub(crate) fn over(work: Box<dyn Work>) -> Box<dyn Work> {
        Box::new(Self(work))
    }
}

impl Work for Doubtful {
    fn envelope(&self) -> &Envelope {
        self.0.envelope()
    }

    fn envelope_mut(&mut self) -> &mut Envelope {
        self.0.envelope_mut()
    }

    fn carried(&self) -> Result<What, CommandError> {
        self.0.carried()
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }

    fn look(&mut self, state: &AnyState, version: u64) -> Result<bool, CommandError> {
        self.0.look(state, version)
    }

    fn entities(&self) -> &[EntityKey] {
        self.0.entities()
    }

    fn digest(&self) -> Result<u128, CommandError> {
        self.0.digest()
    }

    fn decide(&mut self, desk: &Desk<'_>) -> Result<Ruling, CommandError> {
        self.0.decide(desk)
    }

    fn evolve(&mut self, residents: &mut Residents) -> Result<(), CommandError> {
        self.0.evolve(residents)
    }

    fn is_abandoned(&self) -> bool {
        self.0.is_abandoned()
    }

    fn answer(self: Box<Self>, answer: Answer) {
        let answer = match answer {
            Answer::Failed(error) if !leaves_it_open(&error) => {
                let reason = format!("its first answer was lost, and now it fails: {error}");
                Answer::Failed(CommandError::Unknown(reason))
            }
            answer => answer,
        };
        self.0.answer(answer);
    }
}

/// Errors that are as true of what went before.
fn leaves_it_open(error: &CommandError) -> bool {
    matches!(
        error,
        CommandError::Unknown(_)
            | CommandError::NoOwner { .. }
            | CommandError::Deadline
            | CommandError::Settled(_)
    )
}
