//! Holding and releasing changes, recorded like every change.

use autonomy_schema::Reasons;
use autonomy_stateroot::StateRoot;
use autonomy_stateroot::hold::Suspension;
use serde_json::json;

use crate::record::{Actor, Recorder};

/// Holds changes on this node until [`resume`]. Gives a warning when a record was lost.
pub fn suspend(root: &StateRoot, actor: &Actor) -> Result<Option<String>, Reasons> {
    recorded(root, actor, || root.suspend(&Suspension { since: actor.clock }))
}

/// Lets changes pass again.
pub fn resume(root: &StateRoot, actor: &Actor) -> Result<Option<String>, Reasons> {
    recorded(root, actor, || root.resume())
}

fn recorded(
    root: &StateRoot,
    actor: &Actor,
    change: impl FnOnce() -> Result<(), autonomy_stateroot::DiskError>,
) -> Result<Option<String>, Reasons> {
    let _held = root.lock(&actor.verb).map_err(|error| Reasons::from(error.to_reason()))?;
    let mut silent = autonomy_apply::Silent;
    let mut recorder = Recorder::open(root, actor, None, &mut silent)?;
    recorder.begin(json!({}))?;
    match change() {
        Ok(()) => Ok(recorder.end("done", json!({}))),
        Err(error) => {
            let reasons = Reasons::from(error.to_reason());
            recorder.end("failed", json!({ "reasons": reasons.as_slice() }));
            Err(reasons)
        }
    }
}
