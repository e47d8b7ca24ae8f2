//! Where the verbs take a policy from: a bundle, or the folder that one is built from.

use std::path::Path;

use autonomy_policy::{BuildOptions, Bundle};
use autonomy_schema::{Name, Reason, Time, set};

use super::build::{read_folder, refusal};
use crate::failure::Failure;
use crate::files;

/// Reads a bundle.
pub(super) fn bundle(path: &Path) -> Result<Bundle, Failure> {
    let bytes = files::read(path, set::MAX_POLICY_BYTES)?;
    loaded(path, &bytes)
}

/// Reads a bundle from its bytes.
pub(super) fn loaded(path: &Path, bytes: &[u8]) -> Result<Bundle, Failure> {
    Bundle::load(bytes).map_err(|error| at(path, error.to_reason()))
}

/// Reads a bundle, or builds one from a folder.
pub(super) fn bundle_or_folder(path: &Path) -> Result<Bundle, Failure> {
    if !path.is_dir() {
        return bundle(path);
    }
    let version = "0.0.0".parse().map_err(|_never| Failure::Usage("no version".to_owned()))?;
    let name = Name::fixed("folder");
    let options = BuildOptions { name, version, required_runtime_version: None, created_at: Time::EPOCH };
    let bytes = autonomy_policy::build(&read_folder(path)?, &options).map_err(|error| at(path, refusal(&error)))?;
    loaded(path, &bytes)
}

/// The reason, saying which file it is about.
pub(super) fn at(path: &Path, reason: Reason) -> Failure {
    Failure::refused(Reason { message: format!("{}: {}", path.display(), reason.message), ..reason }, false)
}
