//! INV-04 over the whole state root: what it holds, what is free, and the ceiling.

use autonomy_schema::{Code, Reason, Reasons, StateManifest};
use autonomy_stateroot::StateRoot;

/// What is wrong with the space, as errors and as warnings.
pub(crate) fn space(root: &StateRoot, manifest: &StateManifest) -> Result<(Vec<Reason>, Vec<Reason>), Reasons> {
    let failed = |error: autonomy_stateroot::DiskError| Reasons::from(error.to_reason());
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    let space = root.disk().space().map_err(failed)?;
    let used = autonomy_stateroot::used_bytes(root).map_err(failed)?;
    let least = manifest.spec.precheck.min_free_bytes;
    if space.free < least {
        let message = format!("{} bytes are free; `spec.precheck.minFreeBytes` is {least}", space.free);
        errors.push(Reason::new(Code::DiskFull, message));
    }
    let ceiling = manifest.spec.relay.storage.disk_ceiling_bytes;
    if ceiling == 0 {
        return Ok((errors, warnings));
    }
    if used > ceiling {
        let message = format!("the state root holds {used} bytes; its ceiling is {ceiling}");
        errors.push(Reason::new(Code::CeilingExceeded, message));
    } else if space.free < ceiling - used {
        let message = format!(
            "the ceiling of the state root is {ceiling} bytes, and it holds {used}; only {} more are free",
            space.free
        );
        let remedy = "free space on its file system, or lower `storage.diskCeilingBytes`";
        warnings.push(Reason::new(Code::DiskFull, message).with_remedy(remedy));
    }
    Ok((errors, warnings))
}
