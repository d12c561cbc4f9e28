//! What is known while a plan is made.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::Text;
use crate::coordination::placement::{MOVES, Placement};
use crate::coordination::{Living, NodeId, Plan, Role, Roster};
use crate::slot::Partition;

/// The roster, with nodes numbered as they joined, and the plan that grows from it.
pub(super) struct Field<'a> {
    pub(super) roster: &'a Roster,
    pub(super) settings: &'a Placement,
    /// By partition; only the living.
    pub(super) owners: Vec<Option<usize>>,
    /// By partition; only the living, in order of preference.
    pub(super) standbys: Vec<Vec<usize>>,
    /// Of places whose reason changes.
    pub(super) reasons: Vec<Option<Text>>,
    /// How many partitions each node owns in this plan.
    pub(super) owned: Vec<usize>,
    /// By partition: who is to own it once it is warm there.
    pub(super) next: Vec<Option<usize>>,
    weights: Vec<u64>,
    /// By partition and node: who can serve it; everybody where nobody can.
    able: Vec<Vec<bool>>,
    /// By partition and node.
    scores: Vec<Vec<f64>>,
}

impl<'a> Field<'a> {
    pub(super) fn of(roster: &'a Roster, settings: &'a Placement) -> Self {
        let members = &roster.members;
        let number = |node: NodeId| members.iter().position(|living| living.member.node == node);
        let places = &roster.plan.places;
        let owners: Vec<_> = places
            .iter()
            .map(|place| place.owner.and_then(number))
            .collect();
        let standbys = places.iter().map(|place| {
            let living = place.standbys.iter().copied().filter_map(number);
            living.collect()
        });
        let mut owned = vec![0; members.len()];
        for owner in owners.iter().flatten() {
            owned[*owner] += 1;
        }
        let mut weights: Vec<u64> = members
            .iter()
            .map(|living| u64::from(living.member.weight))
            .collect();
        if weights.iter().all(|weight| *weight == 0) {
            // Nobody wants anything; what has no owner goes to somebody all the same.
            weights.fill(1);
        }
        let scores = (0..places.len()).map(|partition| {
            let of = |(living, weight): (&Living, &u64)| {
                score(partition as u64, &living.member.name, *weight)
            };
            members.iter().zip(&weights).map(of).collect()
        });
        let able = (0..places.len()).map(|partition| {
            let can = |living: &Living| living.can_serve(Partition(partition as u16));
            let able: Vec<bool> = members.iter().map(can).collect();
            match able.contains(&true) {
                true => able,
                false => vec![true; members.len()],
            }
        });
        Self {
            roster,
            settings,
            standbys: standbys.collect(),
            reasons: vec![None; places.len()],
            next: vec![None; places.len()],
            able: able.collect(),
            scores: scores.collect(),
            owners,
            owned,
            weights,
        }
    }

    pub(super) fn partitions(&self) -> std::ops::Range<usize> {
        0..self.owners.len()
    }

    pub(super) fn nodes(&self) -> std::ops::Range<usize> {
        0..self.owned.len()
    }

    /// Whether any node wants partitions.
    pub(super) fn anybody_takes(&self) -> bool {
        let mut members = self.roster.members.iter();
        members.any(|living| living.member.weight > 0)
    }

    pub(super) fn takes(&self, node: usize) -> bool {
        self.weights[node] > 0
    }

    /// Whether a node can read what is in a partition.
    pub(super) fn is_able(&self, partition: usize, node: usize) -> bool {
        self.able[partition][node]
    }

    pub(super) fn name(&self, node: usize) -> &Text {
        &self.roster.members[node].member.name
    }

    pub(super) fn zone(&self, node: usize) -> &Text {
        &self.roster.members[node].member.zone
    }

    pub(super) fn score(&self, partition: usize, node: usize) -> f64 {
        self.scores[partition][node]
    }

    /// A node's weighted share of `total`, rounded down and up.
    pub(super) fn share(&self, node: usize, total: usize) -> (usize, usize) {
        let all: u64 = self.weights.iter().sum();
        let exact = total as u128 * u128::from(self.weights[node]);
        let down = exact / u128::from(all);
        let up = exact.div_ceil(u128::from(all));
        (down as usize, up as usize)
    }

