//! Which node should own what: a pure function of the roster.
//!
//! Placement is *sticky*: a partition stays where it is while its owner lives and has no more than its
//! share. Where something has to be chosen, a weighted rendezvous of partition and node name ranks the
//! nodes, so that a node that comes back under its name finds its own again. Moves are made warm: the
//! next owner is a standby first.

mod balance;
mod field;
mod standby;

use crate::Text;
use crate::coordination::{Plan, Roster};
use field::Field;

/// How partitions are placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// How many nodes beside the owner keep a partition's state warm (1), if there are as many.
    pub standbys: usize,
    /// How many partitions are on their way to another owner at once (4), where the one they have
    /// still lives. What an ended node has left is placed at once.
    pub moves_at_once: usize,
    /// A standby that is behind its owner by more offsets than this (1,000) is not warm yet.
    pub lag: u64,
}

impl Default for Placement {
    fn default() -> Self {
        Self {
            standbys: 1,
            moves_at_once: 4,
            lag: 1000,
        }
    }
}

/// Begins the reason of a place that a move is prepared for.
const MOVES: &str = "moves to ";

/// The plan that follows the one in the roster; `None` while that one is right, or nobody lives.
///
/// Called again with every beat, it comes to rest after finitely many plans: owners hold their weighted
/// share, rounded down or up, and standbys are in other zones where there are any.
///
/// ```
/// use everfold_engine::coordination::{Plan, Roster, placement::{Placement, next_plan}};
/// use everfold_engine::{Layout, Timestamp};
///
/// let nobody = Roster {
///     members: Vec::new(),
///     plan: Plan::unplaced(Layout::first(16).unwrap()),
///     assigner: None,
///     time: Timestamp(0),
/// };
/// assert_eq!(next_plan(&nobody, &Placement::default()), None);
/// ```
pub fn next_plan(roster: &Roster, settings: &Placement) -> Option<Plan> {
    if roster.members.is_empty() {
        return None;
    }
    let mut field = Field::of(roster, settings);
    let placed = place_what_has_no_owner(&mut field);
    if field.anybody_takes() {
        // First things first: nothing else moves while partitions are without an owner.
        let moves = if placed { 0 } else { settings.moves_at_once };
        balance::move_from_unable(&mut field);
        balance::move_owners(&mut field, moves);
        standby::place(&mut field);
    }
    field.plan()
}

/// To whoever is nearest to the log's end; where nobody has anything of it, by rank. Whether
/// there was any.
fn place_what_has_no_owner(field: &mut Field<'_>) -> bool {
    let has_none = |partition: &usize| field.owners[*partition].is_none();
    let ownerless: Vec<usize> = field.partitions().filter(has_none).collect();
    for &partition in &ownerless {
        let warmest = field.warmest(partition);
        let taker = warmest.unwrap_or_else(|| field.best_with_room(partition));
        let former = field.roster.plan.places[partition].owner;
        let how = match warmest {
            Some(_) => "nearest to the log's end",
            None => "highest rank",
        };
        let reason = match former {
            Some(former) => format!("{how} after node {former} ended"),
            None => how.to_owned(),
        };
        field.give(partition, taker);
        field.reasons[partition] = Some(Text::from(reason));
    }
    !ownerless.is_empty()
}

#[cfg(test)]
mod tests;
