//! Who has what.

use everfold_engine::coordination::NodeId;
use everfold_engine::slot::Partition;

use crate::owner::Router;
use crate::remote::Duty;

/// Who has the entities of a partition, as far as it is known where it is asked: the answer may be
/// out of date by the time it is read. Rows of views are on every node that runs the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The partition.
    pub partition: Partition,
    /// Who decides commands for them, and answers questions.
    pub owner: Holder,
    /// The nodes that keep their state warm.
    pub standbys: Vec<NodeId>,
}

/// Where a partition is owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// On the node that was asked.
    Here,
    /// On another one.
    Node(NodeId),
    /// Nowhere at the moment; work for it waits.
    Nobody,
}

impl Placed {
    pub(crate) fn of(router: &Router, partition: Partition) -> Self {
        let Some(remote) = router.remote() else {
            return Self {
                partition,
                owner: Holder::Here,
                standbys: Vec::new(),
            };
        };
        let plan = remote.membership.plan.borrow().clone();
        let place = plan.place(partition);
        let owner = match place.and_then(|place| place.owner) {
            _ if remote.duty(partition) == Duty::Own => Holder::Here,
            Some(owner) => Holder::Node(owner),
            None => Holder::Nobody,
        };
        Self {
            partition,
            owner,
            standbys: place.map_or_else(Vec::new, |place| place.standbys.clone()),
        }
    }

    pub(crate) fn all(router: &Router) -> Vec<Self> {
        let all = router.layout().all();
        all.map(|partition| Self::of(router, partition)).collect()
    }
}
