//! A ledger on a disk that is closed and opened again.

use everfold::engine::uuid7;
use everfold_ledger::account::PlaceHold;
use everfold_ledger::transfer::{Dispatch, GiveBack, TransferRejection, TransferState};

use crate::running::{Ledger, amount, transfer};

#[tokio::test]
async fn what_was_decided_before_a_restart_stays_decided() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::on(directory.path()).await;
    ledger.open("{t}a", 100).await;
    ledger.open("{t}b", 0).await;
    let world = ledger.node.world();
    let id = || uuid7(world.now(), world.random(), world.random());
    let (accepted, rejected) = (id(), id());
    let small = transfer("t-1", "{t}a", "{t}b", 70);
    let large = transfer("t-2", "{t}a", "{t}b", 70);
    let together = ledger.node.together();
    together.send(small.clone()).id(accepted).await.unwrap();
    let refused = together.send(large.clone()).id(rejected).await.unwrap_err();
    let place = PlaceHold {
        hold: "h".into(),
        amount: amount(5),
        expires_after: None,
    };
    ledger.account("{t}a", place).await.unwrap();
    let dispatch = Dispatch {
        transfer: "t-3".into(),
        from: "{t}a".into(),
        to: "{u}c".into(),
        amount: amount(9),
    };
    ledger.together(dispatch).await.unwrap();
    let before = ledger.books().await;
    ledger.node.close().await;

    let ledger = Ledger::on(directory.path()).await;
    assert_eq!(ledger.books().await, before);
    assert_eq!(ledger.balance("{t}a").await, -79);
    let together = ledger.node.together();
    let again = together.send(small).id(accepted).await.unwrap();
    assert_eq!(again.reply, TransferState::Completed);
    // There is money now, and still the answer is the one that was given.
    ledger.open("{t}rich", 1000).await;
    ledger
        .transfer("t-4", "{t}rich", "{t}a", 500)
        .await
        .unwrap();
    let still = together.send(large).id(rejected).await.unwrap_err();
    assert_eq!(still, refused);
    assert_eq!(ledger.balance("{t}b").await, 70);
    let beyond = ledger.transfer("t-5", "{t}a", "{t}b", 517).await;
    let available = everfold_ledger::amount::Balance::new(100 - 79 + 500 - 5);
    assert_eq!(
        beyond,
        Err(TransferRejection::InsufficientFunds { available })
    );
    let give_back = GiveBack {
        transfer: "t-3".into(),
        from: "{t}a".into(),
    };
    ledger.together(give_back).await.unwrap();
    assert_eq!(ledger.balance("{t}a").await, 430);
    ledger.books().await;
    ledger.node.close().await;
}
