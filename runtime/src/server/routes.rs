//! The requests: who may ask, what is asked, what is answered.

use std::sync::Arc;

use autonomy_schema::{Code, Reason};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::json;
use tokio::sync::{Semaphore, oneshot};
use utoipa::OpenApi as _;

use super::answer::{self, Decided, Readiness, Refused, ToolCall, Why, denied, ran, refused};
use super::limits::{BODY, MAX_BODY, MAX_CALLS};
use super::rate::Rate;
use super::strict;
use crate::active::Status;
use crate::call::Call;
use crate::interceptor::Interceptor;
use crate::metrics::Metrics;
use crate::tools::Tools;

/// The secret that callers show, as its digest: it is compared without telling how far it was right.
#[derive(Debug, Clone)]
pub struct Token(blake3::Hash);

impl Token {
    /// Takes the content of a token file; white space around it does not count.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (text.len() >= 16 && text.bytes().all(|byte| byte.is_ascii_graphic()))
            .then(|| Self(blake3::hash(text.as_bytes())))
    }

    fn is_shown(&self, headers: &HeaderMap) -> bool {
        let mut shown = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (shown.next(), shown.next()) else { return false };
        let token = value.to_str().ok().and_then(|value| value.split_once(' '));
        token.is_some_and(|(scheme, token)| {
            scheme.eq_ignore_ascii_case("bearer") && blake3::hash(token.trim().as_bytes()) == self.0
        })
    }
}

/// What every request shares.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) interceptor: Arc<Interceptor>,
    pub(crate) tools: Arc<Tools>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) status: Status,
    pub(crate) token: Option<Token>,
    rate: Rate,
    calls: Arc<Semaphore>,
}

impl App {
    pub(crate) fn new(
        (interceptor, tools): (Arc<Interceptor>, Arc<Tools>),
        (metrics, status): (Arc<Metrics>, Status),
        token: Option<Token>,
        rate: u32,
    ) -> Self {
        let calls = Arc::new(Semaphore::new(MAX_CALLS));
        Self { interceptor, tools, metrics, status, token, rate: Rate::new(rate), calls }
    }
}

/// The document of `/openapi.json`.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Autonomy runtime",
        description = "Every call of a tool is decided by the signed policy of the node."
    ),
    paths(tool, healthz, readyz, metrics, openapi),
    components(schemas(ToolCall, Decided, Refused, Readiness, Why))
)]
struct Document;

/// All routes.
pub(crate) fn router(app: Arc<App>) -> Router {
    let absent = || async { refused(StatusCode::NOT_FOUND, bad("there is no such path; `/openapi.json` lists them")) };
    let wrong = || async { refused(StatusCode::METHOD_NOT_ALLOWED, bad("this path does not know the method")) };
    Router::new()
        .route("/v1/tool", post(tool))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(openapi))
        .fallback(absent)
        .method_not_allowed_fallback(wrong)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), gate))
        .with_state(app)
}

fn bad(message: &str) -> Reason {
    Reason::new(Code::BadRequest, message)
}

/// Who may ask. `/healthz` alone tells nothing, and anybody may ask it.
async fn gate(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let is_let_in = app.token.as_ref().is_none_or(|token| token.is_shown(request.headers()));
    let response = if !is_let_in && request.uri().path() != "/healthz" {
        let message = "the request shows no token, or a wrong one";
        refused(StatusCode::UNAUTHORIZED, Reason::new(Code::Unauthorized, message))
    } else if app.token.is_none() && !is_own_host(request.headers()) {
        // A page in a browser on this machine may reach loopback under a name of its own choice.
        refused(
            StatusCode::BAD_REQUEST,
            bad("`Host` is a name; without a token only an address or `localhost` is answered"),
        )
    } else {
        next.run(request).await
    };
    app.metrics.answered(response.status().as_u16());
    response
}

fn is_own_host(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<std::net::IpAddr>().is_ok()
}

