//! Answers of peers, which may be anything: read under a cap, and held against what was asked.

use autonomy_schema::{Blake3, Reason};
use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Taken;
use super::error::{self, WireError};
use crate::store::{MAX_MISSING, MAX_RECEIPTS, Progress};
use crate::wire::limits::{MAX_RETRY_AFTER, SHED_SECONDS};

/// Status and body.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    retry_after: Option<u64>,
    body: Bytes,
}

/// Reads an answer of at most `cap` bytes.
pub(super) async fn read(response: Response<Incoming>, cap: u64) -> Result<Answer, WireError> {
    let (head, body) = response.into_parts();
    let retry_after = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let cap = usize::try_from(cap).unwrap_or(usize::MAX);
    let body = Limited::new(body, cap).collect().await.map_err(|error| match error.downcast::<hyper::Error>() {
        Ok(error) => error::of(&error),
        Err(_limit) => WireError::Answer(format!("it is longer than {cap} bytes")),
    })?;
    Ok(Answer { status: head.status, retry_after, body: body.to_bytes() })
}

impl Answer {
    /// What a request that was done is answered; everything else as the error that it is.
    pub(super) fn done<T: DeserializeOwned>(self) -> Result<T, WireError> {
        #[derive(Deserialize)]
        struct Refused {
            reasons: Vec<Reason>,
        }
        match self.status {
            StatusCode::OK | StatusCode::CREATED => serde_json::from_slice(&self.body)
                .map_err(|error| WireError::Answer(error::shown(&format!("its JSON is not as agreed: {error}")))),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Err(WireError::Throttled {
                seconds: self.retry_after.unwrap_or(SHED_SECONDS).clamp(1, MAX_RETRY_AFTER),
                status: self.status.as_u16(),
            }),
            status => {
                // A peer of another version has other codes: then the status alone speaks.
                let told: Option<Refused> = serde_json::from_slice(&self.body).ok();
                let reasons = told.and_then(|told| error::reasons(told.reasons));
                Err(WireError::Refused { status: status.as_u16(), reasons })
            }
        }
    }
}

/// An answer about a set must be about the set that was asked for, and within its bounds.
pub(super) fn progress(progress: Progress, manifest: Blake3) -> Result<Progress, WireError> {
    let bad = |what: &str| Err(WireError::Answer(what.to_owned()));
    if progress.manifest != manifest {
        return bad("it is about another manifest");
    }
    if progress.receipts.len() > MAX_RECEIPTS {
        return bad("it has more receipts than agreed");
    }
    let mut missing = 0_u64;
    for (first, end) in progress.missing.iter().flat_map(|artifact| &artifact.segments) {
        let Some(length) = end.checked_sub(*first).filter(|length| *length > 0) else {
            return bad("a range of segments is empty or runs backwards");
        };
        missing = missing.saturating_add(length);
    }
    if missing > MAX_MISSING {
        return bad("more segments are missing than agreed");
    }
    Ok(progress)
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Stored,
    Duplicate,
    Refused,
}

#[derive(Deserialize)]
struct Outcome {
    id: Blake3,
    status: Status,
    reason: Option<String>,
}

/// The answer to a pack.
#[derive(Deserialize)]
pub(super) struct Results {
    results: Vec<Outcome>,
}

/// An answer to a pack must be about the segments that were sent, in their order.
pub(super) fn results(answer: Results, ids: &[Blake3]) -> Result<Vec<Taken>, WireError> {
    if !answer.results.iter().map(|outcome| &outcome.id).eq(ids) {
        return Err(WireError::Answer("its results are not those of the pack".to_owned()));
    }
    let taken = |outcome: Outcome| {
        let result = match outcome.status {
            Status::Stored | Status::Duplicate => Ok(()),
            Status::Refused => Err(error::shown(outcome.reason.as_deref().unwrap_or("refused"))),
        };
        (outcome.id, result)
    };
    Ok(answer.results.into_iter().map(taken).collect())
}
