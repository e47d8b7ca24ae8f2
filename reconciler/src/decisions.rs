//! Questions that the update policy was really asked on this node, the newest of them, so that a plan can show whether
//! another bundle lets more or less pass. A cache: what cannot be kept or read is left out.

use autonomy_plan::{Plan, PolicyProof};
use autonomy_policy::{Bundle, compare};
use autonomy_schema::facts::Facts;
use autonomy_schema::{Mode, RelPath, canonical};
use autonomy_stateroot::{DiskError, StateRoot, durable, layout, read_capped};
use serde_json::Value;

use autonomy_sets::VerifiedSet;

/// How many questions are kept. Both bundles are asked about each, within the budget of an update decision.
const MAX_KEPT: usize = 16;
/// Largest question that is kept: some thousand artifacts.
const MAX_BYTES: u64 = 2 << 20;

/// What the policy is asked about a plan, if it is small enough to be kept: it holds the manifest whole.
pub(crate) fn question(set: &VerifiedSet, plan: &Plan, facts: &Facts) -> Option<Value> {
    if set.manifest.bytes().len() as u64 > MAX_BYTES {
        return None;
    }
    autonomy_policy::question(set.manifest.document(), plan.doc(), facts).ok()
}

/// Keeps a question; the oldest makes room.
pub(crate) fn keep(root: &StateRoot, question: &Value) -> Result<(), DiskError> {
    let folder = layout::cache_decisions();
    let encode = |error| DiskError::new("encode", &folder, std::io::Error::other(error));
    let bytes = canonical::to_bytes(question).map_err(encode)?;
    let kept = numbers(root)?;
    let newest = kept.last().copied().unwrap_or(0);
    // An apply that is tried again asks the same thing again.
    if bytes.len() as u64 > MAX_BYTES || (newest > 0 && read(root, newest).as_deref() == Some(&bytes)) {
        return Ok(());
    }
    durable::ensure_dir(root.disk(), &folder)?;
    durable::replace(root.disk(), &file(newest.saturating_add(1)), &bytes, Mode::PRIVATE)?;
    for old in kept.iter().take((kept.len() + 1).saturating_sub(MAX_KEPT)) {
        root.disk().remove(&file(*old))?;
    }
    Ok(())
}

/// How both bundles answer the recorded questions; `None` when none is recorded.
pub(crate) fn proof(root: &StateRoot, active: &Bundle, incoming: &Bundle) -> Option<PolicyProof> {
    let numbers = numbers(root).ok()?;
    let questions: Vec<Value> =
        numbers.into_iter().filter_map(|number| serde_json::from_slice(&read(root, number)?).ok()).collect();
    if questions.is_empty() {
        return None;
    }
    let comparison = compare(active, incoming, &questions);
    let decisions = if comparison.asked == 1 { "decision" } else { "decisions" };
    let text = match comparison.verdict() {
        None => format!("both bundles answer {} recorded {decisions} alike", comparison.asked),
        Some(_) => format!(
            "of {} recorded {decisions}, {} refused before would pass and {} that passed would be refused",
            comparison.asked, comparison.widened, comparison.narrowed
        ),
    };
    Some(PolicyProof { verdict: comparison.verdict(), text })
}

fn numbers(root: &StateRoot) -> Result<Vec<u64>, DiskError> {
    let entries = match root.disk().list(Some(&layout::cache_decisions())) {
        Ok(entries) => entries,
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut numbers: Vec<u64> =
        entries.iter().filter_map(|entry| entry.name.strip_suffix(".json")?.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn file(number: u64) -> RelPath {
    let folder = layout::cache_decisions();
    // Digits and a suffix are always a safe component.
    format!("{number}.json").parse().map_or_else(|_never| folder.clone(), |name: RelPath| folder.join(&name))
}

fn read(root: &StateRoot, number: u64) -> Option<Vec<u8>> {
    read_capped(root.disk(), &file(number), MAX_BYTES).ok()?
}
