//! The reference: a log that does nothing but group commits.
//!
//! One thread takes all that waits, puts it behind what was written before and writes it with one
//! durable write; the partly filled block at the end is written again with the next group. There is
//! no index, no hash chain, no deduplication, no version check, and no reading. Space is zero-filled
//! once, before anything is measured, and the log starts over at its end, so it never has to make
//! room while it is measured: all of this favours the reference.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::direct::{Aligned, BLOCK, zeroed_file};

/// Length, checksum, sequence number, and the lengths of both names.
const HEADER: usize = 20;
/// The log starts over when this is full.
const FILE_BYTES: u64 = 256 << 20;
/// The most that one write takes, about.
const GROUP_BYTES: usize = 4 << 20;
/// Appends that may wait.
const QUEUE: usize = 16_384;
/// How long the writer looks for more work before it rests: a waking costs more than this waits.
const LOOK_FOR: Duration = Duration::from_micros(40);

/// One event to be appended.
pub(crate) struct Append {
    pub(crate) entity: String,
    pub(crate) event_type: &'static str,
    pub(crate) payload: Vec<u8>,
    pub(crate) done: oneshot::Sender<u64>,
}

/// The log; its writer ends when this and all clones of the sender are gone.
pub(crate) struct BareLog {
    sender: mpsc::Sender<Append>,
    writer: JoinHandle<io::Result<()>>,
    groups: Arc<AtomicU64>,
}

impl BareLog {
    pub(crate) fn create(directory: &Path) -> io::Result<Self> {
        let file = zeroed_file(&directory.join("bare-log"), FILE_BYTES)?;
        let (sender, inbox) = mpsc::channel(QUEUE);
        let groups = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            file,
            inbox,
            buffer: Aligned::zeroed(GROUP_BYTES + (1 << 20)),
            used: 0,
            base: 0,
            sequence: 0,
            groups: groups.clone(),
        };
        let writer = std::thread::Builder::new()
            .name("bare log".into())
            .spawn(move || writer.run())?;
        Ok(Self {
            sender,
            writer,
            groups,
        })
    }

    pub(crate) fn sender(&self) -> mpsc::Sender<Append> {
        self.sender.clone()
    }

    /// Durable writes so far.
    pub(crate) fn groups(&self) -> u64 {
        self.groups.load(Ordering::Relaxed)
    }

    /// Ends the writer; says what went wrong, if anything did.
    pub(crate) fn close(self) -> io::Result<()> {
        drop(self.sender);
        match self.writer.join() {
            Ok(result) => result,
            Err(_) => Err(io::Error::other("the bare log's writer panicked")),
        }
    }
}

struct Writer {
    file: File,
    inbox: mpsc::Receiver<Append>,
    /// From the last block that is partly filled on.
    buffer: Aligned,
    /// How much of the buffer is filled.
    used: usize,
    /// Where the buffer's first byte lies in the file.
    base: u64,
    sequence: u64,
    groups: Arc<AtomicU64>,
}

impl Writer {
    fn run(mut self) -> io::Result<()> {
        let mut waiting = Vec::new();
        let mut answers = Vec::new();
        loop {
            while self.used < GROUP_BYTES
                && let Ok(append) = self.inbox.try_recv()
            {
                self.put(append, &mut answers);
            }
            if answers.is_empty() {
                if self.looks_for_work() {
                    continue;
                }
                if self.inbox.blocking_recv_many(&mut waiting, QUEUE) == 0 {
                    return Ok(());
                }
                for append in waiting.drain(..) {
                    self.put(append, &mut answers);
                }
            }
            self.write()?;
            for (done, sequence) in answers.drain(..) {
                // Whoever asked may have gone away.
                let _ = done.send(sequence);
            }
        }
    }

    /// Says whether something came before it was time to rest.
    fn looks_for_work(&self) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < LOOK_FOR {
            for _ in 0..16 {
                if !self.inbox.is_empty() {
                    return true;
                }
                std::hint::spin_loop();
            }
        }
        false
    }

    fn put(&mut self, append: Append, answers: &mut Vec<(oneshot::Sender<u64>, u64)>) {
        let Append {
            entity,
            event_type,
            payload,
            done,
        } = append;
        self.sequence += 1;
        let start = self.used;
        let length = HEADER + event_type.len() + entity.len() + payload.len();
        let record = &mut self.buffer[start..start + length];
        record[..4].copy_from_slice(&(length as u32).to_le_bytes());
        record[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        record[16..18].copy_from_slice(&(event_type.len() as u16).to_le_bytes());
        record[18..HEADER].copy_from_slice(&(entity.len() as u16).to_le_bytes());
        let mut at = HEADER;
        for part in [event_type.as_bytes(), entity.as_bytes(), &payload] {
            record[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        let sum = crc32fast::hash(&record[8..]);
        record[4..8].copy_from_slice(&sum.to_le_bytes());
        self.used += length;
        answers.push((done, self.sequence));
    }

    fn write(&mut self) -> io::Result<()> {
        let end = self.used.next_multiple_of(BLOCK);
        self.buffer[self.used..end].fill(0);
        if self.base + end as u64 > FILE_BYTES {
            self.base = 0;
        }
        self.file.write_all_at(&self.buffer[..end], self.base)?;
        self.groups.fetch_add(1, Ordering::Relaxed);
        let whole = self.used / BLOCK * BLOCK;
        if whole > 0 {
            self.buffer.copy_within(whole..end, 0);
            self.base += whole as u64;
            self.used -= whole;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_acknowledged_lies_in_the_file_in_order() {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let log = BareLog::create(directory.path()).unwrap();
        let sender = log.sender();
        for round in 1..=40u64 {
            let (done, answer) = oneshot::channel();
            let append = Append {
                entity: format!("order-{round:06}"),
                event_type: "LineAdded",
                payload: vec![round as u8; 256],
                done,
            };
            sender.send(append).await.unwrap();
            assert_eq!(answer.await.unwrap(), round);
        }
        drop(sender);
        assert_eq!(log.groups(), 40);
        log.close().unwrap();
        let bytes = std::fs::read(directory.path().join("bare-log")).unwrap();
        let mut at = 0;
        for round in 1..=40u64 {
            let field = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            let length = field(at) as usize;
            assert_eq!(field(at + 4), crc32fast::hash(&bytes[at + 8..at + length]));
            let sequence = u64::from_le_bytes(bytes[at + 8..at + 16].try_into().unwrap());
            assert_eq!(sequence, round);
            at += length;
        }
        assert!(bytes[at..].iter().all(|byte| *byte == 0));
    }
}
