//! What the policy's answer means. There is one place where a call is allowed, and it is here.

use autonomy_policy::{EvalError, Prepared};
use autonomy_schema::{Code, Reason};
use serde_json::Value;

use super::{Kinds, Policy, Standing};
use crate::call::PolicyRef;

/// The rules that decide.
const ALLOW: &str = "data.autonomy.tool.allow";
const DENY: &str = "data.autonomy.tool.deny";

/// A decision that is not on record yet.
#[derive(Debug)]
pub(super) struct Verdict {
    /// Sorted; the call is allowed exactly when there are none.
    pub(super) reasons: Vec<Reason>,
    pub(super) policy: Option<PolicyRef>,
    pub(super) rule: Option<&'static str>,
}

impl Verdict {
    /// A no of whoever stands in front of the policy.
    pub(super) fn refused(standing: &Standing, reason: Reason) -> Self {
        let policy = match standing {
            Standing::Closed(_) => None,
            Standing::Serving(policy) => Some(policy.reference().clone()),
        };
        Self { reasons: vec![reason], policy, rule: None }
    }

    pub(super) fn failed(standing: &Standing, error: &EvalError) -> Self {
        Self::refused(standing, error.to_reason())
    }
}

/// Asks the policy. Its `deny` stays whatever else is said; its `allow` does not help a kind that nobody carries out.
pub(super) fn judge(
    policy: &Policy,
    prepared: &mut Prepared,
    input: &Value,
    kinds: &Kinds,
) -> Result<Verdict, EvalError> {
    let decision = prepared.decide(input)?;
    let kind = input["kind"].as_str().unwrap_or_default();
    let mut reasons: Vec<Reason> = decision.deny.iter().map(|why| denied(why.clone())).collect();
    let mut rule = Some(if reasons.is_empty() { ALLOW } else { DENY });
    if reasons.is_empty() && !decision.allow {
        let PolicyRef { name, version, .. } = policy.reference();
        reasons.push(denied(format!("policy `{name}` {version} has no `allow` for this call")));
    }
    if !kinds(kind) {
        if reasons.is_empty() {
            rule = None;
        }
        let shown: String = kind.chars().take(80).flat_map(char::escape_debug).collect();
        reasons.push(Reason::new(Code::UnknownTool, format!("there is no tool `{shown}`")));
    }
    reasons.sort();
    Ok(Verdict { reasons, policy: Some(policy.reference().clone()), rule })
}

fn denied(message: String) -> Reason {
    Reason::new(Code::PolicyDenied, message).with_remedy("read the message; change the call, or the policy")
}
