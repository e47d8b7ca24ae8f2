//! `POST /v1/packs`: many segments, one durable commit, one answer that says what became of each.

use std::sync::Arc;

use autonomy_relay::pack::{self, Frame, PackError};
use autonomy_schema::{Blake3, Code, Name, Reason};
use http::{Request, StatusCode};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Shared;
use super::answer::{Answer, Refusal, bad_request, json};
use super::body::{Body, Held, media_type};
use super::connection::Visit;
use crate::storage::StorageGone;
use crate::store::{Put, Segment, StoreError, Ticket, Written};
use crate::wire::limits::{BATCH_BYTES, BATCH_PATIENCE};

/// What became of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Outcome {
    id: Blake3,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

impl Outcome {
    fn new(id: Blake3, put: Put) -> Self {
        match put {
            Put::Stored => Self { id, status: "stored", reason: None },
            Put::Duplicate => Self { id, status: "duplicate", reason: None },
            Put::NotNamed => Self { id, status: "refused", reason: Some(Code::NotNamed.as_str()) },
        }
    }

    /// The bytes are not those that the name says.
    fn wrong(id: Blake3) -> Self {
        Self { id, status: "refused", reason: Some(Code::DigestMismatch.as_str()) }
    }
}

#[derive(Serialize)]
struct Results {
    results: Vec<Outcome>,
}

/// Segments on their way to the storage thread; the permit is their share of the pool.
struct Batch {
    segments: Vec<Segment>,
    bytes: usize,
    permit: Option<OwnedSemaphorePermit>,
    /// What became of those before, in the order of the pack.
    outcomes: Vec<Outcome>,
    from: Name,
    /// Of the first that was handed over.
    ticket: Option<Ticket>,
    /// What is being written meanwhile.
    writing: Option<Writing>,
}

/// Segments that were handed over.
struct Writing {
    ids: Vec<Blake3>,
    written: oneshot::Receiver<Result<Written, StoreError>>,
}

/// Takes a pack.
pub(super) async fn post(shared: &Arc<Shared>, visit: &Arc<Visit>, request: Request<Held>) -> Result<Answer, Refusal> {
    let (head, incoming) = request.into_parts();
    media_type(&head.headers, pack::MEDIA_TYPE)?;
    let mut body = Body::admit(shared, visit, &head.headers, incoming, pack::MAX_BYTES).await?;
    let mut reader = pack::Reader::new();
    let from = visit.guest.id().clone();
    let mut batch =
        Batch { segments: Vec::new(), bytes: 0, permit: None, outcomes: Vec::new(), from, ticket: None, writing: None };
    loop {
        // What waits in memory does not wait for a slow peer.
        let read = if batch.segments.is_empty() { None } else { body.soon(BATCH_PATIENCE).await };
        let read = if let Some(read) = read {
            read?
        } else {
            batch.flush(shared).await?;
            body.chunk().await?
        };
        let Some(read) = read else { break };
        let mut chunk = &read[..];
        while let Some(frame) = reader.next(&mut chunk).map_err(|error| bad_pack(&error))? {
            batch.take(shared, frame).await?;
        }
    }
    reader.end().map_err(|error| bad_pack(&error))?;
    // The next pack of the peer is read from now on. The semaphore is never closed.
    let _commit = Arc::clone(&visit.guest.commits).acquire_owned().await.ok();
    drop(body);
    batch.flush(shared).await?;
    batch.settle().await?;
    // One commit for all; nothing is said before it is durable.
    if let Some(ticket) = batch.ticket {
        let whole = shared.storage.commit(ticket, Shared::clock()).await??;
        shared.arrived(whole.len());
    }
    shared.metrics.packed();
    for outcome in &batch.outcomes {
        shared.metrics.segment(outcome.status);
    }
    Ok(json(StatusCode::OK, &Results { results: batch.outcomes }))
}

impl Batch {
    async fn take(&mut self, shared: &Arc<Shared>, frame: Frame) -> Result<(), Refusal> {
        let writing = self.writing.as_ref().map_or(0, |writing| writing.ids.len());
        if self.outcomes.len() + writing + self.segments.len() >= pack::MAX_SEGMENTS {
            let reason =
                Reason::new(Code::LimitExceeded, format!("a pack holds at most {} segments", pack::MAX_SEGMENTS))
                    .with_remedy("send several packs");
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, reason));
        }
        if Blake3::of(&frame.bytes) != frame.id {
            self.flush(shared).await?;
            self.settle().await?;
            self.outcomes.push(Outcome::wrong(frame.id));
            return Ok(());
        }
        let length = frame.bytes.len();
        if self.bytes + length > BATCH_BYTES {
            self.flush(shared).await?;
        }
        // At most 64 KiB, so it fits.
        let needed = u32::try_from(length).unwrap_or(u32::MAX);
        let permit = match Arc::clone(&shared.pool).try_acquire_many_owned(needed) {
            Ok(permit) => permit,
            Err(_used_up) => {
                // Who waits for room holds none: so somebody always goes on.
                self.flush(shared).await?;
                self.settle().await?;
                let wait = Arc::clone(&shared.pool).acquire_many_owned(needed);
                wait.await.map_err(|_closed| Refusal::from(StorageGone))?
            }
        };
        match &mut self.permit {
            Some(held) => held.merge(permit),
            None => self.permit = Some(permit),
        }
        self.bytes += length;
        self.segments.push(Segment { id: frame.id, bytes: frame.bytes });
        Ok(())
    }

    /// Hands over what was gathered, once what was handed over before is written.
    async fn flush(&mut self, shared: &Arc<Shared>) -> Result<(), Refusal> {
        if self.segments.is_empty() {
            return Ok(());
        }
        self.settle().await?;
        let segments = std::mem::take(&mut self.segments);
        let ids: Vec<Blake3> = segments.iter().map(|segment| segment.id).collect();
        let permit = self.permit.take();
        let from = self.from.clone();
        self.bytes = 0;
        // The permit goes along: the room is free when the bytes are written, even when nobody waits for it any more.
        let written = shared.storage.begin(move |stores| {
            let put = stores.store.put(segments, &from);
            drop(permit);
            put
        });
        self.writing = Some(Writing { ids, written: written.await? });
        Ok(())
    }

    /// Waits for what was handed over.
    async fn settle(&mut self) -> Result<(), Refusal> {
        let Some(Writing { ids, written }) = self.writing.take() else { return Ok(()) };
        let put = written.await.map_err(StorageGone::from)??;
        self.ticket.get_or_insert(put.ticket);
        self.outcomes.extend(ids.into_iter().zip(put.results).map(|(id, put)| Outcome::new(id, put)));
        Ok(())
    }
}

fn bad_pack(error: &PackError) -> Refusal {
    match error {
        PackError::Oversize => {
            let reason = Reason::new(Code::DocumentTooLarge, error.to_string()).with_remedy("send several packs");
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, reason)
        }
        PackError::Empty { .. } | PackError::TooLong { .. } | PackError::Truncated { .. } => {
            Refusal::new(StatusCode::BAD_REQUEST, bad_request(error.to_string()))
        }
    }
}
