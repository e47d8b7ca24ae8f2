//! Garbage collection under both locks, recorded.

use autonomy_apply::ServiceRunner;
use autonomy_schema::{Code, Reason, Reasons};
use autonomy_stateroot::gc::{self, Garbage};
use autonomy_stateroot::{LockMode, StateRoot};
use serde_json::json;

use crate::record::{Actor, Recorder};
use crate::recovery::{recover_held, told};

/// What was removed.
#[derive(Debug)]
pub struct Collected {
    /// The list.
    pub garbage: Garbage,
    /// A record that could not be written.
    pub warning: Option<String>,
}

/// What a collection would remove. Writes nothing.
pub fn find_garbage(root: &StateRoot, keep: usize) -> Result<Garbage, Reasons> {
    gc::find(root, keep)
}

/// Removes what nothing needs, keeping the newest `keep` generations beside.
pub fn collect_garbage(
    root: &StateRoot,
    keep: usize,
    actor: &Actor,
    runner: &dyn ServiceRunner,
    progress: &dyn Fn(usize),
) -> Result<Collected, Reasons> {
    let held = root.lock(&actor.verb).map_err(|error| Reasons::from(error.to_reason()))?;
    let store = root.store_lock(LockMode::Exclusive).map_err(|error| Reasons::from(error.to_reason()))?;
    let store = store.ok_or_else(|| Reason::new(Code::Locked, "another process is writing objects"))?;
    let mut silent = autonomy_apply::Silent;
    let mut recorder = Recorder::open(root, actor, None, &mut silent)?;
    let recovery = recover_held(root, &held, runner, &mut recorder)?;
    let garbage = gc::find(root, keep)?;
    if garbage.is_empty() {
        return Ok(Collected { garbage, warning: told(&recovery) });
    }
    let detail =
        json!({ "generations": garbage.generations, "objects": garbage.objects.len(), "bytes": garbage.bytes });
    recorder.begin(detail.clone())?;
    match gc::sweep(root, &held, &*store, &garbage, progress) {
        Ok(()) => Ok(Collected { garbage, warning: told(&recovery).or(recorder.end("done", detail)) }),
        Err(error) => {
            let reasons = Reasons::from(error.to_reason());
            recorder.end("failed", json!({ "reasons": reasons.as_slice() }));
            Err(reasons)
        }
    }
}
