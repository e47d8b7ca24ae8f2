//! Manifests that failed here before, and places where reconstruction may not write: steps that block.

use autonomy_schema::facts::BoundFacts;
use autonomy_schema::plan_doc::{Action, Step, StepReason};
use autonomy_schema::reason::{Code, Reason};

use crate::planner::Desired;
use crate::rebuild;
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

/// The blocked steps of a plan that would do something. Where reconstruction may write counts only when it would.
pub(crate) fn steps(desired: &Desired<'_>, bound: &BoundFacts, switches: bool) -> Vec<Step> {
    let mut blocked = Vec::new();
    if bound.pinned.contains(&desired.fingerprint) {
        let fact = format!("pinned.{}", desired.fingerprint.short());
        let text = "this manifest failed on this node before".to_owned();
        blocked.push(block("manifest".to_owned(), Code::Pinned, text, fact));
    }
    if switches {
        let refused = rebuild::refused(&desired.manifest.spec, bound).into_iter();
        blocked.extend(
            refused
                .map(|(address, text)| block(address, Code::DestinationRefused, text, "node.destinations".to_owned())),
        );
    }
    blocked
}

/// The reasons of blocked steps, sorted.
pub(crate) fn reasons(steps: &[Step]) -> Vec<Reason> {
    let mut reasons: Vec<Reason> = steps
        .iter()
        .map(|step| {
            // Each was made above, with a code of the registry.
            let code = step.reason.code.parse().unwrap_or(Code::Pinned);
            Reason::new(code, format!("`{}`: {}", step.address, step.reason.text))
        })
        .collect();
    reasons.sort();
    reasons
}
