//! The reference: a log that does nothing but group commits.
//!
//! One thread takes all that waits, encodes it behind what was written before and writes it with one
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

/// The log starts over when this is full.
const FILE_BYTES: u64 = 256 << 20;
/// The most that one write takes, about.
const GROUP_BYTES: usize = 4 << 20;
/// Appends that may wait.
pub(crate) const QUEUE: usize = 16_384;
/// How long the writer looks for more work before it rests: a waking costs more than this waits.
const LOOK_FOR: Duration = Duration::from_micros(40);

/// What is appended, and how it becomes bytes.
pub(crate) trait Format: Send + 'static {
    /// What one client hands over at a time.
    type Append: Send + 'static;

    /// About how many bytes an append takes.
    fn bytes(append: &Self::Append) -> usize;

    /// Moves a group to the end of `out`, and who waits for it to `answers`.
    fn encode(
        &mut self,
        group: &mut Vec<Self::Append>,
        out: &mut Vec<u8>,
        answers: &mut Vec<oneshot::Sender<()>>,
    );

    /// The group is durable and everybody was told: time to let go of it.
    fn settled(&mut self) {}
}

/// The log; its writer ends when this and all clones of the sender are gone.
pub(crate) struct BareLog<F: Format> {
    sender: mpsc::Sender<F::Append>,
    writer: JoinHandle<io::Result<()>>,
    written: Arc<Written>,
}

/// What was written so far.
#[derive(Default)]
struct Written {
    groups: AtomicU64,
    bytes: AtomicU64,
}

impl<F: Format> BareLog<F> {
    pub(crate) fn create(directory: &Path, format: F) -> io::Result<Self> {
        let file = zeroed_file(&directory.join("bare-log"), FILE_BYTES)?;
        let (sender, inbox) = mpsc::channel(QUEUE);
        let written = Arc::new(Written::default());
        let writer = Writer {
            file,
            format,
            inbox,
            encoded: Vec::with_capacity(GROUP_BYTES),
            buffer: Aligned::zeroed(2 * GROUP_BYTES),
            used: 0,
            base: 0,
            written: written.clone(),
        };
        let writer = std::thread::Builder::new()
            .name("bare log".into())
            .spawn(move || writer.run())?;
        Ok(Self {
            sender,
            writer,
            written,
        })
    }

    pub(crate) fn sender(&self) -> mpsc::Sender<F::Append> {
        self.sender.clone()
    }

    /// Durable writes so far.
    pub(crate) fn groups(&self) -> u64 {
        self.written.groups.load(Ordering::Relaxed)
    }

    /// Bytes appended so far, without what fills blocks.
    pub(crate) fn bytes(&self) -> u64 {
        self.written.bytes.load(Ordering::Relaxed)
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

struct Writer<F: Format> {
    file: File,
    format: F,
    inbox: mpsc::Receiver<F::Append>,
    /// The group that is about to be written.
    encoded: Vec<u8>,
    /// From the last block that is partly filled on.
    buffer: Aligned,
    /// How much of the buffer is filled.
    used: usize,
    /// Where the buffer's first byte lies in the file.
    base: u64,
    written: Arc<Written>,
}

impl<F: Format> Writer<F> {
    fn run(mut self) -> io::Result<()> {
        let mut group = Vec::new();
        let mut answers = Vec::new();
        loop {
            let mut bytes = 0;
            while bytes < GROUP_BYTES
                && let Ok(append) = self.inbox.try_recv()
            {
                bytes += F::bytes(&append);
                group.push(append);
            }
            if group.is_empty() {
                if self.looks_for_work() {
                    continue;
                }
                match self.inbox.blocking_recv() {
                    Some(append) => group.push(append),
                    None => return Ok(()),
                }
                continue;
            }
            self.encoded.clear();
            self.format
                .encode(&mut group, &mut self.encoded, &mut answers);
            self.write()?;
            for done in answers.drain(..) {
                // Whoever asked may have gone away.
                let _ = done.send(());
            }
            self.format.settled();
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

    fn write(&mut self) -> io::Result<()> {
        let group = self.encoded.len();
        let begin = self.used;
        self.used += group;
        let end = self.used.next_multiple_of(BLOCK);
        let room = self.buffer.get_mut(begin..end);
        let room = room.ok_or_else(|| io::Error::other("a group larger than the buffer"))?;
        room[..group].copy_from_slice(&self.encoded);
        room[group..].fill(0);
        if self.base + end as u64 > FILE_BYTES {
            self.base = 0;
        }
        self.file.write_all_at(&self.buffer[..end], self.base)?;
        self.written.groups.fetch_add(1, Ordering::Relaxed);
        self.written
            .bytes
            .fetch_add(group as u64, Ordering::Relaxed);
        let whole = self.used / BLOCK * BLOCK;
        if whole > 0 {
            self.buffer.copy_within(whole..end, 0);
            self.base += whole as u64;
            self.used -= whole;
        }
        Ok(())
    }
}
