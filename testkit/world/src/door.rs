//! Where entities are asked: at a node, or from outside of all nodes.

use std::sync::Arc;

use everfold::{Entity, EntityRef, Node, TogetherRef};

/// Where a client asks.
#[derive(Clone)]
pub(crate) enum Door {
    /// At a node, which passes on what is not its own.
    Node(Arc<Node>),
    /// Where the owner is believed to be.
    Outside(Arc<everfold_cluster::Client>),
}

impl Door {
    pub(crate) fn entity<E: Entity>(&self, id: E::Id) -> EntityRef<'_, E> {
        match self {
            Self::Node(node) => node.entity(id),
            Self::Outside(client) => client.entity(id),
        }
    }

    pub(crate) fn together(&self) -> TogetherRef<'_> {
        match self {
            Self::Node(node) => node.together(),
            Self::Outside(client) => client.together(),
        }
    }
}
