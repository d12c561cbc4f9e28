//! How the log is partitioned changes nothing that anybody can see.

use everfold::engine::slot::{Layout, Slot};
use everfold_ledger::transfer::Way;

use crate::running::{Ledger, transfer};

/// The finisher of SplitMix64.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Plays the same sequence, and says which way each transfer went and what was decided.
async fn decisions(partitions: u16) -> Vec<String> {
    let ledger = Ledger::partitioned(partitions).await;
    let account = |number: u64| format!("{{branch-{}}}acct-{number}", number % 4);
    for number in 0..12 {
        ledger.open(&account(number), 100).await;
    }
    let mut decisions = Vec::new();
    for step in 0..200 {
        let draw = |index: u64| mix(step << 8 | index);
        // One account in seven does not exist.
        let (from, to) = (account(draw(0) % 14), account(draw(1) % 14));
        let (id, minor) = (format!("t-{step}"), 1 + i128::from(draw(2) % 90));
        let way = Way::between(&from.as_str().into(), &to.as_str().into());
        let decided = ledger.ask(&id, &from, &to, minor).await;
        decisions.push(format!("{from} {to} {way:?} {decided:?}"));
    }
    let books = ledger.books().await;
    decisions.push(format!("{books:?}"));
    decisions
}

#[tokio::test]
async fn the_same_run_goes_the_same_ways_on_any_number_of_partitions() {
    let on_one = decisions(1).await;
    assert!(on_one.iter().any(|decided| decided.contains("Together Ok")));
    assert!(
        on_one
            .iter()
            .any(|decided| decided.contains("InTransit Ok"))
    );
    assert!(
        on_one
            .iter()
            .any(|decided| decided.contains("InsufficientFunds"))
    );
    assert!(
        on_one
            .iter()
            .any(|decided| decided.contains("InTransit Err(UnknownPayee"))
    );
    for partitions in [3, 16] {
        assert_eq!(decisions(partitions).await, on_one, "{partitions}");
    }
}

#[tokio::test]
async fn tags_that_share_a_partition_or_even_a_slot_are_still_two() {
    let slot = |tag: &str| Slot::of(&format!("{{{tag}}}"));
    let layout = Layout::first(16).unwrap();
    let first = "branch-0".to_owned();
    let tags = || (1..).map(|number| format!("branch-{number}"));
    let same_slot = tags().find(|tag| slot(tag) == slot(&first)).unwrap();
    let partition = |tag: &str| layout.partition_of(slot(tag));
    let same_partition = tags()
        .find(|tag| partition(tag) == partition(&first))
        .unwrap();
    let ledger = Ledger::in_memory().await;
    let payer = format!("{{{first}}}a");
    ledger.open(&payer, 100).await;
    for tag in [same_slot, same_partition] {
        let payee = format!("{{{tag}}}b");
        ledger.open(&payee, 0).await;
        let moved = ledger
            .node
            .together()
            .send(transfer("t-1", &payer, &payee, 1));
        assert!(moved.await.is_err(), "{payee}");
        assert_eq!(ledger.balance(&payer).await, 0);
    }
}
