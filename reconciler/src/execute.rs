//! Carrying out what was approved: under the lock, everything is judged again; what moved is named.

use autonomy_apply::transaction::Request;
use autonomy_apply::{Applied, ApplyError, Observer, Recovery, ServiceRunner, Transaction};
use autonomy_schema::plan_doc::PlanDoc;
use autonomy_schema::{Blake3, Code, Name, Reason, Reasons};
use autonomy_stateroot::{ActivationLock, SetSource, StatCache, StateRoot};
use autonomy_trust::{Signed, verify_lock, verify_manifest};
use serde_json::{Value, json};

use crate::decisions;
use crate::judge::{Judged, Options, Prepared, judge, known, load, look, purpose};
use crate::quarantine;
use crate::record::{Actor, Recorder, note_refusal};
use crate::set::{Learned, VerifiedSet, learn};

/// What was approved, and by whom it is carried out.
pub struct Approval<'a> {
    /// The plan as it was shown, with its set.
    pub prepared: Prepared,
    /// The plan that was approved, where it was saved before; else it is the one in `prepared`.
    pub saved: Option<PlanDoc>,
    /// Stop when the generation is staged.
    pub stage_only: bool,
    /// For the records.
    pub actor: &'a Actor,
    /// Who runs services.
    pub runner: &'a dyn ServiceRunner,
    /// Who listens.
    pub observer: &'a mut dyn Observer,
}

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
    fn refused(reasons: Reasons, warning: Option<String>) -> Self {
        Self { reasons, returned_to: None, warning }
    }
}

impl From<Reasons> for ApplyFailure {
    fn from(reasons: Reasons) -> Self {
        Self::refused(reasons, None)
    }
}

/// Finishes or undoes an apply that was cut off. Cheap, and without a lock, when there is none.
pub fn recover_unfinished(
    root: &StateRoot,
    actor: &Actor,
    runner: &dyn ServiceRunner,
    observer: &mut dyn Observer,
) -> Result<Recovery, Reasons> {
    let unfinished = root.journal()?.filter(|journal| !journal.phase.is_final());
    let Some(journal) = unfinished else { return Ok(Recovery::Clean) };
    let held = root.lock(&actor.verb).map_err(|error| error.to_reason())?;
    let mut recorder = Recorder::open(root, actor, Some(journal.manifest), observer)?;
    recover_held(root, &held, runner, &mut recorder)
}

pub(crate) fn recover_held(
    root: &StateRoot,
    held: &ActivationLock,
    runner: &dyn ServiceRunner,
    recorder: &mut Recorder<'_>,
) -> Result<Recovery, Reasons> {
    let transaction = Transaction { root, held, runner, observer: recorder };
    let recovery = autonomy_apply::recover(transaction).map_err(ApplyError::into_reasons)?;
    let detail = match &recovery {
        Recovery::Clean | Recovery::StillStaged(_) => return Ok(recovery),
        Recovery::Undone(generation) => json!({ "undone": generation }),
        Recovery::Finished(generation) => json!({ "finished": generation }),
        Recovery::RolledBack { reason, active } => json!({ "active": active, "reason": reason }),
    };
    if let Some(lost) = recorder.end("recovered", detail) {
        tracing::warn!(lost, "a record was lost");
    }
    Ok(recovery)
}

