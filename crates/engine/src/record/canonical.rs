//! The digest of a record and the local hash chain.

use crate::record::wire::Writer;
use crate::record::{Dot, Kind, Origin, Portable};

/// BLAKE3 of the canonical portable part without payload and metadata, and of the BLAKE3 of payload
/// and metadata as stored. Stays true when the keys of a subject are deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

/// One link of a partition's hash chain: `BLAKE3(previous link, kind, version, digest)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Link(pub [u8; 32]);

impl Digest {
    /// The digest of a portable part.
    pub fn of(portable: &Portable) -> Self {
        let mut body = blake3::Hasher::new();
        body.update(&(portable.metadata.len() as u64).to_le_bytes());
        body.update(&portable.metadata);
        body.update(&portable.payload);
        let mut head = Vec::with_capacity(320);
        put_head(&mut head, portable);
        head.extend_from_slice(body.finalize().as_bytes());
        Self(*blake3::hash(&head).as_bytes())
    }
}

impl Link {
    /// The link of the record that follows.
    #[must_use]
    pub fn next(self, kind: Kind, version: u64, digest: Digest) -> Self {
        let mut bytes = [0u8; 73];
        bytes[..32].copy_from_slice(&self.0);
        bytes[32] = kind as u8;
        bytes[33..41].copy_from_slice(&version.to_le_bytes());
        bytes[41..].copy_from_slice(&digest.0);
        Self(*blake3::hash(&bytes).as_bytes())
    }
}

impl std::fmt::Display for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Link(self.0).fmt(f)
    }
}

/// Every field in the order of the format document, each in full: this encoding is for hashing and
/// never compressed.
fn put_head(out: &mut Vec<u8>, portable: &Portable) {
    out.put_u8(1);
    out.put_u128(portable.event_id.as_u128());
    out.put_u8(u8::from(portable.dot.is_some()));
    if let Some(dot) = &portable.dot {
        put_dot(out, dot);
    }
    out.put_varint(portable.context.len() as u64);
    for (origin, counter) in &portable.context {
        put_origin(out, origin);
        out.put_varint(*counter);
    }
    out.put_varint(portable.causes.len() as u64);
    for dot in &portable.causes {
        put_dot(out, dot);
    }
    out.put_text(&portable.entity.tenant);
    out.put_text(&portable.entity.kind);
    out.put_text(&portable.entity.id);
    out.put_text(&portable.event_type);
    out.put_varint(u64::from(portable.schema_version));
    out.put_signed(portable.effective.0);
    out.put_u64(portable.hybrid.0);
    for id in [portable.causation, portable.correlation, portable.command] {
        out.put_u8(u8::from(id.is_some()));
        out.put_u128(id.unwrap_or_default().as_u128());
    }
    out.put_varint(u64::from(portable.unit.index));
    out.put_varint(u64::from(portable.unit.count));
    out.put_varint(u64::from(portable.hops));
    out.put_text(&portable.principal);
    out.put_text(&portable.trace);
    out.put_varint(portable.labels.len() as u64);
    for (name, value) in &portable.labels {
        out.put_text(name);
        out.put_text(value);
    }
    out.put_text(&portable.subject_key);
    out.put_text(&portable.content_type);
}

fn put_origin(out: &mut Vec<u8>, origin: &Origin) {
    out.put_text(&origin.site);
    out.put_u128(origin.incarnation.0);
    out.put_varint(u64::from(origin.layout));
}

fn put_dot(out: &mut Vec<u8>, dot: &Dot) {
    put_origin(out, &dot.origin);
    out.put_varint(u64::from(dot.partition.0));
    out.put_varint(dot.counter);
}
