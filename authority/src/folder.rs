//! The folder of a CA, as a disk of its own, and its record.

use std::path::Path;

use autonomy_schema::version::ApiVersion;
use autonomy_schema::{Code, Mode, Name, Reason, RelPath, Time, canonical};
use autonomy_stateroot::{DiskError, LockGuard, LockMode, Query as _, RealDisk, durable, read_capped};
use serde::{Deserialize, Serialize};

use crate::{LOCK, RECORD};

/// `ca.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) api_version: ApiVersion,
    pub(crate) kind: String,
    pub(crate) fleet: Name,
    /// Number of the newest revocation list.
    pub(crate) crl_number: u64,
    pub(crate) issued: Vec<Entry>,
    pub(crate) revoked: Vec<RevokedEntry>,
}

/// A certificate that was issued.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Entry {
    pub(crate) serial: String,
    pub(crate) node: Name,
    pub(crate) issued_at: Time,
    pub(crate) expires: Time,
}

/// A certificate that was revoked.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct RevokedEntry {
    pub(crate) serial: String,
    pub(crate) at: Time,
}

/// Where it lies.
pub(crate) struct Folder {
    pub(crate) disk: RealDisk,
    pub(crate) shown: String,
}

impl Folder {
    pub(crate) fn open(dir: &Path) -> Result<Self, Reason> {
        let disk = RealDisk::open(dir).map_err(|error| error.to_reason())?;
        Ok(Self { disk, shown: dir.display().to_string() })
    }

    pub(crate) fn lock(&self) -> Result<Box<dyn LockGuard>, Reason> {
        let guard =
            self.disk.try_lock(&RelPath::fixed(LOCK), LockMode::Exclusive).map_err(|error| self.failed(&error))?;
        guard.ok_or_else(|| {
            let message = format!("another process works with the CA in {}", self.shown);
            Reason::new(Code::Locked, message).with_remedy("wait for it")
        })
    }

    pub(crate) fn read(&self, name: &'static str, cap: u64) -> Result<Option<Vec<u8>>, Reason> {
        read_capped(&self.disk, &RelPath::fixed(name), cap).map_err(|error| error.to_reason())
    }

    /// A private key must be its owner's alone.
    pub(crate) fn is_private(&self, name: &'static str) -> Result<(), Reason> {
        let stat = self.disk.stat(&RelPath::fixed(name)).map_err(|error| self.failed(&error))?;
        let open = stat.filter(|stat| stat.mode.bits() & 0o077 != 0);
        open.map_or(Ok(()), |stat| {
            let message = format!("`{name}` in {} has mode {}: others may read or write it", self.shown, stat.mode);
            Err(Reason::new(Code::KeyExposed, message))
        })
    }

    pub(crate) fn replace(&self, name: &'static str, bytes: &[u8], mode: Mode) -> Result<(), Reason> {
        durable::replace(&self.disk, &RelPath::fixed(name), bytes, mode).map_err(|error| self.failed(&error))
    }

    pub(crate) fn write(&self, record: &Record) -> Result<(), Reason> {
        let bytes = canonical::to_bytes(record).map_err(|error| self.damaged(&error.to_string()))?;
        self.replace(RECORD, &bytes, Mode::PRIVATE)
    }

    pub(crate) fn failed(&self, error: &DiskError) -> Reason {
        let reason = error.to_reason();
        Reason { message: format!("in {}: {}", self.shown, reason.message), ..reason }
    }

    pub(crate) fn damaged(&self, why: &str) -> Reason {
        let message = format!("`{RECORD}` in {} cannot be used: {why}", self.shown);
        let remedy = "restore it from a backup. Without one make a new CA: what this one revoked is not known any more, \
                      and a lower number of its revocation list could hide a revocation";
        Reason::new(Code::CorruptState, message).with_remedy(remedy)
    }
}
