//! A plan that was saved, approved, and comes back to be carried out.

use autonomy_schema::facts::Facts;
use autonomy_schema::plan_doc::PlanDoc;
use autonomy_schema::{Blake3, Code, Document as _, Name, Reason, Reasons, RelPath, document, generation};
use autonomy_stateroot::{StateRoot, layout, read_capped};
use serde::Deserialize;

/// The part of a generation's `plan.json` that tells which plan made it.
#[derive(Deserialize)]
struct Made {
    plan_id: Blake3,
}

/// Refuses a plan that does not hold any more: consumed, for another manifest, or made from facts that moved. Asked
/// before the set is verified, so that the refusal names what moved and not what follows from it.
pub(crate) fn check(root: &StateRoot, saved: &PlanDoc, manifest: &[u8], facts: &Facts) -> Result<(), Reasons> {
    consumed(root, saved, facts)?;
    // A set without a manifest is refused for that, by its verification.
    let fingerprint = if manifest.is_empty() { saved.manifest.fingerprint } else { document::fingerprint(manifest) };
    autonomy_plan::check_binding(saved, fingerprint, facts)
}

/// A generation carries the plan that made it, so a plan is consumed by the very rename that makes its generation
/// count, and by nothing earlier: an apply that was cut off before it may be tried again.
fn consumed(root: &StateRoot, saved: &PlanDoc, facts: &Facts) -> Result<(), Reasons> {
    let waiting = root.journal()?.filter(|journal| journal.phase.is_before_switch()).map(|journal| journal.generation);
    let (serial, manifest) = (saved.manifest.serial, saved.manifest.fingerprint);
    let generations = root.generations().map_err(|error| Reasons::from(error.to_reason()))?;
    let of_it = |name: &&Name| generation::is_of(name, serial, manifest) && Some(*name) != waiting.as_ref();
    for name in generations.iter().filter(of_it) {
        let path = layout::in_generation(name, &RelPath::fixed("plan.json"));
        let bytes = read_capped(root.disk(), &path, PlanDoc::MAX_BYTES as u64).map_err(|error| error.to_reason())?;
        let made = bytes.and_then(|bytes| serde_json::from_slice::<Made>(&bytes).ok());
        if made.is_some_and(|made| made.plan_id == saved.plan_id) {
            let message = format!("plan {} was applied already: generation {name} came of it", saved.plan_id);
            return Err(Reason::new(Code::PlanConsumed, message).into());
        }
    }
    // A plan that only passes a set on makes no generation; its outcome is the entry in the outbox.
    let relays_only = saved.summary.relay > 0 && saved.summary.relay == saved.steps.len() as u64;
    if relays_only && facts.bound.outbox.contains(&saved.manifest.fingerprint) {
        let message = format!("plan {} was applied already: its set is in the outbox", saved.plan_id);
        return Err(Reason::new(Code::PlanConsumed, message).into());
    }
    Ok(())
}

/// Reads a saved plan as it lies in a file.
pub fn parse_saved(bytes: &[u8]) -> Result<PlanDoc, Reasons> {
    // `autonomy plan --output json` ends its line; canonical JSON has none.
    document::parse(bytes.strip_suffix(b"\n").unwrap_or(bytes))
}
