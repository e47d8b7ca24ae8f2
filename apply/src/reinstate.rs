//! Links that were lost or damaged, pointed again to a generation that the caller has verified: what `fsck --repair` and
//! `restore` do. Neither decides here which generation that is.

use autonomy_schema::Name;
use autonomy_stateroot::{ActivationLock, DiskError, StateRoot};

use crate::activate::{Active, promote, revert};

/// Points `current` to a generation that was active before.
pub fn reinstate_current(root: &StateRoot, _held: &ActivationLock, generation: &Name) -> Result<(), DiskError> {
    revert(root, Some(generation))
}

/// Points `lkg` to a generation that was the last known good one before.
pub fn reinstate_lkg(root: &StateRoot, _held: &ActivationLock, generation: &Name) -> Result<(), DiskError> {
    promote(root, &Active::recovered(generation.clone()))
}
