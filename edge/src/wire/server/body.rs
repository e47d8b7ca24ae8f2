//! Bodies: admitted before they are read, read under a cap, a quota and a deadline of progress.

use std::sync::Arc;
use std::time::{Duration, Instant};

use autonomy_schema::{Code, Reason};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use hyper::body::{Frame, Incoming};
use tokio::sync::OwnedSemaphorePermit;

use super::Shared;
use super::answer::{Refusal, bad_request};
use super::connection::Visit;
use crate::wire::limits::{ANSWER_GRACE, FLOOD_PAUSE, MIN_PROGRESS, QUESTION_BYTES, SHED_SECONDS};

/// The body of a request, read or not. What is left of it when the answer is given stays open for a moment: curl, and others
/// that send and read at once, else see a stream that was reset, and not the answer.
pub(super) struct Held(Option<Incoming>);

impl Held {
    pub(super) fn new(incoming: Incoming) -> Self {
        Self(Some(incoming))
    }

    /// How long it is, if that is known.
    fn exact(&self) -> Option<u64> {
        self.0.as_ref().and_then(|incoming| incoming.size_hint().exact())
    }

    async fn frame(&mut self) -> Option<Result<Frame<Bytes>, hyper::Error>> {
        self.0.as_mut()?.frame().await
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let left = self.0.take().filter(|incoming| !incoming.is_end_stream());
        if let (Some(left), Ok(runtime)) = (left, tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                tokio::time::sleep(ANSWER_GRACE).await;
                drop(left);
            });
        }
    }
}

/// A body that may be read.
pub(super) struct Body {
    shared: Arc<Shared>,
    visit: Arc<Visit>,
    incoming: Held,
    /// Most bytes.
    cap: u64,
    /// Bytes that were read.
    read: u64,
    /// Bytes that the quota has given and that were not read yet.
    prepaid: u64,
    /// Bytes that were read and that the quota has not given yet.
    owed: u64,
    /// Bytes since the last progress.
    fresh: u64,
    /// How long the peer may still take until the next progress.
    patience: Duration,
    /// The peer said how long the body is, and it was let in: what the quota lacks is waited for, not refused.
    is_declared: bool,
    _turn: OwnedSemaphorePermit,
}

impl Body {
    /// Admits a body of at most `cap` bytes, or refuses it unread.
    pub(super) async fn admit(
        shared: &Arc<Shared>,
        visit: &Arc<Visit>,
        headers: &HeaderMap,
        incoming: Held,
        cap: u64,
    ) -> Result<Self, Refusal> {
        ready(shared, visit)?;
        let declared = incoming.exact().filter(|_| headers.contains_key(header::CONTENT_LENGTH));
        if declared.is_some_and(|length| length > cap) {
            return Err(too_large(cap));
        }
        let prepaid = match visit.guest.take(declared.unwrap_or(1)) {
            Ok(prepaid) => prepaid,
            Err(ticks) => return Err(over_quota(shared, visit, ticks).await),
        };
        // The semaphore is never closed.
        let turn = Arc::clone(&visit.guest.bodies).acquire_owned().await.map_err(|_closed| stopping())?;
        Ok(Self {
            shared: Arc::clone(shared),
            visit: Arc::clone(visit),
            incoming,
            cap,
            read: 0,
            prepaid,
            owed: 0,
            fresh: 0,
            patience: shared.timeouts.progress,
            is_declared: declared.is_some(),
            _turn: turn,
        })
    }

