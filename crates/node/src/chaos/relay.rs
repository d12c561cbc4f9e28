//! The way from a node to the store, which can be slow: what the node says comes late, in order and
//! whole, and the store's answers come at once.
//!
//! Nothing else lets a node decide for so long what others own by then: whoever is frozen does
//! nothing, and who is cut off hears of it with the first packet. Only the store can tell such a node
//! that its time is over.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use everfold::engine::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

/// What is read at once.
const CHUNK: usize = 64 << 10;
/// Chunks under way in one connection.
const UNDER_WAY: usize = 1024;

/// Takes connections of one node, and passes what comes to the store. Dropped, it ends them.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    late: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Relay {
    /// Listens at an address of this machine, on any port. Blocks.
    ///
    /// # Errors
    /// It is none of this machine's.
    pub fn start(at: Ipv4Addr, store: SocketAddr, runtime: &Handle) -> io::Result<Self> {
        let listener = runtime.block_on(TcpListener::bind((at, 0)))?;
        let address = listener.local_addr()?;
        let late = Arc::new(AtomicU64::new(0));
        let task = runtime.spawn(take(listener, store, late.clone()));
        Ok(Self {
            address,
            late,
            task: task.abort_handle(),
        })
    }

    /// Where the node finds the store.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the node's words come so late; what is under way keeps its time.
    pub fn hold_back(&self, late: Duration) {
        let late = late.as_millis() as u64;
        self.late.store(late, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take(listener: TcpListener, store: SocketAddr, late: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! { biased;
            Some(_) = connections.join_next() => {}
            taken = listener.accept() => {
                // A connection that breaks while it is made is the node's to make again.
                if let Ok((node, _)) = taken {
                    connections.spawn(pass(node, store, late.clone()));
                }
            }
        }
    }
}

/// One connection, until the store has closed it.
async fn pass(node: TcpStream, store: SocketAddr, late: Arc<AtomicU64>) -> io::Result<()> {
    let store = TcpStream::connect(store).await?;
    node.set_nodelay(true)?;
    store.set_nodelay(true)?;
    let (from_node, mut to_node) = node.into_split();
    let (mut from_store, to_store) = store.into_split();
    let (sender, receiver) = mpsc::channel(UNDER_WAY);
    let words = async {
        let ended = tokio::join!(hear(from_node, &late, sender), say(to_store, receiver));
        ended.0.and(ended.1)
    };
    let answers = async {
        tokio::io::copy(&mut from_store, &mut to_node).await?;
        to_node.shutdown().await
    };
    let mut words = std::pin::pin!(words);
    let mut answers = std::pin::pin!(answers);
    tokio::select! { biased;
        ended = &mut answers => ended,
        ended = &mut words => {
            ended?;
            answers.await
        }
    }
}

async fn hear(
    mut from: OwnedReadHalf,
    late: &AtomicU64,
    to: mpsc::Sender<(Instant, Bytes)>,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = from.read(&mut chunk).await?;
        let late = Duration::from_millis(late.load(Ordering::Relaxed));
        let words = Bytes::copy_from_slice(&chunk[..length]);
        if length == 0 || to.send((Instant::now() + late, words)).await.is_err() {
            return Ok(());
        }
    }
}

async fn say(mut to: OwnedWriteHalf, mut from: mpsc::Receiver<(Instant, Bytes)>) -> io::Result<()> {
    while let Some((due, words)) = from.recv().await {
        sleep_until(due).await;
        to.write_all(&words).await?;
    }
    to.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_late_and_in_order_and_answers_at_once() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let at = (Ipv4Addr::LOCALHOST, 0);
        let store = runtime.block_on(TcpListener::bind(at)).unwrap();
        let place = store.local_addr().unwrap();
        let relay = Relay::start(Ipv4Addr::LOCALHOST, place, runtime.handle()).unwrap();
        runtime.block_on(async {
            let mut node = TcpStream::connect(relay.address()).await.unwrap();
            let (mut store, _) = store.accept().await.unwrap();
            let late = Duration::from_millis(300);
            relay.hold_back(late);
            let begun = Instant::now();
            node.write_all(b"first ").await.unwrap();
            // Its words are under way, and yet it hears.
            store.write_all(b"hello").await.unwrap();
            let mut heard = [0; 5];
            node.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"hello");
            let mut first = [0; 6];
            store.read_exact(&mut first).await.unwrap();
            assert!(begun.elapsed() >= late);
            relay.hold_back(Duration::ZERO);
            node.write_all(b"second").await.unwrap();
            drop(node);
            let mut second = Vec::new();
            store.read_to_end(&mut second).await.unwrap();
            assert_eq!((&first, &*second), (b"first ", &b"second"[..]));
        });
    }
}
