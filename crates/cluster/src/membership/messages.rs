//! What members and clients say to each other, beside the work itself. New tags come last.

use std::time::Duration;

use everfold_engine::Bytes;
use serde::{Deserialize, Serialize};

/// How long a node holds the question where everything is back while nothing has changed.
pub(crate) const HELD: Duration = Duration::from_millis(500);

/// A message; its first byte says which.
pub(crate) enum Message {
    /// For the runtime.
    Work(Bytes),
    /// Answered with the node's id.
    WhoIsThere,
    /// The plan has changed; answered with nothing.
    Planned,
    /// Answered with a [`Map`]: with a plan after the one of this number as soon as there is one, and
    /// with what there is after [`HELD`]. Without a number at once.
    WhereIsWhat(Option<u64>),
}

impl Message {
    pub(crate) fn encode(&self) -> Bytes {
        let number;
        let (tag, body): (u8, &[u8]) = match self {
            Self::Work(body) => (0, body),
            Self::WhoIsThere => (1, &[]),
            Self::Planned => (2, &[]),
            Self::WhereIsWhat(None) => (3, &[]),
            Self::WhereIsWhat(Some(known)) => {
                number = known.to_le_bytes();
                (3, &number)
            }
        };
        let mut bytes = Vec::with_capacity(1 + body.len());
        bytes.push(tag);
        bytes.extend_from_slice(body);
        bytes.into()
    }

    /// Nothing if it is of a later build, or none of ours.
    pub(crate) fn decode(mut bytes: Bytes) -> Option<Self> {
        if bytes.is_empty() {
            return None;
        }
        match bytes.split_to(1)[0] {
            0 => Some(Self::Work(bytes)),
            1 => Some(Self::WhoIsThere),
            2 => Some(Self::Planned),
            3 => {
                let known = bytes.first_chunk::<8>();
                Some(Self::WhereIsWhat(known.map(|it| u64::from_le_bytes(*it))))
            }
            _ => None,
        }
    }
}

/// Who owns what, for clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Map {
    /// The log's beginning, as a token.
    pub(crate) start: String,
    pub(crate) layout: u32,
    pub(crate) partitions: u16,
    pub(crate) plan: u64,
    /// By partition: the place of its owner in `nodes`.
    pub(crate) owners: Vec<Option<u16>>,
    pub(crate) nodes: Vec<MapNode>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MapNode {
    pub(crate) id: u128,
    pub(crate) name: String,
    pub(crate) address: String,
}

impl Map {
    pub(crate) fn encode(&self) -> Bytes {
        postcard::to_allocvec(self).unwrap_or_default().into()
    }
}

pub(crate) fn decode_map(bytes: &[u8]) -> Option<Map> {
    postcard::from_bytes(bytes).ok()
}
