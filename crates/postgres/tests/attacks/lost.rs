//! Guarantee: when an answer is lost the owner is told that nobody knows; after a new claim the batch
//! is there whole or not at all, and never twice.

use everfold_engine::engine::AppendError;
use everfold_engine::{Engine, Partition};

use crate::owner::{Owner, names, sound};
use crate::proxy::{Fate, Proxy};
use crate::servers::{Server, open, outsider};

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_leaves_the_batch_whole_or_not_at_all() {
    let server = Server::shared();
    let address = server.fresh();
    let proxy = Proxy::before(&address).await;
    let log = open(&proxy.address(&address)).await;
    let mut expected: Vec<String> = Vec::new();
    let fates = [
        (Fate::CutRequest, Some(false)),
        (Fate::CutWithin, Some(false)),
        (Fate::CutAnswer, Some(true)),
        // The server may see the end of the connection first.
        (Fate::CutAfter, None),
    ];
    for round in 0..24 {
        let (fate, kept) = fates[round % fates.len()].clone();
        let mut owner = Owner::claim(log.clone(), 0).await.unwrap();
        let (before, lost) = (format!("before-{round}"), format!("lost-{round}"));
        owner.append(&[&before]).await.unwrap();
        expected.push(before);
        proxy.next([fate]);
        let outcome = owner.append(&[&lost, &lost, &lost]).await;
        assert!(
            matches!(outcome, Err(AppendError::Unknown(_))),
            "{outcome:?}"
        );
        // The ownership has ended; whoever goes on nevertheless must not append a second time.
        let stale = owner.epoch();
        let mut next = Owner::claim(log.clone(), 0).await.unwrap();
        let found = sound(&*log, Partition(0)).await;
        let copies = names(&found).iter().filter(|name| **name == lost).count();
        match kept {
            Some(kept) => assert_eq!(copies, if kept { 3 } else { 0 }, "round {round}"),
            None => assert!([0, 3].contains(&copies), "round {round}: {copies}"),
        }
        expected.extend(std::iter::repeat_n(lost.clone(), copies));
        assert_eq!(names(&found), expected);
        if copies == 0 {
            next.append(&[&lost, &lost, &lost]).await.unwrap();
            expected.extend(std::iter::repeat_n(lost, 3));
        }
        assert!(log.confirm(Partition(0), stale).await.is_err());
        assert_eq!(names(&sound(&*log, Partition(0)).await), expected);
    }
}

/// The same for an owner that does not keep to the rule and appends again under its old epoch.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_goes_on_after_a_lost_answer_appends_nothing_twice() {
    let server = Server::shared();
    let address = server.fresh();
    let proxy = Proxy::before(&address).await;
    let log = open(&proxy.address(&address)).await;
    let mut owner = Owner::claim(log.clone(), 0).await.unwrap();
    owner.append(&["first"]).await.unwrap();
    proxy.next([Fate::CutAnswer]);
    assert!(owner.append(&["second"]).await.is_err());
    let again = owner.append(&["second"]).await;
    assert!(matches!(again, Err(AppendError::Fenced(_))), "{again:?}");
    assert_eq!(
        names(&sound(&*log, Partition(0)).await),
        ["first", "second"]
    );
}

/// A commit that waits for a replica, until somebody cancels the wait: the server then answers as if
/// all was well.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_a_replica_was_not_waited_for_is_not_acknowledged() {
    let server = Server::own(&[]);
    let address = server.fresh();
    let log = open(&address).await;
    let mut owner = Owner::claim(log.clone(), 0).await.unwrap();
    owner.append(&["first"]).await.unwrap();
    let admin = outsider(&address).await;
    for sql in [
        "alter system set synchronous_standby_names = 'nobody'",
        "select pg_reload_conf()",
    ] {
        admin.batch_execute(sql).await.unwrap();
    }
    let waits = "select current_setting('synchronous_standby_names') = 'nobody'";
    while !admin.query_one(waits, &[]).await.unwrap().get::<_, bool>(0) {
        tokio::task::yield_now().await;
    }
    let cancel = "select count(pg_cancel_backend(pid)) from pg_stat_activity \
                  where wait_event = 'SyncRep'";
    // The server heeds the setting when it likes: until then nothing waits.
    let (mut cancelled, mut outcome) = (0, None);
    while cancelled == 0 {
        let append = tokio::spawn(async move {
            let outcome = owner.append(&["second"]).await;
            (owner, outcome)
        });
        while !append.is_finished() {
            let row = admin.query_one(cancel, &[]).await.unwrap();
            cancelled += row.get::<_, i64>(0);
            tokio::task::yield_now().await;
        }
        let appended = append.await.unwrap();
        (owner, outcome) = (appended.0, Some(appended.1));
    }
    let outcome = outcome.unwrap();
    assert!(
        matches!(outcome, Err(AppendError::Unknown(_))),
        "{outcome:?}"
    );
}
