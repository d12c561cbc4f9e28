//! Operations at random, beside the same rules written down a second time and as plainly as
//! possible.

use std::collections::BTreeMap;
use std::sync::Arc;

use everfold::engine::{Record, World};
use everfold_ledger::account::{ChangeOverdraft, Close, Open, PlaceHold, Release};
use everfold_ledger::amount::Balance;
use everfold_ledger::audit::Audit;
use everfold_ledger::transfer::{Capture, Deliver, Dispatch, GiveBack, Way};
use everfold_sim::Simulation;
use proptest::prelude::*;

use crate::running::{Ledger, amount, transfer};

/// Six accounts of two tags, and one that stands alone.
const ACCOUNTS: [&str; 7] = ["{t}a", "{t}b", "{t}c", "{u}a", "{u}b", "{u}c", "alone"];

#[derive(Clone, Debug)]
enum Operation {
    Open {
        account: usize,
        overdraft: i128,
    },
    Close {
        account: usize,
    },
    Limit {
        account: usize,
        overdraft: i128,
    },
    Transfer {
        from: usize,
        to: usize,
        minor: i128,
    },
    Place {
        account: usize,
        hold: u8,
        minor: i128,
    },
    Release {
        account: usize,
        hold: u8,
    },
    Capture {
        from: usize,
        to: usize,
        hold: u8,
        minor: i128,
    },
    /// Brings the oldest transfer in transit to its payee, or back if it cannot be brought there.
    Deliver,
    /// Takes the newest one back.
    Back,
}

