//! The calling end: a connection to one peer, whose identity mutual TLS has proven; questions and uploads, with answers that
//! are read under caps and deadlines. Whatever a peer answers, the worst that comes of it is an error.

mod answer;
mod dial;
mod error;
mod upload;

use std::sync::Arc;
use std::time::{Duration, Instant};

use autonomy_relay::pack;
use autonomy_schema::{Blake3, Name};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::SendRequest;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

pub use error::WireError;

use super::limits::{MAX_ANSWER, MAX_HEALTH, Timeouts};
use super::metrics::Metrics;
use super::server::Health;
use super::tls::Tls;
use crate::store::Progress;
use upload::{Hold, Pace, Upload};

/// A body on its way out.
type Out = BoxBody<Bytes, std::io::Error>;

/// What became of a segment of a pack: `Ok` is that the peer has it, the error why it refused it.
pub type Taken = (Blake3, Result<(), String>);

/// Makes connections.
#[derive(Debug, Clone)]
pub struct Client {
    tls: Tls,
    metrics: Arc<Metrics>,
    timeouts: Timeouts,
}

impl Client {
    /// With the node's certificates.
    pub fn new(tls: Tls, metrics: Arc<Metrics>, timeouts: Timeouts) -> Self {
        Self { tls, metrics, timeouts }
    }

    /// Connects to `peer`, and to nobody else, at `address` (`host:port`).
    pub async fn connect(&self, peer: &Name, address: &str) -> Result<Connection, WireError> {
        let (sender, closed, driver) = dial::connect(&self.tls, &self.timeouts, peer, address).await?;
        let (metrics, timeouts) = (Arc::clone(&self.metrics), self.timeouts);
        let turn = Arc::new(Semaphore::new(1));
        Ok(Connection { peer: peer.clone(), sender, closed, driver, metrics, timeouts, turn })
    }
}

/// A connection to a peer. Dropped, it ends.
#[derive(Debug)]
pub struct Connection {
    peer: Name,
    sender: SendRequest<Out>,
    closed: watch::Receiver<Option<String>>,
    driver: JoinHandle<()>,
    metrics: Arc<Metrics>,
    timeouts: Timeouts,
    /// Whose body is sent.
    turn: Arc<Semaphore>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    /// Whom it leads to.
    pub fn peer(&self) -> &Name {
        &self.peer
    }

    /// Waits until the connection has ended, and says why it did.
    pub async fn closed(&self) -> String {
        let mut closed = self.closed.clone();
        let why = closed.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        why.unwrap_or_else(|| "the connection ended".to_owned())
    }

    /// Who the peer is by its own word, and what it lets us send.
    pub async fn health(&self) -> Result<Health, WireError> {
        let answer = self.ask_for(Method::GET, "/v1/health".to_owned(), MAX_HEALTH).await?;
        answer.done::<Health>()
    }

    /// How far the peer is with a set; `None` when it does not know it.
    pub async fn ask(&self, manifest: Blake3) -> Result<Option<Progress>, WireError> {
        let answer = self.ask_for(Method::GET, format!("/v1/manifests/{manifest}"), MAX_ANSWER).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        answer::progress(answer.done()?, manifest).map(Some)
    }

    /// Sends the documents of a set: a ustar of `length` bytes, in chunks. It fails when the chunks end before.
    pub async fn offer(
        &self,
        manifest: Blake3,
        length: u64,
        chunks: mpsc::Receiver<Bytes>,
    ) -> Result<Progress, WireError> {
        let path = format!("/v1/manifests/{manifest}");
        let answer = self.upload(Method::PUT, path, "application/x-tar", length, chunks).await?;
        answer::progress(answer.done()?, manifest)
    }

    /// Sends a pack of these segments, in this order: `length` bytes with their heads, in chunks.
    pub async fn send_pack(
        &self,
        ids: &[Blake3],
        length: u64,
        chunks: mpsc::Receiver<Bytes>,
    ) -> Result<Vec<Taken>, WireError> {
        let answer = self.upload(Method::POST, "/v1/packs".to_owned(), pack::MEDIA_TYPE, length, chunks).await?;
        answer::results(answer.done()?, ids)
    }

    async fn ask_for(&self, method: Method, path: String, cap: u64) -> Result<answer::Answer, WireError> {
        let body = Empty::new().map_err(|never| match never {}).boxed();
        let request = self.request(method, &path, None, body)?;
        self.exchange(request, &Pace::ended(), cap).await
    }

    async fn upload(
        &self,
        method: Method,
        path: String,
        media_type: &'static str,
        length: u64,
        chunks: mpsc::Receiver<Bytes>,
    ) -> Result<answer::Answer, WireError> {
        // The semaphore is never closed.
        let turn = Arc::clone(&self.turn).acquire_owned().await.ok();
        let pace = Arc::new(Pace::begun());
        let metrics = (Arc::clone(&self.metrics), self.peer.clone());
        let hold = Hold::new(chunks, turn);
        let body = Upload::new(&hold, length, Arc::clone(&pace), metrics).boxed();
        let request = self.request(method, &path, Some(media_type), body)?;
        self.exchange(request, &pace, MAX_ANSWER).await
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        media_type: Option<&'static str>,
        body: Out,
    ) -> Result<Request<Out>, WireError> {
        let mut request = Request::builder().method(method).uri(format!("https://{}{path}", self.peer));
        if let Some(media_type) = media_type {
            request = request.header(header::CONTENT_TYPE, media_type);
        }
        request.body(body).map_err(|error| WireError::Lost(error.to_string()))
    }

    /// Sends a request and reads its answer, as long as one of the two makes progress.
    async fn exchange(&self, request: Request<Out>, pace: &Pace, cap: u64) -> Result<answer::Answer, WireError> {
        let mut sender = self.sender.clone();
        let exchange = async {
            sender.ready().await.map_err(|error| self.lost(&error))?;
            let response = sender.send_request(request).await.map_err(|error| self.lost(&error))?;
            answer::read(response, cap).await
        };
        let mut exchange = std::pin::pin!(exchange);
        loop {
            let until = pace.until(&self.timeouts);
            let pause = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            tokio::select! {
                answer = exchange.as_mut() => return answer,
                () = tokio::time::sleep(pause) => {
                    if pace.until(&self.timeouts) <= Instant::now() {
                        return Err(WireError::Lost("the peer makes no progress".to_owned()));
                    }
                }
            }
        }
    }

    /// Why a request failed: what ended the connection, if that is known, is why.
    fn lost(&self, error: &hyper::Error) -> WireError {
        let found = error::of(error);
        match (&found, self.closed.borrow().as_ref()) {
            (WireError::Lost(_), Some(why)) => WireError::Lost(why.clone()),
            _ => found,
        }
    }
}
