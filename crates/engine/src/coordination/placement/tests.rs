//! Clusters that come and go, until their plans come to rest.

use proptest::prelude::*;

use super::*;
use crate::coordination::{Held, Living, Member, NodeId, Place, Role};
use crate::engine::Epoch;
use crate::position::Offset;
use crate::slot::{Layout, Partition};
use crate::time::Timestamp;
use crate::uuid7;

/// Nodes that do what plans say, in a roster.
struct Cluster {
    roster: Roster,
    settings: Placement,
    /// Who cannot serve what.
    unable: Vec<(NodeId, usize)>,
    /// How many nodes there ever were.
    joined: u64,
    /// How often the owner of a partition changed while it lived.
    planned: usize,
}

impl Cluster {
    fn new(partitions: u16, settings: Placement) -> Self {
        let layout = Layout::first(partitions).unwrap();
        Self {
            roster: Roster {
                members: Vec::new(),
                plan: Plan::unplaced(layout),
                assigner: None,
                time: Timestamp(1),
            },
            settings,
            unable: Vec::new(),
            joined: 0,
            planned: 0,
        }
    }

    fn join(&mut self, zone: &str, weight: u32) -> NodeId {
        self.joined += 1;
        let node = NodeId(uuid7(Timestamp(1), 0, self.joined));
        let layout = Layout::first(self.roster.plan.places.len() as u16).unwrap();
        self.roster.members.push(Living {
            member: Member {
                node,
                name: format!("node-{}", self.joined).into(),
                cluster: "c".into(),
                application: "a".into(),
                address: "".into(),
                zone: zone.into(),
                weight,
                build: "".into(),
                layout,
            },
            held: Vec::new(),
            joined: Timestamp(1),
            lease_until: Timestamp(2),
        });
        node
    }

    fn end(&mut self, node: NodeId) {
        let members = &mut self.roster.members;
        members.retain(|living| living.member.node != node);
    }

    fn place(&self, partition: usize) -> &Place {
        &self.roster.plan.places[partition]
    }

    /// Every node holds what the plan says, all of it.
    fn obey(&mut self) {
        for living in &mut self.roster.members {
            living.held.clear();
            for (partition, place) in self.roster.plan.iter() {
                let node = living.member.node;
                let role = match place {
                    place if place.owner == Some(node) => Role::Owner,
                    place if place.standbys.contains(&node) => Role::Standby,
                    _ => continue,
                };
                living.held.push(Held {
                    partition,
                    role,
                    offset: Offset(100),
                    epoch: Epoch(1),
                });
            }
            let here = living.member.node;
            let unable = self.unable.iter().filter(|(node, _)| *node == here);
            living.held.extend(unable.map(|(_, partition)| Held {
                partition: Partition(*partition as u16),
                role: Role::Unable,
                offset: Offset(0),
                epoch: Epoch(0),
            }));
        }
    }

    /// One plan; false when there is none.
    fn step(&mut self) -> bool {
        self.roster.time.0 += 1;
        let Some(plan) = next_plan(&self.roster, &self.settings) else {
            return false;
        };
        assert_eq!(
            next_plan(&self.roster, &self.settings).as_ref(),
            Some(&plan)
        );
        assert_eq!(plan.number, self.roster.plan.number + 1);
        let layout = Layout::first(plan.places.len() as u16).unwrap();
        plan.check(layout).unwrap();
        let mut moved = 0;
        for (old, new) in self.roster.plan.places.iter().zip(&plan.places) {
            let named = new.owner.iter().chain(&new.standbys);
            for node in named {
                assert!(self.roster.living(*node).is_some(), "{node} has ended");
            }
            assert!(new.owner.is_some() && !new.reason.is_empty());
            let lived = old
                .owner
                .is_some_and(|owner| self.roster.living(owner).is_some());
            if lived && old.owner != new.owner {
                moved += 1;
                let owner = new.owner.unwrap();
                assert!(old.standbys.contains(&owner), "a move to a cold node");
                assert_eq!(new.since, self.roster.time);
            }
        }
        assert!(
            moved <= self.settings.moves_at_once || !self.unable.is_empty(),
            "{moved} moves at once"
        );
        self.planned += moved;
        self.roster.plan = plan;
        true
    }

    /// Until nothing changes any more.
    fn rest(&mut self) {
        self.planned = 0;
        for _ in 0..5000 {
            if !self.step() {
                return;
            }
            self.obey();
        }
        panic!("it does not come to rest: {:?}", self.roster.plan);
    }

    fn owned(&self, node: NodeId) -> usize {
        let places = self.roster.plan.places.iter();
        places.filter(|place| place.owner == Some(node)).count()
    }

