//! `/healthz`, `/readyz` and `/metrics` of the loop, on a Unix socket or on loopback: nobody else needs them, and nothing
//! here is authenticated.

use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use super::health::Health;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// `unix:PATH`.
    Unix(PathBuf),
    /// An address of loopback.
    Loopback(SocketAddr),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err("`unix:` needs a path".to_owned()) } else { Ok(Self::Unix(path.into())) };
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Self::Loopback(address)),
            Ok(address) => {
                Err(format!("{address} is not on loopback; use 127.0.0.1:{} or `unix:PATH`", address.port()))
            }
            Err(_no_address) => Err("expected `unix:PATH`, `127.0.0.1:PORT` or `[::1]:PORT`".to_owned()),
        }
    }
}

/// The endpoint runs until this is dropped.
#[derive(Debug)]
pub struct Endpoint {
    /// Where it listens, with the port that was given for 0.
    pub at: String,
    socket: Option<PathBuf>,
    _runtime: tokio::runtime::Runtime,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // A socket that somebody removed already is no loss.
        self.socket.take().map(std::fs::remove_file);
    }
}

/// Starts listening. The error names what stands in the way.
pub fn serve(listen: &Listen, health: Arc<Health>) -> std::io::Result<Endpoint> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_io().build()?;
    let router = Router::new()
        .route("/healthz", get(|| async { Json(json!({ "status": "ok" })) }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(health);
    let guard = runtime.enter();
    let (at, socket) = match listen {
        Listen::Unix(path) => {
            make_way(path)?;
            let listener = tokio::net::UnixListener::bind(path)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
            runtime.spawn(async move { axum::serve(listener, router).await });
            (format!("unix:{}", path.display()), Some(path.clone()))
        }
        Listen::Loopback(address) => {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let at = listener.local_addr()?.to_string();
            let listener = tokio::net::TcpListener::from_std(listener)?;
            runtime.spawn(async move { axum::serve(listener, router).await });
            (at, None)
        }
    };
    drop(guard);
    Ok(Endpoint { at, socket, _runtime: runtime })
}

/// Removes the socket that a killed process left; anything else at the path, and one that still answers, stays.
fn make_way(path: &Path) -> std::io::Result<()> {
    let Ok(metadata) = path.symlink_metadata() else { return Ok(()) };
    if !metadata.file_type().is_socket() || std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(std::io::Error::new(std::io::ErrorKind::AddrInUse, "something is there already"));
    }
    std::fs::remove_file(path)
}

async fn ready(State(health): State<Arc<Health>>) -> Response {
    let (ready, value) = health.ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(value)).into_response()
}

async fn metrics(State(health): State<Arc<Health>>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match health.metrics() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_unwritable) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_sockets_are_listened_on() {
        for good in ["unix:/run/autonomy/reconcile.sock", "127.0.0.1:0", "[::1]:9644", "127.9.9.9:1"] {
            assert!(good.parse::<Listen>().is_ok(), "{good}");
        }
        for bad in ["0.0.0.0:9644", "[::]:9644", "10.0.0.1:9644", "unix:", "localhost:9644", "9644", ""] {
            assert!(bad.parse::<Listen>().is_err(), "{bad}");
        }
    }
}
