//! What the tool server says.

use autonomy_schema::Reason;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::call::{PolicyRef, Ruling};

/// A call of a tool.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it stands in the OpenAPI document; calls are read by `strict`")]
pub(super) struct ToolCall {
    /// Which tool.
    #[schema(example = "tool.echo")]
    kind: String,
    /// Its parameters.
    #[schema(value_type = Object, required = false)]
    params: Value,
}

/// What was decided of a call, and what became of it.
#[derive(Serialize, ToSchema)]
pub(super) struct Decided {
    /// `allow` or `deny`.
    #[schema(example = "allow")]
    decision: &'static str,
    /// Where the decision is on record; `null` when it could not be recorded, which denies.
    #[schema(example = "runtime:wal:1")]
    decision_id: Option<String>,
    /// BLAKE3 over the canonical JSON of `{kind, params}`.
    input_digest: String,
    /// The bundle that was asked.
    policy_ref: Option<PolicyOf>,
    /// The rule that decided.
    #[schema(example = "data.autonomy.tool.allow")]
    rule: Option<&'static str>,
    /// What the tool gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    result: Option<Value>,
    /// Why it was denied, or why the tool that was allowed failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<Why>,
}

/// A bundle.
#[derive(Serialize, ToSchema)]
pub(super) struct PolicyOf {
    name: String,
    version: String,
    /// SHA-256 of its packed bytes.
    digest: String,
}

/// One reason.
#[derive(Serialize, ToSchema)]
pub(super) struct Why {
    /// The stable code, as `docs/formats/reasons.md` lists it.
    code: &'static str,
    /// What was wrong.
    message: String,
    /// What would be right.
    remedy: String,
}

/// A request that came to no decision.
#[derive(Serialize, ToSchema)]
pub(super) struct Refused {
    reasons: Vec<Why>,
}

/// Whether calls can be allowed.
#[derive(Serialize, ToSchema)]
pub(super) struct Readiness {
    /// `ready` or `closed`.
    pub(super) status: &'static str,
    /// The active generation.
    pub(super) generation: Option<String>,
    /// The fingerprint of the lock that holds.
    pub(super) lock: Option<String>,
    /// The policy that is asked.
    pub(super) policy_ref: Option<PolicyOf>,
    /// Why an older policy is asked than the node's newest, where one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fallback: Option<String>,
    /// Why every call is denied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) reasons: Vec<Why>,
}

impl From<&PolicyRef> for PolicyOf {
    fn from(policy: &PolicyRef) -> Self {
        Self { name: policy.name.to_string(), version: policy.version.to_string(), digest: policy.digest.to_string() }
    }
}

impl From<Reason> for Why {
    fn from(reason: Reason) -> Self {
        Self { code: reason.code.as_str(), message: reason.message, remedy: reason.remedy }
    }
}

impl Decided {
    fn of(ruling: Ruling, result: Option<Value>, failed: Option<Reason>) -> Self {
        Self {
            decision: if ruling.allow { "allow" } else { "deny" },
            decision_id: ruling.decision_id,
            input_digest: ruling.input_digest.to_string(),
            policy_ref: ruling.policy.as_ref().map(PolicyOf::from),
            rule: ruling.rule,
            result,
            reasons: ruling.reasons.into_iter().chain(failed).map(Why::from).collect(),
        }
    }
}

/// A call that was allowed, and what its tool gave or why it failed.
pub(super) fn ran(ruling: Ruling, outcome: Result<Value, Reason>) -> Response {
    match outcome {
        Ok(result) => json(StatusCode::OK, &Decided::of(ruling, Some(result), None)),
        Err(reason) => json(StatusCode::BAD_REQUEST, &Decided::of(ruling, None, Some(reason))),
    }
}

/// A call that was denied.
pub(super) fn denied(ruling: Ruling) -> Response {
    json(StatusCode::FORBIDDEN, &Decided::of(ruling, None, None))
}

/// A request that came to no decision.
pub(super) fn refused(status: StatusCode, reason: Reason) -> Response {
    let mut response = json(status, &Refused { reasons: vec![reason.into()] });
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => (status, [(CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(_unwritable) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
