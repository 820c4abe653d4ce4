//! gRPC over a Unix socket (tonic): one connection, a task for each caller, each process with a runtime of one thread.
//! Messages are bytes as they are, without protobuf, which could only cost more.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use bytes::{Buf, BufMut, Bytes};
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::{Service, http};
use tonic::server::{NamedService, UnaryService};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

use super::Job;
use super::drive::{Caller, is_end, last_request, summary};
use crate::role::{FILLING, measured};
use crate::stats::Outcome;
use crate::transport::{PATIENCE, until};

/// The HTTP/2 window: more than a picture, so that no picture waits half-way.
const WINDOW: u32 = 64 << 20;

/// Bytes in, bytes out.
#[derive(Default)]
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Plain;
    type Decoder = Plain;

    fn encoder(&mut self) -> Plain {
        Plain
    }

    fn decoder(&mut self) -> Plain {
        Plain
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.reserve(item.len());
        target.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let len = source.remaining();
        Ok(Some(source.copy_to_bytes(len)))
    }
}

/// The code that tonic-build would generate for a service of one method.
#[derive(Clone)]
struct Echo(Arc<Notify>);

impl NamedService for Echo {
    const NAME: &'static str = "bench.Echo";
}

impl UnaryService<Bytes> for Echo {
    type Response = Bytes;
    type Future = Ready<Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let bytes = request.into_inner();
        if is_end(&bytes) {
            self.0.notify_one();
        }
        ready(Ok(Response::new(bytes)))
    }
}

impl Service<http::Request<tonic::body::Body>> for Echo {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move { Ok(tonic::server::Grpc::new(Plain).unary(echo, request).await) })
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn socket(job: &Job) -> PathBuf {
    job.forth.path.with_extension("grpc")
}

pub fn serve(job: &Job) -> Result<Outcome> {
    let end = Arc::new(Notify::new());
    measured(|| {
        runtime()?.block_on(async {
            let listener = UnixListener::bind(socket(job))?;
            std::fs::write(&job.forth.path, [])?;
            Server::builder()
                .initial_stream_window_size(WINDOW)
                .initial_connection_window_size(WINDOW)
                .add_service(Echo(Arc::clone(&end)))
                .serve_with_incoming_shutdown(UnixListenerStream::new(listener), end.notified())
                .await?;
            Ok(Outcome::default())
        })
    })
}

pub fn call(job: &Job) -> Result<Outcome> {
    until("a server", || Ok(job.forth.path.exists().then_some(())))?;
    let path = socket(job);
    runtime()?.block_on(async {
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { std::io::Result::Ok(TokioIo::new(UnixStream::connect(path).await?)) }
        });
        let channel = Endpoint::from_static("http://localhost")
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .connect_with_connector(connector)
            .await?;
        let client = tonic::client::Grpc::new(channel);
        let usage = crate::machine::Usage::now();
        let start = Instant::now();
        let mut tasks = Vec::new();
        let shared = Arc::new(job.clone());
        for number in 0..job.callers {
            tasks.push(tokio::spawn(play(client.clone(), Arc::clone(&shared), number, start)));
        }
        let mut callers = Vec::new();
        for task in tasks {
            callers.push(task.await??);
        }
        let outcome = Outcome {
            cpu_percent: crate::machine::Usage::now().cpu_percent_since(&usage),
            resident_kib: crate::machine::peak_resident_kib()?,
            ..summary(job, callers)
        };
        let _ = exchange(&mut client.clone(), Bytes::from(last_request(job))).await;
        Ok(outcome)
    })
}

type Client = tonic::client::Grpc<Channel>;

async fn exchange(client: &mut Client, request: Bytes) -> Result<Bytes> {
    client.ready().await.context("the connection")?;
    let path = http::uri::PathAndQuery::from_static("/bench.Echo/Echo");
    let call = client.unary(Request::new(request), path, Plain);
    Ok(tokio::time::timeout(PATIENCE, call).await??.into_inner())
}

async fn play(mut client: Client, job: Arc<Job>, number: usize, start: Instant) -> Result<Caller> {
    let mut caller = Caller::new(&job, number, start);
    let (mut data, mut response) = (vec![FILLING; job.size], vec![0; job.size]);
    while caller.next(&mut data) {
        let found = exchange(&mut client, Bytes::copy_from_slice(&data)).await?;
        ensure!(found.len() == response.len(), "a response of {} bytes", found.len());
        response.copy_from_slice(&found);
        caller.answered(&response)?;
    }
    Ok(caller)
}
