//! Short words for tests.

use crate::account::{AccountEvent, PlaceHold};
use crate::amount::{Amount, Balance};

pub(crate) fn amount(minor: i128) -> Amount {
    Amount::new(minor).unwrap()
}

pub(crate) fn opened(overdraft: i128) -> AccountEvent {
    AccountEvent::Opened {
        overdraft: Balance::new(overdraft),
    }
}

pub(crate) fn limited(overdraft: i128) -> AccountEvent {
    AccountEvent::OverdraftChanged {
        overdraft: Balance::new(overdraft),
    }
}

pub(crate) fn debited(transfer: &str, minor: i128, to: &str) -> AccountEvent {
    AccountEvent::Debited {
        transfer: transfer.into(),
        amount: amount(minor),
        to: to.into(),
    }
}

pub(crate) fn credited(transfer: &str, minor: i128, from: &str) -> AccountEvent {
    AccountEvent::Credited {
        transfer: transfer.into(),
        amount: amount(minor),
        from: from.into(),
    }
}

pub(crate) fn received(transfer: &str, minor: i128, from: &str) -> AccountEvent {
    AccountEvent::Received {
        transfer: transfer.into(),
        amount: amount(minor),
        from: from.into(),
    }
}

pub(crate) fn dispatched(transfer: &str, minor: i128, to: &str) -> AccountEvent {
    AccountEvent::Dispatched {
        transfer: transfer.into(),
        amount: amount(minor),
        to: to.into(),
    }
}

pub(crate) fn arrived(transfer: &str) -> AccountEvent {
    AccountEvent::Arrived {
        transfer: transfer.into(),
    }
}

pub(crate) fn returned(transfer: &str, minor: i128) -> AccountEvent {
    AccountEvent::Returned {
        transfer: transfer.into(),
        amount: amount(minor),
    }
}

pub(crate) fn hold(hold: &str, minor: i128) -> PlaceHold {
    PlaceHold {
        hold: hold.into(),
        amount: amount(minor),
        expires_after: None,
    }
}

pub(crate) fn placed(hold: &str, minor: i128) -> AccountEvent {
    AccountEvent::HoldPlaced {
        hold: hold.into(),
        amount: amount(minor),
        expires_after: None,
    }
}

pub(crate) fn captured(hold: &str, held: i128, transfer: &str, minor: i128) -> AccountEvent {
    AccountEvent::HoldCaptured {
        hold: hold.into(),
        held: amount(held),
        transfer: transfer.into(),
        amount: amount(minor),
        to: "{t}b".into(),
    }
}

pub(crate) fn released(hold: &str, held: i128) -> AccountEvent {
    AccountEvent::HoldReleased {
        hold: hold.into(),
        held: amount(held),
    }
}

pub(crate) fn expired(hold: &str, held: i128) -> AccountEvent {
    AccountEvent::HoldExpired {
        hold: hold.into(),
        held: amount(held),
    }
}
