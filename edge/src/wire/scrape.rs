//! `GET /metrics` over HTTP/1 on loopback: nobody else needs it, and nothing here is authenticated.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::metrics::Metrics;

/// Scrapes at once; the rest waits in the kernel's queue.
const MAX_SCRAPES: usize = 4;
/// How long one may take.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after an accept that failed for want of file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The endpoint of the metrics.
#[derive(Debug)]
pub struct Scrape {
    listener: TcpListener,
    metrics: Arc<Metrics>,
}

impl Scrape {
    /// Listens on `address`, which must be on loopback.
    pub async fn bind(address: SocketAddr, metrics: Arc<Metrics>) -> io::Result<Self> {
        if !address.ip().is_loopback() {
            let message = format!("{address} is not on loopback; use 127.0.0.1:{}", address.port());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(Self { listener: TcpListener::bind(address).await?, metrics })
    }

    /// Where it listens, with the port that was given for 0.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until it is dropped.
    pub async fn run(self) {
        let slots = Arc::new(Semaphore::new(MAX_SCRAPES));
        loop {
            // The semaphore is never closed.
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let metrics = Arc::clone(&self.metrics);
                    tokio::spawn(async move {
                        serve(stream, metrics).await;
                        drop(slot);
                    });
                }
                Err(_refused) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }
}

async fn serve(stream: TcpStream, metrics: Arc<Metrics>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(&request, &metrics);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(SCRAPE_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    // Who hung up, or was too slow, has no scrape.
    tokio::time::timeout(SCRAPE_TIMEOUT, connection).await.map(drop).unwrap_or_default();
}

fn answer(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let mut response = Response::default();
    match (request.method(), request.uri().path(), metrics.text()) {
        (&Method::GET, "/metrics", Ok(text)) => {
            response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(OPEN_METRICS));
            *response.body_mut() = Full::from(text);
        }
        (&Method::GET, "/metrics", Err(_unwritable)) => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
        (_, "/metrics", _) => *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED,
        _ => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    response
}
