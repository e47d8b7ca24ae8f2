//! The door to the network: connections in, each within limits; the only part of this crate that is asynchronous.

mod answer;
mod limits;
mod rate;
mod routes;
mod strict;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use limits::{ACCEPT_PAUSE, DRAIN, HEAD, MAX_CONNECTIONS, MAX_HEAD};
pub use routes::Token;
pub(crate) use routes::{App, router};

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
    listener: TcpListener,
    app: Router,
    draining: watch::Receiver<bool>,
}

impl Server {
    pub(crate) async fn bind(address: SocketAddr, app: Router, draining: watch::Receiver<bool>) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, app, draining })
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until it is told to drain, and until what is under way then has ended or has had its time.
    pub(crate) async fn run(self) {
        let Self { listener, app, mut draining } = self;
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = accept(&listener, &slots) => accepted,
                Some(_ended) = connections.join_next() => continue,
                () = begun(&mut draining) => break,
            };
            match accepted {
                Ok((stream, slot)) => {
                    stream.set_nodelay(true).ok();
                    connections.spawn(serve(stream, app.clone(), draining.clone(), slot));
                }
                Err(error) => {
                    tracing::error!(event = "runtime.accept.failed", %error, "no connection can be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        let ends = async { while connections.join_next().await.is_some() {} };
        tokio::time::timeout(DRAIN, ends).await.ok();
    }
}

async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, slot))
}

/// Waits until the drain begins; who could begin it being gone is the same.
async fn begun(draining: &mut watch::Receiver<bool>) {
    draining.wait_for(|draining| *draining).await.map(drop).unwrap_or_default();
}

async fn serve<S>(stream: S, app: Router, mut draining: watch::Receiver<bool>, slot: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
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
    drop(slot);
}
