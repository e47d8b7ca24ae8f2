//! A state root as one file, and back. A backup restores what was lost and never makes a node older: what is right on the
//! node stays, and floors are merged by maximum. `docs/formats/backup.md` draws the file; ADR 7 has the reasons.
//!
//! Start with [`backup`] and [`restore`]; the plan of a restore is `plan.rs`.

use std::collections::BTreeMap;
use std::path::Path;

use autonomy_apply::{ApplyError, Observer, ServiceRunner, Transaction};
use autonomy_schema::backup::Backup;
use autonomy_schema::{Code, Name, Reason, Reasons};
use autonomy_stateroot::{ActivationLock, StateRoot};
use serde_json::json;

use crate::record::{Actor, Recorder};
use crate::recovery::{recover_held, told};

mod archive;
mod check;
mod make;
mod medium;
mod places;
mod plan;
mod restore;
mod tarball;
mod target;

pub use archive::Archive;

use make::{Pending, Survey};
use plan::Plan;
use restore::Hands;
use target::Target;
pub(crate) use target::{Identity, identity};

/// Largest key file that is read.
const MAX_KEY_BYTES: u64 = 64 << 10;

/// Who backs up or restores, and who runs the services of an apply that must be finished before.
pub struct Keeper<'a> {
    /// For the records.
    pub actor: &'a Actor,
    /// Who runs services.
    pub runner: &'a dyn ServiceRunner,
    /// Who listens.
    pub observer: &'a mut dyn Observer,
}

/// A backup that was made.
#[derive(Debug)]
pub struct Made {
    /// What is in it.
    pub list: Backup,
    /// Files, folders and links.
    pub counts: [usize; 3],
    /// What was left out, and why.
    pub notes: Vec<String>,
    /// A record that was lost.
    pub warning: Option<String>,
}

/// Writes everything that belongs to the state root into one file at `to`, replacing what is there. An apply that was cut
/// off is finished or undone before. `progress` is told bytes done and bytes in all.
pub fn backup(root: &StateRoot, to: &Path, keeper: Keeper<'_>, progress: &dyn Fn(u64, u64)) -> Result<Made, Reasons> {
    let Keeper { actor, runner, observer } = keeper;
    let held = root.lock(&actor.verb).map_err(|error| Reasons::from(error.to_reason()))?;
    let _store = root.share_store().map_err(|error| Reasons::from(error.to_reason()))?;
    // Before the records say that it began: a place that cannot be written is no reason for a record.
    let pending = Pending::beside(to)?;
    let mut recorder = Recorder::open(root, actor, None, observer)?;
    recorder.begin(json!({}))?;
    let made = recover_held(root, &held, runner, &mut recorder).and_then(|recovery| {
        let mut survey = Survey::of(root)?;
        survey.notes.extend(told(&recovery));
        let list = make::write(root, &survey, actor.clock, pending, progress)?;
        Ok((list, survey.notes))
    });
    match made {
        Ok((list, notes)) => {
            let detail = json!({ "backup": list.fingerprint, "entries": list.entries.len() });
            Ok(Made { counts: make::counts(&list), notes, warning: recorder.end("done", detail), list })
        }
        Err(reasons) => {
            recorder.end("failed", json!({ "reasons": reasons.as_slice() }));
            Err(reasons)
        }
    }
}

/// What a restore did.
#[derive(Debug)]
pub struct Restored {
    /// What was written, in words; empty when nothing was.
    pub restored: Vec<String>,
    /// What stayed as it was.
    pub kept: Vec<String>,
    /// What could not be helped.
    pub notes: Vec<String>,
    /// The generation that is active now.
    pub current: Option<Name>,
    /// Highest serial per stream from now on.
    pub floors: BTreeMap<Name, u64>,
    /// A record that was lost.
    pub warning: Option<String>,
}

/// Makes the folder of `root` the node of the backup again, or fills what that node lost. Nothing is written when it is
/// refused; cut off anywhere, it can be run again.
pub fn restore(root: &StateRoot, archive: &Archive, keeper: Keeper<'_>) -> Result<Restored, Reasons> {
    let Keeper { actor, runner, observer } = keeper;
    not_of_others(root)?;
    let held = root.lock(&actor.verb).map_err(|error| Reasons::from(error.to_reason()))?;
    let _store = root.share_store().map_err(|error| Reasons::from(error.to_reason()))?;
    let mut target = Target::of(root, archive)?;
    let unfinished = target.is_unfinished();
    let mut stuck = false;
    if unfinished {
        // What keeps it from being finished may be what the backup brings.
        stuck = recover(root, &held, actor, runner, &mut *observer).is_err();
        target = Target::of(root, archive)?;
    }
    let plan = Plan::of(&target, archive)?;
    let (restored, kept) = (plan.describe(), target.describe_kept(&plan));
    let floors = archive::summary(&target.floors_with(archive));
    let mut notes = plan.notes.clone();
    let mut warning = None;
    let hands = Hands { root, held: &held, archive, plan: &plan };
    if plan.is_empty() {
        hands.settle()?;
    } else {
        hands.prepare()?;
        let mut recorder = match Recorder::open(root, actor, None, &mut *observer) {
            Ok(recorder) => Some(recorder),
            Err(reasons) => {
                notes.push(format!("the restore is not in the audit trail: {reasons}"));
                None
            }
        };
        let detail = json!({ "backup": archive.list().fingerprint, "restored": restored });
        if let Some(recorder) = &mut recorder {
            recorder.begin(detail)?;
        }
        let filled = hands.fill();
        if let Some(mut recorder) = recorder {
            let reasons = filled.as_ref().err().map(std::slice::from_ref).unwrap_or_default();
            let outcome = if reasons.is_empty() { "done" } else { "failed" };
            warning = recorder.end(outcome, json!({ "reasons": reasons }));
        }
        filled?;
    }
    if stuck {
        recover(root, &held, actor, runner, observer)?;
    }
    Ok(Restored { restored, kept, notes, current: root.current()?, floors, warning })
}

/// A folder that is no state root must hold nothing of anybody else's.
fn not_of_others(root: &StateRoot) -> Result<(), Reasons> {
    let failed = |error: autonomy_stateroot::DiskError| Reasons::from(error.to_reason());
    if root.is_initialized().map_err(failed)? {
        return Ok(());
    }
    let foreign = autonomy_stateroot::foreign(root.disk()).map_err(failed)?;
    if foreign.is_empty() {
        return Ok(());
    }
    let message = format!("the folder is not empty and no state root: it holds {}", foreign.join(", "));
    Err(Reason::new(Code::StateRootUnsafe, message).with_remedy("choose an empty folder").into())
}

/// Finishes or undoes an apply that was cut off; with a damaged trail also without records.
fn recover(
    root: &StateRoot,
    held: &ActivationLock,
    actor: &Actor,
    runner: &dyn ServiceRunner,
    observer: &mut dyn Observer,
) -> Result<(), Reasons> {
    if let Ok(mut recorder) = Recorder::open(root, actor, None, &mut *observer) {
        return recover_held(root, held, runner, &mut recorder).map(drop);
    }
    let recovery = autonomy_apply::recover(Transaction { root, held, runner, observer });
    recovery.map(drop).map_err(ApplyError::into_reasons)
}