    /// What must hold of every cluster at rest.
    fn check(&self) {
        let members = &self.roster.members;
        let all: u64 = members.iter().map(|l| u64::from(l.member.weight)).sum();
        if all == 0 {
            return;
        }
        let total = self.roster.plan.places.len() as u64;
        for living in members {
            let exact = total * u64::from(living.member.weight);
            let owned = self.owned(living.member.node) as u64;
            assert!(
                owned >= exact / all && owned <= exact.div_ceil(all),
                "{} owns {owned} of {total}, its share is {exact}/{all}",
                living.member.name
            );
        }
        let taking = members.iter().filter(|l| l.member.weight > 0);
        let taking: Vec<_> = taking.map(|living| &living.member).collect();
        for place in &self.roster.plan.places {
            let others = taking.iter().filter(|m| Some(m.node) != place.owner);
            assert_eq!(
                place.standbys.len(),
                others.count().min(self.settings.standbys)
            );
            let owner = &self.roster.living(place.owner.unwrap()).unwrap().member;
            let apart = taking.iter().filter(|m| m.zone != owner.zone).count();
            let zone = |node: &NodeId| &self.roster.living(*node).unwrap().member.zone;
            let standbys = place.standbys.iter();
            let are_apart = standbys.filter(|node| *zone(node) != owner.zone).count();
            assert_eq!(are_apart, apart.min(place.standbys.len()));
            assert!(!place.reason.starts_with(MOVES), "{}", place.reason);
        }
    }
}

#[derive(Clone, Debug)]
enum Change {
    Join(u8, u32),
    End(u8),
    Weigh(u8, u32),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (0..3_u8, 0..4_u32).prop_map(|(zone, weight)| Change::Join(zone, weight)),
        2 => any::<u8>().prop_map(Change::End),
        1 => (any::<u8>(), 0..4_u32).prop_map(|(node, weight)| Change::Weigh(node, weight)),
    ]
}

proptest! {
    #[test]
    fn every_cluster_comes_to_rest_in_balance(
        partitions in 1..40_u16,
        standbys in 0..3_usize,
        moves_at_once in 1..5_usize,
        changes in proptest::collection::vec((change(), 0..6_usize), 1..12),
    ) {
        let settings = Placement { standbys, moves_at_once, lag: 10 };
        let mut cluster = Cluster::new(partitions, settings);
        cluster.join("zone-0", 1);
        for (change, steps) in changes {
            let size = cluster.roster.members.len();
            match change {
                Change::Join(zone, weight) => {
                    cluster.join(&format!("zone-{zone}"), weight);
                }
                Change::End(index) if size > 1 => {
                    let node = cluster.roster.members[usize::from(index) % size].member.node;
                    cluster.end(node);
                }
                Change::End(_) => {}
                Change::Weigh(index, weight) => {
                    cluster.roster.members[usize::from(index) % size].member.weight = weight;
                }
            }
            // The next change may come before the plans have come to rest.
            for _ in 0..steps {
                cluster.step();
                cluster.obey();
            }
        }
        cluster.rest();
        cluster.check();
    }

    #[test]
    fn who_cannot_serve_a_partition_has_nothing_to_do_with_it(
        nodes in 1..5_usize,
        drains in any::<bool>(),
        unable in proptest::collection::vec((0..5_usize, 0..20_usize), 1..60),
    ) {
        let mut cluster = Cluster::new(20, Placement::default());
        let nodes: Vec<NodeId> = (0..nodes).map(|_| cluster.join("", 1)).collect();
        cluster.rest();
        cluster.unable = unable
            .into_iter()
            .filter_map(|(node, partition)| Some((*nodes.get(node)?, partition)))
            .collect();
        cluster.obey();
        cluster.rest();
        if drains && nodes.len() > 1 {
            cluster.roster.members[0].member.weight = 0;
            cluster.rest();
        }
        for (partition, place) in cluster.roster.plan.places.iter().enumerate() {
            let is_able = |node: &NodeId| !cluster.unable.contains(&(*node, partition));
            let takes = |node: &NodeId| cluster.roster.living(*node).unwrap().member.weight > 0;
            if !nodes.iter().any(is_able) {
                continue;
            }
            prop_assert!(is_able(&place.owner.unwrap()), "{place:?}");
            prop_assert!(place.standbys.iter().all(is_able), "{place:?}");
            if nodes.iter().any(|node| is_able(node) && takes(node)) {
                prop_assert!(takes(&place.owner.unwrap()), "{place:?}");
            }
        }
    }

    #[test]
    fn joining_and_leaving_move_no_more_than_the_share(
        partitions in 1..100_u16,
        nodes in 1..6_usize,
    ) {
        let mut cluster = Cluster::new(partitions, Placement::default());
        for _ in 0..nodes {
            cluster.join("", 1);
        }
        cluster.rest();
        prop_assert_eq!(cluster.planned, 0, "the first plan is balanced");
        let new = cluster.join("", 1);
        cluster.rest();
        cluster.check();
        prop_assert_eq!(cluster.planned, cluster.owned(new), "only what the new node gets moves");
        let before = cluster.roster.plan.clone();
        cluster.end(new);
        cluster.step();
        for (old, place) in before.places.iter().zip(&cluster.roster.plan.places) {
            prop_assert!(place.owner == old.owner || old.owner == Some(new));
        }
    }
}

