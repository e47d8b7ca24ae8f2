//! Whether a saved plan still holds: the facts that it was made from, the manifest, the tool.

use std::collections::BTreeSet;

use autonomy_schema::digest::Blake3;
use autonomy_schema::facts::Facts;
use autonomy_schema::plan_doc::PlanDoc;
use autonomy_schema::reason::{Code, Reason, Reasons};
use autonomy_schema::version::TOOL_VERSION;

use crate::planner::plan_id;

/// Most moved facts that are named one by one; a refusal stays readable.
const MAX_NAMED: usize = 50;
/// Most steps that are named with one fact.
const MAX_STEPS: usize = 5;

/// Refuses a saved plan whose manifest, tool or facts moved: `stale_plan`, naming each fact old → new and the steps
/// that it touches.
pub fn check_binding(saved: &PlanDoc, manifest: Blake3, facts: &Facts) -> Result<(), Reasons> {
    let broken = |error: autonomy_schema::canonical::CanonicalError| {
        Reasons::from(Reason::new(Code::BadValue, error.to_string()))
    };
    let mut reasons = Vec::new();
    let mut stale = |message: String| reasons.push(Reason::new(Code::StalePlan, message));
    if saved.tool_version != TOOL_VERSION {
        stale(format!("the plan was made by version {} of this tool; this is {TOOL_VERSION}", saved.tool_version));
    }
    if saved.manifest.fingerprint != manifest {
        stale(format!("the plan is for manifest {}; this one is {manifest}", saved.manifest.fingerprint));
    }
    let now = facts.bound.named().map_err(broken)?;
    let moved: BTreeSet<&String> = saved
        .bound_facts
        .keys()
        .chain(now.keys())
        .filter(|name| saved.bound_facts.get(*name) != now.get(*name))
        .collect();
    for name in moved.iter().take(MAX_NAMED) {
        let value = |value: Option<&String>| value.map_or("absent".to_owned(), |text| format!("`{text}`"));
        let (before, after) = (value(saved.bound_facts.get(*name)), value(now.get(*name)));
        stale(format!("fact `{name}` moved: {before} → {after}{}", touched(saved, name)));
    }
    if moved.len() > MAX_NAMED {
        stale(format!("{} more facts moved", moved.len() - MAX_NAMED));
    }
    if moved.is_empty() && saved.facts_fingerprint != facts.bound.fingerprint().map_err(broken)? {
        stale("the bound facts moved in a part that has no name of its own".to_owned());
    }
    if plan_id(saved).map_err(broken)? != saved.plan_id {
        reasons.push(Reason::new(
            Code::DigestMismatch,
            "the saved plan was edited: its `plan_id` is not that of its content",
        ));
    }
    Reasons::check(reasons)
}

/// Names the steps behind which this fact stands. What is active stands behind all that compare with it.
fn touched(saved: &PlanDoc, fact: &str) -> String {
    let active = fact.starts_with("current.");
    let steps: Vec<&str> = saved
        .steps
        .iter()
        .filter(|step| {
            step.reason.fact.as_deref().is_some_and(|own| own == fact || (active && own.starts_with("current.")))
        })
        .map(|step| step.address.as_str())
        .collect();
    if steps.is_empty() {
        return String::new();
    }
    let more = if steps.len() > MAX_STEPS { format!(" and {} more", steps.len() - MAX_STEPS) } else { String::new() };
    format!("; it touches {}{more}", steps[..steps.len().min(MAX_STEPS)].join(", "))
}
