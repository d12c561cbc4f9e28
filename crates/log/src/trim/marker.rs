//! Says that history was trimmed, and where what is left begins.

use everfold_engine::position::Incarnation;
use everfold_engine::record::wire::{Reader, Writer};

use crate::disk::{self, Access, Disk};
use crate::error::{Damage, OpenError};
use crate::segment::PartitionStart;

/// The file that says so.
pub(crate) const MARKER: &str = "trimmed";
/// The file while it is written.
pub(crate) const TRIMMING: &str = "trimming";
const MAGIC: [u8; 8] = *b"EVERTRIM";
const FORMAT: u32 = 1;
const PREFIX: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) incarnation: Incarnation,
    /// The first segment that is left.
    pub(crate) first: u64,
    /// What every partition had before it.
    pub(crate) starts: Vec<PartitionStart>,
}

impl Marker {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.put_u128(self.incarnation.0);
        body.put_u64(self.first);
        body.put_u32(self.starts.len() as u32);
        self.starts.iter().for_each(|start| start.encode(&mut body));
        let mut bytes = MAGIC.to_vec();
        bytes.put_u32(FORMAT);
        bytes.put_u32(crc32fast::hash(&body));
        bytes.append(&mut body);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (prefix, body) = bytes.split_at_checked(PREFIX)?;
        let mut reader = Reader::new(prefix);
        let known = reader.take(8).ok()? == MAGIC && reader.u32().ok()? == FORMAT;
        if !known || reader.u32().ok()? != crc32fast::hash(body) {
            return None;
        }
        let mut reader = Reader::new(body);
        let (incarnation, first) = (Incarnation(reader.u128().ok()?), reader.u64().ok()?);
        let starts = (0..reader.u32().ok()?)
            .map(|_| PartitionStart::decode(&mut reader))
            .collect::<Option<_>>()?;
        reader.is_empty().then_some(Self {
            incarnation,
            first,
            starts,
        })
    }

    /// Writes the marker, durably.
    pub(crate) fn write(&self, disk: &dyn Disk) -> Result<(), OpenError> {
        disk::replace(disk, TRIMMING, MARKER, &self.encode()).map_err(OpenError::io(MARKER))
    }

    /// Reads the marker of a directory that has one.
    pub(crate) fn read(disk: &dyn Disk) -> Result<Self, OpenError> {
        let read = || {
            let file = disk.open(MARKER, Access::Read)?;
            let mut bytes = vec![0; file.len()? as usize];
            file.read_at(0, &mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().map_err(OpenError::io(MARKER))?;
        Self::decode(&bytes).ok_or_else(|| {
            OpenError::Damaged(Damage {
                passing: false,
                file: MARKER.into(),
                at: 0,
                expected: "where trimmed history ends".into(),
                found: "bytes that cannot be read".into(),
            })
        })
    }
}
