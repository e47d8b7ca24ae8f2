//! Reconstruction after the switch: journaled step by step, each at least once. The boot epoch is not touched: it counts
//! operating systems, and this one is the same.

use autonomy_precheck::{Installed, Reconstruction, trusted};
use autonomy_schema::journal::Journal;
use autonomy_schema::{Code, Name, Reason, Reasons};
use autonomy_stateroot::{DiskError, StateRoot};

use crate::observe::{Event, Observer};
use crate::services::ServiceRunner;

/// Carries out what the journal still counts, and writes it down after each. Gives the reason of the first failure.
pub(crate) fn run_listed(
    root: &StateRoot,
    journal: &mut Journal,
    runner: &dyn ServiceRunner,
    observer: &mut dyn Observer,
) -> Result<Option<Reason>, DiskError> {
    if journal.rebuilt >= journal.rebuild {
        return Ok(None);
    }
    let generation = journal.generation.clone();
    let mut written = None;
    let result = rebuild(root, &generation, journal.rebuilt, runner, observer, &mut |done| {
        journal.rebuilt = done;
        // The last of them counts when systemd took up the units as well.
        let result = if done < journal.rebuild { root.write_journal(journal) } else { Ok(()) };
        result.map_err(|error| {
            let reason = error.to_reason();
            written = Some(error);
            reason
        })
    });
    if let Some(error) = written {
        return Err(error);
    }
    match result {
        Ok(()) => {
            journal.rebuilt = journal.rebuild;
            root.write_journal(journal)?;
            Ok(None)
        }
        Err(reason) => Ok(Some(reason)),
    }
}

/// After a return: what the generation that is active again wants outside the state root. It was there before, and there is
/// nothing further back to return to.
pub(crate) fn rerun(root: &StateRoot, generation: &Name, runner: &dyn ServiceRunner, observer: &mut dyn Observer) {
    // Each failure was told to the observer.
    rebuild(root, generation, 0, runner, observer, &mut |_done| Ok(())).ok();
}

/// The steps of a generation from `first` on; `each` is told how many are done.
fn rebuild(
    root: &StateRoot,
    generation: &Name,
    first: u64,
    runner: &dyn ServiceRunner,
    observer: &mut dyn Observer,
    each: &mut dyn FnMut(u64) -> Result<(), Reason>,
) -> Result<(), Reason> {
    let mut at = String::new();
    let mut work = || -> Result<(), Reason> {
        let manifest = trusted::admitted(root, generation).map_err(|reasons| flat(&reasons))?;
        if manifest.document().spec.reconstruction.steps.is_empty() {
            return Ok(());
        }
        let platform = runner.platform()?;
        let work = Reconstruction::new(root, &manifest, generation, &*platform).map_err(|reasons| flat(&reasons))?;
        Reasons::check(work.refusals()).map_err(|reasons| flat(&reasons))?;
        let mut units: Vec<Installed> = Vec::new();
        for step in usize::try_from(first).unwrap_or(usize::MAX)..work.len() {
            at = work.label(step);
            observer.event(&Event::RebuildStarted(&at));
            let done = work.step(step)?;
            // A run that was cut off before may have written units that systemd has not seen yet.
            units.extend(done.unit.filter(|_| done.has_changed || first > 0));
            observer.event(&Event::RebuildDone(&at));
            each(step as u64 + 1)?;
        }
        platform.take_up(&units).map_err(|why| Reason::new(Code::ReconstructionFailed, why))
    };
    work().map_err(|reason| {
        // Whatever it was, the change is undone for it.
        let reason = Reason { code: Code::ReconstructionFailed, ..reason };
        observer.event(&Event::RebuildFailed(&at, &reason));
        reason
    })
}

fn flat(reasons: &Reasons) -> Reason {
    let message = reasons.as_slice().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    Reason::new(Code::ReconstructionFailed, message)
}
