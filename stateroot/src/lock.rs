//! The locks of a state root. The kernel releases them with the process that holds them.

use std::time::Duration;

use autonomy_schema::{Code, Reason, canonical};
use serde::{Deserialize, Serialize};

use crate::disk::{DiskError, LockGuard, LockMode, ReadError, read_capped};
use crate::root::StateRoot;
use crate::{durable, layout};

/// Largest content of `LOCK` that is read.
const MAX_HOLDER_BYTES: u64 = 64 << 10;
/// `lock_holder` takes the lock for an instant to ask whether it is free, and the relay daemon the store's to remove what it
/// evicts; whoever meets them tries again.
const TRIES: u32 = 5;
/// How long it waits in between.
const PAUSE: Duration = Duration::from_millis(5);

/// Who holds `LOCK`, as it wrote it there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// Boot id of the kernel that it runs under.
    pub boot_id: String,
    /// What it does.
    pub command: String,
    /// Its process id.
    pub pid: u32,
}

/// `LOCK` is held until this is dropped.
#[derive(Debug)]
pub struct ActivationLock {
    _guard: Box<dyn LockGuard>,
}

/// `receipts/LOCK` is held until this is dropped.
#[derive(Debug)]
pub struct ReceiptsLock {
    _guard: Box<dyn LockGuard>,
}

/// `LOCK` could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it: `locked`, naming pid and command.
    #[error("{0}")]
    Held(Reason),
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl LockError {
    /// The error as a reason.
    pub fn to_reason(&self) -> Reason {
        match self {
            Self::Held(reason) => reason.clone(),
            Self::Disk(error) => error.to_reason(),
        }
    }
}

impl StateRoot {
    /// Takes `LOCK` for `command`, and writes into it who holds it.
    pub fn lock(&self, command: &str) -> Result<ActivationLock, LockError> {
        let path = layout::lock_file();
        for attempt in 0..TRIES {
            if attempt > 0 {
                std::thread::sleep(PAUSE);
            }
            if let Some(guard) = self.disk().try_lock(&path, LockMode::Exclusive)? {
                let holder = Holder { boot_id: boot_id(), command: command.to_owned(), pid: std::process::id() };
                let text = canonical::to_bytes(&holder)
                    .map_err(|error| DiskError::new("encode", &path, std::io::Error::other(error)))?;
                // Not synced: after a power loss there is no holder.
                self.disk().set_len(&path, 0)?;
                self.disk().write_at(&path, 0, &text)?;
                return Ok(ActivationLock { _guard: guard });
            }
        }
        let message = match self.written_holder()? {
            Some(holder) => {
                format!("`{}` (pid {}) holds the lock of the state root", holder.command.escape_default(), holder.pid)
            }
            None => "another process holds the lock of the state root; it has not said yet which".to_owned(),
        };
        Err(LockError::Held(Reason::new(Code::Locked, message)))
    }

    /// Takes `receipts/LOCK`, which is held for as long as some receipts are signed.
    pub fn lock_receipts(&self) -> Result<ReceiptsLock, LockError> {
        durable::ensure_dir(self.disk(), &layout::receipts())?;
        for attempt in 0..TRIES {
            if attempt > 0 {
                std::thread::sleep(PAUSE);
            }
            if let Some(guard) = self.disk().try_lock(&layout::receipts_lock(), LockMode::Exclusive)? {
                return Ok(ReceiptsLock { _guard: guard });
            }
        }
        Err(LockError::Held(Reason::new(Code::Locked, "another process holds the lock of the receipts")))
    }

    /// Who holds `LOCK` now; `None` when nobody does, or when the holder has not written its name yet.
    pub fn lock_holder(&self) -> Result<Option<Holder>, DiskError> {
        let path = layout::lock_file();
        if self.disk().stat(&path)?.is_none() || self.disk().try_lock(&path, LockMode::Shared)?.is_some() {
            return Ok(None);
        }
        self.written_holder()
    }

    fn written_holder(&self) -> Result<Option<Holder>, DiskError> {
        match read_capped(self.disk(), &layout::lock_file(), MAX_HOLDER_BYTES) {
            Ok(bytes) => Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok())),
            Err(ReadError::Disk(error)) => Err(error),
            Err(ReadError::TooLarge { .. }) => Ok(None),
        }
    }

    /// Holds off garbage collections while objects are stored that nothing refers to yet.
    pub fn share_store(&self) -> Result<Box<dyn LockGuard>, LockError> {
        for attempt in 0..TRIES {
            if attempt > 0 {
                std::thread::sleep(PAUSE);
            }
            if let Some(guard) = self.store_lock(LockMode::Shared)? {
                return Ok(guard);
            }
        }
        Err(LockError::Held(Reason::new(Code::Locked, "the object store is locked by a garbage collection")))
    }

    /// Takes the lock of the object store: shared to write, exclusive to collect garbage.
    pub fn store_lock(&self, mode: LockMode) -> Result<Option<Box<dyn LockGuard>>, DiskError> {
        self.disk().try_lock(&layout::store_lock(), mode)
    }
}

/// The kernel's boot id; empty where `/proc` is not mounted.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}
