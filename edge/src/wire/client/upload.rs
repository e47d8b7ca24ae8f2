//! A body from a bounded channel, of a length that was announced; and whether it moves.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use autonomy_schema::Name;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::wire::limits::Timeouts;
use crate::wire::metrics::Metrics;

/// When a body last moved.
#[derive(Debug)]
pub(super) struct Pace(Mutex<(Instant, Stage)>);

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing was read from the disk yet: no peer is to blame for that.
    Waits,
    Moves,
    Ended,
}

impl Pace {
    /// A body that is to be sent.
    pub(super) fn begun() -> Self {
        Self(Mutex::new((Instant::now(), Stage::Waits)))
    }

    /// Nothing is to be sent.
    pub(super) fn ended() -> Self {
        Self(Mutex::new((Instant::now(), Stage::Ended)))
    }

    /// Until when the next progress must be there.
    pub(super) fn until(&self, timeouts: &Timeouts) -> Instant {
        let (at, stage) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        at + match stage {
            Stage::Waits | Stage::Ended => timeouts.answer,
            Stage::Moves => timeouts.progress,
        }
    }

    fn note(&self, has_ended: bool) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            (Instant::now(), if has_ended { Stage::Ended } else { Stage::Moves });
    }
}

/// What a body holds while it goes out: its chunks, and its turn on the connection. Bodies go one after the other, so that
/// what was sent first is made durable over there while the next one is under way.
#[derive(Debug)]
pub(super) struct Hold(Arc<Mutex<Option<Held>>>);

#[derive(Debug)]
struct Held {
    chunks: mpsc::Receiver<Bytes>,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Hold {
    pub(super) fn new(chunks: mpsc::Receiver<Bytes>, turn: Option<OwnedSemaphorePermit>) -> Self {
        Self(Arc::new(Mutex::new(Some(Held { chunks, _turn: turn }))))
    }
}

impl Drop for Hold {
    /// The exchange is over, whatever came of it: a peer that answers and does not read on keeps nobody waiting.
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The body.
pub(super) struct Upload {
    held: Arc<Mutex<Option<Held>>>,
    left: u64,
    pace: Arc<Pace>,
    metrics: (Arc<Metrics>, Name),
}

impl Upload {
    pub(super) fn new(hold: &Hold, length: u64, pace: Arc<Pace>, metrics: (Arc<Metrics>, Name)) -> Self {
        Self { held: Arc::clone(&hold.0), left: length, pace, metrics }
    }

    /// What comes of the next chunk.
    fn note(&mut self, chunk: Option<Bytes>) -> Option<io::Result<Frame<Bytes>>> {
        let short = |what| Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, what)));
        let Some(chunk) = chunk else {
            return if self.left > 0 { short("the body ended before the length that was announced") } else { None };
        };
        let Some(left) = self.left.checked_sub(chunk.len() as u64) else {
            return short("the body is longer than was announced");
        };
        self.left = left;
        self.pace.note(left == 0);
        self.metrics.0.sent(&self.metrics.1, chunk.len() as u64);
        Some(Ok(Frame::data(chunk)))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let shared = Arc::clone(&self.held);
        let mut held = shared.lock().unwrap_or_else(PoisonError::into_inner);
        let chunk = match held.as_mut().map(|held| held.chunks.poll_recv(context)) {
            Some(Poll::Pending) => return Poll::Pending,
            Some(Poll::Ready(chunk)) => chunk,
            None => None,
        };
        let frame = self.note(chunk);
        if self.left == 0 {
            // The next body has its turn.
            *held = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
