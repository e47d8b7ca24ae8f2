//! Small changes under the lock, recorded like every change: holding and releasing, pins.

use autonomy_apply::ServiceRunner;
use autonomy_schema::{Blake3, Code, Reason, Reasons};
use autonomy_stateroot::StateRoot;
use autonomy_stateroot::hold::Suspension;
use serde_json::{Value, json};

use crate::record::{Actor, Recorder};
use crate::recovery::{recover_held, told};

/// Fewest digits that name a pinned manifest.
const MIN_DIGITS: usize = 8;

/// What a small change came to.
#[derive(Debug)]
pub struct Noted<T> {
    /// Its result.
    pub result: T,
    /// A record that could not be written.
    pub warning: Option<String>,
}

/// Holds changes on this node until [`resume`]; `false` when they are held already, and then nothing changes.
pub fn suspend(
    root: &StateRoot,
    actor: &Actor,
    runner: &dyn ServiceRunner,
    suspension: &Suspension,
) -> Result<Noted<bool>, Reasons> {
    let detail = json!({ "reason": suspension.reason, "owner": suspension.owner });
    recorded(root, actor, runner, &detail, || root.suspend(suspension).map_err(|error| error.to_reason().into()))
}

/// Lets changes pass again; `false` when nothing held them.
pub fn resume(root: &StateRoot, actor: &Actor, runner: &dyn ServiceRunner) -> Result<Noted<bool>, Reasons> {
    let held = root.suspension();
    let detail = json!({ "held": held });
    recorded(root, actor, runner, &detail, || root.resume().map_err(|error| error.to_reason().into()))
}

/// Lets a manifest that failed here be tried again. It is named by its digest, or by the first digits of it.
pub fn unpin(
    root: &StateRoot,
    actor: &Actor,
    runner: &dyn ServiceRunner,
    digits: &str,
) -> Result<Noted<Blake3>, Reasons> {
    recorded(root, actor, runner, &json!({ "manifest": digits }), || {
        let mut pinned = root.pinned()?;
        let wanted = digits.strip_prefix("blake3:").unwrap_or(digits);
        if wanted.len() < MIN_DIGITS {
            let message =
                format!("`{}` is too short to name a manifest; give {MIN_DIGITS} digits", digits.escape_default());
            return Err(Reason::new(Code::NotPinned, message).into());
        }
        let found: Vec<Blake3> = pinned.iter().copied().filter(|pin| pin.hex().starts_with(wanted)).collect();
        let refuse = |message: String| Reasons::from(Reason::new(Code::NotPinned, message));
        let [manifest] = found[..] else {
            let shown = digits.escape_default();
            return Err(refuse(match found.len() {
                0 => format!("`{shown}` is not pinned"),
                count => format!("{count} pinned manifests begin with `{shown}`; give more digits"),
            }));
        };
        pinned.remove(&manifest);
        root.write_pinned(&pinned).map_err(|error| Reasons::from(error.to_reason()))?;
        Ok(manifest)
    })
}

fn recorded<T>(
    root: &StateRoot,
    actor: &Actor,
    runner: &dyn ServiceRunner,
    detail: &Value,
    change: impl FnOnce() -> Result<T, Reasons>,
) -> Result<Noted<T>, Reasons> {
    let held = root.lock(&actor.verb).map_err(|error| Reasons::from(error.to_reason()))?;
    let mut silent = autonomy_apply::Silent;
    let mut recorder = Recorder::open(root, actor, None, &mut silent)?;
    let recovery = recover_held(root, &held, runner, &mut recorder)?;
    recorder.begin(detail.clone())?;
    match change() {
        Ok(result) => Ok(Noted { result, warning: told(&recovery).or(recorder.end("done", detail.clone())) }),
        Err(reasons) => {
            recorder.end("failed", json!({ "reasons": reasons.as_slice() }));
            Err(reasons)
        }
    }
}
