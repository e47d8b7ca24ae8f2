//! Two lists of manifests: those that wait for the relay, and those that failed here.

use std::collections::BTreeSet;

use autonomy_schema::{Blake3, Mode, Reasons, canonical};
use serde::{Deserialize, Serialize};

use crate::disk::{DiskError, read_capped};
use crate::root::{StateRoot, corrupt};
use crate::{durable, layout};

/// Largest `pins.json` in bytes: some ten thousand manifests.
const MAX_PINS_BYTES: u64 = 1 << 20;

/// `pins.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PinsFile {
    manifests: BTreeSet<Blake3>,
}

impl StateRoot {
    /// Manifests that failed here and are not tried again.
    pub fn pinned(&self) -> Result<BTreeSet<Blake3>, Reasons> {
        let path = layout::pins();
        let bytes = read_capped(self.disk(), &path, MAX_PINS_BYTES).map_err(|error| error.to_reason())?;
        let Some(bytes) = bytes else { return Ok(BTreeSet::new()) };
        let pins: PinsFile = serde_json::from_slice(&bytes).map_err(|error| corrupt(&path, &error.to_string()))?;
        if canonical::to_bytes(&pins).ok().as_ref() != Some(&bytes) {
            return Err(corrupt(&path, "it is not canonical JSON"));
        }
        Ok(pins.manifests)
    }

    /// Writes the manifests that are not tried again, durably.
    pub fn write_pinned(&self, manifests: &BTreeSet<Blake3>) -> Result<(), DiskError> {
        let path = layout::pins();
        let bytes = canonical::to_bytes(&PinsFile { manifests: manifests.clone() })
            .map_err(|error| DiskError::new("encode", &path, std::io::Error::other(error)))?;
        durable::replace(self.disk(), &path, &bytes, Mode::PRIVATE)
    }

    /// Manifests whose set lies in the outbox: entries named by 64 hex digits. Others are still being made.
    pub fn outbox(&self) -> Result<BTreeSet<Blake3>, DiskError> {
        match self.disk().list(Some(&layout::outbox())) {
            Ok(entries) => {
                Ok(entries.iter().filter_map(|entry| format!("blake3:{}", entry.name).parse().ok()).collect())
            }
            Err(error) if error.is_not_found() => Ok(BTreeSet::new()),
            Err(error) => Err(error),
        }
    }
}
