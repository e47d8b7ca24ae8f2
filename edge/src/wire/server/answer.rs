//! Answers: JSON with a newline, refusals as reasons.

use autonomy_schema::{Code, Reason, Reasons};
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use serde_json::json;

use crate::storage::StorageGone;
use crate::store::StoreError;
use crate::wire::limits::MAX_RETRY_AFTER;

/// What is sent.
pub(super) type Answer = Response<Full<Bytes>>;

/// A request that is not done, and why.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    reasons: Reasons,
    retry_after: Option<u64>,
    allow: Option<&'static str>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, reason: Reason) -> Self {
        Self { status, reasons: reason.into(), retry_after: None, allow: None }
    }

    /// With the seconds after which it is worth trying again.
    pub(super) fn after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds.clamp(1, MAX_RETRY_AFTER));
        self
    }

    /// The method is not for this path.
    pub(super) fn method(allow: &'static str) -> Self {
        let reason = bad_request(format!("this path takes {allow} alone"));
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, reason) }
    }

    /// In one line, for the log.
    pub(super) fn line(&self) -> String {
        self.reasons.one_line()
    }

    pub(super) fn into_answer(self) -> Answer {
        let mut answer = json(self.status, &json!({ "reasons": self.reasons.as_slice() }));
        if let Some(seconds) = self.retry_after {
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.allow {
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        }
        answer
    }
}

/// What the protocol does not know.
pub(super) fn bad_request(message: impl Into<String>) -> Reason {
    Reason::new(Code::BadRequest, message)
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let status = match &error {
            StoreError::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            StoreError::Ceiling(_) | StoreError::NoSpace(_) => StatusCode::INSUFFICIENT_STORAGE,
            StoreError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            StoreError::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
            StoreError::Disk(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let retry_after = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(crate::wire::limits::SHED_SECONDS);
        Self { status, reasons: error.into_reasons(), retry_after, allow: None }
    }
}

impl From<StorageGone> for Refusal {
    fn from(gone: StorageGone) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, Reason::new(Code::IoError, gone.to_string()))
    }
}

/// An answer in JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    // What is answered has string keys alone, so this cannot fail; an empty body is the harmless answer.
    let mut text = serde_json::to_string(value).unwrap_or_default();
    text.push('\n');
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
