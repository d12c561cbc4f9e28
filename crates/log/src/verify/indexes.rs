//! Whether indexes say what the segments do.

use std::collections::BTreeMap;
use std::sync::Arc;

use everfold_engine::Record;
use everfold_engine::position::Incarnation;
use xxhash_rust::xxh3::xxh3_128;

use crate::cache::ReadCache;
use crate::disk::Disk;
use crate::error::Damage;
use crate::index::{FramePlace, Key, Run, Runs, Subjects, decode_frame, decode_postings};
use crate::segments::Form;

/// Indexes, and what the segments under them hold: sums over entries, which need no order.
pub(crate) struct Indexes {
    subjects: Subjects,
    compared: Vec<Compared>,
    damaged: Vec<Damage>,
}

struct Compared {
    run: Arc<Run>,
    expected: Sums,
    /// Segments with frames of their own.
    plain: Vec<u64>,
    /// Whether all segments could be read.
    comparable: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    entries: u128,
    frames: u128,
}

impl Indexes {
    /// Those of a directory, which nothing is changed in.
    pub(crate) fn open(disk: &dyn Disk, names: &[String], incarnation: Incarnation) -> Self {
        // Everything is read from the device, nothing kept.
        let cache = Arc::new(ReadCache::new(0));
        let (runs, damaged) = Runs::look(disk, names, incarnation, u64::MAX, &cache);
        Self::of(&runs, incarnation, damaged)
    }

    pub(crate) fn of(runs: &Runs, incarnation: Incarnation, damaged: Vec<Damage>) -> Self {
        let compared = |run: &Arc<Run>| Compared {
            run: Arc::clone(run),
            expected: Sums::default(),
            plain: Vec::new(),
            comparable: true,
        };
        Self {
            subjects: Subjects::of(incarnation),
            compared: runs.list().iter().map(compared).collect(),
            damaged,
        }
    }

    fn covering(&mut self, generation: u64) -> Option<&mut Compared> {
        self.compared.iter_mut().find(|compared| {
            let (first, last) = compared.run.generations();
            (first..=last).contains(&generation)
        })
    }

    /// A record of a segment.
    pub(crate) fn note(&mut self, generation: u64, partition: u16, record: &Record) {
        let subjects = self.subjects;
        let Some(compared) = self.covering(generation) else {
            return;
        };
        let sum = &mut compared.expected.entries;
        subjects.for_each(record, |subject, _| {
            *sum = sum.wrapping_add(entry_sum(partition, subject, record.local.offset.0));
        });
    }

    /// A frame of a segment that is as it was written.
    pub(crate) fn note_frame(&mut self, generation: u64, partition: u16, place: &FramePlace) {
        if let Some(compared) = self.covering(generation) {
            let sum = &mut compared.expected.frames;
            *sum = sum.wrapping_add(frame_sum(partition, place));
            if compared.plain.last() != Some(&generation) {
                compared.plain.push(generation);
            }
        }
    }

    /// These segments will be noted: an index over others too cannot be compared.
    pub(crate) fn expect(&mut self, segments: &BTreeMap<u64, Form>) {
        for compared in &mut self.compared {
            let (first, last) = compared.run.generations();
            compared.comparable = (first..=last).all(|one| segments.contains_key(&one));
        }
    }

    /// A segment could not be read: what its index should say is not known.
    pub(crate) fn cannot_be_compared(&mut self, generation: u64) {
        if let Some(compared) = self.covering(generation) {
            compared.comparable = false;
        }
    }

    /// What is wrong with the indexes, now that all their segments were noted.
    pub(crate) fn compare(&mut self) -> Vec<Damage> {
        let mut damaged = std::mem::take(&mut self.damaged);
        for compared in &self.compared {
            match compared.sums() {
                Err(damage) => damaged.push(damage),
                Ok(sums) if compared.comparable && sums != compared.expected => {
                    compared.run.distrust();
                    damaged.push(Damage {
                        passing: false,
                        file: compared.run.name.clone(),
                        at: 0,
                        expected: "an index of what its segments hold".into(),
                        found: "one of something else".into(),
                    });
                }
                Ok(_) => {}
            }
        }
        damaged
    }
}

impl Compared {
    /// Reads the whole index.
    fn sums(&self) -> Result<Sums, Damage> {
        let run = &*self.run;
        run.check_filter()?;
        let mut sums = Sums::default();
        let mut cursor = run.from(Key::frame(0, 0), false)?;
        let unreadable = |key: Key| Damage {
            passing: false,
            file: run.name.clone(),
            at: 0,
            expected: "an entry of the index".into(),
            found: format!("bytes that cannot be read, of partition {}", key.partition),
        };
        while let Some((key, value)) = cursor.next()? {
            if key.is_frame() {
                let place = decode_frame(key, &value).ok_or_else(|| unreadable(key))?;
                // Frames of segments that were packed since lead nowhere, and are not followed.
                if self.plain.contains(&u64::from(place.generation)) {
                    let sum = frame_sum(key.partition, &place);
                    sums.frames = sums.frames.wrapping_add(sum);
                }
                continue;
            }
            let places = decode_postings(key, &value).ok_or_else(|| unreadable(key))?;
            for offset in places.offsets() {
                let sum = entry_sum(key.partition, key.subject, *offset);
                sums.entries = sums.entries.wrapping_add(sum);
            }
        }
        Ok(sums)
    }
}

fn entry_sum(partition: u16, subject: u128, offset: u64) -> u128 {
    let mut bytes = [0; 26];
    bytes[..2].copy_from_slice(&partition.to_le_bytes());
    bytes[2..18].copy_from_slice(&subject.to_le_bytes());
    bytes[18..].copy_from_slice(&offset.to_le_bytes());
    xxh3_128(&bytes)
}

fn frame_sum(partition: u16, place: &FramePlace) -> u128 {
    let mut bytes = [0; 30];
    bytes[..2].copy_from_slice(&partition.to_le_bytes());
    bytes[2..10].copy_from_slice(&place.first.0.to_le_bytes());
    bytes[10..18].copy_from_slice(&place.stamp.to_le_bytes());
    bytes[18..22].copy_from_slice(&place.generation.to_le_bytes());
    bytes[22..26].copy_from_slice(&place.position.to_le_bytes());
    bytes[26..].copy_from_slice(&place.length.to_le_bytes());
    xxh3_128(&bytes)
}
