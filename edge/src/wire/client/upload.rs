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

/// The body.
pub(super) struct Upload {
    chunks: mpsc::Receiver<Bytes>,
    left: u64,
    pace: Arc<Pace>,
    metrics: (Arc<Metrics>, Name),
    /// Given back when the body has ended.
    turn: Option<OwnedSemaphorePermit>,
}

impl Upload {
    /// A body that has its turn on the connection: bodies go one after the other, so that what was sent first is made durable
    /// over there while the next one is under way.
    pub(super) fn new(
        chunks: mpsc::Receiver<Bytes>,
        length: u64,
        pace: Arc<Pace>,
        metrics: (Arc<Metrics>, Name),
        turn: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self { chunks, left: length, pace, metrics, turn }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Poll::Ready(chunk) = self.chunks.poll_recv(context) else { return Poll::Pending };
        let short = |what| Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, what))));
        match chunk {
            None if self.left > 0 => short("the body ended before the length that was announced"),
            None => Poll::Ready(None),
            Some(chunk) => {
                let Some(left) = self.left.checked_sub(chunk.len() as u64) else {
                    return short("the body is longer than was announced");
                };
                self.left = left;
                self.pace.note(left == 0);
                if left == 0 {
                    self.turn = None;
                }
                self.metrics.0.sent(&self.metrics.1, chunk.len() as u64);
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
