//! A verdict goes on record; then, and not before, whoever asked hears of it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use autonomy_schema::{Reason, Time};
use autonomy_telemetry::{Priority, Record};
use serde_json::{Value, json};

use super::judge::Verdict;
use super::{Answer, Parts};
use crate::call::{Asked, Permit, Ruling};
use crate::log::ROLE;

/// The kind of a decision's record.
const KIND: &str = "tool.decision";
/// Reasons of one decision that are recorded; a policy may give more.
const MAX_REASONS: usize = 20;
/// Characters of each that are recorded, and of a tool's name.
const MAX_MESSAGE: usize = 1_000;

/// Records the verdict and answers.
pub(super) fn settle(parts: &Arc<Parts>, asked: Arc<Asked>, verdict: Verdict, answer: Answer) {
    let record = Record {
        kind: KIND.to_owned(),
        priority: Priority::Decision,
        time: clock(),
        body: body(parts, &asked, &verdict),
    };
    let metrics = Arc::clone(&parts.metrics);
    parts.log.write(record, move |written| {
        let ruling = match written {
            Ok(seq) => Ruling::recorded(asked, verdict, seq),
            Err(why) => Ruling::unrecorded(&asked, why),
        };
        metrics.decided(ruling.allow);
        answer(ruling);
    });
}

impl Ruling {
    fn recorded(asked: Arc<Asked>, verdict: Verdict, seq: u64) -> Self {
        let allow = verdict.reasons.is_empty();
        Self {
            allow,
            reasons: verdict.reasons,
            decision_id: Some(format!("{ROLE}:wal:{seq}")),
            policy: verdict.policy,
            rule: verdict.rule,
            input_digest: asked.digest,
            permit: allow.then_some(Permit(asked)),
        }
    }

    /// A no that is on no record: there was no decision, or none that could be kept.
    pub(super) fn unrecorded(asked: &Asked, why: Reason) -> Self {
        Self {
            allow: false,
            reasons: vec![why],
            decision_id: None,
            policy: None,
            rule: None,
            input_digest: asked.digest,
            permit: None,
        }
    }
}

fn body(parts: &Parts, asked: &Asked, verdict: &Verdict) -> Value {
    let reasons: Vec<Value> = verdict.reasons.iter().take(MAX_REASONS).map(told).collect();
    let mut body = json!({
        "decision": if verdict.reasons.is_empty() { "allow" } else { "deny" },
        "input_digest": asked.digest,
        "policy": verdict.policy,
        "reasons": reasons,
        "rule": verdict.rule,
        "tool": cut(asked.kind()),
    });
    if let Some(params) = parts.redact.params(&asked.input["params"]) {
        body["params"] = params;
    }
    body
}

fn told(reason: &Reason) -> Value {
    json!({ "code": reason.code, "message": cut(&reason.message) })
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_MESSAGE).collect()
}

/// The clock of this machine.
pub(crate) fn clock() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_unix(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
