//! The door to the network: connections in, each within limits; the only part of this crate that is asynchronous.

mod answer;
mod limits;
mod listener;
mod rate;
mod routes;
mod strict;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub(crate) use limits::MAX_CALLS;
use limits::{ACCEPT_PAUSE, DRAIN, HANDSHAKE, HEAD, MAX_CONNECTIONS, MAX_HEAD};
use listener::{Listener, Stream};
pub use routes::Token;
pub(crate) use routes::{App, router};
pub use tls::TlsFiles;
pub(crate) use tls::acceptor;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// An address of this machine.
    Tcp(SocketAddr),
    /// A Unix socket, for the user alone that runs.
    Unix(PathBuf),
}

/// Listens.
#[derive(Debug)]
pub(crate) struct Server {
    listener: Listener,
    door: Door,
}

/// What every connection is let in by.
#[derive(Clone)]
struct Door {
    app: Router,
    tls: Option<TlsAcceptor>,
    draining: watch::Receiver<bool>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

impl Server {
    pub(crate) async fn bind(
        listen: &Listen,
        tls: Option<TlsAcceptor>,
        app: Router,
        draining: watch::Receiver<bool>,
    ) -> io::Result<Self> {
        Ok(Self { listener: Listener::bind(listen).await?, door: Door { app, tls, draining } })
    }

    pub(crate) fn at(&self) -> io::Result<String> {
        self.listener.at()
    }

    /// Serves until it is told to drain, and until what is under way then has ended or has had its time.
    pub(crate) async fn run(self) {
        let Self { listener, door } = self;
        let mut draining = door.draining.clone();
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = accept(&listener, &slots) => accepted,
                Some(_ended) = connections.join_next() => continue,
                () = begun(&mut draining) => break,
            };
            match accepted {
                Ok((stream, slot)) => drop(connections.spawn(admit(stream, door.clone(), slot))),
                Err(error) => {
                    tracing::error!(event = "runtime.accept.failed", %error, "no connection can be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        let ends = async { while connections.join_next().await.is_some() {} };
        tokio::time::timeout(DRAIN, ends).await.unwrap_or_default();
    }
}

async fn accept(listener: &Listener, slots: &Arc<Semaphore>) -> io::Result<(Stream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    Ok((listener.accept().await?, slot))
}

/// TLS where it is wanted, then requests.
async fn admit(stream: Stream, door: Door, slot: OwnedSemaphorePermit) {
    match (stream, &door.tls) {
        (Stream::Unix(stream), _) => serve(stream, door).await,
        (Stream::Tcp(stream), None) => serve(stream, door).await,
        (Stream::Tcp(stream), Some(tls)) => match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
            Ok(Ok(stream)) => serve(stream, door).await,
            Ok(Err(error)) => tracing::warn!(event = "runtime.client.rejected", %error, "TLS does not stand"),
            Err(_elapsed) => tracing::warn!(event = "runtime.client.rejected", "TLS took too long"),
        },
    }
    drop(slot);
}

/// Waits until the drain begins; who could begin it being gone is the same.
async fn begun(draining: &mut watch::Receiver<bool>) {
    draining.wait_for(|draining| *draining).await.map(drop).unwrap_or_default();
}

async fn serve<S>(stream: S, door: Door)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Door { app, tls: _, mut draining } = door;
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    let mut connection = std::pin::pin!(connection);
    // Who hung up, or speaks something else, has no answer.
    tokio::select! {
        ended = connection.as_mut() => ended.unwrap_or_default(),
        () = begun(&mut draining) => {
            connection.as_mut().graceful_shutdown();
            connection.await.unwrap_or_default();
        }
    }
}
