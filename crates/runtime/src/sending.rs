//! What travels with a command or an append, the same for all ways to send one.

use everfold_engine::{Text, Timestamp, Uuid};

use crate::owner::{Envelope, Router};

/// Something on its way to the owner of its entities; await it.
#[must_use = "a command is sent when it is awaited"]
pub struct Sending<W> {
    pub(crate) router: Router,
    pub(crate) envelope: Envelope,
    pub(crate) what: W,
}

impl<W> Sending<W> {
    pub(crate) fn new(router: &Router, what: W) -> Self {
        Self {
            router: router.clone(),
            envelope: Envelope::default(),
            what,
        }
    }

    /// Makes repeats of this command recognisable for 24 hours: they get the same answer. A version
    /// 7 UUID made when the command was first meant.
    pub fn id(mut self, id: Uuid) -> Self {
        self.envelope.id = Some(id);
        self
    }

    /// When the id was made, for ids that are no version 7 UUIDs.
    pub fn issued(mut self, issued: Timestamp) -> Self {
        self.envelope.issued = Some(issued);
        self
    }

    /// Business time of what happens; now unless set.
    pub fn at(mut self, effective: Timestamp) -> Self {
        self.envelope.effective = Some(effective);
        self
    }

    /// Who asks.
    pub fn by(mut self, principal: impl Into<Text>) -> Self {
        self.envelope.principal = principal.into();
        self
    }

    /// What this and all that follows from it share.
    pub fn correlation(mut self, correlation: Uuid) -> Self {
        self.envelope.correlation = Some(correlation);
        self
    }

    /// The W3C trace context that this belongs to, in `traceparent` form; all that follows from it
    /// carries it too.
    pub fn trace(mut self, traceparent: impl Into<Text>) -> Self {
        self.envelope.trace = traceparent.into();
        self
    }
}
