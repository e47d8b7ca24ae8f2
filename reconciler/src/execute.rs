//! Carrying out what was approved: under the lock, everything is judged again; what moved is named.

use autonomy_apply::transaction::Request;
use autonomy_apply::{Applied, ApplyError, Observer, Recovery, ServiceRunner, Transaction};
use autonomy_schema::plan_doc::{PlanDoc, Verdicts};
use autonomy_schema::policy_override::PolicyOverride;
use autonomy_schema::{Blake3, Code, Name, Reason, Reasons};
use autonomy_stateroot::trust::RootBytes;
use autonomy_stateroot::{SetSource, StatCache, StateRoot};
use autonomy_trust::{Signed, Verified, verify_lock, verify_manifest, verify_override};
use serde_json::{Value, json};

use crate::judge::{Judged, Options, Prepared, is_held, judge, known, look, purpose};
use crate::record::{Actor, Recorder, note_refusal, told};
use crate::recovery::recover_held;
use crate::{decisions, import, quarantine, receipts};
use autonomy_sets::load;
use autonomy_sets::roots::{forks, steps};
use autonomy_sets::{Learned, VerifiedSet, learn};

/// What was approved, and by whom it is carried out.
pub struct Approval<'a> {
    /// The plan as it was shown, with its set.
    pub prepared: Prepared,
    /// The plan that was approved, where it was saved before; else it is the one in `prepared`.
    pub saved: Option<PlanDoc>,
    /// Stop when the generation is staged.
    pub stage_only: bool,
    /// Go on although the node is suspended or the window is closed.
    pub now_anyway: bool,
    /// For the records.
    pub actor: &'a Actor,
    /// Who runs services.
    pub runner: &'a dyn ServiceRunner,
    /// Who listens.
    pub observer: &'a mut dyn Observer,
}

/// Most overridden denials that one record names.
const MAX_DENIALS: usize = 20;

/// What an apply did.
#[derive(Debug)]
pub struct Outcome {
    /// What changed.
    pub applied: Applied,
    /// The plan that was carried out.
    pub plan_id: Blake3,
    /// A record that could not be written, or a cache that could not be refreshed.
    pub warning: Option<String>,
}

/// An apply did not do what it was asked for.
#[derive(Debug)]
pub struct ApplyFailure {
    /// Why.
    pub reasons: Reasons,
    /// The generation that is active again after a switch was undone.
    pub returned_to: Option<Option<Name>>,
    /// A record that could not be written.
    pub warning: Option<String>,
}

impl ApplyFailure {
    pub(crate) fn refused(reasons: Reasons, warning: Option<String>) -> Self {
        Self { reasons, returned_to: None, warning }
    }
}

impl From<Reasons> for ApplyFailure {
    fn from(reasons: Reasons) -> Self {
        Self::refused(reasons, None)
    }
}

