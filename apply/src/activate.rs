//! The activation point. These functions take local parameters alone (INV-06): a state root and the name of a
//! generation in it. Each changes one link by one rename and makes that durable.

use autonomy_schema::{Name, RelPath};
use autonomy_stateroot::{DiskError, StateRoot, SyncTarget, durable, layout};

use crate::stage::Staged;

/// A generation that `current` points to. Only [`activate`] and recovery make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Active(Name);

impl Active {
    /// Its folder below `generations/`.
    pub(crate) fn generation(&self) -> &Name {
        &self.0
    }

    /// What a journal of phase `switched` says, once `current` was seen to agree.
    pub(crate) fn recovered(generation: Name) -> Self {
        Self(generation)
    }
}

/// Makes a staged generation the active one.
pub(crate) fn activate(root: &StateRoot, staged: Staged) -> Result<Active, DiskError> {
    let generation = staged.into_generation();
    point_to(root, &layout::current(), &generation)?;
    Ok(Active(generation))
}

/// Makes the active generation the last known good one.
pub(crate) fn promote(root: &StateRoot, active: &Active) -> Result<(), DiskError> {
    point_to(root, &layout::lkg(), active.generation())
}

/// Makes a former generation the active one again; without one, nothing is active.
pub(crate) fn revert(root: &StateRoot, to: Option<&Name>) -> Result<(), DiskError> {
    let current = layout::current();
    if let Some(generation) = to {
        return point_to(root, &current, generation);
    }
    if root.disk().stat(&current)?.is_some() {
        root.disk().remove(&current)?;
    }
    root.disk().sync(SyncTarget::Dir(None))
}

fn point_to(root: &StateRoot, link: &RelPath, generation: &Name) -> Result<(), DiskError> {
    durable::point(root.disk(), link, &format!("generations/{generation}"))
}
