//! A proxy that loses, holds or cuts messages between an engine and its server.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

/// The parameters of an append: nothing else has so many.
const PARAMETERS: u16 = 22;

/// What becomes of an append.
#[derive(Clone)]
pub enum Fate {
    /// The server gets all but the end of the request, once somebody says so the rest too.
    Pause(Arc<Notify>),
    /// The server gets all but the end of the request, and never anything again.
    Freeze,
    /// The connection breaks before the request gets anywhere.
    CutRequest,
    /// The connection breaks within the request.
    CutWithin,
    /// The server gets the request, and its answer is lost.
    CutAnswer,
    /// The server gets the request, and the connection breaks at once.
    CutAfter,
}

/// Stands between an engine and its server.
pub struct Proxy {
    port: u16,
    fates: Arc<Mutex<VecDeque<Fate>>>,
    place: Arc<watch::Sender<String>>,
    /// Told whenever a fate is met.
    pub met: Arc<Notify>,
}

impl Proxy {
    /// Listens for an engine that would go to this address.
    pub async fn before(address: &str) -> Self {
        let place = Arc::new(watch::Sender::new(place_of(address)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let fates: Arc<Mutex<VecDeque<Fate>>> = Arc::default();
        let met = Arc::new(Notify::new());
        let (shared, told, places) = (fates.clone(), met.clone(), place.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mut place = places.subscribe();
                let address = place.borrow_and_update().clone();
                let Ok(server) = TcpStream::connect(&address).await else {
                    continue;
                };
                let (fates, met) = (shared.clone(), told.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        biased;
                        _ = place.changed() => {}
                        _ = carry(client, server, &fates, &met) => {}
                    }
                });
            }
        });
        Self {
            port,
            fates,
            place,
            met,
        }
    }

    /// The address to open instead.
    pub fn address(&self, address: &str) -> String {
        let (user, rest) = address.split_once('@').unwrap();
        let (_, path) = rest.split_once('/').unwrap();
        format!("{user}@127.0.0.1:{}/{path}", self.port)
    }

    /// Cuts all connections, and goes to the server of another address from now on.
    pub fn lead_to(&self, address: &str) {
        self.place.send_replace(place_of(address));
    }

    /// What becomes of the next appends.
    pub fn next(&self, fates: impl IntoIterator<Item = Fate>) {
        self.fates.lock().unwrap().extend(fates);
    }
}

fn place_of(address: &str) -> String {
    let (_, place) = address.split_once('@').unwrap();
    place.split('/').next().unwrap().to_owned()
}

async fn carry(
    client: TcpStream,
    server: TcpStream,
    fates: &Mutex<VecDeque<Fate>>,
    met: &Notify,
) -> Option<()> {
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    // The first message says its length and nothing else.
    let length = from_client.read_u32().await.ok()?;
    let mut first = vec![0; length as usize - 4];
    from_client.read_exact(&mut first).await.ok()?;
    to_server.write_u32(length).await.ok()?;
    to_server.write_all(&first).await.ok()?;
    let answers = async {
        let mut bytes = vec![0; 1 << 16];
        loop {
            let read = from_server.read(&mut bytes).await.ok()?;
            if read == 0 {
                return None::<()>;
            }
            to_client.write_all(&bytes[..read]).await.ok()?;
        }
    };
    tokio::select! {
        biased;
        _ = answers => return None,
        ended = requests(&mut from_client, &mut to_server, fates, met) => match ended {
            Ended::Cut => return None,
            Ended::AnswerLost => {}
        },
    }
    // Whatever comes now was the answer, and nobody hears it.
    let mut byte = [0];
    let _ = from_server.read(&mut byte).await;
    None
}

enum Ended {
    Cut,
    AnswerLost,
}

async fn requests(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    fates: &Mutex<VecDeque<Fate>>,
    met: &Notify,
) -> Ended {
    try_requests(from, to, fates, met)
        .await
        .unwrap_or(Ended::Cut)
}

async fn try_requests(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    fates: &Mutex<VecDeque<Fate>>,
    met: &Notify,
) -> Option<Ended> {
    let mut fate = None;
    loop {
        let kind = from.read_u8().await.ok()?;
        let length = from.read_u32().await.ok()?;
        let mut body = vec![0; length as usize - 4];
        from.read_exact(&mut body).await.ok()?;
        if kind == b'B' && is_append(&body) {
            fate = fates.lock().unwrap().pop_front();
        }
        let last = kind == b'S' && fate.is_some();
        match &fate {
            Some(Fate::CutRequest) => {
                met.notify_one();
                return Some(Ended::Cut);
            }
            Some(Fate::Pause(go_on)) if last => {
                met.notify_one();
                go_on.notified().await;
                fate = None;
            }
            Some(Fate::Freeze) if last => {
                met.notify_one();
                std::future::pending::<()>().await;
            }
            Some(Fate::CutWithin) if last => {
                met.notify_one();
                return Some(Ended::Cut);
            }
            _ => {}
        }
        let mut message = vec![kind];
        message.extend(length.to_be_bytes());
        message.extend(body);
        to.write_all(&message).await.ok()?;
        match fate {
            Some(Fate::CutAfter) if last => {
                met.notify_one();
                return Some(Ended::Cut);
            }
            Some(Fate::CutAnswer) if last => {
                met.notify_one();
                return Some(Ended::AnswerLost);
            }
            _ => {}
        }
    }
}

/// A message `Bind`: the names of a portal and of a statement, then how many formats there are.
fn is_append(body: &[u8]) -> bool {
    let mut parts = body.splitn(3, |byte| *byte == 0);
    let formats = parts.nth(2).and_then(|rest| rest.first_chunk());
    formats.is_some_and(|count| u16::from_be_bytes(*count) == PARAMETERS)
}
