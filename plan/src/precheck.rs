//! What the platform says to a plan: preconditions, free space, ceiling, durability, what `edged precheck` would find.
//! Tested again at every use.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use autonomy_schema::facts::Facts;
use autonomy_schema::finding::Severity;
use autonomy_schema::manifest::{Durability, Precondition, StateManifest};
use autonomy_schema::plan_doc::Verdict;
use autonomy_schema::reason::{Code, Reason};

use crate::planner::Plan;
use crate::render::bytes;

/// The platform's findings, sorted.
///
/// What the manifest demands of the node refuses the change: preconditions, space, the window, durability. What is wrong
/// with the node by itself is noted and refuses nothing, whether or not there is a change: an expired certificate keeps the
/// relay from its peers, and another operating system calls for `edged precheck`, but a change may be the very thing that
/// brings the cure, and a node that refuses it could not be mended from afar. [`Severity::Info`] is for the report of
/// `edged precheck` alone.
pub fn prechecks(manifest: &StateManifest, plan: &Plan, facts: &Facts) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    if let Some(sentence) = facts.bound.revoked_sentence() {
        verdicts.push(Verdict::noted(Code::Revoked.as_str(), sentence));
    }
    verdicts.extend(findings(manifest, plan, facts));
    if !plan.has_changes() {
        verdicts.sort();
        return verdicts;
    }
    match named(facts) {
        Ok(named) => {
            verdicts.extend(manifest.spec.preconditions.iter().map(|condition| precondition(condition, &named)));
        }
        Err(message) => verdicts.push(failed(Code::PreconditionFailed, message)),
    }
    if facts.observed.suspended {
        verdicts.push(failed(Code::Suspended, "the node is suspended: changes are held until it is resumed"));
    }
    if plan.switches() {
        verdicts.extend(durability(manifest, facts));
    }
    // A return writes nothing new, and a window that is closed does not keep a node where it should not be.
    if plan.switches() && !plan.returns() {
        verdicts.extend(window(manifest, facts));
        verdicts.push(free_space(manifest, plan, facts));
        verdicts.extend(ceiling(manifest, plan, facts));
    }
    verdicts.sort();
    verdicts
}

/// What `edged precheck` would find. Durability that is demanded and not there has its refusal already.
fn findings(manifest: &StateManifest, plan: &Plan, facts: &Facts) -> Vec<Verdict> {
    let refused = plan.switches() && durability(manifest, facts).is_some_and(|verdict| !verdict.ok);
    let told =
        facts.observed.findings.iter().filter(|finding| {
            finding.severity != Severity::Info && !(refused && finding.code == Code::AssuranceReduced)
        });
    told.map(|finding| Verdict {
        remedy: finding.remedy.clone(),
        ..Verdict::noted(finding.code.as_str(), finding.message.clone())
    })
    .collect()
}

/// INV-05: high durability where the platform gives it, or not at all. What nobody looked at is a no.
fn durability(manifest: &StateManifest, facts: &Facts) -> Option<Verdict> {
    match (manifest.spec.precheck.durability, facts.observed.durability) {
        (Durability::Standard, _) => None,
        (Durability::High, Some(Durability::High)) => {
            Some(Verdict::passed("the manifest demands high durability, and the platform gives it"))
        }
        (Durability::High, Some(Durability::Standard)) => {
            let message = "the manifest demands high durability, and the platform gives standard";
            Some(failed(Code::AssuranceReduced, message))
        }
        (Durability::High, None) => {
            let message = "the manifest demands high durability, and the facts do not say what the platform gives";
            Some(failed(Code::AssuranceReduced, message))
        }
    }
}

/// Bound facts by name, and the observed ones as `observed.<name>`.
fn named(facts: &Facts) -> Result<BTreeMap<String, String>, String> {
    let mut named = facts.bound.named().map_err(|error| error.to_string())?;
    named.extend(facts.observed.named());
    Ok(named)
}

fn failed(code: Code, message: impl Into<String>) -> Verdict {
    Verdict::refused(Reason::new(code, message))
}

