//! What the next locking verb does first: it finishes or undoes the apply that was cut off.

use autonomy_schema::journal::{Journal, Phase};
use autonomy_schema::{Name, Reason, RelPath};
use autonomy_stateroot::{DiskError, StateRoot, layout};

use crate::activate::Active;
use crate::stage;
use crate::transaction::{ApplyError, Transaction, corrupt, exists};

/// What recovery found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// Nothing was unfinished.
    Clean,
    /// A staged generation waits for its apply; nothing was changed.
    StillStaged(Name),
    /// The old generation is active; what was staged is removed.
    Undone(Name),
    /// The new generation is active; what was left to do is done.
    Finished(Name),
    /// A service failed, then or now: the generation named is active again.
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
        // The rename may be on disk although the journal does not say so yet.
        Phase::Staged | Phase::Prechecked | Phase::Switched if switched => {
            journal.phase = Phase::Switched;
            root.write_journal(&journal)?;
            let active = Active::recovered(journal.generation.clone());
            transaction.finish(&mut journal, &active)?;
            Ok(Recovery::Finished(journal.generation))
        }
        Phase::Switched => resume_return(transaction, &mut journal, current),
        Phase::Intent if switched => Err(corrupt(format!(
            "`current` points to `{}`, which the journal says was never staged",
            journal.generation
        ))),
        Phase::Staged | Phase::Prechecked if exists(root, &journal.generation)? => {
            Ok(Recovery::StillStaged(journal.generation))
        }
        Phase::Intent | Phase::Staged | Phase::Prechecked => {
            stage::discard(root, &journal.generation)?;
            transaction.enter(&mut journal, Phase::RolledBack)?;
            Ok(Recovery::Undone(journal.generation))
        }
        Phase::Confirmed | Phase::RolledBack => Ok(Recovery::Clean),
    }
}

/// The journal says `switched` and `current` points elsewhere: the way back was cut off after its rename.
fn resume_return(
    mut transaction: Transaction<'_>,
    journal: &mut Journal,
    current: Option<Name>,
) -> Result<Recovery, ApplyError> {
    if journal.failure.is_none() {
        let shown = current.map_or_else(|| "nothing".to_owned(), |name| format!("`{name}`"));
        return Err(corrupt(format!(
            "the journal says `{}` is active; `current` points to {shown}",
            journal.generation
        )));
    }
    let active = Active::recovered(journal.generation.clone());
    transaction.finish(journal, &active)?;
    Ok(Recovery::Undone(journal.generation.clone()))
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
