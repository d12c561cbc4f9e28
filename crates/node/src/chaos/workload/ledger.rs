//! Transfers within branches, and looks at all accounts of a branch at once.

use std::sync::Arc;

use anyhow::Context;
use everfold::engine::engine::Engine;
use everfold::{Application, Entity, Event};
use everfold_cluster::Client;
use everfold_ledger::account::{Account, AccountEvent, AccountId, Open, TransferId};
use everfold_ledger::amount::{Amount, Balance};
use everfold_ledger::audit::{AuditError, audit_log};
use everfold_ledger::statement::Statement;
use everfold_ledger::transfer::Transfer;
use everfold_world::Random;
use serde_json::{Value, json};

use super::{Answer, Request, Workload, events};
use crate::chaos::check::Violation;
use crate::chaos::check::ledger::{Balances, Logged, Moved, check};
use crate::chaos::history::Operation;

/// Accounts of a branch; the first is its bank, which brings the money.
const ACCOUNTS: u64 = 4;
/// How far below zero a bank may go.
const MONEY: i128 = 1_000_000;
const MOST: u64 = 100;

/// So many branches.
#[derive(Clone, Copy, Debug)]
pub struct Branches {
    /// How many.
    pub branches: u64,
}

/// A client counts its transfers, to name them.
pub struct Session {
    client: u64,
    transfers: u64,
    random: Random,
}

fn branch(number: u64) -> String {
    format!("{{b{number}}}")
}

fn account(branch: &str, number: u64) -> String {
    format!("{branch}{number}")
}

impl Workload for Branches {
    type Session = Session;

    fn name(&self) -> &'static str {
        "ledger"
    }

    fn application(&self) -> Application {
        everfold_ledger::application()
    }

    async fn prepare(&self, client: &Client) -> anyhow::Result<()> {
        for branch in (0..self.branches).map(branch) {
            for number in 0..ACCOUNTS {
                let overdraft = Balance::new(if number == 0 { MONEY } else { 0 });
                let account = client.entity::<Account>(account(&branch, number));
                let opened = account.send(Open { overdraft }).await;
                opened.with_context(|| format!("account {number} of {branch} is not opened"))?;
            }
        }
        Ok(())
    }

    fn session(&self, client: u64, random: Random) -> Session {
        Session {
            client,
            transfers: 0,
            random,
        }
    }

    fn draw(&self, session: &mut Session) -> Request {
        let random = &mut session.random;
        let key = branch(random.below(self.branches));
        if random.one_in(4) {
            return Request {
                f: "balance",
                key,
                value: Value::Null,
            };
        }
        let (from, step) = (random.below(ACCOUNTS), 1 + random.below(ACCOUNTS - 1));
        session.transfers += 1;
        let moved = Moved {
            transfer: format!("t-{}-{}", session.client, session.transfers),
            from: account(&key, from),
            to: account(&key, (from + step) % ACCOUNTS),
            amount: 1 + random.below(MOST) as i64,
        };
        Request {
            f: "transfer",
            key,
            value: json!(moved),
        }
    }

    async fn perform(&self, client: &Client, request: &Request) -> Answer {
        if request.f == "balance" {
            let accounts = (0..ACCOUNTS).map(|number| account(&request.key, number).into());
            let accounts = accounts.collect();
            let seen = client.together().send(Statement { accounts }).await;
            // It changes nothing, so without an answer nothing has happened.
            return match seen {
                Ok(sent) => {
                    let balances = sent.reply.into_iter();
                    let balances: Balances = balances
                        .map(|(account, balance)| (account.to_string(), minor(balance)))
                        .collect();
                    Answer::done(json!(balances))
                }
                Err(error) => Answer::refused(request, error),
            };
        }
        let Ok(moved) = serde_json::from_value::<Moved>(request.value.clone()) else {
            return Answer::refused(request, "no transfer");
        };
        let transfer = Transfer {
            transfer: TransferId::from(moved.transfer),
            from: AccountId::from(moved.from),
            to: AccountId::from(moved.to),
            amount: Amount::new(moved.amount.into()).unwrap_or(Amount::MAX),
        };
        let outcome = client.together().send(transfer).await;
        Answer::of(request, outcome, |_| request.value.clone())
    }

    fn learn(&self, _: &mut Session, _: &Request, _: &Answer) {}

    async fn check(
        &self,
        engine: &Arc<dyn Engine>,
        operations: &[Operation],
    ) -> anyhow::Result<Vec<Violation>> {
        let mut logged = Logged::default();
        match audit_log(engine.as_ref()).await {
            Ok(_) => {}
            Err(AuditError::Fault(fault)) => logged.fault = Some(fault.to_string()),
            Err(error) => return Err(error.into()),
        }
        for record in events(engine.as_ref()).await? {
            let portable = &record.portable;
            if portable.entity.kind != Account::NAME {
                continue;
            }
            let (kind, version) = (&portable.event_type, portable.schema_version);
            let event = AccountEvent::decode(kind, version, &portable.payload)?;
            if let AccountEvent::Debited {
                transfer,
                amount,
                to,
            } = event
            {
                let from = AccountId::from(portable.entity.id.to_string());
                let branch = format!("{{{}}}", from.tag().unwrap_or_default());
                logged.moved.entry(branch).or_default().push(Moved {
                    transfer: transfer.to_string(),
                    from: from.to_string(),
                    to: to.to_string(),
                    amount: minor(Balance::ZERO.plus(amount)),
                });
            }
        }
        Ok(check(operations, &logged))
    }
}

fn minor(balance: Balance) -> i64 {
    i64::try_from(balance.minor()).unwrap_or(i64::MAX)
}
