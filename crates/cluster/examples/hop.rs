//! What a call to another node costs, on loopback: how long one takes by itself, and how many get
//! through with 64 in flight, beside bare TCP without TLS in the same run.
//!
//! `cargo run --release -p everfold-cluster --example hop`

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use everfold_cluster::{Answers, Authority, Identity, Kind, PeerName, Peers, listen};
use everfold_engine::engine::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

type Failure = Box<dyn Error + Send + Sync>;

const ALONE: usize = 20_000;
const IN_FLIGHT: usize = 64;
const WINDOW: Duration = Duration::from_secs(3);
const DEADLINE: Duration = Duration::from_secs(10);

struct Echo;

impl Answers for Echo {
    fn answer(&self, _: &PeerName, request: Bytes) -> BoxFuture<'static, Bytes> {
        Box::pin(async { request })
    }
}

fn main() -> Result<(), Failure> {
    // As two processes would: each side has threads of its own.
    let (there, here) = (runtime()?, runtime()?);
    let folder = tempfile::tempdir()?;
    let authority = Authority::create(folder.path(), "measured")?;
    let identity = |name: &str, kind| -> Result<Identity, Failure> {
        let folder = folder.path().join(name);
        authority.issue(name, &[], kind)?.write(&folder)?;
        Ok(Identity::from_folder(&folder)?)
    };
    let node = identity("node-1", Kind::Node)?;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let (stop, stopped) = watch::channel(false);
    let listening = there.block_on(listen(any, &node, Arc::new(Echo), stopped))?;
    let address = listening.address.to_string();
    let peers = Peers::new(&identity("node-2", Kind::Node)?);

    for length in [0, 256] {
        let request = Bytes::from(vec![7; length]);
        let bare = there.block_on(bare_server(length.max(1)))?;
        let bare = here.block_on(here.spawn(bare_alone(bare, length.max(1))))??;
        println!(
            "{length:>4} bytes, one at a time, bare TCP:  {}",
            shown(bare)
        );
        let alone = alone(peers.clone(), address.clone(), request.clone());
        let alone = here.block_on(here.spawn(alone))??;
        println!(
            "{length:>4} bytes, one at a time:            {}",
            shown(alone)
        );
        let mut rates = Vec::new();
        for _ in 0..5 {
            rates.push(here.block_on(many(&peers, &address, &request))?);
        }
        rates.sort_by(f64::total_cmp);
        println!(
            "{length:>4} bytes, {IN_FLIGHT} in flight:              {:.0} calls/s, {:.0} to {:.0} in five runs",
            rates[2], rates[0], rates[4]
        );
    }
    stop.send_replace(true);
    drop(peers);
    there.block_on(listening.ended);
    Ok(())
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
}

fn shown(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |share: usize| times[times.len() * share / 1000].as_nanos() as f64 / 1000.0;
    format!("p50 {:.1} us, p99 {:.1} us", at(500), at(990))
}

async fn alone(peers: Peers, address: String, request: Bytes) -> Result<Vec<Duration>, Failure> {
    let mut times = Vec::with_capacity(ALONE);
    for _ in 0..ALONE {
        let begin = Instant::now();
        peers.call(&address, request.clone(), DEADLINE).await?;
        times.push(begin.elapsed());
    }
    Ok(times)
}

async fn many(peers: &Peers, address: &str, request: &Bytes) -> Result<f64, Failure> {
    let begin = Instant::now();
    let mut callers = Vec::new();
    for _ in 0..IN_FLIGHT {
        let (peers, address, request) = (peers.clone(), address.to_owned(), request.clone());
        callers.push(tokio::spawn(async move {
            let mut count = 0u64;
            while begin.elapsed() < WINDOW {
                peers.call(&address, request.clone(), DEADLINE).await?;
                count += 1;
            }
            Ok::<_, Failure>(count)
        }));
    }
    let mut count = 0;
    for caller in callers {
        count += caller.await??;
    }
    Ok(count as f64 / begin.elapsed().as_secs_f64())
}

async fn bare_server(length: usize) -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let mut bytes = vec![0; length];
        loop {
            stream.read_exact(&mut bytes).await?;
            stream.write_all(&bytes).await?;
        }
        #[allow(unreachable_code)]
        Ok::<_, std::io::Error>(())
    });
    Ok(address)
}

async fn bare_alone(address: SocketAddr, length: usize) -> Result<Vec<Duration>, Failure> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut bytes, mut times) = (vec![7; length], Vec::with_capacity(ALONE));
    for _ in 0..ALONE {
        let begin = Instant::now();
        stream.write_all(&bytes).await?;
        stream.read_exact(&mut bytes).await?;
        times.push(begin.elapsed());
    }
    Ok(times)
}
