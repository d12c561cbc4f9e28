//! Holds that end by themselves.

use std::time::Duration;

use everfold::prelude::*;

use super::{Account, AccountEvent, AccountId, Expire};

/// Each hold that is to end by itself has a durable timer, until it ends otherwise.
pub fn expire_holds() -> Reactor {
    Reactor::named("expire-holds").on(|event: &AccountEvent, at| match event {
        AccountEvent::HoldPlaced {
            hold,
            expires_after: Some(seconds),
            ..
        } => {
            let account: AccountId = at.entity_id();
            let after = Duration::from_secs((*seconds).into());
            let hold = hold.clone();
            let timer = hold.as_text().to_owned();
            command::<Account, _>(account, Expire { hold }).after(timer, after)
        }
        AccountEvent::HoldCaptured { hold, .. } | AccountEvent::HoldReleased { hold, .. } => {
            cancel(hold.as_text())
        }
        _ => nothing(),
    })
}
