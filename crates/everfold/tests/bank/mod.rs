//! A small domain for the tests of the runtime: accounts that never go below zero.

#![allow(dead_code, reason = "each test uses its part")]

use everfold::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Key, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AccountId(String);

#[derive(Event, Clone, Debug, PartialEq)]
pub enum AccountEvent {
    Deposited { amount: i64 },
    Withdrawn { amount: i64 },
    Mirrored { amount: i64 },
}

#[derive(Entity, Default, Clone, Debug, PartialEq)]
#[entity(name = "account", id = AccountId, event = AccountEvent, commands(Deposit, Withdraw, Mirror))]
pub struct Account {
    pub balance: i64,
    pub mirrored: i64,
}

impl Evolve for Account {
    fn evolve(&mut self, event: &AccountEvent) {
        match event {
            AccountEvent::Deposited { amount } => self.balance += amount,
            AccountEvent::Withdrawn { amount } => self.balance -= amount,
            AccountEvent::Mirrored { amount } => self.mirrored += amount,
        }
        assert!(self.balance != 666, "a fault in evolve");
    }
}

#[derive(Command, Clone, Debug)]
pub struct Deposit {
    pub amount: i64,
}

#[derive(Command, Clone, Debug)]
pub struct Withdraw {
    pub amount: i64,
}

/// Notes what another account received.
#[derive(Command, Clone, Debug)]
pub struct Mirror {
    pub amount: i64,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub enum Refused {
    TooLittle { balance: i64 },
    NotPositive,
}

impl Decide<Deposit> for Account {
    type Reply = i64;
    type Rejection = Refused;

    fn decide(&self, command: &Deposit, _: &Context) -> Decision<Self, Deposit> {
        assert!(command.amount != 13, "a fault in decide");
        match command.amount {
            ..0 => reject(Refused::NotPositive),
            0 => reply(self.balance),
            amount => emit(AccountEvent::Deposited { amount }).reply(self.balance + amount),
        }
    }
}

impl Decide<Withdraw> for Account {
    type Reply = i64;
    type Rejection = Refused;

    fn decide(&self, command: &Withdraw, _: &Context) -> Decision<Self, Withdraw> {
        let amount = command.amount;
        if self.balance < amount {
            reject(Refused::TooLittle {
                balance: self.balance,
            })
        } else {
            emit(AccountEvent::Withdrawn { amount }).reply(self.balance - amount)
        }
    }
}

impl Decide<Mirror> for Account {
    type Reply = i64;
    type Rejection = Refused;

    fn decide(&self, command: &Mirror, _: &Context) -> Decision<Self, Mirror> {
        let amount = command.amount;
        emit(AccountEvent::Mirrored { amount }).reply(self.mirrored + amount)
    }
}

/// All or nothing from one account to another.
#[derive(Command, Clone, Debug)]
pub struct Transfer {
    pub from: AccountId,
    pub to: AccountId,
    pub amount: i64,
}

impl everfold::DecideTogether for Transfer {
    type Reply = i64;
    type Rejection = Refused;

    fn members(&self) -> everfold::Members {
        everfold::Members::new()
            .and::<Account>(&self.from)
            .and::<Account>(&self.to)
    }

    fn decide(&self, states: &everfold::States<'_>, _: &Context) -> everfold::Joint<i64, Refused> {
        let balance = states
            .of::<Account>(&self.from)
            .map_or(0, |account| account.balance);
        if balance < self.amount {
            return everfold::Joint::reject(Refused::TooLittle { balance });
        }
        everfold::Joint::reply(balance - self.amount)
            .emit::<Account>(
                &self.from,
                AccountEvent::Withdrawn {
                    amount: self.amount,
                },
            )
            .emit::<Account>(
                &self.to,
                AccountEvent::Deposited {
                    amount: self.amount,
                },
            )
    }
}

#[derive(Default, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Turnover {
    pub deposits: u64,
    pub deposited: i64,
    pub withdrawn: i64,
}

pub fn turnover() -> View<String, Turnover> {
    View::named("turnover").on(
        |_: &AccountEvent, at| at.entity_id::<String>(),
        |row: &mut Turnover, event, _| match event {
            AccountEvent::Deposited { amount } => {
                row.deposits += 1;
                row.deposited += amount;
            }
            AccountEvent::Withdrawn { amount } => row.withdrawn += amount,
            AccountEvent::Mirrored { .. } => {}
        },
    )
}

/// Every deposit is noted on the account's mirror, in another partition.
pub fn mirror() -> Reactor {
    Reactor::named("mirror").on(|event: &AccountEvent, at| match event {
        AccountEvent::Deposited { amount } => {
            let id = AccountId::from(format!("mirror of {}", at.entity_id::<String>()));
            command::<Account, _>(id, Mirror { amount: *amount }).into()
        }
        _ => nothing(),
    })
}

pub fn bank() -> Application {
    Application::new("bank")
        .entity::<Account>()
        .together::<Transfer>()
        .view(turnover())
        .reactor(mirror())
}
