//! Going back on demand: planned, shown, and judged again under the lock.
//!
//! The policy is not asked: what is returned to was admitted when it came, the automatic return asks nobody either, and
//! a release whose policy denies everything must not be able to hold the node (ADR 7).

use autonomy_apply::{Applied, Observer, Return, ServiceRunner, Transaction};
use autonomy_plan::{Desired, Origin, Plan};
use autonomy_schema::facts::Facts;
use autonomy_schema::plan_doc::{PlanDoc, Verdict, Verdicts};
use autonomy_schema::{Blake3, Code, Name, Reason, Reasons, StateManifest};
use autonomy_stateroot::{StatCache, StateRoot};
use autonomy_trust::{Purpose, Verified};
use serde_json::{Value, json};

use crate::execute::{ApplyFailure, Outcome, ended, failed, outcome, refresh_cache, split, with_return};
use crate::generation::{differs, examine};
use crate::history::history;
use crate::judge::{Options, against, known, look};
use crate::receipts;
use crate::record::{Actor, Recorder, note_refusal, told};
use crate::recovery::recover_held;
use autonomy_sets::load;
use autonomy_sets::manifest_of;

/// Most differences that a refusal names one by one.
const MAX_NAMED: usize = 10;

/// A planned return.
pub struct PreparedReturn {
    /// The plan as it is shown.
    pub doc: PlanDoc,
    to: Name,
    plan: Plan,
    manifest: Verified<StateManifest>,
    leaves: Option<Blake3>,
}

impl PreparedReturn {
    /// Whether anything would be done.
    pub fn has_changes(&self) -> bool {
        self.plan.has_changes()
    }

    /// Why it must not be done; with `anyway` without what somebody may answer for.
    pub fn reasons(&self, anyway: bool) -> Vec<Reason> {
        split(against(&self.plan, &self.doc.verdicts), anyway).1
    }
}

/// Plans the return to a generation; without a name, to the last known good one, or to the one that was active before.
pub fn prepare_return(root: &StateRoot, to: Option<&Name>, options: &Options<'_>) -> Result<PreparedReturn, Reasons> {
    let facts = look(root, options)?;
    let to = target(root, to)?;
    plan_return(root, &to, &facts, options)
}

fn plan_return(root: &StateRoot, to: &Name, facts: &Facts, options: &Options<'_>) -> Result<PreparedReturn, Reasons> {
    let loaded = load(root)?;
    let how = (options, &StatCache::default());
    let examined = examine(root, &loaded, to, Purpose::Rollback, how)
        .map_err(|reasons| damaged(to, &reasons, &others(root, to, options)))?;
    if !examined.drift.is_empty() {
        let mut list: Vec<String> = examined.drift.iter().take(MAX_NAMED).map(differs).collect();
        if examined.drift.len() > MAX_NAMED {
            list.push(format!("{} more", examined.drift.len() - MAX_NAMED));
        }
        let message = format!("generation {to} is damaged: {}{}", list.join("; "), others(root, to, options));
        let reason = Reason::new(Code::CorruptState, message);
        return Err(reason.with_remedy("run `autonomy fsck --repair`, or return to another generation").into());
    }
    let manifest = examined.manifest;
    let desired = Desired { returns_to: Some(to), ..Desired::new(manifest.document(), manifest.fingerprint()) };
    let plan = autonomy_plan::plan(&desired, facts).map_err(|error| Reason::new(Code::BadValue, error.to_string()))?;
    let mut verdicts =
        Verdicts { precheck: autonomy_plan::prechecks(manifest.document(), &plan, facts), policy: Vec::new() };
    if plan.has_changes() {
        let text = "a return is not asked about: what it goes to was admitted when it came";
        verdicts.policy.push(Verdict::noted("not_asked", text));
    }
    let doc = autonomy_plan::report(&plan, verdicts, Origin::default(), None);
    let leaves = facts.bound.current.as_ref().map(|current| current.manifest);
    Ok(PreparedReturn { doc, to: to.clone(), plan, manifest, leaves })
}

/// Which generation is meant.
fn target(root: &StateRoot, asked: Option<&Name>) -> Result<Name, Reasons> {
    let unknown = |message: String| Reasons::from(Reason::new(Code::UnknownGeneration, message));
    let Some(current) = root.current()? else {
        return Err(unknown("nothing is active, so there is nothing to return from".to_owned()));
    };
    let journal = root.journal()?;
    if let Some(asked) = asked {
        let generations = root.generations().map_err(|error| Reasons::from(error.to_reason()))?;
        if !generations.contains(asked) {
            let known: Vec<&str> = generations.iter().map(Name::as_str).collect();
            return Err(unknown(format!("no generation is called `{asked}`; there are {}", known.join(", "))));
        }
        let staged = journal.filter(|journal| journal.phase.is_before_switch() && journal.generation == *asked);
        if staged.is_some() {
            return Err(unknown(format!("generation {asked} is staged and was never active; apply its set instead")));
        }
        return Ok(asked.clone());
    }
    if let Some(lkg) = root.lkg()?.filter(|lkg| *lkg != current) {
        return Ok(lkg);
    }
    before(root, &current)?.ok_or_else(|| {
        let message = "the active generation is the last known good one, and no other one that was active before it is \
                       there and not pinned; name one";
        unknown(message.to_owned())
    })
}

