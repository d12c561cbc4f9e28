//! The built-in workload: accounts that never go below zero, transfers between two of them that
//! happen as one, a reactor that mirrors deposits, a view of all balances.

use std::collections::BTreeMap;
use std::sync::Arc;

use everfold::engine::{EntityKey, Record};
use everfold::prelude::*;
use everfold::{DecideTogether, Joint, Members, States};
use everfold_sim::Random;
use serde::{Deserialize, Serialize};

use crate::check::Ended;
use crate::client::Client;
use crate::workload::{Auditor, Workload};

/// Identifies an account; accounts with the same `{tag}` can transfer at once.
#[derive(Key, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AccountId(String);

/// What can happen to an account.
#[derive(Event, Clone, Debug, PartialEq)]
pub enum AccountEvent {
    /// Money came from outside.
    Deposited {
        /// How much.
        amount: i64,
    },
    /// Money left.
    Withdrawn {
        /// How much.
        amount: i64,
    },
    /// Money went to another account.
    Sent {
        /// How much.
        amount: i64,
    },
    /// Money came from another account.
    Received {
        /// How much.
        amount: i64,
    },
    /// Another account has had a deposit.
    Mirrored {
        /// How much.
        amount: i64,
    },
}

/// An account.
#[derive(Entity, Default, Clone, Debug, PartialEq)]
#[entity(name = "account", id = AccountId, event = AccountEvent, commands(Deposit, Withdraw, Mirror))]
pub struct Account {
    balance: i64,
    mirrored: i64,
}

impl Evolve for Account {
    fn evolve(&mut self, event: &AccountEvent) {
        match event {
            AccountEvent::Deposited { amount } | AccountEvent::Received { amount } => {
                self.balance += amount;
            }
            AccountEvent::Withdrawn { amount } | AccountEvent::Sent { amount } => {
                self.balance -= amount;
            }
            AccountEvent::Mirrored { amount } => self.mirrored += amount,
        }
    }
}

/// Puts money in; nothing happens for 0.
#[derive(Command, Clone, Debug)]
pub struct Deposit {
    amount: i64,
}

/// Takes money out.
#[derive(Command, Clone, Debug)]
pub struct Withdraw {
    amount: i64,
}

/// Notes what another account received.
#[derive(Command, Clone, Debug)]
pub struct Mirror {
    amount: i64,
}

/// There is less on the account.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct TooLittle {
    balance: i64,
}

impl Decide<Deposit> for Account {
    type Reply = i64;
    type Rejection = Never;

    fn decide(&self, command: &Deposit, _: &Context) -> Decision<Self, Deposit> {
        match command.amount {
            0 => reply(self.balance),
            amount => emit(AccountEvent::Deposited { amount }).reply(self.balance + amount),
        }
    }
}

impl Decide<Withdraw> for Account {
    type Reply = i64;
    type Rejection = TooLittle;

    fn decide(&self, command: &Withdraw, _: &Context) -> Decision<Self, Withdraw> {
        let (amount, balance) = (command.amount, self.balance);
        if balance < amount {
            reject(TooLittle { balance })
        } else {
            emit(AccountEvent::Withdrawn { amount }).reply(balance - amount)
        }
    }
}

impl Decide<Mirror> for Account {
    type Reply = ();
    type Rejection = Never;

    fn decide(&self, command: &Mirror, _: &Context) -> Decision<Self, Mirror> {
        let amount = command.amount;
        emit(AccountEvent::Mirrored { amount }).reply(())
    }
}

/// All or nothing from one account to another.
#[derive(Command, Clone, Debug)]
pub struct Transfer {
    from: AccountId,
    to: AccountId,
    amount: i64,
}

impl DecideTogether for Transfer {
    type Reply = i64;
    type Rejection = TooLittle;

    fn members(&self) -> Members {
        Members::new()
            .and::<Account>(&self.from)
            .and::<Account>(&self.to)
    }

    fn decide(&self, states: &States<'_>, _: &Context) -> Joint<i64, TooLittle> {
        let amount = self.amount;
        let balance = states
            .of::<Account>(&self.from)
            .map_or(0, |from| from.balance);
        if balance < amount {
            return Joint::reject(TooLittle { balance });
        }
        Joint::reply(balance - amount)
            .emit::<Account>(&self.from, AccountEvent::Sent { amount })
            .emit::<Account>(&self.to, AccountEvent::Received { amount })
    }
}