fn operation() -> impl Strategy<Value = Operation> {
    let account = || 0..ACCOUNTS.len();
    let minor = || 1..120_i128;
    prop_oneof![
        2 => (account(), 0..100_i128)
            .prop_map(|(account, overdraft)| Operation::Open { account, overdraft }),
        1 => account().prop_map(|account| Operation::Close { account }),
        1 => (account(), -1..150_i128)
            .prop_map(|(account, overdraft)| Operation::Limit { account, overdraft }),
        8 => (account(), account(), minor())
            .prop_map(|(from, to, minor)| Operation::Transfer { from, to, minor }),
        3 => (account(), 0..4_u8, minor())
            .prop_map(|(account, hold, minor)| Operation::Place { account, hold, minor }),
        1 => (account(), 0..4_u8)
            .prop_map(|(account, hold)| Operation::Release { account, hold }),
        3 => (account(), account(), 0..4_u8, minor())
            .prop_map(|(from, to, hold, minor)| Operation::Capture { from, to, hold, minor }),
        3 => Just(Operation::Deliver),
        1 => Just(Operation::Back),
    ]
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Plain {
    opened: Option<i128>,
    closed: bool,
    balance: i128,
    overdraft: i128,
    holds: BTreeMap<u8, i128>,
    /// Holds that have ended; their ids are not used again.
    ended: Vec<u8>,
    sent: usize,
}

impl Plain {
    fn is_open(&self) -> bool {
        self.opened.is_some() && !self.closed
    }

    fn available(&self) -> i128 {
        self.balance + self.overdraft - self.holds.values().sum::<i128>()
    }
}

struct OnItsWay {
    id: String,
    from: usize,
    to: usize,
    minor: i128,
}

/// What the rules say. Each operation is accepted or not.
#[derive(Default)]
struct Model {
    accounts: Vec<Plain>,
    on_their_way: Vec<OnItsWay>,
}

impl Model {
    fn open(&mut self, account: usize, overdraft: i128) -> bool {
        let plain = &mut self.accounts[account];
        if plain.opened.is_none() {
            (plain.opened, plain.overdraft) = (Some(overdraft), overdraft);
            return true;
        }
        !plain.closed && plain.opened == Some(overdraft)
    }

    fn close(&mut self, account: usize) -> bool {
        let plain = &mut self.accounts[account];
        let may = plain.balance == 0 && plain.holds.is_empty() && plain.sent == 0;
        if plain.is_open() && may {
            plain.closed = true;
        }
        plain.closed
    }

    fn limit(&mut self, account: usize, overdraft: i128) -> bool {
        let plain = &mut self.accounts[account];
        let holds: i128 = plain.holds.values().sum();
        let fits = overdraft >= 0 && plain.balance + overdraft - holds >= 0;
        let may = plain.is_open() && fits;
        if may {
            plain.overdraft = overdraft;
        }
        may
    }

    fn pay(&mut self, from: usize, to: usize, minor: i128) -> bool {
        let both_open = self.accounts[from].is_open() && self.accounts[to].is_open();
        let may = from != to && both_open && self.accounts[from].available() >= minor;
        if may {
            self.accounts[from].balance -= minor;
            self.accounts[to].balance += minor;
        }
        may
    }

    fn send(&mut self, id: &str, from: usize, to: usize, minor: i128) -> bool {
        let plain = &mut self.accounts[from];
        let may = from != to && plain.is_open() && plain.available() >= minor;
        if may {
            plain.balance -= minor;
            plain.sent += 1;
            self.on_their_way.push(OnItsWay {
                id: id.to_owned(),
                from,
                to,
                minor,
            });
        }
        may
    }

    fn place(&mut self, account: usize, hold: u8, minor: i128) -> bool {
        let plain = &mut self.accounts[account];
        if !plain.is_open() {
            return false;
        }
        if let Some(held) = plain.holds.get(&hold) {
            return *held == minor;
        }
        if plain.ended.contains(&hold) {
            return true;
        }
        let may = plain.available() >= minor;
        if may {
            plain.holds.insert(hold, minor);
        }
        may
    }

    fn release(&mut self, account: usize, hold: u8) -> bool {
        let plain = &mut self.accounts[account];
        if plain.holds.remove(&hold).is_some() {
            plain.ended.push(hold);
        }
        plain.ended.contains(&hold)
    }

    fn capture(&mut self, from: usize, to: usize, hold: u8, minor: i128) -> bool {
        let both_open = self.accounts[from].is_open() && self.accounts[to].is_open();
        let held = self.accounts[from].holds.get(&hold).copied();
        let may = from != to && both_open && held.is_some_and(|held| minor <= held);
        if may {
            let payer = &mut self.accounts[from];
            payer.holds.remove(&hold);
            payer.ended.push(hold);
            payer.balance -= minor;
            self.accounts[to].balance += minor;
        }
        may
    }
}

struct Run {
    ledger: Ledger,
    model: Model,
    step: usize,
}

impl Run {
    /// Does one thing to both, and compares what was decided.
    async fn step(&mut self, operation: &Operation) {
        self.step += 1;
        let id = format!("t-{}", self.step);
        let name = |account: usize| ACCOUNTS[account];
        let hold_id = |hold: u8| format!("h-{hold}").into();
        let way = |from: usize, to: usize| Way::between(&name(from).into(), &name(to).into());
        let (ledger, model) = (&self.ledger, &mut self.model);
        let (accepted, expected) = match *operation {
            Operation::Open { account, overdraft } => {
                let open = Open {
                    overdraft: Balance::new(overdraft),
                };
                let answer = ledger.account(name(account), open).await;
                (answer.is_ok(), model.open(account, overdraft))
            }
            Operation::Close { account } => {
                let answer = ledger.account(name(account), Close).await;
                (answer.is_ok(), model.close(account))
            }
            Operation::Limit { account, overdraft } => {
                let change = ChangeOverdraft {
                    overdraft: Balance::new(overdraft),
                };
                let answer = ledger.account(name(account), change).await;
                (answer.is_ok(), model.limit(account, overdraft))
            }
            Operation::Transfer { from, to, minor } if way(from, to) == Way::Together => {
                let transfer = transfer(&id, name(from), name(to), minor);
                let answer = ledger.together(transfer).await;
                (answer.is_ok(), model.pay(from, to, minor))
            }
            Operation::Transfer { from, to, minor } => {
                let dispatch = Dispatch {
                    transfer: id.as_str().into(),
                    from: name(from).into(),
                    to: name(to).into(),
                    amount: amount(minor),
                };
                let answer = ledger.together(dispatch).await;
                (answer.is_ok(), model.send(&id, from, to, minor))
            }
            Operation::Place {
                account,
                hold,
                minor,
            } => {
                let place = PlaceHold {
                    hold: hold_id(hold),
                    amount: amount(minor),
                    expires_after: None,
                };
                let answer = ledger.account(name(account), place).await;
                (answer.is_ok(), model.place(account, hold, minor))
            }
            Operation::Release { account, hold } => {
                let hold_id = hold_id(hold);
                let answer = ledger
                    .account(name(account), Release { hold: hold_id })
                    .await;
                (answer.is_ok(), model.release(account, hold))
            }
            Operation::Capture {
                from,
                to,
                hold,
                minor,
            } if way(from, to) == Way::Together => {
                let capture = Capture {
                    transfer: id.as_str().into(),
                    hold: hold_id(hold),
                    from: name(from).into(),
                    to: name(to).into(),
                    amount: amount(minor),
                };
                let answer = ledger.together(capture).await;
                (answer.is_ok(), model.capture(from, to, hold, minor))
            }
            Operation::Capture { .. } => return,
            Operation::Deliver => return self.deliver().await,
            Operation::Back => return self.back().await,
        };
        assert_eq!(accepted, expected, "{operation:?}");
    }

    async fn deliver(&mut self) {
        if self.model.on_their_way.is_empty() {
            return;
        }
        let moving = self.model.on_their_way.remove(0);
        let deliver = Deliver {
            transfer: moving.id.as_str().into(),
            from: ACCOUNTS[moving.from].into(),
            to: ACCOUNTS[moving.to].into(),
            amount: amount(moving.minor),
        };
        let came = self.ledger.together(deliver).await.is_ok();
        assert_eq!(came, self.model.accounts[moving.to].is_open());
        if came {
            let settle = everfold_ledger::transfer::Settle {
                transfer: moving.id.as_str().into(),
            };
            let payer = ACCOUNTS[moving.from];
            self.ledger.account(payer, settle).await.unwrap();
            self.model.accounts[moving.to].balance += moving.minor;
            self.model.accounts[moving.from].sent -= 1;
        } else {
            self.model.on_their_way.push(moving);
            self.back().await;
        }
    }

    async fn back(&mut self) {
        let Some(moving) = self.model.on_their_way.pop() else {
            return;
        };
        let give_back = GiveBack {
            transfer: moving.id.as_str().into(),
            from: ACCOUNTS[moving.from].into(),
        };
        self.ledger.together(give_back).await.unwrap();
        self.model.accounts[moving.from].balance += moving.minor;
        self.model.accounts[moving.from].sent -= 1;
    }
}

/// Whole units of all partitions, between which `seed` chooses; each partition's stay in order.
fn interleaved(records: &[Arc<Record>], mut seed: u64) -> Vec<Arc<Record>> {
    let mut partitions: BTreeMap<u16, Vec<Vec<Arc<Record>>>> = BTreeMap::new();
    let mut unit = Vec::new();
    for record in records {
        unit.push(record.clone());
        if record.portable.unit.is_last() {
            let dot = record.portable.dot.as_ref();
            let partition = dot.map_or(u16::MAX, |dot| dot.partition.0);
            partitions
                .entry(partition)
                .or_default()
                .push(std::mem::take(&mut unit));
        }
    }
    let mut queues: Vec<_> = partitions.into_values().map(Vec::into_iter).collect();
    let mut all = Vec::new();
    while !queues.is_empty() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let chosen = (seed >> 33) as usize % queues.len();
        match queues[chosen].next() {
            Some(unit) => all.extend(unit),
            None => drop(queues.remove(chosen)),
        }
    }
    all
}

