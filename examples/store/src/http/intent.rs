//! Who wants something done, and whether it is asked for again.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use everfold::Sending;
use everfold::engine::{Position, Timestamp, Uuid, uuid7, world};

use super::Shop;
use super::failure::Failure;
use super::read::position;
use super::received::text;

/// What a write carries beside its body.
pub(super) struct Intent {
    /// Makes repeats recognisable.
    command: Option<Uuid>,
    principal: String,
    /// What the client has seen before.
    token: Option<Position>,
    /// For what the write creates: a repeat creates the same.
    pub(super) new_id: String,
}

/// The longest key or principal.
const LONGEST: usize = 256;

impl FromRequestParts<Arc<Shop>> for Intent {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, shop: &Arc<Shop>) -> Result<Self, Failure> {
        let world = shop.node.world();
        let principal = text(parts, "x-principal")?.unwrap_or_default().to_owned();
        let key = text(parts, "idempotency-key")?;
        let token = text(parts, super::shown::POSITION)?;
        let token = token.map(|token| position(shop, token)).transpose()?;
        for (name, value) in [
            ("X-Principal", Some(principal.as_str())),
            ("Idempotency-Key", key),
        ] {
            if value.is_some_and(|value| value.len() > LONGEST) {
                let message = format!("the header {name} may hold {LONGEST} bytes at most");
                return Err(Failure::bad_request(message));
            }
        }
        let uuid = key.and_then(|key| Uuid::parse_str(key).ok());
        let (command, new_id) = match (key, uuid) {
            (None, _) => (None, world::new_id(&**world)),
            (_, Some(uuid)) if uuid.get_version_num() == 7 => (Some(uuid), uuid),
            (Some(key), _) => {
                let path = parts.uri.path();
                let digest = digest(&[principal.as_str(), parts.method.as_str(), path, key]);
                (
                    Some(of_today(world.now(), digest)),
                    uuid7_of(Timestamp(0), digest),
                )
            }
        };
        Ok(Self {
            command,
            principal,
            token,
            new_id: new_id.to_string(),
        })
    }
}

fn digest(parts: &[&str]) -> (u64, u64) {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    let both = u128::from_le_bytes(bytes);
    ((both >> 64) as u64, both as u64)
}

fn uuid7_of(moment: Timestamp, (high, low): (u64, u64)) -> Uuid {
    uuid7(moment, high, low)
}

/// The same for the same text until midnight, and never too old to be looked up.
fn of_today(now: Timestamp, digest: (u64, u64)) -> Uuid {
    let (year, month, day) = now.date();
    uuid7_of(Timestamp::from_date(year, month, day), digest)
}

impl Intent {
    /// The token of the answer: the write, and what the client had seen before it.
    pub(super) fn seen(&self, written: &Position) -> Result<Position, Failure> {
        let written = written.clone();
        match &self.token {
            None => Ok(written),
            Some(token) => written
                .join(token)
                .map_err(|error| Failure::bad_request(error.to_string())),
        }
    }

    /// The command as this request means it.
    pub(super) fn dress<W>(&self, sending: Sending<W>) -> Sending<W> {
        let sending = sending.by(self.principal.as_str());
        match self.command {
            Some(id) => sending.id(id),
            None => sending,
        }
    }
}
