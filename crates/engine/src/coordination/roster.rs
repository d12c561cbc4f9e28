//! Who lives, and who is to own what.

use crate::Text;
use crate::Uuid;
use crate::coordination::{Held, Member, Role};
use crate::slot::{Layout, Partition};
use crate::time::Timestamp;
use crate::world::{World, new_id};

/// One process that has joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub Uuid);

impl NodeId {
    /// One that no other process has.
    pub fn draw(world: &dyn World) -> Self {
        Self(new_id(world))
    }
}

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A member whose lease has not run out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Living {
    /// What it says of itself, with the weight of its last beat.
    pub member: Member,
    /// What it said in its last beat.
    pub held: Vec<Held>,
    /// When it joined.
    pub joined: Timestamp,
    /// When it is gone, unless it beats before.
    pub lease_until: Timestamp,
}

impl Living {
    /// What it has of a partition.
    pub fn holds(&self, partition: Partition) -> Option<&Held> {
        let mut held = self.held.iter();
        held.find(|held| held.partition == partition && held.role != Role::Unable)
    }

    /// Whether it can serve a partition, as far as it knows.
    pub fn can_serve(&self, partition: Partition) -> bool {
        let mut held = self.held.iter();
        !held.any(|held| held.partition == partition && held.role == Role::Unable)
    }
}

/// Where a partition should be, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Who serves it; it may have ended since.
    pub owner: Option<NodeId>,
    /// Who keeps its state warm, the owner not among them.
    pub standbys: Vec<NodeId>,
    /// When it was placed so.
    pub since: Timestamp,
    /// For people.
    pub reason: Text,
}

/// Where all partitions should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Grows by one with every plan; 0 before the first one.
    pub number: u64,
    /// By partition.
    pub places: Vec<Place>,
}

impl Plan {
    /// What holds before anybody has planned.
    pub fn unplaced(layout: Layout) -> Self {
        let place = |_| Place {
            owner: None,
            standbys: Vec::new(),
            since: Timestamp::default(),
            reason: Text::from_static("not placed yet"),
        };
        Self {
            number: 0,
            places: layout.all().map(place).collect(),
        }
    }

    /// Where a partition should be.
    pub fn place(&self, partition: Partition) -> Option<&Place> {
        self.places.get(partition.index())
    }

    /// Places and their partitions, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Partition, &Place)> {
        (0_u16..).map(Partition).zip(&self.places)
    }

    /// Whether it can be a plan of a log of this layout: a place for each partition, and nobody twice
    /// at one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, layout: Layout) -> Result<(), String> {
        if self.places.len() != usize::from(layout.partitions) {
            let (places, partitions) = (self.places.len(), layout.partitions);
            return Err(format!("{places} places for {partitions} partitions"));
        }
        for (partition, place) in self.iter() {
            let others = place.standbys.iter().enumerate();
            for (index, standby) in others {
                if place.owner == Some(*standby) || place.standbys[..index].contains(standby) {
                    return Err(format!("partition {partition} names node {standby} twice"));
                }
            }
        }
        Ok(())
    }
}

/// What a store knows of the nodes that share a log, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    /// The living, by the store's clock, in the order in which they joined.
    pub members: Vec<Living>,
    /// The last plan that was stored.
    pub plan: Plan,
    /// Which of the living makes the next plan.
    pub assigner: Option<NodeId>,
    /// The store's clock.
    pub time: Timestamp,
}

impl Roster {
    /// A living member.
    pub fn living(&self, node: NodeId) -> Option<&Living> {
        self.members
            .iter()
            .find(|living| living.member.node == node)
    }

    /// The living owner of a partition.
    pub fn owner(&self, partition: Partition) -> Option<&Living> {
        self.living(self.plan.place(partition)?.owner?)
    }
}
