//! Members of a cluster in a simulated world: they come, go, freeze and are cut off.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "in a test a fault is a panic"
)]

mod scene;

use std::time::Duration;

use everfold::cluster::{Alone, ClusterError};
use everfold::engine::coordination::JoinError;
use everfold::prelude::*;
use everfold::{Filter, Holder, QueryError};
use scene::*;

async fn count(client: &everfold::cluster::Client, times: u64) {
    for n in 0..times {
        let counter = format!("counter {}", n % 16);
        let sent = client.entity::<Counter>(counter).send(Count { by: 1 });
        sent.await.unwrap();
    }
}

async fn total(client: &everfold::cluster::Client) -> u64 {
    let mut total = 0;
    for n in 0..16 {
        let counter = client.entity::<Counter>(format!("counter {n}"));
        total += counter.read(|counter, _| counter.total).await.unwrap();
    }
    total
}

/// Attacks: nodes that join take nothing over, or what moves fails commands.
#[test]
fn partitions_spread_over_who_joins_and_go_where_nodes_drain_to() {
    let reached = scene(8, async |mut scene| {
        scene.join(Scene::settings("a")).await.unwrap();
        scene.until_owned(&["a"], &[8]).await;
        let client = scene.client(None).await;
        let load = async {
            for _ in 0..200 {
                count(&client, 16).await;
            }
        };
        let moves = async {
            scene.join(Scene::settings("b")).await.unwrap();
            scene.until_owned(&["a", "b"], &[4, 4]).await;
            scene.join(Scene::settings("c")).await.unwrap();
            scene.until_owned(&["c"], &[2]).await;
            assert!(scene.member("a").drain(Duration::from_secs(30)).await);
            scene.until_owned(&["a", "b", "c"], &[0, 4, 4]).await;
        };
        tokio::join!(load, moves);
        let through = scene.client(Some("a")).await;
        assert_eq!(total(&through).await, 3200);
    });
    assert!(reached["owner: takes over warm"] > 0, "{reached:?}");
}

/// Attacks: what a node that ended had acknowledged is lost, or nobody takes its partitions.
#[test]
fn who_ends_is_replaced_by_its_standbys() {
    let reached = scene(6, async |mut scene| {
        for name in ["a", "b", "c"] {
            scene.join(Scene::settings(name)).await.unwrap();
        }
        scene.until_owned(&["a", "b", "c"], &[2, 2, 2]).await;
        let client = scene.client(None).await;
        count(&client, 160).await;
        // The first of them assigns.
        scene.kill("a");
        let begun = scene.world.elapsed();
        count(&client, 160).await;
        let took = scene.world.elapsed() - begun;
        assert!(took < Duration::from_secs(4), "{took:?} of simulated time");
        scene.until_owned(&["b", "c"], &[3, 3]).await;
        assert_eq!(total(&client).await, 320);
    });
    assert!(reached["owner: takes over warm"] > 0, "{reached:?}");
}

/// Attacks: a frozen node wakes up and goes on.
#[test]
fn who_was_frozen_finds_itself_replaced_and_joins_again() {
    let reached = scene(4, async |mut scene| {
        scene.join(Scene::settings("a")).await.unwrap();
        scene.join(Scene::settings("b")).await.unwrap();
        scene.until_owned(&["a", "b"], &[2, 2]).await;
        let client = scene.client(Some("b")).await;
        count(&client, 32).await;
        scene.process("a").freeze();
        count(&client, 32).await;
        scene.until_owned(&["b"], &[4]).await;
        scene.process("a").thaw();
        let zombie = scene.member("a");
        let counter = zombie.node().entity::<Counter>("counter 0");
        let answer = counter.send(Count { by: 1 }).await.unwrap();
        assert_eq!(answer.reply, 5);
        scene.until_owned(&["a", "b"], &[2, 2]).await;
        assert_eq!(total(&client).await, 65);
    });
    assert!(reached["node: its lease ran out"] > 0, "{reached:?}");
}

