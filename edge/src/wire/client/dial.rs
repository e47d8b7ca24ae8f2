//! From an address to HTTP/2 with the peer that was called.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use autonomy_schema::Name;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Out, WireError, error};
use crate::wire::limits::{CONNECTION_WINDOW, LOOK_PAUSE, MAX_HEADERS, SEND_BUFFER, STREAM_WINDOW, Timeouts};
use crate::wire::tls::{ALPN, Credentials, Tls};
use crate::wire::verify::{End, word};

/// Most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;

type Dialled = (SendRequest<Out>, watch::Receiver<Option<String>>, JoinHandle<()>);

pub(super) async fn connect(tls: &Tls, timeouts: &Timeouts, peer: &Name, address: &str) -> Result<Dialled, WireError> {
    let stream = tcp(timeouts, address).await?;
    // A reload from here on is seen by the driver.
    let mut credentials = tls.subscribe();
    let config = credentials.borrow_and_update().client(peer).map_err(|error| WireError::Tls(error.to_string()))?;
    let name = stream.peer_addr().map_err(|error| WireError::Unreachable(error.to_string()))?.ip();
    let handshake = TlsConnector::from(Arc::new(config)).connect(ServerName::IpAddress(name.into()), stream);
    let stream = match timeout(timeouts.handshake, handshake).await {
        Err(_elapsed) => return Err(WireError::Tls("handshake_timeout".to_owned())),
        Ok(Err(error)) => return Err(error::of_io(&error)),
        Ok(Ok(stream)) => stream,
    };
    let (_, session) = stream.get_ref();
    if session.alpn_protocol() != Some(ALPN) {
        return Err(WireError::Tls("no_http2".to_owned()));
    }
    let chain = session.peer_certificates().unwrap_or_default();
    let chain: Vec<CertificateDer<'static>> = chain.iter().map(|it| it.clone().into_owned()).collect();
    let (sender, connection) = match timeout(timeouts.handshake, http2(timeouts, stream)).await {
        Err(_elapsed) => return Err(WireError::Lost("the peer does not begin HTTP/2".to_owned())),
        Ok(begun) => begun?,
    };
    let (closed, why) = watch::channel(None);
    let driver = tokio::spawn(async move {
        let ended = tokio::select! {
            ended = connection => match ended {
                Ok(()) => "the peer closed the connection".to_owned(),
                Err(error) => error::of(&error).to_string(),
            },
            word = admitted(&chain, credentials) => format!("the certificate of the peer does not hold any more: {word}"),
        };
        closed.send_replace(Some(ended));
    });
    Ok((sender, why, driver))
}

/// Ends when the peer's certificate holds no more (INV-09), with a word for why.
async fn admitted(
    chain: &[CertificateDer<'static>],
    mut credentials: watch::Receiver<Arc<Credentials>>,
) -> &'static str {
    loop {
        if let Err(error) = credentials.borrow_and_update().judge(chain, End::Server) {
            return word(&error);
        }
        tokio::select! {
            Ok(()) = credentials.changed() => {}
            () = tokio::time::sleep(LOOK_PAUSE) => {}
        }
    }
}

type Begun = (SendRequest<Out>, http2::Connection<TokioIo<TlsStream<TcpStream>>, Out, TokioExecutor>);

async fn http2(timeouts: &Timeouts, stream: TlsStream<TcpStream>) -> Result<Begun, WireError> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADERS)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(timeouts.ping)
        .keep_alive_timeout(timeouts.pong)
        .keep_alive_while_idle(true);
    builder.handshake(TokioIo::new(stream)).await.map_err(|error| error::of(&error))
}

/// The first address of the name that answers, within the time for all of them.
async fn tcp(timeouts: &Timeouts, address: &str) -> Result<TcpStream, WireError> {
    let deadline = Instant::now() + timeouts.connect;
    let looked_up = match timeout(timeouts.connect, tokio::net::lookup_host(address)).await {
        Err(_elapsed) => return Err(WireError::Unreachable(format!("`{address}`: no answer to the name"))),
        Ok(Err(error)) => return Err(WireError::Unreachable(format!("`{address}`: {error}"))),
        Ok(Ok(found)) => found,
    };
    let found: Vec<SocketAddr> = looked_up.take(MAX_ADDRESSES).collect();
    let mut why = "the name has no address".to_owned();
    for (at, address) in found.iter().enumerate() {
        let left = u32::try_from(found.len() - at).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(Instant::now()) / left;
        match timeout(share, TcpStream::connect(address)).await {
            Err(_elapsed) => why = format!("{address}: no answer"),
            Ok(Err(error)) => why = format!("{address}: {error}"),
            Ok(Ok(stream)) => {
                // Where it cannot be set, small requests are a little later.
                stream.set_nodelay(true).ok();
                return Ok(stream);
            }
        }
    }
    Err(WireError::Unreachable(why))
}
