//! `suspended`: changes are held while it is there. Its presence is what counts, so that a file which cannot be read holds
//! as well.

use autonomy_schema::{Mode, Time, canonical};
use serde::{Deserialize, Serialize};

use crate::disk::{DiskError, SyncTarget, read_capped};
use crate::root::StateRoot;
use crate::{durable, layout};

/// Largest `suspended` that is read.
const MAX_BYTES: u64 = 64 << 10;

/// `suspended`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    /// Since when.
    pub since: Time,
}

impl StateRoot {
    /// Whether changes are held.
    pub fn is_suspended(&self) -> Result<bool, DiskError> {
        durable::exists(self.disk(), &layout::suspended())
    }

    /// What the file says; `None` when nothing is held, or when it cannot be read.
    pub fn suspension(&self) -> Option<Suspension> {
        let bytes = read_capped(self.disk(), &layout::suspended(), MAX_BYTES).ok()??;
        serde_json::from_slice(&bytes).ok()
    }

    /// Holds changes, durably. One that holds already stays as it is.
    pub fn suspend(&self, suspension: &Suspension) -> Result<(), DiskError> {
        if self.is_suspended()? {
            return Ok(());
        }
        let path = layout::suspended();
        let bytes = canonical::to_bytes(suspension)
            .map_err(|error| DiskError::new("encode", &path, std::io::Error::other(error)))?;
        durable::replace(self.disk(), &path, &bytes, Mode::PRIVATE)
    }

    /// Lets changes pass again, durably.
    pub fn resume(&self) -> Result<(), DiskError> {
        if !self.is_suspended()? {
            return Ok(());
        }
        self.disk().remove(&layout::suspended())?;
        self.disk().sync(SyncTarget::Dir(None))
    }
}