fn three() -> (Cluster, [NodeId; 3]) {
    let mut cluster = Cluster::new(12, Placement::default());
    let nodes = [0; 3].map(|_| cluster.join("", 1));
    cluster.rest();
    (cluster, nodes)
}

#[test]
fn what_an_ended_node_owned_goes_to_the_standby_nearest_to_the_end() {
    let settings = Placement {
        standbys: 2,
        ..Placement::default()
    };
    let mut cluster = Cluster::new(4, settings);
    let nodes = [0; 3].map(|_| cluster.join("", 1));
    cluster.rest();
    let owner = cluster.place(0).owner.unwrap();
    let (behind, near) = (cluster.place(0).standbys[0], cluster.place(0).standbys[1]);
    for living in &mut cluster.roster.members {
        for held in &mut living.held {
            if living.member.node == behind && held.partition == Partition(0) {
                held.offset = Offset(99);
            }
        }
    }
    cluster.end(owner);
    assert!(cluster.step());
    let place = cluster.place(0);
    assert_eq!(place.owner, Some(near), "of {nodes:?}");
    assert_eq!(
        &*place.reason,
        format!("nearest to the log's end after node {owner} ended")
    );
}

#[test]
fn a_move_waits_until_the_standby_is_warm() {
    let (mut cluster, _) = three();
    let new = cluster.join("", 1);
    assert!(cluster.step());
    let waiting = |cluster: &Cluster| {
        let places = cluster.roster.plan.places.iter();
        let moving = places.filter(|place| place.reason.starts_with("moves to node-4"));
        moving.filter(|place| place.standbys.contains(&new)).count()
    };
    assert_eq!((waiting(&cluster), cluster.owned(new)), (3, 0));
    cluster.obey();
    // As far behind as a standby that has just begun.
    for held in &mut cluster.roster.members[3].held {
        held.offset = Offset(0);
    }
    cluster.settings.lag = 99;
    cluster.step();
    assert_eq!((waiting(&cluster), cluster.owned(new)), (3, 0));
    cluster.obey();
    cluster.rest();
    assert_eq!((waiting(&cluster), cluster.owned(new)), (0, 3));
}

#[test]
fn a_node_that_drains_ends_up_with_nothing() {
    let (mut cluster, [first, ..]) = three();
    cluster.roster.members[0].member.weight = 0;
    cluster.rest();
    cluster.check();
    let named = |place: &Place| place.owner == Some(first) || place.standbys.contains(&first);
    assert!(!cluster.roster.plan.places.iter().any(named));
    let mut reasons = cluster
        .roster
        .plan
        .places
        .iter()
        .map(|place| &*place.reason);
    assert!(reasons.any(|reason| reason == "moved here: node-1 drains"));
}

#[test]
fn where_everybody_drains_somebody_serves_all_the_same() {
    let (mut cluster, [first, ..]) = three();
    for living in &mut cluster.roster.members {
        living.member.weight = 0;
    }
    assert!(!cluster.step(), "nothing moves for its own sake");
    cluster.end(first);
    cluster.rest();
    let places = &cluster.roster.plan.places;
    assert!(places.iter().all(|place| place.owner != Some(first)));
}

#[test]
fn a_node_that_starts_again_under_its_name_ranks_as_before() {
    let (cluster, [first, ..]) = three();
    let ranks = |cluster: &Cluster| {
        let field = Field::of(&cluster.roster, &cluster.settings);
        let ranks = field.partitions().map(|at| field.score(at, 0));
        ranks.collect::<Vec<_>>()
    };
    let before = ranks(&cluster);
    let mut again = cluster;
    again.roster.members[0].member.node = NodeId(uuid7(Timestamp(9), 9, 9));
    assert_ne!(again.roster.members[0].member.node, first);
    assert_eq!(ranks(&again), before);
}