/// What was active before, by the records: the newest that is still there and did not fail.
fn before(root: &StateRoot, current: &Name) -> Result<Option<Name>, Reasons> {
    let pinned = root.pinned()?;
    let acts = history(root)?;
    let was_active = acts.iter().rev().filter_map(|act| act.made_active()?.parse::<Name>().ok());
    Ok(was_active
        .filter(|name| name != current)
        .find(|name| manifest_of(root, name).is_some_and(|(_, fingerprint)| !pinned.contains(&fingerprint))))
}

/// A generation whose documents do not hold any more.
fn damaged(to: &Name, reasons: &Reasons, others: &str) -> Reasons {
    let damage = |reason: &Reason| {
        matches!(reason.code, Code::CorruptState | Code::BelowThreshold | Code::NotCanonical | Code::DigestMismatch)
    };
    if !reasons.as_slice().iter().all(damage) {
        return reasons.clone();
    }
    let why = reasons.one_line();
    let message = format!("generation {to} is damaged: {why}{others}");
    Reason::new(Code::CorruptState, message)
        .with_remedy("run `autonomy fsck --repair`, or return to another generation")
        .into()
}

/// Names generations that are whole, where one is not.
fn others(root: &StateRoot, to: &Name, options: &Options<'_>) -> String {
    let (Ok(loaded), Ok(generations)) = (load(root), root.generations()) else { return String::new() };
    let whole = |name: &&Name| {
        *name != to
            && examine(root, &loaded, name, Purpose::Rollback, (options, &StatCache::default()))
                .is_ok_and(|examined| examined.drift.is_empty())
    };
    let whole: Vec<&str> = generations.iter().filter(whole).map(Name::as_str).collect();
    if whole.is_empty() { String::new() } else { format!(". Whole: {}", whole.join(", ")) }
}

/// Carries out a return that was approved. Nothing is changed when a fact moved since.
pub fn roll_back(
    root: &StateRoot,
    approved: &PreparedReturn,
    now_anyway: bool,
    actor: &Actor,
    (runner, observer): (&dyn ServiceRunner, &mut dyn Observer),
    options: &Options<'_>,
) -> Result<Outcome, ApplyFailure> {
    let correlation = Some(approved.manifest.fingerprint());
    let held = root.lock(&actor.verb).map_err(|error| Reasons::from(error.to_reason()))?;
    let refuse = |reasons: Reasons| {
        let warning = note_refusal(root, &held, actor, correlation, &reasons);
        ApplyFailure::refused(reasons, warning)
    };
    let mut recorder = Recorder::open(root, actor, correlation, observer)?;
    let recovery = recover_held(root, &held, runner, &mut recorder)?;
    let refuse = |reasons: Reasons| refuse(with_return(reasons, &recovery));
    let fresh = again(root, approved, options).map_err(refuse)?;
    let (overridden, reasons) = split(against(&fresh.plan, &fresh.doc.verdicts), now_anyway);
    Reasons::check(reasons).map_err(refuse)?;
    let plan_id = fresh.plan.id();
    if !fresh.plan.has_changes() {
        return Ok(Outcome { applied: Applied::Nothing, plan_id, warning: None });
    }
    let mut detail = told(&fresh.doc, &fresh.manifest);
    detail.insert("leaves".to_owned(), json!(fresh.leaves));
    if !overridden.is_empty() {
        detail.insert("overridden".to_owned(), json!(overridden));
    }
    recorder.begin(Value::Object(detail))?;
    let request = Return { plan: &fresh.plan, manifest: &fresh.manifest, to: &fresh.to, leaves: fresh.leaves };
    let transaction = Transaction { root, held: &held, runner, observer: &mut recorder };
    match transaction.roll_back(&request) {
        Ok(applied) => {
            let word = if matches!(applied, Applied::Active(_)) { "returned" } else { outcome(&applied) };
            let lost = recorder.end(word, ended(plan_id, &applied));
            let refreshed = refresh_cache(root, &[], known(root, options));
            let unsigned = receipts::sign_active(root, options.clock);
            Ok(Outcome { applied, plan_id, warning: lost.or(refreshed).or(unsigned) })
        }
        Err(error) => Err(failed(error, plan_id, &mut recorder)),
    }
}

fn again(root: &StateRoot, approved: &PreparedReturn, options: &Options<'_>) -> Result<PreparedReturn, Reasons> {
    let facts = look(root, options)?;
    autonomy_plan::check_binding(&approved.doc, approved.manifest.fingerprint(), &facts)?;
    plan_return(root, &approved.to, &facts, options)
}
