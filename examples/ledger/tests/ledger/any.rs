//! One function for transfers of either way: what it answers, in races and over crashes too.

use std::sync::Arc;
use std::time::Duration;

use everfold::engine::memory::Memory;
use everfold::prelude::*;
use everfold::{NodeOptions, SagaEvent};
use everfold_ledger::account::{Account, AccountId, Close};
use everfold_ledger::amount::{Amount, Balance};
use everfold_ledger::transfer::{Moving, Transfer, TransferRejection, TransferState};
use everfold_sim::Simulation;
use tokio::sync::Barrier;

use crate::races::at_once;
use crate::running::{Ledger, amount, transfer};

/// Payer and payee of both ways, and of accounts without a tag.
const WAYS: [(&str, &str); 3] = [("{t}a", "{t}b"), ("{t}a", "{u}b"), ("a", "b")];

#[tokio::test]
async fn every_refusal_is_the_same_whichever_way_and_moves_nothing() {
    for (payer, payee) in WAYS {
        let ledger = Ledger::in_memory().await;
        let closed = |id: &str| format!("{id}-closed");
        for id in [payer, payee, &closed(payer), &closed(payee)] {
            ledger.open(id, 100).await;
        }
        for id in [closed(payer), closed(payee)] {
            ledger.account(&id, Close).await.unwrap();
        }
        let unknown = |id: &str| format!("{id}-unknown");
        let beyond = TransferRejection::InsufficientFunds {
            available: Balance::new(100),
        };
        for (from, to, minor, rejection) in [
            (payer, payer, 1, TransferRejection::SameAccount),
            (payer, payee, 101, beyond),
            (&unknown(payer), payee, 1, TransferRejection::UnknownPayer),
            (payer, &unknown(payee), 1, TransferRejection::UnknownPayee),
            (&closed(payer), payee, 1, TransferRejection::PayerClosed),
            (payer, &closed(payee), 1, TransferRejection::PayeeClosed),
            ("{t}a}", payee, 1, TransferRejection::UnknownPayer),
            ("", payee, 1, TransferRejection::UnknownPayer),
            (payer, "b{u", 1, TransferRejection::UnknownPayee),
            (payer, &"b".repeat(600), 1, TransferRejection::UnknownPayee),
        ] {
            let id = format!("t-{from}-{to}-{minor}");
            let id = &id[..id.len().min(100)];
            for _ in 0..2 {
                let answer = ledger.ask(id, from, to, minor).await;
                assert_eq!(answer, Err(rejection.clone()), "{from} to {to}");
            }
        }
        let books = ledger.books().await;
        let nothing = (0, Balance::ZERO);
        assert_eq!((books.transfers, books.in_transit), nothing);
        assert_eq!(ledger.balance(payer).await, 0);
    }
}

#[test]
fn no_amount_is_zero_or_below_and_no_command_with_one_can_be_read() {
    assert!(Amount::new(0).is_err() && Amount::new(-1).is_err());
    for amount in ["0", "-1", "9223372036854775808"] {
        let (from, to) = ("{t}a", "{u}b");
        let json = serde_json::json!({
            "transfer": "t", "from": from, "to": to, "amount": amount, "delivered": false,
        });
        assert!(serde_json::from_value::<Moving>(json.clone()).is_err());
        let bytes = json.to_string().into_bytes();
        assert!(<Transfer as everfold::Command>::decode(&bytes).is_err());
    }
}

