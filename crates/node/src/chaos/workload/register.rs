//! Registers that are read, written, and written on a condition.

use std::collections::BTreeMap;
use std::sync::Arc;

use everfold::Application;
use everfold::engine::engine::Engine;
use everfold_cluster::Client;
use everfold_register::{CompareAndSet, Register, Write};
use everfold_world::Random;
use serde_json::{Value, json};

use super::{Answer, Request, Workload};
use crate::chaos::check::{Violation, register};
use crate::chaos::history::{Kind, Operation};

/// Numbers lie below this, so that conditions are met now and then.
const NUMBERS: u64 = 10;

/// So many registers.
#[derive(Clone, Copy, Debug)]
pub struct Registers {
    /// How many.
    pub keys: u64,
}

/// A client remembers what it saw last, to meet conditions.
pub struct Session {
    random: Random,
    seen: BTreeMap<String, i64>,
}

impl Workload for Registers {
    type Session = Session;

    fn name(&self) -> &'static str {
        "register"
    }

    fn application(&self) -> Application {
        everfold_register::application()
    }

    async fn prepare(&self, _: &Client) -> anyhow::Result<()> {
        Ok(())
    }

    fn session(&self, _: u64, random: Random) -> Session {
        Session {
            random,
            seen: BTreeMap::new(),
        }
    }

    fn draw(&self, session: &mut Session) -> Request {
        let random = &mut session.random;
        let key = format!("k{}", random.below(self.keys));
        let mut number = || random.below(NUMBERS) as i64;
        let (to, other) = (number(), number());
        let seen = session.seen.get(&key);
        let from = *seen.filter(|_| !random.one_in(5)).unwrap_or(&other);
        let (f, value) = match random.below(10) {
            0..4 => ("read", Value::Null),
            4..7 => ("write", json!(to)),
            _ => ("cas", json!([from, to])),
        };
        Request { f, key, value }
    }

    async fn perform(&self, client: &Client, request: &Request) -> Answer {
        let register = client.entity::<Register>(&*request.key);
        let number = |value: &Value| value.as_i64().unwrap_or_default();
        let asked = &request.value;
        match request.f {
            "read" => {
                let seen = register.read(|register, _| json!(register.value())).await;
                Answer::of_read(request, seen)
            }
            "write" => {
                let value = number(asked);
                let outcome = register.send(Write { value }).await;
                Answer::of(request, outcome, |_| asked.clone())
            }
            _ => {
                let (from, to) = (number(&asked[0]), number(&asked[1]));
                let outcome = register.send(CompareAndSet { from, to }).await;
                Answer::of(request, outcome, |_| asked.clone())
            }
        }
    }

    fn learn(&self, session: &mut Session, request: &Request, answer: &Answer) {
        let value = match (answer.kind, request.f) {
            (Kind::Ok, "cas") => answer.value[1].as_i64(),
            (Kind::Ok, _) => answer.value.as_i64(),
            _ => None,
        };
        match value {
            Some(value) => drop(session.seen.insert(request.key.clone(), value)),
            None => drop(session.seen.remove(&request.key)),
        }
    }

    async fn check(
        &self,
        _: &Arc<dyn Engine>,
        operations: &[Operation],
    ) -> anyhow::Result<Vec<Violation>> {
        let operations = operations.to_vec();
        let search = move || register::check(&operations);
        Ok(tokio::task::spawn_blocking(search).await?)
    }
}
