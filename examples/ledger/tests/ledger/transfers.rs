//! What transfers do to a running ledger.

use everfold_ledger::account::{Close, HoldEnd, HoldState, PlaceHold, Release};
use everfold_ledger::amount::Balance;
use everfold_ledger::transfer::{
    Capture, Deliver, Dispatch, GiveBack, NotDelivered, Settle, TransferRejection, TransferState,
};

use crate::running::{Ledger, amount, transfer};

#[tokio::test]
async fn a_transfer_within_a_tag_changes_both_accounts_in_one_unit() {
    let ledger = Ledger::in_memory().await;
    ledger.open("{t}a", 100).await;
    ledger.open("{t}b", 0).await;
    let moved = ledger.transfer("t-1", "{t}a", "{t}b", 70).await;
    assert_eq!(moved, Ok(TransferState::Completed));
    assert_eq!(ledger.balance("{t}a").await, -70);
    assert_eq!(ledger.balance("{t}b").await, 70);
    let units: Vec<u32> = ledger
        .records()
        .await
        .iter()
        .map(|record| record.portable.unit.count)
        .filter(|count| *count > 1)
        .collect();
    assert_eq!(units, [2, 2]);
    let books = ledger.books().await;
    assert_eq!((books.debits, books.transfers), (Balance::new(70), 1));
}

#[tokio::test]
async fn every_refusal_moves_nothing_and_says_why() {
    let ledger = Ledger::in_memory().await;
    for (id, overdraft) in [("{t}a", 100), ("{t}b", 0), ("{t}closed", 0), ("{u}c", 0)] {
        ledger.open(id, overdraft).await;
    }
    ledger.account("{t}closed", Close).await.unwrap();
    let refused = [
        ("{t}a", "{t}z", 1, TransferRejection::UnknownPayee),
        ("{t}z", "{t}a", 1, TransferRejection::UnknownPayer),
        ("{t}a", "{t}closed", 1, TransferRejection::PayeeClosed),
        ("{t}closed", "{t}a", 1, TransferRejection::PayerClosed),
        ("{t}a", "{t}a", 1, TransferRejection::SameAccount),
        (
            "{t}a",
            "{t}b",
            101,
            TransferRejection::InsufficientFunds {
                available: Balance::new(100),
            },
        ),
    ];
    for (from, to, minor, rejection) in refused {
        let answer = ledger.transfer("t-1", from, to, minor).await;
        assert_eq!(answer, Err(rejection));
    }
    // Its accounts live in different partitions or not: the ids alone say that this is not the way.
    let apart = ledger
        .node
        .together()
        .send(transfer("t-1", "{t}a", "{u}c", 1));
    assert!(apart.await.is_err());
    assert_eq!(ledger.books().await.debits, Balance::ZERO);
}

#[tokio::test]
async fn a_transfer_that_is_asked_for_again_is_done_once() {
    let ledger = Ledger::in_memory().await;
    ledger.open("{t}a", 100).await;
    ledger.open("{t}b", 0).await;
    for _ in 0..3 {
        // Without a command id: the accounts recognise it.
        let moved = ledger.transfer("t-1", "{t}a", "{t}b", 70).await;
        assert_eq!(moved, Ok(TransferState::Completed));
    }
    let other = ledger.transfer("t-1", "{t}a", "{t}b", 10).await;
    assert_eq!(other, Err(TransferRejection::TransferIdReused));
    assert_eq!(ledger.balance("{t}a").await, -70);
    assert_eq!(ledger.books().await.transfers, 1);
}