/// Attacks: a client misses partitions, rows or events of nodes that it does not ask directly.
#[test]
fn clients_ask_for_ranges_rows_and_histories() {
    scene(8, async |mut scene| {
        for name in ["a", "b", "c"] {
            scene.join(Scene::settings(name)).await.unwrap();
        }
        scene.until_owned(&["a", "b", "c"], &[3, 3, 2]).await;
        let writer = scene.client(None).await;
        count(&writer, 160).await;
        let last = writer.entity::<Counter>("counter 7").send(Count { by: 5 });
        let last = last.await.unwrap().position().clone();
        for client in [scene.client(None).await, scene.client(Some("b")).await] {
            let range = client
                .entities::<Counter>()
                .from("counter 2")
                .before("counter 8");
            let found = range.after(&last).await.unwrap();
            let found: Vec<(&str, u64)> = found
                .entities
                .iter()
                .map(|one| (one.id.as_text(), one.state.total))
                .collect();
            let wanted = ["2", "3", "4", "5", "6", "7"].map(|n| format!("counter {n}"));
            let wanted: Vec<(&str, u64)> = wanted.iter().map(|n| (&n[..], 10)).collect();
            assert_eq!(found[..5], wanted[..5]);
            assert_eq!(found[5], ("counter 7", 15));
            let rows = client
                .view(&totals())
                .matching(Filter::field("total").above(10));
            let rows = rows.after(&last).await.unwrap();
            assert_eq!(rows.rows, [("counter 7".to_owned(), Total { total: 15 })]);
            assert!(!rows.more);
            let key = "counter 3".to_owned();
            let one = client.view(&totals()).get(&key).await.unwrap();
            assert_eq!(one, Some(Total { total: 10 }));
            let unknown: View<String, Total> = View::named("nothing");
            let refused = client.view(&unknown).await.unwrap_err();
            assert!(matches!(refused, QueryError::UnknownView(_)), "{refused}");
            let counter = client.entity::<Counter>("counter 7");
            let history = counter.history(8, 100).await.unwrap();
            let versions: Vec<u64> = history.iter().map(|r| r.local.version).collect();
            assert_eq!(versions, [9, 10, 11]);
            assert_eq!(&history[2].portable.event_type[..], "Counted");
            let holders = client.placed();
            assert!(holders.iter().all(|placed| placed.owner != Holder::Nobody));
        }
        // The owner is gone, and nobody has taken over yet: any other node tells the history.
        let owner = writer.entity::<Counter>("counter 7").placed().owner;
        for name in ["a", "b", "c"] {
            if Holder::Node(scene.member(name).id()) == owner {
                scene.kill(name);
            }
        }
        let counter = writer.entity::<Counter>("counter 7");
        assert_eq!(counter.history(0, 100).await.unwrap().len(), 11);
        assert_eq!(writer.entity::<Counter>("counter 7").placed().owner, owner);
    });
}

/// Attacks: a node joins that must not.
#[test]
fn who_does_not_belong_is_refused() {
    scene(2, async |mut scene| {
        scene.join(Scene::settings("a")).await.unwrap();
        let mut same = Scene::settings("b");
        same.name = "a".into();
        let refused = scene.join(same).await.unwrap_err();
        assert!(
            matches!(refused, ClusterError::Join(JoinError::NameTaken { .. })),
            "{refused}"
        );
        let mut other = Scene::settings("b");
        other.cluster = "another".into();
        let refused = scene.join(other).await.unwrap_err();
        assert!(
            matches!(refused, ClusterError::Join(JoinError::OtherCluster { .. })),
            "{refused}"
        );
        scene.until_owned(&["a"], &[2]).await;
    });
}

const HOUR: i64 = 3_600_000_000;

/// Attacks: a node whose clock is an hour off takes part.
#[test]
fn who_has_a_wrong_clock_does_not_join() {
    scene(2, async |mut scene| {
        scene.join(Scene::settings("a")).await.unwrap();
        scene.until_owned(&["a"], &[2]).await;
        for (micros, says) in [(HOUR, "ahead"), (-2 * HOUR, "behind")] {
            scene.process("b").step_clock(micros);
            let refused = scene.join(Scene::settings("b")).await.unwrap_err();
            assert!(matches!(refused, ClusterError::Clock { .. }), "{refused}");
            let words = refused.to_string();
            assert!(
                words.contains(says) && words.contains("3600 seconds"),
                "{words}"
            );
            assert_eq!(scene.member("a").roster().members.len(), 1);
        }
        scene.process("b").step_clock(HOUR);
        scene.join(Scene::settings("b")).await.unwrap();
        scene.until_owned(&["a", "b"], &[1, 1]).await;
    });
}

/// Attacks: a node whose clock is set while it runs goes on recording, or nobody hears of it.
#[test]
fn who_loses_the_time_gives_its_partitions_away_until_it_is_right() {
    scene(4, async |mut scene| {
        scene.join(Scene::settings("a")).await.unwrap();
        scene.join(Scene::settings("b")).await.unwrap();
        scene.until_owned(&["a", "b"], &[2, 2]).await;
        let client = scene.client(None).await;
        let mut trouble = scene.member("a").trouble();
        scene.process("a").step_clock(-HOUR);
        let told = trouble.wait_for(Option::is_some).await.unwrap().clone();
        assert!(told.unwrap().contains("3600 seconds behind"));
        scene.until_owned(&["a", "b"], &[0, 4]).await;
        count(&client, 32).await;
        scene.process("a").step_clock(HOUR);
        trouble.wait_for(Option::is_none).await.unwrap();
        scene.until_owned(&["a", "b"], &[2, 2]).await;
        assert_eq!(total(&client).await, 32);
    });
}

/// Attacks: a cluster takes a log from a node that serves it alone, or the other way round.
#[test]
fn one_alone_and_a_cluster_keep_away_from_each_other() {
    scene(2, async |mut scene| {
        let (engine, world) = (scene.engine.clone(), scene.world.clone());
        let alone = || Alone::register("counters", &engine, &world, "http://here/");
        let first = alone().await.unwrap().unwrap();
        let refused = scene.join(Scene::settings("a")).await.unwrap_err();
        assert!(matches!(refused, ClusterError::Alone { .. }), "{refused}");
        assert!(refused.to_string().contains("http://here/"), "{refused}");
        let refused = alone().await.err().unwrap();
        assert!(matches!(refused, ClusterError::Alone { .. }), "{refused}");
        first.leave().await;
        scene.join(Scene::settings("a")).await.unwrap();
        let refused = alone().await.err().unwrap();
        let cluster = matches!(refused, ClusterError::Join(JoinError::OtherCluster { .. }));
        assert!(cluster, "{refused}");
        scene.until_owned(&["a"], &[2]).await;
    });
}
