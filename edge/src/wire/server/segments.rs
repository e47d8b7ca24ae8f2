//! `PUT /v1/segments/{id}`: one segment, for people with curl.

use std::sync::Arc;

use autonomy_schema::segments::MAX_SEGMENT;
use autonomy_schema::{Blake3, Code, Reason};
use http::{Request, StatusCode};
use serde_json::json;

use super::Shared;
use super::answer::{Answer, Refusal, json};
use super::body::{Body, Held};
use super::connection::Visit;
use crate::store::{Put, Segment};

/// Takes a segment.
pub(super) async fn put(
    shared: &Arc<Shared>,
    visit: &Arc<Visit>,
    id: Blake3,
    request: Request<Held>,
) -> Result<Answer, Refusal> {
    let (head, incoming) = request.into_parts();
    let mut body = Body::admit(shared, visit, &head.headers, incoming, u64::from(MAX_SEGMENT)).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = body.chunk().await? {
        bytes.extend_from_slice(&chunk);
    }
    if Blake3::of(&bytes) != id {
        shared.metrics.segment("refused");
        let reason = Reason::new(Code::DigestMismatch, format!("the body is not the segment {id}"));
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, reason));
    }
    let from = visit.guest.id().clone();
    let put = shared.storage.call(move |stores| stores.store.put(vec![Segment { id, bytes }], &from));
    let put = put.await??;
    let whole = shared.storage.commit(put.ticket, Shared::clock()).await??;
    shared.arrived(whole.len());
    let (status, word) = match put.results.first() {
        Some(Put::Stored) => (StatusCode::CREATED, "stored"),
        Some(Put::Duplicate) => (StatusCode::OK, "duplicate"),
        Some(Put::NotNamed) | None => {
            shared.metrics.segment("refused");
            let reason = Reason::new(Code::NotNamed, format!("no accepted manifest names the segment {id}"));
            return Err(Refusal::new(StatusCode::NOT_FOUND, reason));
        }
    };
    shared.metrics.segment(word);
    Ok(json(status, &json!({ "id": id, "status": word })))
}