/// Applies what was approved. Nothing is changed when a fact moved since: that is `stale_plan`.
pub fn apply(
    root: &StateRoot,
    source: &dyn SetSource,
    approval: Approval<'_>,
    options: &Options<'_>,
) -> Result<Outcome, ApplyFailure> {
    let Approval { prepared, saved, stage_only, now_anyway, actor, runner, observer } = approval;
    let correlation = Some(prepared.set.manifest.fingerprint());
    let held = root.lock(&actor.verb).map_err(|error| Reasons::from(error.to_reason()))?;
    let refuse = |reasons: Reasons| {
        let warning = note_refusal(root, &held, actor, correlation, &reasons);
        ApplyFailure::refused(reasons, warning)
    };
    let mut recorder = Recorder::open(root, actor, correlation, observer)?;
    // Time may have passed since the plan was shown: a return that is due comes first, and moves the facts.
    let recovery = recover_held(root, &held, runner, &mut recorder)?;
    let refuse = |reasons: Reasons| refuse(with_return(reasons, &recovery));
    let approved = saved.unwrap_or_else(|| prepared.doc.clone());
    let learned = prepared.set.learned.clone();
    let (fresh, roots) = judge_again(root, prepared, &approved, options).map_err(refuse)?;
    let (overridden, reasons) = split(fresh.reasons(), now_anyway);
    Reasons::check(reasons).map_err(refuse)?;
    let plan_id = fresh.plan.id();
    if !fresh.plan.has_changes() {
        let warning = refresh_cache(root, &learned, known(root, options));
        return Ok(Outcome { applied: Applied::Nothing, plan_id, warning });
    }
    let question = decisions::question(&fresh.set, &fresh.plan, &fresh.facts);
    let VerifiedSet { manifest, lock, policy, .. } = fresh.set;
    let admitted =
        autonomy_policy::admit(fresh.plan, manifest, &fresh.facts, &fresh.bundle, fresh.by.as_ref()).map_err(refuse)?;
    let mut detail = told(admitted.plan().doc(), admitted.manifest());
    detail.insert("origin".to_owned(), json!({ "source": source.describe(), "revision": source.revision() }));
    if !overridden.is_empty() {
        detail.insert("overridden".to_owned(), json!(overridden));
    }
    if let Some(by) = &fresh.by {
        detail.insert("policyOverride".to_owned(), told_override(by, &fresh.verdicts));
    }
    recorder.begin(Value::Object(detail))?;
    let mut cache = known(root, options);
    let mut request =
        Request { set: source, admitted, lock: &lock, policy: &policy, roots, stage_only, cache: &mut cache };
    let result = Transaction { root, held: &held, runner, observer: &mut recorder }.run(&mut request);
    match result {
        Ok(applied) => {
            // Each of them is done, whatever became of the others; the first warning is told.
            let lost = recorder.end(outcome(&applied), ended(plan_id, &applied));
            let (kept, refreshed) = (kept(root, question.as_ref()), refresh_cache(root, &learned, cache));
            let cleared = import::clear(root, &held).err().map(|why| format!("the inbox is not cleared: {why}"));
            let unsigned = receipts::sign_active(root, options.clock);
            Ok(Outcome { applied, plan_id, warning: lost.or(kept).or(refreshed).or(cleared).or(unsigned) })
        }
        Err(error) => Err(failed(error, plan_id, &mut recorder)),
    }
}

/// A refusal that follows from a return that came first names that as well.
pub(crate) fn with_return(reasons: Reasons, recovery: &Recovery) -> Reasons {
    let Recovery::RolledBack { reason, .. } = recovery else { return reasons };
    let mut all = reasons.clone().into_vec();
    all.push(reason.clone());
    Reasons::new(all).unwrap_or(reasons)
}

/// Reasons that `--now-anyway` takes away, and those that stay.
pub(crate) fn split(reasons: Vec<Reason>, now_anyway: bool) -> (Vec<Reason>, Vec<Reason>) {
    reasons.into_iter().partition(|reason| now_anyway && is_held(reason.code))
}

/// Records how a change failed.
pub(crate) fn failed(error: ApplyError, plan_id: Blake3, recorder: &mut Recorder<'_>) -> ApplyFailure {
    let returned_to = match &error {
        ApplyError::RolledBack { active, .. } => Some(active.clone()),
        ApplyError::Stage(_) | ApplyError::Refused(_) | ApplyError::Disk(_) => None,
    };
    let reasons = error.into_reasons();
    let kind = if returned_to.is_some() { "rolled_back" } else { "failed" };
    let active = returned_to.as_ref().and_then(Option::as_ref);
    let warning = recorder.end(kind, json!({ "plan": plan_id, "reasons": reasons.as_slice(), "active": active }));
    ApplyFailure { reasons, returned_to, warning }
}

/// What the records keep of a policy override: who signed it, why, and what it overrode.
fn told_override(by: &Verified<PolicyOverride>, verdicts: &Verdicts) -> Value {
    let overridden = verdicts.policy.iter().filter(|verdict| verdict.code == "overridden");
    let denials: Vec<&str> = overridden.map(|verdict| verdict.message.as_str()).take(MAX_DENIALS).collect();
    json!({
        "override": by.fingerprint(), "signers": by.signers(), "reason": by.document().reason, "denials": denials,
    })
}

/// What the closing record of a change says.
pub(crate) fn ended(plan_id: Blake3, applied: &Applied) -> Value {
    let generation = match applied {
        Applied::Active(generation) | Applied::Waiting(generation) | Applied::Staged(generation) => Some(generation),
        Applied::Nothing | Applied::Relayed | Applied::Rotated => None,
    };
    json!({ "plan": plan_id, "generation": generation })
}

/// Keeps a question for later comparisons; gives a warning when that was not possible.
fn kept(root: &StateRoot, question: Option<&Value>) -> Option<String> {
    let error = decisions::keep(root, question?).err()?;
    Some(format!("the decision was not recorded: {}", error.to_reason()))
}

