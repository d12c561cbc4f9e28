//! A node that serves a log without others, and says so to those who might come.

use std::sync::Arc;
use std::time::Duration;

use everfold_engine::coordination::{
    Beat, CoordinationError, Coordinator, JoinError, Member, NodeId,
};
use everfold_engine::engine::Engine;
use everfold_engine::{Text, World};
use tokio::sync::watch;

use super::ClusterError;

/// Stands for a cluster where there is none; no name of a cluster and an authority looks like it.
pub(super) const ALONE: &str = "no cluster: one node alone";
const LEASE: Duration = Duration::from_secs(2);
const BEAT: Duration = Duration::from_millis(500);

/// A node alone on a log that others could share: while this lives, no cluster's nodes join.
pub struct Alone {
    node: NodeId,
    coordinator: Arc<dyn Coordinator>,
    stop: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
}

impl Alone {
    /// Says that this process serves the log alone, before it claims anything; nothing where the engine is
    /// one process's anyway. `address` is where people find it.
    ///
    /// A process that was killed is believed to live for two more seconds, which this waits for.
    ///
    /// # Errors
    /// [`ClusterError::Alone`], [`ClusterError::Join`]: somebody else serves the log.
    pub async fn register(
        application: &str,
        engine: &Arc<dyn Engine>,
        world: &Arc<dyn World>,
        address: &str,
    ) -> Result<Option<Self>, ClusterError> {
        let Some(coordinator) = engine.coordinator() else {
            return Ok(None);
        };
        let node = NodeId::draw(world.as_ref());
        let member = Member {
            node,
            name: "alone".into(),
            cluster: ALONE.into(),
            application: application.into(),
            address: address.into(),
            zone: Text::new(),
            weight: 1,
            build: Text::from_static(env!("CARGO_PKG_VERSION")),
            layout: engine.identity().layout,
        };
        let patience = world.elapsed() + LEASE + 2 * BEAT;
        loop {
            match coordinator.join(member.clone(), LEASE).await {
                Ok(_) => break,
                Err(JoinError::NameTaken { .. }) if world.elapsed() < patience => {
                    world.sleep(BEAT).await;
                }
                Err(JoinError::NameTaken { address, .. }) => {
                    return Err(ClusterError::Alone { address });
                }
                Err(error) => return Err(error.into()),
            }
        }
        let (stop, stopped) = watch::channel(false);
        let (ending, ended) = watch::channel(false);
        let beating = beat(coordinator.clone(), world.clone(), member, stopped);
        let task = async move {
            beating.await;
            ending.send_replace(true);
        };
        world.spawn("beat of one alone", Box::pin(task));
        Ok(Some(Self {
            node,
            coordinator,
            stop,
            ended,
        }))
    }

    /// Others may come.
    pub async fn leave(mut self) {
        self.stop.send_replace(true);
        let _ = self.ended.wait_for(|ended| *ended).await;
        let _ = self.coordinator.leave(self.node).await;
    }
}

async fn beat(
    coordinator: Arc<dyn Coordinator>,
    world: Arc<dyn World>,
    member: Member,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let beat = Beat {
            weight: member.weight,
            held: Vec::new(),
            lease: LEASE,
        };
        if let Err(CoordinationError::Expired) = coordinator.beat(member.node, beat).await {
            // Whoever has come meanwhile fences this one, which learns of it by its next append.
            let _ = coordinator.join(member.clone(), LEASE).await;
        }
        tokio::select! { biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = world.sleep(BEAT) => {}
        }
    }
}
