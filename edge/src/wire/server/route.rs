//! Which request is whose.

use std::sync::Arc;

use autonomy_schema::{Blake3, Code, Reason};
use http::{Method, Request, StatusCode};
use hyper::body::Body as _;
use hyper::body::Incoming;

use super::answer::{Answer, Refusal, bad_request};
use super::body::Held;
use super::connection::Visit;
use super::{Shared, health, manifests, packs, segments};

/// A path that exists.
enum Route {
    Health,
    Manifest(Blake3),
    Packs,
    Segment(Blake3),
}

/// Answers a request, and writes down what was refused.
pub(super) async fn answer(shared: &Arc<Shared>, visit: &Arc<Visit>, request: Request<Incoming>) -> Answer {
    let peer = visit.guest.id();
    let answer = match handle(shared, visit, request.map(Held::new)).await {
        Ok(answer) => answer,
        Err(refusal) => {
            tracing::warn!(
                event = "edge.request.refused",
                peer = peer.as_str(),
                status = refusal.status.as_u16(),
                reasons = short(&refusal.line()),
                "request refused"
            );
            refusal.into_answer()
        }
    };
    shared.metrics.answered(answer.status());
    if !visit.is_foreign {
        shared.metrics.sent(peer, answer.body().size_hint().lower());
    }
    answer
}

/// Text with a peer's words in it, for one line of a log.
pub(super) fn short(text: &str) -> String {
    /// Longest text of a refusal in the log, in characters.
    const MAX_SHOWN: usize = 400;
    text.chars().take(MAX_SHOWN).map(|c| if c.is_control() { '?' } else { c }).collect()
}

async fn handle(shared: &Arc<Shared>, visit: &Arc<Visit>, request: Request<Held>) -> Result<Answer, Refusal> {
    if visit.is_foreign {
        let reason = Reason::new(Code::ScopeMismatch, "the certificate is of another fleet")
            .with_remedy("come with a certificate of this node's fleet");
        return Err(Refusal::new(StatusCode::FORBIDDEN, reason));
    }
    let route = route(request.uri().path())?;
    let method = request.method().clone();
    match (route, method) {
        (Route::Health, Method::GET) => Ok(health::answer(shared, visit)),
        (Route::Health, _) => Err(Refusal::method("GET")),
        (Route::Manifest(id), Method::PUT) => manifests::put(shared, visit, id, request).await,
        (Route::Manifest(id), Method::GET) => manifests::get(shared, visit, id).await,
        (Route::Manifest(_), _) => Err(Refusal::method("GET, PUT")),
        (Route::Packs, Method::POST) => packs::post(shared, visit, request).await,
        (Route::Packs, _) => Err(Refusal::method("POST")),
        (Route::Segment(id), Method::PUT) => segments::put(shared, visit, id, request).await,
        (Route::Segment(_), _) => Err(Refusal::method("PUT")),
    }
}

fn route(path: &str) -> Result<Route, Refusal> {
    let id = |text: &str| {
        text.parse::<Blake3>().map_err(|_no_digest| {
            let reason =
                Reason::new(Code::BadDigest, "the path does not end with `blake3:` and 64 lower-case hex digits");
            Refusal::new(StatusCode::BAD_REQUEST, reason)
        })
    };
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["", "v1", "health"] => Ok(Route::Health),
        ["", "v1", "packs"] => Ok(Route::Packs),
        ["", "v1", "manifests", text] => Ok(Route::Manifest(id(text)?)),
        ["", "v1", "segments", text] => Ok(Route::Segment(id(text)?)),
        _ => Err(Refusal::new(StatusCode::NOT_FOUND, bad_request("there is no such path"))),
    }
}