pub(crate) fn outcome(applied: &Applied) -> &'static str {
    match applied {
        Applied::Nothing => "nothing",
        Applied::Staged(_) => "staged",
        Applied::Active(_) => "applied",
        Applied::Waiting(_) => "waiting",
        Applied::Relayed => "relayed",
        Applied::Rotated => "rotated",
    }
}

/// The same judgement as before, on the state as it is under the lock; and the roots that it leads through, where the set
/// brings newer ones.
fn judge_again(
    root: &StateRoot,
    prepared: Prepared,
    approved: &PlanDoc,
    options: &Options<'_>,
) -> Result<(Judged, Vec<RootBytes>), Reasons> {
    let Prepared { set, trust, by, .. } = prepared;
    let mut loaded = load(root)?;
    let facts = look(root, options)?;
    let fingerprint = set.manifest.fingerprint();
    autonomy_plan::check_binding(approved, fingerprint, &facts)?;
    loaded.prove(&facts);
    // The binding holds, so the pinned root is the one from which this one was reached.
    Reasons::check(forks(root, &loaded.root, &trust))?;
    let roots = steps(&loaded.root, &trust);
    loaded.adopt(trust);
    let context = loaded.context(options.clock, purpose(root, set.manifest.bytes())?);
    let signed = Signed { bytes: set.manifest.bytes(), signatures: set.manifest.signatures() };
    let manifest = verify_manifest(signed, &context)?;
    let lock = Signed { bytes: set.lock.bytes(), signatures: set.lock.signatures() };
    let lock = verify_lock(lock, &manifest, &context)?;
    loaded.check_offline(&manifest)?;
    let by = by.map(|by| {
        let signed = Signed { bytes: by.bytes(), signatures: by.signatures() };
        verify_override(signed, fingerprint, &context)
    });
    let by = by.transpose()?;
    let set = VerifiedSet { manifest, lock, policy: set.policy, learned: Vec::new() };
    let fresh = judge(root, set, facts, loaded.rotates, by)?;
    if fresh.plan.id() == approved.plan_id {
        return Ok((fresh, roots));
    }
    let message = format!("the plan is {} now; {} was approved", fresh.plan.id(), approved.plan_id);
    Err(Reason::new(Code::StalePlan, message).into())
}

/// Refreshes the stat cache last, as every link changes a file's ctime. It is a cache: failing is a warning.
pub(crate) fn refresh_cache(root: &StateRoot, learned: &[Learned], mut cache: StatCache) -> Option<String> {
    let stored = root.current().and_then(|current| {
        let failed = |error: autonomy_stateroot::DiskError| Reasons::from(error.to_reason());
        if let Some(generation) = current {
            autonomy_stateroot::facts::learn(root, &generation, &mut cache).map_err(failed)?;
        }
        learn(&mut cache, learned);
        cache.store(root).map_err(failed)
    });
    stored.err().map(|reasons: Reasons| format!("the stat cache was not refreshed: {reasons}"))
}

/// Records a refusal that came before anything was approved, and keeps the evidence of a double signature.
pub fn note_refused_set(root: &StateRoot, source: &dyn SetSource, actor: &Actor, reasons: &Reasons) -> Option<String> {
    note_refused(root, source, actor, reasons, None)
}

/// The same for a plan that was refused: what its policy was asked is kept as well.
pub fn note_refused_plan(
    root: &StateRoot,
    source: &dyn SetSource,
    prepared: &Prepared,
    actor: &Actor,
    reasons: &Reasons,
) -> Option<String> {
    let asked = !prepared.doc.verdicts.policy.is_empty();
    let question = if asked { decisions::question(&prepared.set, &prepared.plan, &prepared.facts) } else { None };
    note_refused(root, source, actor, reasons, question.as_ref())
}

fn note_refused(
    root: &StateRoot,
    source: &dyn SetSource,
    actor: &Actor,
    reasons: &Reasons,
    question: Option<&Value>,
) -> Option<String> {
    // The logs have one writer at a time; while another process holds the lock, it is that one.
    let held = match root.lock(&actor.verb) {
        Ok(held) => held,
        Err(error) => return Some(format!("the refusal is not in the audit trail: {}", error.to_reason())),
    };
    let evidence = if reasons.has(Code::SerialConflict) { quarantine::keep(root, source) } else { Ok(()) };
    let noted = note_refusal(root, &held, actor, None, reasons);
    let kept = kept(root, question);
    evidence.err().map(|error| error.to_reason().to_string()).or(noted).or(kept)
}
