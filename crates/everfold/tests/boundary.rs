//! Boundaries: appends that hold only if nothing relevant was added since the caller looked.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "in a test a fault is a panic"
)]

use std::sync::Arc;

use everfold::prelude::*;
use everfold::{CommandError, Label, NewEvent, Node, Open, Query};
use tokio::sync::Barrier;

async fn nodes() -> (Vec<Node>, tempfile::TempDir) {
    let application = || Application::new("names").boundary("names");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let nodes = vec![
        application().open("memory:").await.unwrap(),
        application().open(path.to_str().unwrap()).await.unwrap(),
    ];
    (nodes, directory)
}

fn taken(name: &str) -> Query {
    Query::of(["Taken"], [Label::new("name", name.to_owned())])
}

fn take(name: &str, racer: usize) -> NewEvent {
    NewEvent::json("Taken", format!("{{\"by\":{racer}}}")).label("name", name.to_owned())
}

/// Attacks: two racers who both looked before either had written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_sixteen_racers_for_one_name_one_wins() {
    let (nodes, _directory) = nodes().await;
    for node in nodes {
        let node = Arc::new(node);
        for round in 0..50 {
            let barrier = Arc::new(Barrier::new(16));
            let racers: Vec<_> = (0..16)
                .map(|racer| {
                    let (node, barrier) = (node.clone(), barrier.clone());
                    let (done, result) = tokio::sync::oneshot::channel();
                    let world = node.world().clone();
                    let race = async move {
                        let names = node.boundary("names", "all");
                        let name = format!("name {round}");
                        let seen = names.read(taken(&name)).await.unwrap();
                        assert!(seen.events.is_empty());
                        barrier.wait().await;
                        let won = names
                            .append(vec![take(&name, racer)], Some(seen.unchanged()))
                            .await;
                        let _ = done.send(won);
                    };
                    world.spawn("racer", Box::pin(race));
                    result
                })
                .collect();
            let mut winners = 0;
            for racer in racers {
                match racer.await.unwrap() {
                    Ok(_) => winners += 1,
                    Err(CommandError::Conflict(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(winners, 1, "round {round}");
            let names = node.boundary("names", "all");
            let seen = names.read(taken(&format!("name {round}"))).await.unwrap();
            assert_eq!(seen.events.len(), 1);
        }
        node.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_the_query_asks_for_conflicts() {
    let (nodes, _directory) = nodes().await;
    for node in nodes {
        let names = node.boundary("names", "all");
        let ada = names.read(taken("ada")).await.unwrap();
        let all = names.read(Query::everything()).await.unwrap();
        names.append(vec![take("bob", 0)], None).await.unwrap();
        names
            .append(vec![take("ada", 1)], Some(ada.unchanged()))
            .await
            .unwrap();
        let late = names
            .append(vec![take("cleo", 2)], Some(all.unchanged()))
            .await;
        assert!(matches!(late, Err(CommandError::Conflict(_))));
        let unique = everfold::Condition::none_ever(taken("bob"));
        let again = names.append(vec![take("bob", 3)], Some(unique)).await;
        assert!(matches!(again, Err(CommandError::Conflict(_))));
        let found = names.read(taken("ada").or(taken("bob"))).await.unwrap();
        let versions: Vec<u64> = found
            .events
            .iter()
            .map(|event| event.local.version)
            .collect();
        assert_eq!(versions, [1, 2]);
        // Another instance of the boundary is another scope.
        let others = node.boundary("names", "others");
        assert!(
            others
                .read(Query::everything())
                .await
                .unwrap()
                .events
                .is_empty()
        );
        node.close().await;
    }
}

/// Attacks: a condition that is checked against less than the whole history after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_stays_taken_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let open = || {
        Application::new("names")
            .boundary("names")
            .open(path.to_str().unwrap())
    };
    let node = open().await.unwrap();
    let names: Vec<String> = (0..700).map(|n| format!("name {n}")).collect();
    for name in &names {
        node.boundary("names", "all")
            .append(vec![take(name, 0)], None)
            .await
            .unwrap();
    }
    node.close().await;
    drop(node);
    let node = open().await.unwrap();
    for name in [&names[0], &names[300], &names[699]] {
        let unique = everfold::Condition::none_ever(taken(name));
        let boundary = node.boundary("names", "all");
        let again = boundary.append(vec![take(name, 1)], Some(unique)).await;
        assert!(matches!(again, Err(CommandError::Conflict(_))), "{name}");
        assert_eq!(boundary.read(taken(name)).await.unwrap().events.len(), 1);
    }
    node.close().await;
}
