//! What the next locking verb does first: it finishes or undoes the change that was cut off, and looks whether the time to
//! confirm is over.

use autonomy_schema::journal::{Boots, Journal, Operation, Phase, Verdict};
use autonomy_schema::{Code, Name, Reason, RelPath};
use autonomy_stateroot::{DiskError, StateRoot, layout};

use crate::activate::Active;
use crate::transaction::{ApplyError, Transaction, corrupt, exists};

/// What recovery found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// Nothing was unfinished, or what waits for a confirmation has still time.
    Clean,
    /// A staged generation waits for its apply; nothing was changed.
    StillStaged(Name),
    /// The old generation is active; what was staged is removed.
    Undone(Name),
    /// A rollback was cut off before its switch; nothing was changed.
    NotBegun(Name),
    /// The new generation is active; what was left to do is done.
    Finished(Name),
    /// The machine was started anew, so the window to confirm this generation starts again, once.
    WaitsAgain(Name),
    /// A service or the health command failed, or nobody confirmed in time: the generation named is active again.
    RolledBack {
        /// Why.
        reason: Reason,
        /// The generation that is active again, if any.
        active: Option<Name>,
    },
}

/// Finishes or undoes. Safe to be cut off and called again. A service that fails now leads back to the last known
/// good generation, as it would have in the apply.
pub fn recover(transaction: Transaction<'_>) -> Result<Recovery, ApplyError> {
    match recover_journal(transaction) {
        Err(ApplyError::RolledBack { reason, active }) => Ok(Recovery::RolledBack { reason, active }),
        other => other,
    }
}

fn recover_journal(mut transaction: Transaction<'_>) -> Result<Recovery, ApplyError> {
    let root = transaction.root;
    sweep(root)?;
    let Some(mut journal) = root.journal().map_err(ApplyError::Refused)? else { return Ok(Recovery::Clean) };
    if journal.phase.is_final() {
        return Ok(Recovery::Clean);
    }
    let current = root.current().map_err(ApplyError::Refused)?;
    let switched = current.as_ref() == Some(&journal.generation);
    match journal.phase {
        // Only a rollback switches right after its intent: what it goes to was there.
        Phase::Intent if switched && journal.operation != Operation::Rollback => Err(corrupt(format!(
            "`current` points to `{}`, which the journal says was never staged",
            journal.generation
        ))),
        // The rename may be on disk although the journal does not say so yet.
        Phase::Intent | Phase::Staged | Phase::Prechecked | Phase::Switched if switched => {
            journal.phase = Phase::Switched;
            // The operating system below may be another one than that of the steps that were done.
            journal.rebuilt = 0;
            transaction.count_boot(&mut journal);
            root.write_journal(&journal)?;
            let active = Active::recovered(journal.generation.clone());
            transaction.finish(&mut journal, &active)?;
            Ok(Recovery::Finished(journal.generation))
        }
        Phase::Switched => resume_return(transaction, &mut journal, current),
        Phase::Waiting if switched => transaction.look_at_wait(journal),
        Phase::Waiting => Err(points_elsewhere(&journal, current)),
        Phase::Intent | Phase::Staged | Phase::Prechecked => before_switch(transaction, journal),
        Phase::Confirmed | Phase::RolledBack => Ok(Recovery::Clean),
    }
}

/// Reboots after which a generation that was switched to and never proven is given up: its own services may be what
/// brings the machine down.
const MAX_REBOOTS: u64 = 2;

impl Transaction<'_> {
    fn count_boot(&self, journal: &mut Journal) {
        let now = self.runner.moment();
        let boots = journal.boots.clone().unwrap_or_else(|| Boots { boot_id: now.boot_id.clone(), reboots: 0 });
        let boots = boots.seen(&now);
        if boots.reboots >= MAX_REBOOTS && journal.failure.is_none() {
            let message = format!(
                "the machine was started anew {} times before {} was proven",
                boots.reboots, journal.generation
            );
            journal.failure = Some(Reason::new(Code::ServiceFailed, message));
        }
        journal.boots = Some(boots);
    }
}

/// Nothing is switched: what is staged whole waits for its apply, everything else is removed. A generation that it was to
/// take over from may have run out of time meanwhile.
fn before_switch(mut transaction: Transaction<'_>, journal: Journal) -> Result<Recovery, ApplyError> {
    let root = transaction.root;
    let waits = journal.supersedes.as_deref().cloned();
    let is_over = waits
        .as_ref()
        .and_then(|waits| waits.waiting.as_ref())
        .is_some_and(|waiting| !matches!(waiting.judge(&transaction.runner.moment()), Verdict::Holds(_)));
    let is_whole = journal.phase != Phase::Intent && exists(root, &journal.generation)?;
    if journal.operation == Operation::Apply && is_whole && !is_over {
        return Ok(Recovery::StillStaged(journal.generation));
    }
    let (operation, generation) = (journal.operation, journal.generation.clone());
    // A repair beside the active generation ends with its link; what the link names is not taken away again.
    if operation == Operation::Repair && root.lkg().map_err(ApplyError::Refused)?.as_ref() == Some(&generation) {
        transaction.close_repair(journal)?;
    } else {
        transaction.give_up(journal)?;
    }
    if let Some(waits) = waits.filter(|_| is_over) {
        return transaction.look_at_wait(waits);
    }
    Ok(if operation == Operation::Rollback { Recovery::NotBegun(generation) } else { Recovery::Undone(generation) })
}

/// The journal says `switched` and `current` points elsewhere: the way back was cut off after its rename.
fn resume_return(
    mut transaction: Transaction<'_>,
    journal: &mut Journal,
    current: Option<Name>,
) -> Result<Recovery, ApplyError> {
    Err(match journal.failure.clone() {
        Some(reason) => transaction.fail(journal, reason),
        None => points_elsewhere(journal, current),
    })
}

fn points_elsewhere(journal: &Journal, current: Option<Name>) -> ApplyError {
    let shown = current.map_or_else(|| "nothing".to_owned(), |name| format!("`{name}`"));
    corrupt(format!("the journal says `{}` is active; `current` points to {shown}", journal.generation))
}

/// Removes copies that were cut off before they became objects.
pub(crate) fn sweep(root: &StateRoot) -> Result<(), DiskError> {
    let objects = layout::objects();
    for entry in root.disk().list(Some(&objects))? {
        if entry.name.starts_with(".tmp-")
            && let Ok(name) = entry.name.parse::<RelPath>()
        {
            root.disk().remove(&objects.join(&name))?;
        }
    }
    Ok(())
}
