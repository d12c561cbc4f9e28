//! UmaDB: an event store whose appends are conditioned by a query, behind gRPC.
//!
//! Its own client brings an encryption library; these are the same messages without.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::Context as _;
use prost::Message;
use rustix::process::Signal;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::server::{Programs, Server, free_port};
use crate::store::{Held, Refused, Replayed, Store, Work};
use crate::workload::{EVENT_TYPE, Event, name};

#[derive(Clone, PartialEq, Message)]
struct NewEvent {
    #[prost(string, tag = "1")]
    event_type: String,
    #[prost(string, repeated, tag = "2")]
    tags: Vec<String>,
    #[prost(bytes = "vec", tag = "3")]
    data: Vec<u8>,
    #[prost(string, tag = "4")]
    uuid: String,
}

#[derive(Clone, PartialEq, Message)]
struct QueryItem {
    #[prost(string, repeated, tag = "2")]
    tags: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Query {
    #[prost(message, repeated, tag = "1")]
    items: Vec<QueryItem>,
}

#[derive(Clone, PartialEq, Message)]
struct Condition {
    #[prost(message, optional, tag = "1")]
    fail_if_events_match: Option<Query>,
    #[prost(uint64, optional, tag = "2")]
    after: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct AppendRequest {
    #[prost(message, repeated, tag = "1")]
    events: Vec<NewEvent>,
    #[prost(message, optional, tag = "2")]
    condition: Option<Condition>,
}

#[derive(Clone, PartialEq, Message)]
struct AppendResponse {
    #[prost(uint64, tag = "1")]
    position: u64,
}

#[derive(Clone, PartialEq, Message)]
struct ReadRequest {
    #[prost(message, optional, tag = "1")]
    query: Option<Query>,
    #[prost(uint32, optional, tag = "6")]
    batch_size: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct Sequenced {
    #[prost(uint64, tag = "1")]
    position: u64,
    #[prost(message, optional, tag = "2")]
    event: Option<NewEvent>,
}

#[derive(Clone, PartialEq, Message)]
struct ReadResponse {
    #[prost(message, repeated, tag = "1")]
    events: Vec<Sequenced>,
}

#[derive(Clone, PartialEq, Message)]
struct Head {
    #[prost(uint64, optional, tag = "1")]
    position: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct SubscribeRequest {
    #[prost(uint64, optional, tag = "2")]
    after: Option<u64>,
}

/// The most connections that writers share.
const CONNECTIONS: usize = 16;
/// Events that a read hands over at once.
const PAGE: u32 = 1_000;

struct Uma {
    server: Server,
    channels: Vec<Channel>,
    used: AtomicUsize,
}

/// A server of its own in a fresh directory.
pub(crate) async fn open(directory: &Path, programs: &Programs) -> anyhow::Result<Arc<dyn Store>> {
    let port = free_port()?;
    let mut command = Command::new(programs.find("umadb")?);
    command.current_dir(directory);
    command.args(["--listen", &format!("127.0.0.1:{port}")]);
    command.arg("--db-path").arg(directory.join("uma.db"));
    let server = Server::start(command, directory, port, Signal::TERM)?;
    let mut channels = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?;
        channels.push(endpoint.tcp_nodelay(true).connect().await?);
    }
    Ok(Arc::new(Uma {
        server,
        channels,
        used: AtomicUsize::new(1),
    }))
}

fn of(entity: String) -> Query {
    let tags = vec![entity];
    Query {
        items: vec![QueryItem { tags }],
    }
}

impl Uma {
    fn channel(&self, number: usize) -> anyhow::Result<Grpc<Channel>> {
        let mine = self
            .channels
            .get(number % self.used.load(Ordering::Relaxed));
        Ok(Grpc::new(mine.context("no connection")?.clone()))
    }

