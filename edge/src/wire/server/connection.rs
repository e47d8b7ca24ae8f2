//! One connection: the handshake, who it is, then HTTP/2 until it ends, idles, or is no longer admitted.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use autonomy_trust::peer_of_certificate;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{Pending, Shared, begun, route};
use crate::wire::limits::{
    CONNECTION_WINDOW, LOOK_PAUSE, MAX_ERROR_RESETS, MAX_HEADERS, MAX_PENDING_RESETS, MAX_STREAMS, SEND_BUFFER,
    STREAM_WINDOW, Timeouts,
};
use crate::wire::peers::Guest;
use crate::wire::tls::ALPN;
use crate::wire::verify::{End, word};

/// The peer at the other end.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) guest: Guest,
    /// The certificate is of another fleet: every path is answered 403.
    pub(super) is_foreign: bool,
    pub(super) address: SocketAddr,
    activity: Activity,
}

/// What a connection does.
#[derive(Debug)]
struct Activity {
    under_way: AtomicUsize,
    has_asked: AtomicBool,
    last: Mutex<Instant>,
}

impl Activity {
    fn new() -> Self {
        Self { under_way: AtomicUsize::new(0), has_asked: AtomicBool::new(false), last: Mutex::new(Instant::now()) }
    }

    fn touch(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// How long nothing is under way.
    fn idle(&self) -> Duration {
        if self.under_way.load(Ordering::Relaxed) > 0 {
            return Duration::ZERO;
        }
        self.last.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// What it may still idle for.
    fn patience(&self, timeouts: &Timeouts) -> Duration {
        let limit = if self.has_asked.load(Ordering::Relaxed) { timeouts.idle } else { timeouts.first_request };
        limit.saturating_sub(self.idle())
    }
}

/// A request under way, however it ends.
pub(super) struct UnderWay(Arc<Visit>);

impl UnderWay {
    fn new(visit: &Arc<Visit>) -> Self {
        visit.activity.has_asked.store(true, Ordering::Relaxed);
        visit.activity.under_way.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(visit))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.activity.touch();
        self.0.activity.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves the connection from its first byte to its last.
pub(super) async fn run(shared: &Arc<Shared>, stream: TcpStream, address: SocketAddr, pending: Pending) {
    // Small answers are whole answers; where it cannot be set they are a little later.
    stream.set_nodelay(true).ok();
    // Taken before the handshake, so that no reload falls between the judgement there and the one that follows reloads.
    let mut credentials = shared.tls.subscribe();
    let server = credentials.borrow_and_update().server();
    let own_fleet = shared.tls.current().node().fleet.clone();
    let handshake = TlsAcceptor::from(server).accept(stream);
    let stream = match tokio::time::timeout(shared.timeouts.handshake, handshake).await {
        Err(_elapsed) => return shared.reject(address, None, "handshake_timeout"),
        Ok(Err(error)) => return shared.reject(address, None, handshake_word(&error)),
        Ok(Ok(stream)) => stream,
    };
    let (_, session) = stream.get_ref();
    if session.alpn_protocol() != Some(ALPN) {
        return shared.reject(address, None, "no_http2");
    }
    let chain: Vec<CertificateDer<'static>> =
        session.peer_certificates().unwrap_or_default().iter().map(|it| it.clone().into_owned()).collect();
    let Some((fleet, id)) = chain.first().and_then(|first| peer_of_certificate(first)) else {
        return shared.reject(address, None, "certificate_invalid");
    };
    let is_foreign = fleet.as_ref().is_some_and(|fleet| *fleet != own_fleet);
    let Ok(_slot) = Arc::clone(&shared.slots).try_acquire_owned() else {
        return shared.reject(address, Some(&id), "too_many_connections");
    };
    drop(pending);
    // A peer without a fleet of its own is the same peer as with it.
    let guest = match shared.peers.admit(fleet.filter(|_| is_foreign), id.clone()) {
        Ok(guest) => guest,
        Err(word) => return shared.reject(address, Some(&id), word),
    };
    if is_foreign {
        shared.reject(address, Some(&id), "wrong_fleet");
    } else {
        tracing::info!(event = "edge.peer.connected", %address, peer = id.as_str(), "a peer is connected");
        // The driver dials by itself in the end; this only hastens it.
        shared.seen.try_send(id.clone()).ok();
    }
    let visit = Arc::new(Visit { guest, is_foreign, address, activity: Activity::new() });
    let why = serve(shared, stream, &visit, &chain, credentials).await;
    tracing::info!(event = "edge.peer.disconnected", %address, peer = id.as_str(), reason = why, "a connection ended");
}

/// Why a handshake failed, in one word.
fn handshake_word(error: &std::io::Error) -> &'static str {
    use rustls::Error;
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(error)) => word(error),
        Some(Error::NoCertificatesPresented) => "no_certificate",
        Some(Error::PeerIncompatible(_)) => "incompatible",
        Some(Error::NoApplicationProtocol) => "no_http2",
        Some(Error::InvalidMessage(_)) => "not_tls",
        Some(Error::AlertReceived(_)) => "refused_by_peer",
        Some(_) => "tls",
        None => "closed",
    }
}

fn builder(timeouts: &Timeouts) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(timeouts.ping)
        .keep_alive_timeout(timeouts.pong)
        .auto_date_header(false);
    builder
}

/// HTTP/2 until the end; says why it ended.
async fn serve(
    shared: &Arc<Shared>,
    stream: TlsStream<TcpStream>,
    visit: &Arc<Visit>,
    chain: &[CertificateDer<'static>],
    mut credentials: tokio::sync::watch::Receiver<Arc<crate::wire::tls::Credentials>>,
) -> &'static str {
    let service = service_fn(|request: Request<Incoming>| {
        let (shared, visit) = (Arc::clone(shared), Arc::clone(visit));
        async move {
            let under_way = UnderWay::new(&visit);
            let response = route::answer(&shared, &visit, request).await;
            drop(under_way);
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = pin!(builder(&shared.timeouts).serve_connection(TokioIo::new(stream), service));
    let mut draining = shared.draining.subscribe();
    let mut ends: Option<(Instant, &'static str)> = None;
    loop {
        let pause = match ends {
            Some((at, _)) => at.saturating_duration_since(Instant::now()),
            None => visit.activity.patience(&shared.timeouts).clamp(Duration::from_millis(10), LOOK_PAUSE),
        };
        tokio::select! {
            ended = connection.as_mut() => return if ended.is_ok() { "closed" } else { "broken" },
            Ok(()) = credentials.changed() => {}
            () = begun(&mut draining), if ends.is_none() => {
                connection.as_mut().graceful_shutdown();
                ends = Some((Instant::now() + shared.timeouts.drain, "drained"));
            }
            () = tokio::time::sleep(pause) => match ends {
                Some((_, why)) => return why,
                None if visit.activity.patience(&shared.timeouts).is_zero() => {
                    connection.as_mut().graceful_shutdown();
                    ends = Some((Instant::now() + shared.timeouts.pong, "idle"));
                }
                None => {}
            },
        }
        let judged = credentials.borrow_and_update().judge(chain, End::Client);
        if let Err(error) = judged {
            // Not a graceful end: who is revoked has nothing more to say (INV-09).
            let why = word(&error);
            shared.reject(visit.address, Some(visit.guest.id()), why);
            return why;
        }
    }
}
