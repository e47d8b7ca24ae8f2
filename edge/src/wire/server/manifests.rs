//! `PUT` and `GET /v1/manifests/{fingerprint}`: the signed set, verified before anything that it names is taken.

use std::sync::Arc;

use autonomy_schema::{Blake3, Code, Reason};
use http::{Request, StatusCode};

use super::answer::{Answer, Refusal, json};
use super::body::{Body, Held, media_type, question};
use super::connection::Visit;
use super::{Shared, route};
use crate::store::{MAX_SET_BYTES, StoreError, is_late};
use crate::wire::limits::SET_CHUNK;

/// How far the set is.
pub(super) async fn get(shared: &Arc<Shared>, visit: &Arc<Visit>, fingerprint: Blake3) -> Result<Answer, Refusal> {
    let _turn = question(shared, visit).await?;
    progress(shared, fingerprint, StatusCode::OK).await
}

async fn progress(shared: &Arc<Shared>, fingerprint: Blake3, status: StatusCode) -> Result<Answer, Refusal> {
    let settled = shared.storage.settled().await;
    let found = shared.storage.call(move |stores| stores.store.progress(fingerprint, Shared::clock())).await??;
    drop(settled);
    if let Some(progress) = found {
        return Ok(json(status, &progress));
    }
    let reason = Reason::new(Code::NotNamed, format!("{fingerprint} is not known here"))
        .with_remedy("send the signed set: PUT on the same path");
    Err(Refusal::new(StatusCode::NOT_FOUND, reason))
}

/// Takes the documents of a set.
pub(super) async fn put(
    shared: &Arc<Shared>,
    visit: &Arc<Visit>,
    fingerprint: Blake3,
    request: Request<Held>,
) -> Result<Answer, Refusal> {
    let (head, incoming) = request.into_parts();
    media_type(&head.headers, "application/x-tar")?;
    let mut body = Body::admit(shared, visit, &head.headers, incoming, MAX_SET_BYTES).await?;
    let mut set = shared.storage.call(|stores| stores.store.begin_set()).await??;
    let mut chunk = Vec::new();
    loop {
        let read = body.chunk().await?;
        let is_end = read.is_none();
        chunk.extend_from_slice(&read.unwrap_or_default());
        if chunk.len() >= SET_CHUNK || (is_end && !chunk.is_empty()) {
            let bytes = std::mem::take(&mut chunk);
            let job = shared.storage.call(move |stores| stores.store.write_set(&mut set, &bytes).map(|()| set));
            set = job.await??;
        }
        if is_end {
            break;
        }
    }
    let from = visit.guest.id().clone();
    let accepted =
        shared.storage.call(move |stores| stores.store.accept_set(set, fingerprint, &from, Shared::clock())).await?;
    let accepted = accepted.inspect_err(|error| {
        if let StoreError::Refused(reasons) = error {
            let event = if is_late(reasons) { "edge.manifest.late" } else { "edge.manifest.quarantined" };
            tracing::warn!(
                event,
                peer = visit.guest.id().as_str(),
                manifest = %fingerprint,
                reasons = route::short(&reasons.one_line()),
                "a set does not verify"
            );
        }
    })?;
    // With all of its segments here already, it is whole at once.
    shared.arrived(usize::from(accepted.first));
    let status = if accepted.first { StatusCode::CREATED } else { StatusCode::OK };
    progress(shared, fingerprint, status).await
}
