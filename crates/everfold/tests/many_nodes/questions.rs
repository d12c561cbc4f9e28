//! Questions about many entities and rows, whoever owns them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use everfold::engine::memory::Memory;
use everfold::engine::{Offset, Partition, World};
use everfold::{Entities, Filter, Holder, Node, NodeOptions, QueryError, StateOptions};
use everfold_sim::Random;

use crate::bank::*;
use crate::cluster::*;

async fn deposit(node: &Node, id: &str, amount: i64) -> everfold::engine::Position {
    let account = node.entity::<Account>(id.to_owned());
    let sent = account.send(Deposit { amount }).await.unwrap();
    sent.position().clone()
}

fn only_accounts() -> everfold::Application {
    everfold::Application::new("bank").entity::<Account>()
}

/// One that has hardly any room in memory.
async fn small_node(world: Arc<dyn World>) -> Node {
    let state = StateOptions {
        memory_bytes: 4000,
        ..StateOptions::default()
    };
    let options = NodeOptions {
        state,
        ..NodeOptions::default()
    };
    let engine = Arc::new(Memory::new(world.clone(), 2).unwrap());
    only_accounts()
        .open_on(engine, world, options)
        .await
        .unwrap()
}

async fn found(question: Entities<Account>) -> Vec<(String, i64)> {
    let found = question.await.unwrap();
    assert!(!found.more);
    let one = |one: everfold::One<AccountId, Account>| (one.id.to_string(), one.state.balance);
    found.entities.into_iter().map(one).collect()
}

/// Attacks: a range, a filter or a page leaves out entities, shows them twice, or shows others.
#[test]
fn entities_of_all_partitions_are_found_by_range_and_filter() {
    for seed in 0..12 {
        in_a_world(async |world| {
            let mut random = Random::new(seed);
            let cluster = Cluster::of(only_accounts, 4, 3, world).await;
            cluster.plan(1, 2, &[3], &[1, 2, 3]);
            cluster.plan(2, 3, &[], &[1, 2, 3]);
            let mut model: BTreeMap<String, i64> = BTreeMap::new();
            for _ in 0..6 {
                for _ in 0..random.below(60) {
                    let id = format!("account {:02}", random.below(90));
                    let amount = 100 + random.below(100) as i64;
                    deposit(&cluster.node(1 + u128::from(random.below(3))), &id, amount).await;
                    *model.entry(id).or_default() += amount;
                }
                let node = cluster.node(1 + u128::from(random.below(3)));
                let (from, before) = (random.below(100), random.below(100));
                let (from, before) = (format!("account {from:02}"), format!("account {before:02}"));
                let least = 100 + random.below(300) as i64;
                let wanted: Vec<(String, i64)> = model
                    .iter()
                    .filter(|(id, balance)| **id >= from && **id < before && **balance >= least)
                    .map(|(id, balance)| (id.clone(), *balance))
                    .collect();
                let question = || {
                    let filter = Filter::field("balance").at_least(least);
                    let all = node.entities::<Account>().matching(filter);
                    all.from(&from).before(&before)
                };
                assert_eq!(found(question()).await, wanted);
                assert_eq!(found(question().linearizable()).await, wanted);
                let (mut pages, mut last) = (Vec::new(), None::<String>);
                loop {
                    let page = match &last {
                        None => question().limit(3),
                        Some(last) => question().limit(3).beyond(String::as_str(last)),
                    };
                    let page = page.await.unwrap();
                    assert!(page.entities.len() <= 3);
                    last = page.entities.last().map(|one| one.id.to_string());
                    let shown = page.entities.iter();
                    pages.extend(shown.map(|one| (one.id.to_string(), one.state.balance)));
                    if !page.more {
                        break;
                    }
                }
                assert_eq!(pages, wanted);
            }
        });
    }
}