    /// The next bytes; `None` at the end. Waits until the quota has given what came before.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Refusal> {
        while let Err(ticks) = self.settle() {
            if !self.is_declared {
                return Err(over_quota(&self.shared, &self.visit, ticks).await);
            }
            tokio::time::sleep(Duration::from_millis(ticks)).await;
        }
        let started = Instant::now();
        match tokio::time::timeout(self.patience, self.frame()).await {
            Err(_elapsed) => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, bad_request("the body makes no progress"))),
            Ok(read) => {
                self.patience = self.patience.saturating_sub(started.elapsed());
                self.note(read)
            }
        }
    }

    /// The same if that is possible within `patience`; `None` otherwise, and nothing is lost.
    pub(super) async fn soon(&mut self, patience: Duration) -> Option<Result<Option<Bytes>, Refusal>> {
        self.settle().ok()?;
        let started = Instant::now();
        let read = tokio::time::timeout(patience, self.frame()).await;
        self.patience = self.patience.saturating_sub(started.elapsed());
        Some(self.note(read.ok()?))
    }

    /// A frame with bytes. Dropped while it waits, it has taken nothing.
    async fn frame(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        loop {
            match self.incoming.frame().await? {
                Err(broken) => return Some(Err(broken)),
                // Trailers say nothing here, and empty frames are no progress.
                Ok(frame) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Some(Ok(data)),
                    Ok(_) | Err(_) => {}
                },
            }
        }
    }

    fn note(&mut self, read: Option<Result<Bytes, hyper::Error>>) -> Result<Option<Bytes>, Refusal> {
        let data = match read {
            None => return Ok(None),
            Some(Err(_broken)) => {
                return Err(Refusal::new(StatusCode::BAD_REQUEST, bad_request("the body ended before its end")));
            }
            Some(Ok(data)) => data,
        };
        let length = data.len() as u64;
        self.read = self.read.saturating_add(length);
        if self.read > self.cap {
            return Err(too_large(self.cap));
        }
        self.owed += length.saturating_sub(self.prepaid);
        self.prepaid = self.prepaid.saturating_sub(length);
        self.fresh += length;
        if self.fresh >= MIN_PROGRESS {
            self.fresh = 0;
            self.patience = self.shared.timeouts.progress;
        }
        self.shared.metrics.received(self.visit.guest.id(), length);
        Ok(Some(data))
    }

    /// Pays for what was read, if the quota has it; else the milliseconds until it does.
    fn settle(&mut self) -> Result<(), u64> {
        while self.owed > 0 {
            self.owed -= self.visit.guest.take(self.owed)?;
        }
        Ok(())
    }
}

/// Admits a question that the storage thread must answer. It is paid for like bytes, and each peer asks one after the other:
/// however many it asks, others are answered in between.
pub(super) async fn question(shared: &Arc<Shared>, visit: &Arc<Visit>) -> Result<OwnedSemaphorePermit, Refusal> {
    // The semaphore is never closed.
    let turn = Arc::clone(&visit.guest.questions).acquire_owned().await.map_err(|_closed| stopping())?;
    match visit.guest.take(QUESTION_BYTES) {
        Ok(_) => Ok(turn),
        Err(ticks) => Err(over_quota(shared, visit, ticks).await),
    }
}

/// Whether load is taken at all.
fn ready(shared: &Shared, visit: &Visit) -> Result<(), Refusal> {
    if shared.is_draining() {
        return Err(stopping());
    }
    let Some(short) = shared.shed.short() else { return Ok(()) };
    shared.metrics.shed();
    tracing::warn!(
        event = "edge.load.shed",
        peer = visit.guest.id().as_str(),
        limit = short.limit,
        used = short.used,
        of = short.of,
        "memory is short"
    );
    let reason = Reason::new(Code::Overloaded, "memory is short here");
    Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, reason).after(SHED_SECONDS))
}

fn stopping() -> Refusal {
    let reason = Reason::new(Code::Overloaded, "the daemon is stopping");
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, reason).after(SHED_SECONDS)
}

fn too_large(cap: u64) -> Refusal {
    let reason = Reason::new(Code::DocumentTooLarge, format!("the body is longer than {cap} bytes"))
        .with_remedy("send less at once");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, reason)
}

/// The quota is a limit on bytes, and the pause on questions: a peer that floods us takes no more of us than others do.
async fn over_quota(shared: &Shared, visit: &Visit, ticks: u64) -> Refusal {
    let peer = visit.guest.id();
    shared.metrics.throttled(peer);
    tracing::warn!(
        event = "edge.quota.exceeded",
        peer = peer.as_str(),
        address = %visit.address,
        retry_ms = ticks,
        "over the ingest quota"
    );
    tokio::time::sleep(FLOOD_PAUSE).await;
    let (rate, burst, _) = visit.guest.quota();
    let message = format!("the ingest quota is {rate} bytes a second, {burst} at once");
    Refusal::new(StatusCode::TOO_MANY_REQUESTS, Reason::new(Code::QuotaExceeded, message)).after(ticks.div_ceil(1000))
}

/// The media type must be the one that the path takes.
pub(super) fn media_type(headers: &HeaderMap, wanted: &'static str) -> Result<(), Refusal> {
    let found = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_wanted =
        found.is_some_and(|found| found.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(wanted));
    if is_wanted {
        return Ok(());
    }
    Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, bad_request(format!("the body is not `{wanted}`"))))
}
