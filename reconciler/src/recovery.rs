//! What was cut off, what waits for a confirmation, and whether its time is over.

use autonomy_apply::{ApplyError, Observer, Recovery, ServiceRunner, Transaction};
use autonomy_schema::journal::{Journal, Moment, Phase, Verdict, Waiting};
use autonomy_schema::{Blake3, Duration, Name, Reasons};
use autonomy_stateroot::{ActivationLock, StateRoot};
use serde_json::json;

use crate::execute::ApplyFailure;
use crate::hold::Noted;
use crate::receipts;
use crate::record::{Actor, Recorder, note_refusal};

/// Finishes or undoes a change that was cut off, and returns from one that nobody confirmed in time. Cheap, and without
/// a lock, when there is neither.
pub fn recover_unfinished(
    root: &StateRoot,
    actor: &Actor,
    runner: &dyn ServiceRunner,
    observer: &mut dyn Observer,
) -> Result<Recovery, Reasons> {
    let unfinished = root.journal()?.filter(|journal| !journal.phase.is_final());
    let Some(journal) = unfinished else { return Ok(Recovery::Clean) };
    if journal.phase == Phase::Waiting && time_left(&journal, &runner.moment()).is_some() {
        return Ok(Recovery::Clean);
    }
    let held = root.lock(&actor.verb).map_err(|error| error.to_reason())?;
    let mut recorder = Recorder::open(root, actor, Some(journal.manifest), observer)?;
    recover_held(root, &held, runner, &mut recorder)
}

/// The same for a caller that holds the lock.
pub(crate) fn recover_held(
    root: &StateRoot,
    held: &ActivationLock,
    runner: &dyn ServiceRunner,
    recorder: &mut Recorder<'_>,
) -> Result<Recovery, Reasons> {
    autonomy_sets::roots::settle(root, held)?;
    let unfinished = root.journal()?.filter(|journal| !journal.phase.is_final()).map(|journal| journal.manifest);
    let own = recorder.about(unfinished);
    let recovery = recover_recorded(root, held, runner, recorder);
    recorder.about(own);
    recovery
}

fn recover_recorded(
    root: &StateRoot,
    held: &ActivationLock,
    runner: &dyn ServiceRunner,
    recorder: &mut Recorder<'_>,
) -> Result<Recovery, Reasons> {
    let transaction = Transaction { root, held, runner, observer: recorder };
    let recovery = autonomy_apply::recover(transaction).map_err(ApplyError::into_reasons)?;
    let mut detail = match &recovery {
        Recovery::Clean | Recovery::StillStaged(_) => return Ok(recovery),
        Recovery::Undone(generation) | Recovery::NotBegun(generation) => json!({ "undone": generation }),
        Recovery::Finished(generation) => json!({ "finished": generation }),
        Recovery::WaitsAgain(generation) => json!({ "waitsAgain": generation }),
        Recovery::RolledBack { reason, active } => json!({ "active": active, "reasons": [reason] }),
    };
    // It is no end of the verb that found it.
    detail["recovery"] = json!(true);
    let outcome = if matches!(recovery, Recovery::RolledBack { .. }) { "rolled_back" } else { "recovered" };
    if let Some(lost) = recorder.end(outcome, detail) {
        tracing::warn!(lost, "a record was lost");
    }
    if matches!(recovery, Recovery::Finished(_))
        && let Some(unsigned) = receipts::sign_active(root, recorder.clock())
    {
        tracing::warn!(unsigned, "a receipt was not made");
    }
    Ok(recovery)
}

/// What a verb must tell of a recovery that came before its own work and changed what runs.
pub(crate) fn told(recovery: &Recovery) -> Option<String> {
    let Recovery::RolledBack { reason, active } = recovery else { return None };
    let active = active.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
    Some(format!("the node returned first: {reason}; {active} is active"))
}

/// The time that is left to confirm; `None` when it is over, or must be looked at for another cause.
fn time_left(journal: &Journal, now: &Moment) -> Option<Duration> {
    match journal.waiting()?.waiting.as_ref()?.judge(now) {
        Verdict::Holds(left) => Some(left),
        Verdict::Restarts | Verdict::Expired | Verdict::RebootedAgain => None,
    }
}

/// What timer and boot unit ask for: looks at what is active and not proven yet. It may wait for a confirmation, or a power
/// cut may have left it, or the way back from it, unfinished; while another process is at it, the lock says so. What is
/// only staged is no business of theirs.
pub fn expire(
    root: &StateRoot,
    actor: &Actor,
    runner: &dyn ServiceRunner,
    observer: &mut dyn Observer,
) -> Result<Recovery, Reasons> {
    if root.journal()?.is_some_and(|journal| journal.phase == Phase::Switched) {
        return recover_unfinished(root, actor, runner, observer);
    }
    match awaiting(root, &runner.moment())?.map(|awaiting| awaiting.verdict) {
        None | Some(Verdict::Holds(_)) => Ok(Recovery::Clean),
        Some(Verdict::Restarts | Verdict::Expired | Verdict::RebootedAgain) => {
            recover_unfinished(root, actor, runner, observer)
        }
    }
}

/// What waits for a confirmation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Awaiting {
    /// The generation.
    pub generation: Name,
    /// Its manifest.
    pub manifest: Blake3,
    /// The window.
    pub waiting: Waiting,
    /// What the moment means to it.
    pub verdict: Verdict,
}

/// What waits for a confirmation, without a lock.
pub fn awaiting(root: &StateRoot, now: &Moment) -> Result<Option<Awaiting>, Reasons> {
    let Some(journal) = root.journal()? else { return Ok(None) };
    Ok(journal.waiting().and_then(|waits| {
        let waiting = waits.waiting.clone()?;
        let verdict = waiting.judge(now);
        Some(Awaiting { generation: waits.generation.clone(), manifest: waits.manifest, waiting, verdict })
    }))
}

/// Confirms what waits, `manifest` when it is given. A wait that is over is answered with the return that is due.
pub fn confirm(
    root: &StateRoot,
    manifest: Option<Blake3>,
    actor: &Actor,
    runner: &dyn ServiceRunner,
    observer: &mut dyn Observer,
) -> Result<Noted<Name>, ApplyFailure> {
    let held = root.lock(&actor.verb).map_err(|error| Reasons::from(error.to_reason()))?;
    let correlation = root.journal()?.as_ref().and_then(Journal::waiting).map(|waits| waits.manifest);
    let mut recorder = Recorder::open(root, actor, correlation, observer)?;
    if let Recovery::RolledBack { reason, active } = recover_held(root, &held, runner, &mut recorder)? {
        return Err(ApplyFailure { reasons: reason.into(), returned_to: Some(active), warning: None });
    }
    recorder.begin(json!({}))?;
    let transaction = Transaction { root, held: &held, runner, observer: &mut recorder };
    match transaction.confirm(manifest) {
        Ok(generation) => {
            let lost = recorder.end("confirmed", json!({ "generation": generation }));
            let unsigned = receipts::sign_active(root, actor.clock);
            Ok(Noted { result: generation, warning: lost.or(unsigned) })
        }
        Err(error) => {
            let reasons = error.into_reasons();
            let warning = note_refusal(root, &held, actor, correlation, &reasons);
            Err(ApplyFailure::refused(reasons, warning))
        }
    }
}