/// Decide a call of a tool, and run it if it is allowed.
#[utoipa::path(
    post,
    path = "/v1/tool",
    request_body(content = ToolCall, content_type = "application/json"),
    responses(
        (status = 200, description = "Allowed, and done", body = Decided),
        (status = 400, description = "Allowed, and the tool failed; or no call at all, which has `reasons` alone", body = Decided),
        (status = 401, description = "No token, or a wrong one", body = Refused),
        (status = 403, description = "Denied", body = Decided),
        (status = 405, description = "Not POST", body = Refused),
        (status = 408, description = "The body did not come in time", body = Refused),
        (status = 413, description = "The body is longer than 1 MiB", body = Refused),
        (status = 415, description = "The body is not `application/json`", body = Refused),
        (status = 429, description = "Too many calls", body = Refused)
    )
)]
async fn tool(State(app): State<Arc<App>>, request: Request) -> Response {
    let Ok(place) = Arc::clone(&app.calls).try_acquire_owned() else {
        let message = format!("{MAX_CALLS} calls are under way");
        return refused(StatusCode::TOO_MANY_REQUESTS, Reason::new(Code::Overloaded, message));
    };
    if !app.rate.take() {
        let why = Reason::new(Code::QuotaExceeded, "more calls come in a second than `--rate` allows");
        return refused(StatusCode::TOO_MANY_REQUESTS, why.with_remedy("wait for the time that `Retry-After` says"));
    }
    let call = match read(request).await {
        Ok(call) => call,
        Err((status, reason)) => return refused(status, reason),
    };
    let (sender, receiver) = oneshot::channel();
    // Who hung up hears nothing; the decision is on record.
    app.interceptor.ask(call, move |ruling| drop(sender.send(ruling)));
    let Ok(mut ruling) = receiver.await else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let Some(permit) = ruling.permit.take() else { return denied(ruling) };
    let (name, is_quick) = Tools::named(permit.kind());
    let tools = Arc::clone(&app.tools);
    // What takes its time has a thread of its own, and goes on, in its place, when the caller hangs up.
    let run = move || {
        let outcome = tools.run(&permit);
        drop(place);
        outcome
    };
    let outcome = if is_quick { Ok(run()) } else { tokio::task::spawn_blocking(run).await };
    let Ok(outcome) = outcome else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    app.metrics.ran(name, outcome.is_ok());
    ran(ruling, outcome)
}

/// Reads the body of a call.
async fn read(request: Request) -> Result<Call, (StatusCode, Reason)> {
    let (head, body) = request.into_parts();
    if !is_json(&head.headers) {
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, bad("`Content-Type` must be `application/json`")));
    }
    let too_large = || {
        let message = format!("the body is longer than {MAX_BODY} bytes");
        (StatusCode::PAYLOAD_TOO_LARGE, Reason::new(Code::DocumentTooLarge, message))
    };
    let told = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if told.is_some_and(|told| told > MAX_BODY as u64) {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(whole)) => strict::call(&whole.to_bytes()).map_err(|reason| (StatusCode::BAD_REQUEST, reason)),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err((StatusCode::BAD_REQUEST, bad(&format!("the body broke off: {error}")))),
        Err(_elapsed) => {
            let message = format!("the body did not come within {} s", BODY.as_secs());
            Err((StatusCode::REQUEST_TIMEOUT, bad(&message)))
        }
    }
}

/// `application/json`, with whatever parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// Whether the process answers.
#[utoipa::path(get, path = "/healthz", responses((status = 200, description = "It does")))]
async fn healthz() -> Response {
    answer::json(StatusCode::OK, &json!({ "status": "ok" }))
}

/// Whether calls can be allowed, and by which policy.
#[utoipa::path(
    get,
    path = "/readyz",
    responses(
        (status = 200, description = "They can", body = Readiness),
        (status = 503, description = "Every call is denied", body = Readiness)
    )
)]
async fn readyz(State(app): State<Arc<App>>) -> Response {
    let now = app.status.get();
    let mut reasons: Vec<Why> = now.reasons.into_iter().map(Why::from).collect();
    if !app.interceptor.can_record() {
        reasons.push(Reason::new(Code::DecisionLogFailed, "decisions cannot be recorded").into());
    }
    let (status, word) =
        if reasons.is_empty() { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "closed") };
    let body = Readiness {
        status: word,
        generation: now.generation.map(|name| name.to_string()),
        lock: now.lock.map(|lock| lock.to_string()),
        policy_ref: now.policy.as_ref().map(Into::into),
        fallback: now.fallback.map(|reasons| reasons.one_line()),
        reasons,
    };
    answer::json(status, &body)
}

/// Counters, in the text format of `OpenMetrics`.
#[utoipa::path(get, path = "/metrics", responses((status = 200, description = "Counters", content_type = "text/plain", body = String)))]
async fn metrics(State(app): State<Arc<App>>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match app.metrics.text() {
        Ok(text) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_unwritable) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, description = "The OpenAPI document")))]
async fn openapi() -> Response {
    match Document::openapi().to_json() {
        Ok(text) => ([(CONTENT_TYPE, "application/json")], Body::from(Bytes::from(text))).into_response(),
        Err(_unwritable) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
