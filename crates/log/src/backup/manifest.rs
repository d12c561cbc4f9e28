//! What a backup consists of, as a file.

use everfold_engine::Text;
use everfold_engine::engine::Identity;
use everfold_engine::position::Incarnation;
use everfold_engine::record::wire::{Reader, Writer};
use everfold_engine::slot::Layout;

use super::{BackupError, read_pieces};
use crate::disk::{self, Access, Disk};
use crate::error::Damage;
use crate::open::MANIFEST;
use crate::segment::PartitionStart;
use crate::segments::Form;

const MAGIC: [u8; 8] = *b"EVERBACK";
/// The format that this version writes, and the newest it reads.
const FORMAT: u32 = 1;
/// Magic, format, zero.
const PREFIX: usize = 16;
const HASH: usize = 32;
/// The manifest while it is written.
const NEW: &str = "backup.manifest.new";
/// What the names of copies end with: no log is opened by accident where they lie.
pub(super) const SUFFIX: &str = ".copy";

/// One segment in a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) generation: u64,
    pub(super) form: Form,
    /// Where the frames end, of a segment that was still being written; 0 otherwise.
    pub(super) part: u64,
    /// The file.
    pub(super) name: String,
    pub(super) length: u64,
    /// BLAKE3 of the file.
    pub(super) hash: [u8; HASH],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) identity: Identity,
    /// How many backups were made into the directory.
    pub(super) number: u64,
    /// In order, the one that was being written last.
    pub(super) segments: Vec<Stored>,
    /// Where every partition ends.
    pub(super) ends: Vec<PartitionStart>,
}

impl Stored {
    /// The name of a full segment's copy, with the number of its backup if that takes one to be new.
    pub(super) fn full_name(generation: u64, form: Form, number: Option<u64>) -> String {
        let name = crate::verify::file_name(generation, form);
        match number {
            None => format!("{name}{SUFFIX}"),
            Some(number) => format!("{name}-again-{number}{SUFFIX}"),
        }
    }

    /// The name of the copy of a segment that is still being written.
    pub(super) fn part_name(generation: u64, end: u64) -> String {
        format!("{}-{end:012}{SUFFIX}", crate::segment::name(generation))
    }

    /// Reads the file and compares it with what was written; `each` gets its bytes.
    pub(super) fn check(
        &self,
        disk: &dyn Disk,
        each: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<(), Damage> {
        let damage = |expected: &str, found: String| Damage {
            passing: false,
            file: self.name.clone(),
            at: 0,
            expected: expected.to_owned(),
            found,
        };
        let mut hasher = blake3::Hasher::new();
        let length = disk
            .open(&self.name, Access::Read)
            .and_then(|file| file.len())
            .map_err(|error| damage("a file of the backup", error.to_string()))?;
        if length != self.length {
            let expected = format!("a file of {} bytes", self.length);
            return Err(damage(&expected, format!("{length} bytes")));
        }
        read_pieces(disk, &self.name, length, &mut |_, bytes| {
            hasher.update(bytes);
            each(bytes)
        })
        .map_err(|error| damage("bytes that can be copied", error.to_string()))?;
        if *hasher.finalize().as_bytes() != self.hash {
            return Err(damage("the bytes that were backed up", "others".into()));
        }
        Ok(())
    }
}

impl Manifest {
    /// The bytes of all its files.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|stored| stored.length).sum()
    }

    pub(super) fn wrong(&self, expected: &str, found: &str) -> Damage {
        damage(expected, found)
    }