/// An account as the view has it.
#[derive(Default, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Books {
    balance: i64,
    deposited: i64,
    sent: i64,
    received: i64,
    mirrored: i64,
}

/// All accounts.
pub fn books() -> View<String, Books> {
    View::named("books").on(
        |_: &AccountEvent, at| at.entity_id::<String>(),
        |row: &mut Books, event, _| match event {
            AccountEvent::Deposited { amount } => {
                row.balance += amount;
                row.deposited += amount;
            }
            AccountEvent::Withdrawn { amount } => row.balance -= amount,
            AccountEvent::Sent { amount } => {
                row.balance -= amount;
                row.sent += amount;
            }
            AccountEvent::Received { amount } => {
                row.balance += amount;
                row.received += amount;
            }
            AccountEvent::Mirrored { amount } => row.mirrored += amount,
        },
    )
}

fn mirror() -> Reactor {
    Reactor::named("mirror").on(|event: &AccountEvent, at| match event {
        AccountEvent::Deposited { amount } => {
            let id = AccountId::from(format!("mirror of {}", at.entity_id::<String>()));
            command::<Account, _>(id, Mirror { amount: *amount }).into()
        }
        _ => nothing(),
    })
}

/// Accounts and transfers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Accounts;

/// The accounts of a tag.
const ACCOUNTS: u64 = 3;

fn account(tag: u64, number: u64) -> AccountId {
    AccountId::from(format!("{{{tag}}} {number}"))
}

impl Workload for Accounts {
    fn name(&self) -> &'static str {
        "accounts"
    }

    fn application(&self, _: Random) -> Application {
        Application::new("accounts")
            .entity::<Account>()
            .together::<Transfer>()
            .view(books())
            .reactor(mirror())
    }

    async fn operate(&self, client: &mut Client) {
        let random = client.random();
        let (tag, number) = (random.below(2), random.below(ACCOUNTS));
        let (one, other) = (account(tag, number), account(tag, (number + 1) % ACCOUNTS));
        let amount = random.below(12) as i64;
        match random.below(12) {
            0..4 => {
                client.send::<Account, _>(one, Deposit { amount }).await;
            }
            4..6 => {
                client.send::<Account, _>(one, Withdraw { amount }).await;
            }
            6..8 => {
                let first = EntityKey::new("account", one.as_text());
                let transfer = Transfer {
                    from: one,
                    to: other,
                    amount,
                };
                client.send_together(first, transfer).await;
            }
            8 => {
                client.read::<Account>(one).await;
            }
            9 => {
                client.read_session::<Account>(one).await;
            }
            10 => {
                client.read_eventual::<Account>(one).await;
            }
            _ => {
                let mine = client.random().one_in(2);
                if let Some(rows) = client.rows(books, mine).await {
                    let open: i64 = rows.iter().map(|(_, row)| row.sent - row.received).sum();
                    client.require(open == 0, || {
                        format!("a view shows {open} on its way between accounts: {rows:?}")
                    });
                }
            }
        }
    }

    fn auditor(&self) -> Option<Box<dyn Auditor>> {
        Some(Box::new(Balanced::default()))
    }

    fn check(&self, ended: &Ended) -> Result<(), String> {
        let rows = ended.rows::<Books>("books")?;
        let deposited: i64 = rows.values().map(|row| row.deposited).sum();
        let mirrored: i64 = rows.values().map(|row| row.mirrored).sum();
        match deposited == mirrored {
            true => Ok(()),
            false => Err(format!("{deposited} were deposited, {mirrored} mirrored")),
        }
    }
}

/// No account is ever below zero, and what one sends another receives in the same unit.
#[derive(Default)]
struct Balanced {
    accounts: BTreeMap<String, Account>,
}

impl Auditor for Balanced {
    fn unit(&mut self, unit: &[Arc<Record>]) -> Result<(), String> {
        let mut open = 0;
        for record in unit.iter().filter(|record| record.local.version > 0) {
            let portable = &record.portable;
            let event = AccountEvent::decode(&portable.event_type, 1, &portable.payload)
                .map_err(|error| error.to_string())?;
            open += match event {
                AccountEvent::Sent { amount } => amount,
                AccountEvent::Received { amount } => -amount,
                _ => 0,
            };
            let id = portable.entity.id.to_string();
            let account = self.accounts.entry(id).or_default();
            account.evolve(&event);
            if account.balance < 0 {
                return Err(format!("{} went below zero", portable.entity));
            }
        }
        match open {
            0 => Ok(()),
            open => Err(format!("{open} were sent and not received")),
        }
    }
}