async fn agree(world: Arc<dyn World>, operations: Vec<Operation>, seed: u64) {
    let mut run = Run {
        ledger: Ledger::within(world, 16).await,
        model: Model {
            accounts: vec![Plain::default(); ACCOUNTS.len()],
            ..Model::default()
        },
        step: 0,
    };
    for operation in &operations {
        run.step(operation).await;
        let in_transit = &run.model.on_their_way;
        let in_transit: i128 = in_transit.iter().map(|moving| moving.minor).sum();
        let balances = run.model.accounts.iter().map(|plain| plain.balance);
        assert_eq!(
            balances.sum::<i128>() + in_transit,
            0,
            "the model loses money"
        );
    }
    for (id, plain) in ACCOUNTS.iter().zip(&run.model.accounts) {
        let account = run
            .ledger
            .node
            .entity::<everfold_ledger::account::Account>(*id);
        let (balance, available) = account
            .read(|account, _| (account.balance().minor(), account.available().minor()))
            .await
            .unwrap();
        assert_eq!(
            (balance, available),
            (plain.balance, plain.available()),
            "{id}"
        );
    }
    run.ledger.books().await;
    // Every prefix of whole units, in orders in which readers may meet them.
    let records = run.ledger.records().await;
    for order in 0..3 {
        let mut audit = Audit::default();
        for record in interleaved(&records, seed ^ order) {
            audit.read(&record).unwrap();
        }
        audit.finish().unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_ledger_agrees_with_the_model(
        operations in proptest::collection::vec(operation(), 1..120),
        seed: u64,
    ) {
        let simulation = Simulation::new(seed);
        simulation.run(agree(simulation.world(), operations, seed));
    }
}
