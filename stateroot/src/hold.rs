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
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who answers for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
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

    /// Holds changes, durably. One that holds already stays as it is, and `false` says so.
    pub fn suspend(&self, suspension: &Suspension) -> Result<bool, DiskError> {
        if self.is_suspended()? {
            return Ok(false);
        }
        let path = layout::suspended();
        let bytes = canonical::to_bytes(suspension)
            .map_err(|error| DiskError::new("encode", &path, std::io::Error::other(error)))?;
        durable::replace(self.disk(), &path, &bytes, Mode::PRIVATE)?;
        Ok(true)
    }

    /// Lets changes pass again, durably; `false` when nothing held them.
    pub fn resume(&self) -> Result<bool, DiskError> {
        if !self.is_suspended()? {
            return Ok(false);
        }
        self.disk().remove(&layout::suspended())?;
        self.disk().sync(SyncTarget::Dir(None))?;
        Ok(true)
    }
}