/// Applies what was approved. Nothing is changed when a fact moved since: that is `stale_plan`.
pub fn apply(
    root: &StateRoot,
    source: &dyn SetSource,
    approval: Approval<'_>,
    options: &Options<'_>,
) -> Result<Outcome, ApplyFailure> {
    let Approval { prepared, saved, stage_only, actor, runner, observer } = approval;
    let correlation = Some(prepared.set.manifest.fingerprint());
    let held = root.lock(&actor.verb).map_err(|error| Reasons::from(error.to_reason()))?;
    let refuse = |reasons: Reasons| {
        let warning = note_refusal(root, &held, actor, correlation, &reasons);
        ApplyFailure::refused(reasons, warning)
    };
    let approved = saved.unwrap_or_else(|| prepared.doc.clone());
    let learned = prepared.set.learned.clone();
    let fresh = judge_again(root, prepared.set, &approved, options).map_err(refuse)?;
    Reasons::check(fresh.reasons()).map_err(refuse)?;
    let plan_id = fresh.plan.id();
    if !fresh.plan.has_changes() {
        let warning = refresh_cache(root, &learned, known(root, options));
        return Ok(Outcome { applied: Applied::Nothing, plan_id, warning });
    }
    let question = decisions::question(&fresh.set, &fresh.plan, &fresh.facts);
    let VerifiedSet { manifest, lock, policy, .. } = fresh.set;
    let admitted = autonomy_policy::admit(fresh.plan, manifest, &fresh.facts, &fresh.bundle).map_err(refuse)?;
    let mut recorder = Recorder::open(root, actor, correlation, observer)?;
    let signers = admitted.manifest().signers();
    let origin = json!({ "source": source.describe(), "revision": source.revision() });
    recorder.begin(json!({ "plan": plan_id, "signers": signers, "origin": origin }))?;
    recover_held(root, &held, runner, &mut recorder)?;
    let mut cache = known(root, options);
    let mut request = Request { set: source, admitted, lock: &lock, policy: &policy, stage_only, cache: &mut cache };
    let result = Transaction { root, held: &held, runner, observer: &mut recorder }.run(&mut request);
    match result {
        Ok(applied) => {
            // Each of them is done, whatever became of the others; the first warning is told.
            let lost = recorder.end(outcome(&applied), json!({ "plan": plan_id }));
            let (kept, refreshed) = (kept(root, question.as_ref()), refresh_cache(root, &learned, cache));
            Ok(Outcome { applied, plan_id, warning: lost.or(kept).or(refreshed) })
        }
        Err(error) => {
            let returned_to = match &error {
                ApplyError::RolledBack { active, .. } => Some(active.clone()),
                ApplyError::Stage(_) | ApplyError::Refused(_) | ApplyError::Disk(_) => None,
            };
            let reasons = error.into_reasons();
            let kind = if returned_to.is_some() { "rolled_back" } else { "failed" };
            let warning = recorder.end(kind, json!({ "reasons": reasons.as_slice() }));
            Err(ApplyFailure { reasons, returned_to, warning })
        }
    }
}

/// Keeps a question for later comparisons; gives a warning when that was not possible.
fn kept(root: &StateRoot, question: Option<&Value>) -> Option<String> {
    let error = decisions::keep(root, question?).err()?;
    Some(format!("the decision was not recorded: {}", error.to_reason()))
}

fn outcome(applied: &Applied) -> &'static str {
    match applied {
        Applied::Nothing => "nothing",
        Applied::Staged(_) => "staged",
        Applied::Active(_) => "applied",
        Applied::Relayed => "relayed",
    }
}

/// The same judgement as before, on the state as it is under the lock.
fn judge_again(
    root: &StateRoot,
    set: VerifiedSet,
    approved: &PlanDoc,
    options: &Options<'_>,
) -> Result<Judged, Reasons> {
    let mut loaded = load(root)?;
    let facts = look(root, options)?;
    let fingerprint = set.manifest.fingerprint();
    autonomy_plan::check_binding(approved, fingerprint, &facts)?;
    loaded.prove(&facts);
    let context = loaded.context(options.clock, purpose(root, set.manifest.bytes())?);
    let signed = Signed { bytes: set.manifest.bytes(), signatures: set.manifest.signatures() };
    let manifest = verify_manifest(signed, &context)?;
    let lock = Signed { bytes: set.lock.bytes(), signatures: set.lock.signatures() };
    let lock = verify_lock(lock, &manifest, &context)?;
    let fresh = judge(root, VerifiedSet { manifest, lock, policy: set.policy, learned: Vec::new() }, facts)?;
    if fresh.plan.id() == approved.plan_id {
        return Ok(fresh);
    }
    let message = format!("the plan is {} now; {} was approved", fresh.plan.id(), approved.plan_id);
    Err(Reason::new(Code::StalePlan, message).into())
}

/// Refreshes the stat cache last, as every link changes a file's ctime. It is a cache: failing is a warning.
fn refresh_cache(root: &StateRoot, learned: &[Learned], mut cache: StatCache) -> Option<String> {
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
