//! Reconstruction after the switch. The journal counts the steps that are done and names those whose places were empty before; a
//! recovery begins with the first step again. The boot epoch is not touched: it counts operating systems, and this one is the same.

use std::collections::BTreeSet;

use autonomy_precheck::{Installed, Platform, Reconstruction, StepDone, trusted};
use autonomy_schema::journal::Journal;
use autonomy_schema::{Code, Name, Reason, Reasons};
use autonomy_stateroot::{DiskError, StateRoot};

use crate::observe::{Event, Observer};
use crate::services::ServiceRunner;

/// Carries out all steps, unless the journal says that they are done, and counts each there. Gives the reason of the first
/// failure.
pub(crate) fn run_listed(
    root: &StateRoot,
    journal: &mut Journal,
    runner: &dyn ServiceRunner,
    observer: &mut dyn Observer,
) -> Result<Option<Reason>, DiskError> {
    if journal.rebuilt >= journal.rebuild {
        return Ok(None);
    }
    let mut written = None;
    let generation = journal.generation.clone();
    let result = with(root, &generation, runner, |work, platform| {
        Reasons::check(work.refusals()).map_err(|reasons| flat(&reasons))?;
        let mut write = |journal: &Journal| {
            root.write_journal(journal).map_err(|error| {
                let reason = error.to_reason();
                written = Some(error);
                reason
            })
        };
        // Before the first of them: after a power cut nobody could tell what was there.
        let absent = (0..work.len()).filter(|at| work.is_absent(*at)).map(|at| at as u64);
        let new: Vec<u64> = absent.filter(|at| !journal.created.contains(at)).collect();
        if !new.is_empty() {
            journal.created.extend(new);
            write(journal)?;
        }
        let mut units: Vec<Installed> = Vec::new();
        for at in 0..work.len() {
            let done = step(work, at, observer)?;
            units.extend(done.unit);
            journal.rebuilt = journal.rebuilt.max(at as u64 + 1);
            if at + 1 < work.len() {
                write(journal)?;
            }
        }
        // The last of them counts when systemd took up the units as well.
        platform.take_up(&units).map_err(|why| Reason::new(Code::ReconstructionFailed, why))
    });
    if let Some(error) = written {
        return Err(error);
    }
    if let Err(reason) = result {
        // Whatever it was, the change is undone for it.
        return Ok(Some(Reason { code: Code::ReconstructionFailed, ..reason }));
    }
    journal.rebuilt = journal.rebuild;
    root.write_journal(journal)?;
    Ok(None)
}

/// On the way back to `target`: what steps of a given-up generation put where nothing was, and the target does not want, is
/// taken back. Each failure is told to the observer, and keeps none of the others from being tried.
pub(crate) fn withdraw(
    root: &StateRoot,
    journal: &Journal,
    target: Option<&Name>,
    runner: &dyn ServiceRunner,
    observer: &mut dyn Observer,
) {
    if journal.created.is_empty() {
        return;
    }
    let mut wanted = BTreeSet::new();
    if let Some(target) = target {
        let known = with(root, target, runner, |work, _platform| {
            wanted = work.places();
            Ok(())
        });
        // Not known what it wants: then nothing is taken from it.
        if known.is_err() {
            return;
        }
    }
    let taken = with(root, &journal.generation, runner, |work, platform| {
        let mut gone = Vec::new();
        for at in journal.created.iter().rev().filter_map(|at| usize::try_from(*at).ok()) {
            if work.place_of(at).is_none_or(|place| wanted.contains(&place)) {
                continue;
            }
            match work.withdraw(at) {
                Ok(unit) => gone.extend(unit),
                Err(reason) => observer.event(&Event::RebuildFailed(&work.label(at), &reason)),
            }
        }
        platform.let_go(&gone).map_err(|why| Reason::new(Code::ReconstructionFailed, why))
    });
    if let Err(reason) = taken {
        observer.event(&Event::RebuildFailed("take back", &reason));
    }
}

/// After a return: what the generation that is active again wants outside the state root, all of it, whatever each step says.
/// It was there before, and there is nothing further back to return to.
pub(crate) fn rerun(root: &StateRoot, generation: &Name, runner: &dyn ServiceRunner, observer: &mut dyn Observer) {
    let done = with(root, generation, runner, |work, platform| {
        let mut units: Vec<Installed> = Vec::new();
        for at in 0..work.len() {
            // Told to the observer.
            if let Ok(done) = step(work, at, observer) {
                units.extend(done.unit);
            }
        }
        platform.take_up(&units).map_err(|why| Reason::new(Code::ReconstructionFailed, why))
    });
    if let Err(reason) = done {
        observer.event(&Event::RebuildFailed("reconstruction", &reason));
    }
}

/// One step, with its events.
fn step(work: &Reconstruction<'_>, at: usize, observer: &mut dyn Observer) -> Result<StepDone, Reason> {
    let label = work.label(at);
    observer.event(&Event::RebuildStarted(&label));
    match work.step(at) {
        Ok(done) => {
            observer.event(&Event::RebuildDone(&label));
            Ok(done)
        }
        Err(reason) => {
            observer.event(&Event::RebuildFailed(&label, &reason));
            Err(reason)
        }
    }
}

/// Works on the steps of a generation; nothing is done where it has none.
fn with(
    root: &StateRoot,
    generation: &Name,
    runner: &dyn ServiceRunner,
    act: impl FnOnce(&Reconstruction<'_>, &dyn Platform) -> Result<(), Reason>,
) -> Result<(), Reason> {
    let manifest = trusted::admitted(root, generation).map_err(|reasons| flat(&reasons))?;
    if manifest.document().spec.reconstruction.steps.is_empty() {
        return Ok(());
    }
    let platform = runner.platform()?;
    let work = Reconstruction::new(root, &manifest, generation, &*platform).map_err(|reasons| flat(&reasons))?;
    act(&work, &*platform)
}

fn flat(reasons: &Reasons) -> Reason {
    let message = reasons.one_line();
    Reason::new(Code::ReconstructionFailed, message)
}