    async fn send(&self, number: usize, request: AppendRequest) -> anyhow::Result<Sent> {
        let mut grpc = self.channel(number)?;
        grpc.ready().await?;
        let path = PathAndQuery::from_static("/umadb.v1.DCB/Append");
        let codec = ProstCodec::<AppendRequest, AppendResponse>::default();
        let sent = grpc.unary(Request::new(request), path, codec).await;
        Ok(sent.map(|response| response.into_inner().position))
    }

    async fn read(&self, query: Option<Query>) -> anyhow::Result<Replayed> {
        let mut grpc = self.channel(0)?;
        grpc.ready().await?;
        let path = PathAndQuery::from_static("/umadb.v1.DCB/Read");
        let codec = ProstCodec::<ReadRequest, ReadResponse>::default();
        let batch_size = Some(PAGE);
        let request = Request::new(ReadRequest { query, batch_size });
        let answers = grpc.server_streaming(request, path, codec).await?;
        let mut answers: Streaming<ReadResponse> = answers.into_inner();
        let mut replayed = Replayed::default();
        while let Some(page) = answers.message().await? {
            for event in page.events {
                replayed.add(event.event.context("a place without an event")?.data.len());
            }
        }
        Ok(replayed)
    }
}

type Sent = Result<u64, Status>;

impl Store for Uma {
    fn append(&self, event: Event, expected: u64) -> Work<'_, Result<u64, Refused>> {
        Box::pin(async move {
            let number = event.entity.rsplit('-').next().unwrap_or("0").parse()?;
            let condition = Condition {
                fail_if_events_match: Some(of(event.entity.clone())),
                after: (expected > 0).then_some(expected),
            };
            let event = NewEvent {
                event_type: EVENT_TYPE.to_owned(),
                tags: vec![event.entity],
                data: event.payload,
                uuid: event.id.to_string(),
            };
            let request = AppendRequest {
                events: vec![event],
                condition: Some(condition),
            };
            match self.send(number, request).await? {
                Ok(position) => Ok(position),
                Err(status) if status.code() == Code::FailedPrecondition => Err(Refused::Conflict),
                Err(status) => Err(status.into()),
            }
        })
    }

    fn expect_writers(&self, writers: usize) -> Work<'_, anyhow::Result<()>> {
        let used = writers.clamp(1, CONNECTIONS);
        self.used.store(used, Ordering::Relaxed);
        Box::pin(async { Ok(()) })
    }

    fn replay(&self) -> Work<'_, anyhow::Result<Replayed>> {
        Box::pin(self.read(None))
    }

    fn history(&self, entity: usize) -> Work<'_, anyhow::Result<Option<Replayed>>> {
        Box::pin(async move { self.read(Some(of(name(entity)))).await.map(Some) })
    }

    fn follow(&self, held: Held) -> Work<'_, anyhow::Result<bool>> {
        Box::pin(async move {
            let mut grpc = self.channel(0)?;
            grpc.ready().await?;
            let path = PathAndQuery::from_static("/umadb.v1.DCB/Head");
            let codec = ProstCodec::<(), Head>::default();
            let head = grpc.unary(Request::new(()), path, codec).await?;
            let after = head.into_inner().position;
            grpc.ready().await?;
            let path = PathAndQuery::from_static("/umadb.v1.DCB/Subscribe");
            let codec = ProstCodec::<SubscribeRequest, ReadResponse>::default();
            let request = Request::new(SubscribeRequest { after });
            let answers = grpc.server_streaming(request, path, codec).await?;
            let mut answers: Streaming<ReadResponse> = answers.into_inner();
            tokio::spawn(async move {
                while let Ok(Some(page)) = answers.message().await {
                    for _ in page.events {
                        if held.send(Instant::now()).is_err() {
                            return;
                        }
                    }
                }
            });
            Ok(true)
        })
    }

    fn close(&self) -> Work<'_, anyhow::Result<()>> {
        Box::pin(async { self.server.stop() })
    }
}
