//! What this version reads but cannot carry out yet, and manifests that failed here before: steps that block.

use autonomy_schema::facts::BoundFacts;
use autonomy_schema::plan_doc::{Action, Step, StepReason};
use autonomy_schema::reason::{Code, Reason};

use crate::planner::Desired;
use crate::steps::Fields;

fn block(address: String, code: Code, text: String, fact: String) -> Step {
    Step {
        action: Action::Blocked,
        address,
        reason: StepReason {
            code: code.as_str().to_owned(),
            text,
            fact: Some(fact),
            remedy: Some(code.remedy().to_owned()),
        },
        before: Fields::new(),
        after: Fields::new(),
    }
}

/// The blocked steps of a plan that would do something.
pub(crate) fn steps(desired: &Desired<'_>, bound: &BoundFacts) -> Vec<Step> {
    let mut blocked = Vec::new();
    if bound.pinned.contains(&desired.fingerprint) {
        let fact = format!("pinned.{}", desired.fingerprint.short());
        let text = "this manifest failed on this node before".to_owned();
        blocked.push(block("manifest".to_owned(), Code::Pinned, text, fact));
    }
    blocked
}

/// The reasons of blocked steps, sorted.
pub(crate) fn reasons(steps: &[Step]) -> Vec<Reason> {
    let mut reasons: Vec<Reason> = steps
        .iter()
        .map(|step| {
            let code = step.reason.code.parse().unwrap_or(Code::NotBuilt);
            Reason::new(code, format!("`{}`: {}", step.address, step.reason.text))
        })
        .collect();
    reasons.sort();
    reasons
}