#[tokio::test]
async fn the_same_id_gets_the_same_answer_however_things_stand_by_then() {
    for (payer, payee) in WAYS {
        let ledger = Ledger::in_memory().await;
        for id in [payer, payee] {
            ledger.open(id, 100).await;
        }
        let beyond = ledger.ask("large", payer, payee, 150).await;
        assert!(matches!(
            beyond,
            Err(TransferRejection::InsufficientFunds { .. })
        ));
        for round in 0..40 {
            // By now the payer could pay, and has forgotten the first of these.
            let back = ledger.ask(&format!("b-{round}"), payee, payer, 2).await;
            assert_eq!(back, Ok(TransferState::Completed));
            let paid = ledger.ask(&format!("p-{round}"), payer, payee, 1).await;
            assert_eq!(paid, Ok(TransferState::Completed));
        }
        assert_eq!(ledger.ask("large", payer, payee, 150).await, beyond);
        let first = ledger.ask("p-0", payer, payee, 1).await;
        assert_eq!(first, Ok(TransferState::Completed));
        let other = ledger.ask("p-0", payer, payee, 2).await;
        assert_eq!(other, Err(TransferRejection::TransferIdReused));
        assert_eq!(ledger.balance(payer).await, 40);
        assert_eq!(ledger.books().await.transfers, 80);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_transfers_to_other_tags_that_empty_an_account_at_once_exactly_one_wins() {
    let ledger = Arc::new(Ledger::in_memory().await);
    for id in ["{t}b", "{u}b", "{v}b"] {
        ledger.open(id, 0).await;
    }
    for round in 0..30 {
        let payer = format!("{{t}}a-{round}");
        ledger.open(&payer, 100).await;
        // Two between tags, and one of each way.
        let payees = [["{u}b", "{v}b"], ["{u}b", "{t}b"]][round % 2];
        let barrier = Arc::new(Barrier::new(2));
        let both = payees.map(|payee| {
            let (ours, payer) = (ledger.clone(), payer.clone());
            at_once(&ledger, &barrier, async move {
                let id = format!("t-{round}-{payee}");
                ours.ask(&id, &payer, payee, 100).await
            })
        });
        let mut won = 0;
        for one in both {
            match one.await.unwrap() {
                Ok(TransferState::Completed) => won += 1,
                Err(TransferRejection::InsufficientFunds { available }) => {
                    assert_eq!(available, Balance::ZERO);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(won, 1, "round {round}");
        assert_eq!(ledger.balance(&payer).await, -100);
    }
    let books = ledger.books().await;
    assert_eq!((books.transfers, books.in_transit), (30, Balance::ZERO));
}

/// Closes the payee when the saga is about to bring the money there.
fn close_the_payee() -> Reactor {
    Reactor::named("close-the-payee").on(|event: &SagaEvent, _| match event {
        SagaEvent::Asked { step, .. } if step == "deliver" => {
            command::<Account, _>(AccountId::from("{u}c"), Close).into()
        }
        _ => nothing(),
    })
}

/// Attacks: an account that is closed while money is on its way to it.
#[test]
fn a_payee_that_closes_meanwhile_has_the_money_or_the_payer_has_it_back() {
    let (mut delivered, mut returned) = (0, 0);
    for seed in 0..60_u64 {
        let simulation = Simulation::new(seed);
        let world = simulation.world();
        simulation.run(async {
            let engine = Arc::new(Memory::new(world.clone(), 16).unwrap());
            let application = everfold_ledger::application().reactor(close_the_payee());
            let opened = application.open_on(engine, world.clone(), NodeOptions::default());
            let ledger = Ledger {
                node: Arc::new(opened.await.unwrap()),
            };
            ledger.open("{t}a", 100).await;
            ledger.open("{u}c", 0).await;
            let paid = ledger.ask("t-1", "{t}a", "{u}c", 60).await;
            let books = ledger.books().await;
            let closed = books.closed == 1;
            match paid {
                Ok(TransferState::Completed) => {
                    delivered += 1;
                    assert_eq!((ledger.balance("{t}a").await, closed), (-60, false));
                }
                Err(TransferRejection::PayeeClosed) => {
                    returned += 1;
                    assert_eq!((ledger.balance("{t}a").await, closed), (0, true));
                    // It had left.
                    assert_eq!(books.debits, Balance::new(120));
                }
                other => panic!("seed {seed}: {other:?}"),
            }
            assert_eq!(books.in_transit, Balance::ZERO);
        });
    }
    assert!(
        delivered > 3 && returned > 3,
        "{delivered} delivered, {returned} returned"
    );
}

/// Attacks: a process that dies between any two moves.
#[test]
fn over_crashes_every_transfer_is_done_once_or_not_at_all() {
    let (mut accepted, mut rejected) = (0, 0);
    for seed in 0..25 {
        let simulation = Simulation::new(seed);
        let world = simulation.world();
        let engine = Arc::new(Memory::new(world.clone(), 3).unwrap());
        let plan: Vec<Transfer> = (0..12)
            .map(|number: usize| {
                let from = ["{t}a", "{u}b", "c"][number % 3];
                let to = ["{u}b", "{v}nobody", "{t}a", "{t}d"][number % 4];
                let minor = 30 + (number as i128 * 7) % 40;
                transfer(&format!("t-{number}"), from, to, minor)
            })
            .collect();
        let open = async |world: Arc<dyn everfold::engine::World>| {
            let application = everfold_ledger::application();
            let opened = application.open_on(engine.clone(), world, NodeOptions::default());
            Ledger {
                node: Arc::new(opened.await.unwrap()),
            }
        };
        for life in 0..6 {
            let process = simulation.process(&format!("life {life}"));
            simulation.run(async {
                let ledger = open(process.world()).await;
                for id in ["{t}a", "{u}b", "c", "{t}d"] {
                    ledger.open(id, 100).await;
                }
                for one in plan.iter().skip(life * 2).take(4) {
                    // Nobody waits for it: it is on its way when the process dies.
                    let node = ledger.node.clone();
                    let one = one.clone();
                    let asking = async move {
                        let _ = everfold_ledger::transfer::transfer(&node, one).await;
                    };
                    process.world().spawn("client", Box::pin(asking));
                }
                let micros = world.random() % 30_000;
                world.sleep(Duration::from_micros(micros)).await;
                std::mem::forget(ledger);
            });
            process.kill();
        }
        simulation.run(async {
            let ledger = open(world.clone()).await;
            let mut moved = 0;
            for one in &plan {
                let (id, from, to) = (one.transfer.to_string(), &one.from, &one.to);
                let ask = || ledger.ask(&id, from.as_text(), to.as_text(), one.amount.minor());
                let answer = ask().await;
                assert_eq!(ask().await, answer, "seed {seed}, {id}");
                match answer {
                    Ok(TransferState::Completed) => moved += 1,
                    Ok(other) => panic!("{other:?}"),
                    Err(_) => rejected += 1,
                }
            }
            accepted += moved;
            let books = ledger.books().await;
            assert_eq!((books.transfers, books.in_transit), (moved, Balance::ZERO));
            assert!(ledger.node.sagas("", 100).is_empty());
            assert!(ledger.node.parked().is_empty());
            ledger.node.close().await;
        });
    }
    assert!(accepted > 50 && rejected > 50, "{accepted} {rejected}");
}

#[tokio::test]
async fn a_closed_and_opened_directory_gives_the_answers_that_it_gave() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::on(directory.path()).await;
    ledger.open("{t}a", 100).await;
    ledger.open("{u}b", 0).await;
    let asked = [("t-1", "{u}b", 60), ("t-2", "{u}b", 60), ("t-3", "x", 10)];
    let mut answers = Vec::new();
    for (id, to, minor) in asked {
        answers.push(ledger.ask(id, "{t}a", to, minor).await);
    }
    assert_eq!(answers[0], Ok(TransferState::Completed));
    assert_eq!(answers[2], Err(TransferRejection::UnknownPayee));
    let before = ledger.books().await;
    ledger.node.close().await;
    let ledger = Ledger::on(directory.path()).await;
    ledger.open("x", 0).await;
    for ((id, to, minor), answer) in asked.into_iter().zip(answers) {
        assert_eq!(ledger.ask(id, "{t}a", to, minor).await, answer);
    }
    let amount = amount(60).into();
    assert_eq!(ledger.books().await.debits, before.debits);
    assert_eq!(ledger.balance("{u}b").await, Balance::minor(amount));
    ledger.node.close().await;
}