#[tokio::test]
async fn a_hold_is_captured_once_and_gives_back_the_rest() {
    let ledger = Ledger::in_memory().await;
    ledger.open("{t}a", 100).await;
    ledger.open("{t}b", 0).await;
    let place = PlaceHold {
        hold: "h".into(),
        amount: amount(80),
        expires_after: None,
    };
    let placed = ledger.account("{t}a", place).await;
    assert_eq!(placed, Ok(HoldState::Placed));
    let available = Balance::new(20);
    assert_eq!(
        ledger.transfer("t-1", "{t}a", "{t}b", 21).await,
        Err(TransferRejection::InsufficientFunds { available })
    );
    let capture = Capture {
        transfer: "t-2".into(),
        hold: "h".into(),
        from: "{t}a".into(),
        to: "{t}b".into(),
        amount: amount(50),
    };
    for _ in 0..2 {
        let captured = ledger.together(capture.clone()).await;
        assert_eq!(captured, Ok(TransferState::Completed));
    }
    let release = Release { hold: "h".into() };
    let by = "t-2".into();
    let released = ledger.account("{t}a", release).await;
    assert_eq!(released, Ok(HoldEnd::Captured { by }));
    assert_eq!(ledger.balance("{t}b").await, 50);
    let rest = ledger.transfer("t-3", "{t}a", "{t}b", 50).await;
    assert_eq!(rest, Ok(TransferState::Completed));
    assert_eq!(ledger.books().await.transfers, 2);
}

#[tokio::test]
async fn money_goes_to_another_tag_move_by_move_and_the_books_balance_after_each() {
    let ledger = Ledger::in_memory().await;
    ledger.open("{t}a", 100).await;
    ledger.open("{u}c", 0).await;
    let dispatch = Dispatch {
        transfer: "t-1".into(),
        from: "{t}a".into(),
        to: "{u}c".into(),
        amount: amount(60),
    };
    for _ in 0..2 {
        let sent = ledger.together(dispatch.clone()).await;
        assert_eq!(sent, Ok(TransferState::InTransit));
        assert_eq!(ledger.books().await.in_transit, Balance::new(60));
    }
    let deliver = Deliver {
        transfer: "t-1".into(),
        from: "{t}a".into(),
        to: "{u}c".into(),
        amount: amount(60),
    };
    for _ in 0..2 {
        let came = ledger.together(deliver.clone()).await;
        assert_eq!(came, Ok(TransferState::Completed));
        assert_eq!(ledger.books().await.in_transit, Balance::ZERO);
    }
    let settle = Settle {
        transfer: "t-1".into(),
    };
    ledger.account("{t}a", settle).await.unwrap();
    let give_back = GiveBack {
        transfer: "t-1".into(),
        from: "{t}a".into(),
    };
    let refused = ledger.together(give_back).await;
    assert_eq!(refused, Err(NotDelivered::Ended));
    assert_eq!(ledger.balance("{t}a").await, -60);
    assert_eq!(ledger.balance("{u}c").await, 60);
    assert_eq!(ledger.books().await.transfers, 1);
}

#[tokio::test]
async fn money_that_cannot_be_delivered_comes_back_once() {
    let ledger = Ledger::in_memory().await;
    ledger.open("{t}a", 100).await;
    let dispatch = Dispatch {
        transfer: "t-1".into(),
        from: "{t}a".into(),
        to: "{u}nobody".into(),
        amount: amount(60),
    };
    ledger.together(dispatch.clone()).await.unwrap();
    let deliver = Deliver {
        transfer: "t-1".into(),
        from: "{t}a".into(),
        to: "{u}nobody".into(),
        amount: amount(60),
    };
    let refused = ledger.together(deliver).await;
    assert_eq!(refused, Err(TransferRejection::UnknownPayee));
    for _ in 0..2 {
        let give_back = GiveBack {
            transfer: "t-1".into(),
            from: "{t}a".into(),
        };
        let back = ledger.together(give_back).await;
        assert_eq!(back, Ok(TransferState::Returned));
        assert_eq!(ledger.balance("{t}a").await, 0);
    }
    let late = ledger.together(dispatch).await;
    assert_eq!(late, Err(TransferRejection::TakenBack));
    let books = ledger.books().await;
    assert_eq!((books.in_transit, books.transfers), (Balance::ZERO, 0));
}