    /// The manifest of a backup, if there is one.
    pub(super) fn read(disk: &dyn Disk) -> Result<Option<Self>, BackupError> {
        let names = disk.list();
        let names = names.map_err(BackupError::io(&disk.description().path))?;
        if !names.iter().any(|name| name == MANIFEST) {
            return Ok(None);
        }
        let read = || {
            let file = disk.open(MANIFEST, Access::Read)?;
            let mut bytes = vec![0; file.len()? as usize];
            file.read_at(0, &mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().map_err(BackupError::io(MANIFEST))?;
        if bytes.len() < PREFIX + HASH || bytes[..8] != MAGIC {
            return Err(BackupError::Damaged(damage("a manifest", "something else")));
        }
        let found = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        if found > FORMAT {
            return Err(BackupError::Newer {
                file: MANIFEST.into(),
                found,
                known: FORMAT,
            });
        }
        let (body, hash) = bytes.split_at(bytes.len() - HASH);
        if blake3::hash(body).as_bytes() != hash {
            let wrong = damage("a manifest", "one whose checksum is wrong");
            return Err(BackupError::Damaged(wrong));
        }
        let manifest = Self::decode(&body[PREFIX..]);
        let unreadable = || BackupError::Damaged(damage("a manifest", "one that cannot be read"));
        manifest.map(Some).ok_or_else(unreadable)
    }

    /// Puts it in the place of the one before, durably.
    pub(super) fn write(&self, disk: &dyn Disk) -> Result<(), BackupError> {
        disk::replace(disk, NEW, MANIFEST, &self.encode()).map_err(BackupError::io(MANIFEST))
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.put_u32(FORMAT);
        bytes.put_u32(0);
        let identity = &self.identity;
        bytes.put_u128(identity.incarnation.0);
        bytes.put_u32(identity.layout.number);
        bytes.put_u32(u32::from(identity.layout.partitions));
        bytes.put_u8(u8::from(identity.chained));
        bytes.put_text(&identity.log);
        bytes.put_text(&identity.site);
        bytes.put_u64(self.number);
        bytes.put_varint(self.segments.len() as u64);
        for stored in &self.segments {
            bytes.put_u64(stored.generation);
            bytes.put_u8(match stored.form {
                Form::Plain => 0,
                Form::Sealed => 1,
            });
            bytes.put_u64(stored.part);
            bytes.put_text(&stored.name);
            bytes.put_u64(stored.length);
            bytes.extend_from_slice(&stored.hash);
        }
        self.ends.iter().for_each(|end| end.encode(&mut bytes));
        let hash = blake3::hash(&bytes);
        bytes.extend_from_slice(hash.as_bytes());
        bytes
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let text = |reader: &mut Reader<'_>| {
            let bytes = reader.slice().ok()?;
            Some(std::str::from_utf8(bytes).ok()?.to_owned())
        };
        let incarnation = Incarnation(reader.u128().ok()?);
        let layout = Layout {
            number: reader.u32().ok()?,
            partitions: u16::try_from(reader.u32().ok()?).ok()?,
        };
        let chained = reader.u8().ok()? == 1;
        let (log, site) = (text(&mut reader)?, text(&mut reader)?);
        let number = reader.u64().ok()?;
        let mut segments = Vec::new();
        for _ in 0..reader.length().ok()? {
            segments.push(Stored {
                generation: reader.u64().ok()?,
                form: match reader.u8().ok()? {
                    0 => Form::Plain,
                    1 => Form::Sealed,
                    _ => return None,
                },
                part: reader.u64().ok()?,
                name: text(&mut reader)?,
                length: reader.u64().ok()?,
                hash: reader.take(HASH).ok()?.try_into().ok()?,
            });
        }
        let ends = layout
            .all()
            .map(|_| PartitionStart::decode(&mut reader))
            .collect::<Option<_>>()?;
        let ours = |stored: &Stored| stored.name.ends_with(SUFFIX) && !stored.name.contains('/');
        let whole = reader.is_empty() && !segments.is_empty() && segments.iter().all(ours);
        whole.then_some(Self {
            identity: Identity {
                log: Text::from(log),
                site: Text::from(site),
                incarnation,
                layout,
                chained,
            },
            number,
            segments,
            ends,
        })
    }
}

/// Whether a file may lie in the directory of a backup.
pub(super) fn belongs(name: &str) -> bool {
    name.ends_with(SUFFIX) || name == MANIFEST || name == NEW
}

fn damage(expected: &str, found: &str) -> Damage {
    Damage {
        passing: false,
        file: MANIFEST.into(),
        at: 0,
        expected: expected.to_owned(),
        found: found.to_owned(),
    }
}
