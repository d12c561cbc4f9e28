//! What accounts of one tag stand at, all at the same moment.

use everfold::prelude::*;
use everfold::{DecideTogether, Joint, Members, States};

use crate::account::{Account, AccountId};
use crate::amount::Balance;

/// Asks for the balances of some accounts that share a tag. It changes nothing; nobody moves money
/// between them while it is answered.
#[derive(Command, Clone, Debug, PartialEq)]
pub struct Statement {
    /// Which accounts. One that was never opened stands at zero.
    pub accounts: Vec<AccountId>,
}

impl DecideTogether for Statement {
    type Reply = Vec<(AccountId, Balance)>;
    type Rejection = Never;

    fn members(&self) -> Members {
        let accounts = self.accounts.iter();
        accounts.fold(Members::new(), |members, id| members.and::<Account>(id))
    }

    fn decide(&self, states: &States<'_>, _: &Context) -> Joint<Self::Reply, Never> {
        let balances = self.accounts.iter().map(|id| {
            let balance = states.of::<Account>(id).map(Account::balance);
            (id.clone(), balance.unwrap_or(Balance::ZERO))
        });
        Joint::reply(balances.collect())
    }
}
