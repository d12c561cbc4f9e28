//! What a member answers to its peers and to clients.

use std::sync::{Arc, Weak};

use everfold_engine::Bytes;
use everfold_engine::engine::BoxFuture;
use everfold_runtime::Node;

use super::{HELD, Map, MapNode, Message, Shared};
use crate::authority::{Kind, PeerName};
use crate::transport::Answers;

/// What listens to the network.
pub(super) struct Face(pub(super) Arc<Shared>);

impl Answers for Face {
    fn answer(&self, from: &PeerName, request: Bytes) -> BoxFuture<'static, Bytes> {
        self.0.clone().answer(from, request)
    }
}

impl Shared {
    pub(super) fn answer(
        self: Arc<Self>,
        from: &PeerName,
        request: Bytes,
    ) -> BoxFuture<'static, Bytes> {
        match Message::decode(request) {
            Some(Message::Work(work)) => {
                let node = self.node.borrow().as_ref().and_then(Weak::upgrade);
                if let Some(node) = node {
                    return node.answer(&work);
                }
                Box::pin(async move {
                    match self.opened().await {
                        Some(node) => node.answer(&work).await,
                        None => Bytes::new(),
                    }
                })
            }
            Some(Message::WhoIsThere) => {
                let id = Bytes::copy_from_slice(self.id.0.as_bytes());
                Box::pin(async move { id })
            }
            Some(Message::Planned) => {
                if from.kind == Kind::Node {
                    self.nudge.notify_one();
                }
                Box::pin(async { Bytes::new() })
            }
            Some(Message::WhereIsWhat(known)) => Box::pin(async move {
                if let Some(known) = known {
                    self.plan_after(known).await;
                }
                self.map().encode()
            }),
            None => Box::pin(async { Bytes::new() }),
        }
    }

    /// Work may come before the node is open.
    async fn opened(&self) -> Option<Arc<Node>> {
        let mut node = self.node.subscribe();
        let opened = node.wait_for(Option::is_some).await.ok()?;
        opened.as_ref().and_then(Weak::upgrade)
    }

    /// Waits for a plan with a higher number, but not for long.
    async fn plan_after(&self, known: u64) {
        let mut plan = self.plan.subscribe();
        tokio::select! { biased;
            _ = plan.wait_for(|plan| plan.number > known) => {}
            () = self.world.sleep(HELD) => {}
        }
    }

    fn map(&self) -> Map {
        let roster = self.roster.borrow().clone();
        let nodes = roster.members.iter().map(|living| MapNode {
            id: living.member.node.0.as_u128(),
            name: living.member.name.to_string(),
            address: living.member.address.to_string(),
        });
        let place_of = |owner| {
            let place = roster.members.iter().position(|it| it.member.node == owner);
            place.and_then(|place| u16::try_from(place).ok())
        };
        let plan = self.plan.borrow().clone();
        let owners = plan.places.iter().map(|it| it.owner.and_then(place_of));
        let (start, layout) = &self.log;
        Map {
            start: start.to_string(),
            layout: layout.number,
            partitions: layout.partitions,
            plan: plan.number,
            owners: owners.collect(),
            nodes: nodes.collect(),
        }
    }
}
