//! Commands that meet at one account.

use std::future::Future;
use std::sync::Arc;

use everfold_ledger::account::{PlaceHold, Release};
use everfold_ledger::transfer::{Capture, TransferRejection, TransferState};
use tokio::sync::{Barrier, oneshot};

use crate::running::{Ledger, amount};

/// A task of its own that waits for the others before it does something.
pub(crate) fn at_once<T: Send + 'static>(
    ledger: &Ledger,
    barrier: &Arc<Barrier>,
    act: impl Future<Output = T> + Send + 'static,
) -> oneshot::Receiver<T> {
    let (done, over) = oneshot::channel();
    let barrier = barrier.clone();
    let task = async move {
        barrier.wait().await;
        let _ = done.send(act.await);
    };
    ledger.node.world().spawn("client", Box::pin(task));
    over
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_transfers_that_empty_an_account_at_once_exactly_one_wins() {
    let ledger = Arc::new(Ledger::in_memory().await);
    for id in ["{t}b", "{t}c"] {
        ledger.open(id, 0).await;
    }
    for round in 0..50 {
        let payer = format!("{{t}}a-{round}");
        ledger.open(&payer, 100).await;
        let barrier = Arc::new(Barrier::new(2));
        let both = ["{t}b", "{t}c"].map(|payee| {
            let (ours, payer) = (ledger.clone(), payer.clone());
            at_once(&ledger, &barrier, async move {
                let id = format!("t-{round}-{payee}");
                ours.transfer(&id, &payer, payee, 100).await
            })
        });
        let mut won = 0;
        for one in both {
            match one.await.unwrap() {
                Ok(TransferState::Completed) => won += 1,
                Err(TransferRejection::InsufficientFunds { available }) => {
                    assert_eq!(available.minor(), 0);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(won, 1, "round {round}");
        assert_eq!(ledger.balance(&payer).await, -100);
    }
    assert_eq!(ledger.books().await.transfers, 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_is_captured_or_released_and_never_both() {
    let ledger = Arc::new(Ledger::in_memory().await);
    ledger.open("{t}a", 100).await;
    ledger.open("{t}b", 0).await;
    let mut captures = 0;
    for round in 0..50 {
        let hold = format!("h-{round}");
        let place = PlaceHold {
            hold: hold.as_str().into(),
            amount: amount(1),
            expires_after: None,
        };
        ledger.account("{t}a", place).await.unwrap();
        let barrier = Arc::new(Barrier::new(2));
        let capture = Capture {
            transfer: format!("t-{round}").into(),
            hold: hold.as_str().into(),
            from: "{t}a".into(),
            to: "{t}b".into(),
            amount: amount(1),
        };
        let ours = ledger.clone();
        let capturing = at_once(
            &ledger,
            &barrier,
            async move { ours.together(capture).await },
        );
        let ours = ledger.clone();
        let releasing = at_once(&ledger, &barrier, async move {
            let release = Release {
                hold: hold.as_str().into(),
            };
            ours.account("{t}a", release).await.unwrap()
        });
        let (captured, ended) = (capturing.await.unwrap(), releasing.await.unwrap());
        let was_captured = captured.is_ok();
        assert_eq!(
            matches!(ended, everfold_ledger::account::HoldEnd::Captured { .. }),
            was_captured,
            "{captured:?} {ended:?}"
        );
        captures += i128::from(was_captured);
    }
    assert_eq!(ledger.balance("{t}b").await, captures);
    ledger.books().await;
}