    fn holds(&self, partition: usize, node: usize) -> Option<&crate::coordination::Held> {
        self.roster.members[node].holds(Partition(partition as u16))
    }

    /// Whether the owner in the last plan has said that it owns the partition.
    pub(super) fn is_settled(&self, partition: usize) -> bool {
        let planned = self.roster.plan.places[partition].owner;
        let Some(owner) = self.owners[partition] else {
            return false;
        };
        planned == Some(self.roster.members[owner].member.node)
            && (self.holds(partition, owner)).is_some_and(|held| held.role == Role::Owner)
    }

    /// Whether the node could take over at once.
    pub(super) fn is_warm(&self, partition: usize, node: usize) -> bool {
        let Some(here) = self.holds(partition, node) else {
            return false;
        };
        let owner = self.owners[partition].and_then(|owner| self.holds(partition, owner));
        owner.is_none_or(|owner| owner.offset.0.saturating_sub(here.offset.0) <= self.settings.lag)
    }

    /// Who has most of a partition; of those who drain only if there is nobody else.
    pub(super) fn warmest(&self, partition: usize) -> Option<usize> {
        let preference = |node: usize| {
            // Of equals the one that was named first.
            let named = self.standbys[partition].iter();
            let place = named.take_while(|standby| **standby != node).count();
            let held = self.holds(partition, node)?;
            self.is_able(partition, node).then_some(())?;
            Some((self.takes(node), held.offset, std::cmp::Reverse(place)))
        };
        let holding = self.nodes().filter(|node| preference(*node).is_some());
        holding.max_by_key(|node| preference(*node))
    }

    /// The highest-ranked node that has not got its share yet.
    pub(super) fn best_with_room(&self, partition: usize) -> usize {
        let total = self.owners.len();
        let floors: usize = self.nodes().map(|node| self.share(node, total).0).sum();
        let above = |node: usize| self.owned[node].saturating_sub(self.share(node, total).0);
        // So many nodes get one more than their share rounded down.
        let is_left = self.nodes().map(above).sum::<usize>() < total - floors;
        let has_room = |node: usize| {
            let (down, up) = self.share(node, total);
            self.owned[node] < down || (is_left && self.owned[node] < up)
        };
        let rank = |node: usize| {
            (
                (self.is_able(partition, node), self.takes(node)),
                has_room(node),
                self.score(partition, node),
            )
        };
        let best = self.nodes().max_by(|one, other| {
            let (one, other) = (rank(*one), rank(*other));
            (one.0, one.1)
                .cmp(&(other.0, other.1))
                .then(one.2.total_cmp(&other.2))
        });
        best.unwrap_or_default()
    }

    /// Makes a node the owner; it is no standby then.
    pub(super) fn give(&mut self, partition: usize, node: usize) {
        if let Some(former) = self.owners[partition].replace(node) {
            self.owned[former] -= 1;
        }
        self.owned[node] += 1;
        self.standbys[partition].retain(|standby| *standby != node);
    }

    /// The plan, if it is another one than the last.
    pub(super) fn plan(self) -> Option<Plan> {
        let old = &self.roster.plan;
        let node = |number: &usize| self.roster.members[*number].member.node;
        let mut places = old.places.clone();
        for (partition, place) in places.iter_mut().enumerate() {
            let owner = self.owners[partition].as_ref().map(node);
            place.standbys = self.standbys[partition].iter().map(node).collect();
            if place.owner != owner {
                place.owner = owner;
                place.since = self.roster.time;
            }
            if let Some(reason) = &self.reasons[partition] {
                place.reason = reason.clone();
            } else if self.next[partition].is_none() && place.reason.starts_with(MOVES) {
                place.reason = Text::from_static("stays: the move is not needed any more");
            }
        }
        (places != old.places).then(|| Plan {
            number: old.number + 1,
            places,
        })
    }
}

/// Weighted rendezvous: the node with the highest score gets the partition, and each node gets a part
/// in proportion to its weight. After Schindelhauer and Schomaker, "Weighted Distributed Hash Tables",
/// 2005.
fn score(partition: u64, name: &str, weight: u64) -> f64 {
    let hash = xxh3_64_with_seed(name.as_bytes(), partition);
    // 53 bits are what a fraction holds; never 0 and never 1.
    let fraction = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -(weight as f64) / fraction.ln()
}