/// Attacks: what was acknowledged before the question is missing in the answer, while owners change.
#[test]
fn an_answer_has_everything_that_was_durable_when_it_was_asked_for() {
    in_a_world(async |world| {
        let cluster = Arc::new(Cluster::of(only_accounts, 2, 3, world.clone()).await);
        let writer = {
            let cluster = cluster.clone();
            async move {
                for number in 0..120 {
                    deposit(&cluster.node(1), &format!("account {number:03}"), 1).await;
                }
            }
        };
        let moves = {
            let (cluster, world) = (cluster.clone(), world.clone());
            async move {
                for owner in [2, 3, 1, 2, 3, 1] {
                    world.sleep(Duration::from_millis(3)).await;
                    cluster.plan(0, owner, &[], &[3, 1, 2]);
                    cluster.plan(1, owner % 3 + 1, &[], &[2, 3, 1]);
                }
            }
        };
        let asker = async {
            let node = cluster.node(3);
            let mut before = 0;
            for _ in 0..60 {
                let durable = node.position().await.unwrap();
                let question = node.entities::<Account>().after(&durable);
                let found = question.await.unwrap();
                for (partition, offset) in durable.offsets() {
                    assert!(found.position.offset(partition) >= offset);
                }
                assert!(found.entities.len() >= before);
                before = found.entities.len();
                world.sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::join!(writer, moves, asker);
        let all = found(cluster.node(2).entities::<Account>()).await;
        assert_eq!(all.len(), 120);
    });
}

/// Attacks: an owner that was succeeded without knowing it answers with what it remembers.
#[test]
fn an_owner_of_the_past_does_not_answer_questions() {
    in_a_world(async |world| {
        let cluster = Cluster::of(only_accounts, 1, 2, world).await;
        deposit(&cluster.node(1), "a", 1).await;
        let zombie = cluster.cut_off(1);
        cluster.plan(0, 2, &[], &[2]);
        deposit(&cluster.node(2), "a", 2).await;
        let patience = Duration::from_millis(300);
        let question = zombie.entities::<Account>().within(patience);
        match question.await {
            // It has claimed the partition again, or nobody has answered: both are true.
            Ok(found) => assert_eq!(found.entities[0].state.balance, 3),
            Err(error) => assert!(matches!(error, QueryError::Owner(_)), "{error}"),
        }
    });
}

/// Attacks: entities that are not in memory, or that a trimmed log names in a baseline only.
#[test]
fn entities_that_left_memory_are_found() {
    in_a_world(async |world| {
        let node = small_node(world).await;
        for number in 0..200 {
            deposit(&node, &format!("account {number:03}"), number + 1001).await;
        }
        let residents: u64 = node
            .owners()
            .await
            .unwrap()
            .iter()
            .map(|o| o.entities)
            .sum();
        assert!(residents < 200, "{residents} in memory");
        let before = residents;
        let rich = node
            .entities::<Account>()
            .matching("balance>1150".parse().unwrap());
        assert_eq!(found(rich).await.len(), 50);
        let residents: u64 = node
            .owners()
            .await
            .unwrap()
            .iter()
            .map(|o| o.entities)
            .sum();
        assert_eq!(residents, before, "a question brings nobody into memory");
    });
}

/// Attacks: an answer says that it reflects what it does not.
#[test]
fn views_answer_ranges_with_their_position() {
    in_a_world(async |world| {
        let cluster = Cluster::of(bank, 4, 2, world).await;
        let mut last = None;
        for number in 0..20 {
            last = Some(deposit(&cluster.node(1), &format!("a {number:02}"), 1000 + number).await);
        }
        cluster.node(1).caught_up().await.unwrap();
        let node = cluster.node(2);
        let durable = node.caught_up().await.unwrap();
        let turnover = turnover();
        let range = node
            .view(&turnover)
            .range("a 05".to_owned().."a 15".to_owned());
        let (rows, position) = range.after(&durable).positioned().await.unwrap();
        let sums: Vec<i64> = rows.iter().map(|(_, row)| row.deposited).collect();
        assert_eq!(sums, (1005..1015).collect::<Vec<_>>());
        for (partition, offset) in last.unwrap().offsets() {
            assert!(position.offset(partition) >= offset);
        }
        let rich = node
            .view(&turnover)
            .matching(Filter::field("deposited").above(1017));
        assert_eq!(rich.await.unwrap().len(), 2);
    });
}

#[test]
fn it_is_known_who_has_what() {
    in_a_world(async |world| {
        let cluster = Cluster::of(only_accounts, 2, 3, world).await;
        cluster.plan(1, 2, &[3], &[1, 2, 3]);
        let placed = cluster.node(1).placed();
        assert_eq!(placed[0].owner, Holder::Here);
        assert_eq!(placed[1].owner, Holder::Node(id(2)));
        assert_eq!(placed[1].standbys, [id(3)]);
        let second = (0..)
            .map(|number| format!("account {number}"))
            .find(|name| {
                let account = cluster.node(1).entity::<Account>(name.clone()).placed();
                account.partition == Partition(1)
            });
        let account = cluster.node(2).entity::<Account>(second.unwrap()).placed();
        assert_eq!(account.owner, Holder::Here);
    });
}

/// Attacks: a token of the future is believed, or waited for without end.
#[test]
fn a_token_that_is_not_reached_is_refused_in_time() {
    in_a_world(async |world| {
        let cluster = Cluster::of(only_accounts, 2, 2, world.clone()).await;
        let ahead = cluster.node(1).position().await.unwrap();
        let ahead = ahead.with(Partition(1), Offset(7));
        let question = cluster.node(2).entities::<Account>().after(&ahead);
        let refused = question.within(Duration::from_secs(1)).await.unwrap_err();
        let partition = Partition(1);
        let behind = 7;
        assert_eq!(refused, QueryError::NotReached { partition, behind });
        assert!(world.elapsed() < Duration::from_secs(2));
    });
}
