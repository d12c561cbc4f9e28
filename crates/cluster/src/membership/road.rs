//! The way to other members, by address.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use everfold_engine::Bytes;
use everfold_engine::coordination::NodeId;
use everfold_engine::engine::BoxFuture;
use everfold_runtime::PeerError;

use super::messages::Message;
use super::{ClusterError, Shared};
use crate::transport::{CallError, Peers};

/// Carries messages to addresses, and answers back.
pub trait Road: Send + Sync + 'static {
    /// Has whoever is at `address` answer.
    fn call(
        &self,
        address: &str,
        message: Bytes,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>>;
}

impl Road for Peers {
    fn call(
        &self,
        address: &str,
        message: Bytes,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let (peers, address) = (self.clone(), address.to_owned());
        Box::pin(async move { Peers::call(&peers, &address, message, patience).await })
    }
}

/// How long the way to oneself may take.
const SELF_CALL: Duration = Duration::from_secs(3);

/// Finds nodes by what the roster says of them.
pub(super) struct Directory(pub(super) Arc<Shared>);

impl everfold_runtime::Peers for Directory {
    fn ask(
        &self,
        node: NodeId,
        request: Bytes,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let roster = self.0.roster.borrow().clone();
        let living = roster.members.iter().find(|it| it.member.node == node);
        let Some(living) = living else {
            let gone = "it is no member any more".to_owned();
            return Box::pin(async { Err(PeerError::Unreachable(gone)) });
        };
        let message = Message::Work(request).encode();
        let call = self.0.road.call(&living.member.address, message, patience);
        Box::pin(async move { call.await.map_err(to_peer_error) })
    }
}

pub(crate) fn to_peer_error(error: CallError) -> PeerError {
    match error {
        CallError::Overloaded { retry_after, .. } => PeerError::Overloaded { retry_after },
        error if error.may_be_done() => PeerError::Lost(error.to_string()),
        error => PeerError::Unreachable(error.to_string()),
    }
}

impl Shared {
    /// Makes sure that the address that peers are told leads here. Without one it is where the node
    /// listens.
    pub(super) async fn check_address(&self, bound: SocketAddr) -> Result<(), ClusterError> {
        let address = self.address_on(bound);
        let fault = |reason: String| ClusterError::Address {
            address: address.clone(),
            reason,
        };
        let message = Message::WhoIsThere.encode();
        let answer = self.road.call(&address, message, SELF_CALL).await;
        let answer = answer.map_err(|error| fault(error.to_string()))?;
        match *answer == *self.id.0.as_bytes() {
            true => {
                let _ = self.address.set(address.into());
                Ok(())
            }
            false => Err(fault("another node answers there".to_owned())),
        }
    }

    fn address_on(&self, bound: SocketAddr) -> String {
        match self.settings.address.is_empty() {
            true => bound.to_string(),
            false => self.settings.address.to_string(),
        }
    }
}