/// One predicate. A fact that the node does not have fails: an unanswered question is a no.
fn precondition(condition: &Precondition, named: &BTreeMap<String, String>) -> Verdict {
    let fact = &condition.fact;
    let Some(actual) = named.get(fact) else {
        return failed(Code::PreconditionFailed, format!("the node has no fact `{fact}`"));
    };
    let (held, demand) = match (&condition.equals, &condition.at_least, &condition.at_most) {
        (Some(wanted), None, None) => (actual == wanted, format!("`{wanted}`")),
        (None, Some(least), None) => {
            (compare(actual, least).is_some_and(Ordering::is_ge), format!("at least `{least}`"))
        }
        (None, None, Some(most)) => (compare(actual, most).is_some_and(Ordering::is_le), format!("at most `{most}`")),
        _ => (false, "exactly one of `equals`, `atLeast`, `atMost`".to_owned()),
    };
    if held {
        Verdict::passed(format!("`{fact}` is `{actual}`; wanted {demand}"))
    } else {
        failed(Code::PreconditionFailed, format!("`{fact}` is `{actual}`; wanted {demand}"))
    }
}

/// Compares the leading dotted numbers of two texts; what follows them (`-91-generic`) does not count, and absent
/// components are 0. `None` when one of them does not begin with a number.
fn compare(left: &str, right: &str) -> Option<Ordering> {
    let (left, right) = (components(left)?, components(right)?);
    let count = left.len().max(right.len());
    let at = |list: &[&str], index: usize| list.get(index).copied().unwrap_or("").to_owned();
    for index in 0..count {
        let (l, r) = (at(&left, index), at(&right, index));
        // Without leading zeros, the longer of two numbers is the larger, however many digits there are.
        let order = l.len().cmp(&r.len()).then_with(|| l.cmp(&r));
        if order.is_ne() {
            return Some(order);
        }
    }
    Some(Ordering::Equal)
}

fn components(text: &str) -> Option<Vec<&str>> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let dotted = text[..end].trim_end_matches('.');
    let parts: Vec<&str> = dotted.split('.').collect();
    let sound = parts.iter().all(|part| !part.is_empty());
    sound.then(|| parts.into_iter().map(|part| part.trim_start_matches('0')).collect())
}

/// The maintenance window at the facts' clock.
fn window(manifest: &StateManifest, facts: &Facts) -> Option<Verdict> {
    let window = manifest.spec.window.as_ref()?;
    let now = facts.observed.clock;
    let span = format!("{}–{} {}", window.from, window.to, window.zone);
    Some(if window.is_open(now) {
        Verdict::passed(format!("the maintenance window ({span}) is open"))
    } else {
        let next = window.opens_next(now).map_or_else(String::new, |next| format!("; it opens at {next}"));
        failed(Code::OutsideWindow, format!("the maintenance window ({span}) is closed at {now}{next}"))
    })
}

fn free_space(manifest: &StateManifest, plan: &Plan, facts: &Facts) -> Verdict {
    let new = plan.doc().forecast.disk_new_bytes;
    let keep = manifest.spec.precheck.min_free_bytes;
    let free = facts.observed.free_bytes;
    let demand = if keep == 0 { String::new() } else { format!("; {} must stay free", bytes(keep)) };
    let message = format!("{} free; the change writes {}{demand}", bytes(free), bytes(new));
    if new.checked_add(keep).is_some_and(|needed| needed <= free) {
        Verdict::passed(message)
    } else {
        failed(Code::DiskFull, message)
    }
}

/// INV-04, as a forecast; 0 is no ceiling.
fn ceiling(manifest: &StateManifest, plan: &Plan, facts: &Facts) -> Option<Verdict> {
    let ceiling = manifest.spec.relay.storage.disk_ceiling_bytes;
    if ceiling == 0 {
        return None;
    }
    let new = plan.doc().forecast.disk_new_bytes;
    let used = facts.observed.used_bytes;
    let message = format!(
        "the state root holds {} and the change writes {}; the ceiling is {}",
        bytes(used),
        bytes(new),
        bytes(ceiling)
    );
    Some(if used.checked_add(new).is_some_and(|total| total <= ceiling) {
        Verdict::passed(message)
    } else {
        failed(Code::CeilingExceeded, message)
    })
}
