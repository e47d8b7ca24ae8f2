//! The record of the operating system, and the evidence of those that were replaced. What is signed is judged elsewhere.
//!
//! Evidence is two files, and no rename moves both, so each lies in a folder of its own, and the folders are renamed: what
//! is new is made whole in `epoch/next`, `current` becomes `previous`, and `next` becomes `current`. A power cut between
//! the two renames leaves no `current`; then `next` is it.

use autonomy_schema::document::MAX_DOCUMENT_BYTES;
use autonomy_schema::evidence::MAX_EVIDENCE_BYTES;
use autonomy_schema::os::OsFingerprint;
use autonomy_schema::set::MAX_SIGNATURES_BYTES;
use autonomy_schema::{Mode, Reasons, RelPath};

use crate::disk::{DiskError, SyncTarget, read_capped};
use crate::lock::ActivationLock;
use crate::root::{StateRoot, corrupt};
use crate::{durable, layout};

/// Which evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvidenceSlot {
    /// Of the epoch that is now.
    Current,
    /// Of the one before it.
    Previous,
}

/// Evidence as it lies on the disk; verifying it is the caller's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceBytes {
    /// The document.
    pub bytes: Vec<u8>,
    /// Its signature lines.
    pub signatures: Vec<u8>,
}

const NEXT: &str = "next";
const CURRENT: &str = "current";
const PREVIOUS: &str = "previous";
const DOCUMENT: &str = "evidence.json";
const SIGNATURES: &str = "evidence.json.sigstore.jsonl";

fn folder(name: &'static str) -> RelPath {
    layout::epoch().join(&RelPath::fixed(name))
}

fn file(of: &'static str, name: &'static str) -> RelPath {
    folder(of).join(&RelPath::fixed(name))
}

impl StateRoot {
    /// The record of the operating system; `None` before the node was ever looked at.
    pub fn os_fingerprint(&self) -> Result<Option<OsFingerprint>, Reasons> {
        self.document(&layout::os_fingerprint())
    }

    /// Writes it, durably.
    pub fn write_os_fingerprint(&self, _held: &ActivationLock, os: &OsFingerprint) -> Result<(), DiskError> {
        durable::ensure_dir(self.disk(), &layout::bootstrap())?;
        self.write_document(&layout::os_fingerprint(), os)
    }

    /// Raises the boot epoch of the floors, durably; a floor that is as high stays as it is. Nothing else of them changes.
    pub fn raise_boot_epoch(&self, _held: &ActivationLock, epoch: u64) -> Result<(), Reasons> {
        let Some(mut floors) = self.floors()?.filter(|floors| floors.boot_epoch < epoch) else { return Ok(()) };
        floors.boot_epoch = epoch;
        self.write_floors(&floors).map_err(|error| error.to_reason().into())
    }

    /// Evidence; `None` when there is none of that epoch.
    pub fn evidence(&self, slot: EvidenceSlot) -> Result<Option<EvidenceBytes>, Reasons> {
        let name = match slot {
            EvidenceSlot::Previous => PREVIOUS,
            EvidenceSlot::Current if self.is_between_renames()? => NEXT,
            EvidenceSlot::Current => CURRENT,
        };
        let read = |name, cap| {
            let path = file(name, DOCUMENT);
            read_capped(self.disk(), &path, cap).map_err(|error| Reasons::from(error.to_reason()))
        };
        let Some(bytes) = read(name, MAX_EVIDENCE_BYTES.max(MAX_DOCUMENT_BYTES) as u64)? else {
            let lost = durable::exists(self.disk(), &folder(name)).map_err(|error| Reasons::from(error.to_reason()))?;
            return if lost { Err(corrupt(&file(name, DOCUMENT), "it is missing")) } else { Ok(None) };
        };
        let path = file(name, SIGNATURES);
        let signatures = read_capped(self.disk(), &path, MAX_SIGNATURES_BYTES).map_err(|error| error.to_reason())?;
        let signatures = signatures.ok_or_else(|| corrupt(&path, "it is missing"))?;
        Ok(Some(EvidenceBytes { bytes, signatures }))
    }

    fn is_between_renames(&self) -> Result<bool, Reasons> {
        let there = |name| durable::exists(self.disk(), &folder(name));
        let between = || -> Result<bool, DiskError> { Ok(there(NEXT)? && !there(CURRENT)?) };
        // On the very first evidence there is no `current` either, and `next` may be half made.
        let whole = || there(PREVIOUS);
        let failed = |error: DiskError| Reasons::from(error.to_reason());
        Ok(between().map_err(failed)? && whole().map_err(failed)?)
    }

    /// Makes evidence the current one, durably; the one that was current is kept as the previous one. After a power loss it
    /// is the one before it or this one, whole.
    pub fn put_evidence(&self, held: &ActivationLock, evidence: &EvidenceBytes) -> Result<(), Reasons> {
        self.settle_evidence(held)?;
        let disk = self.disk();
        let put = || -> Result<(), DiskError> {
            durable::ensure_dir(disk, &layout::epoch())?;
            durable::remove_tree(disk, &folder(NEXT))?;
            disk.mkdir(&folder(NEXT))?;
            durable::replace(disk, &file(NEXT, SIGNATURES), &evidence.signatures, Mode::PRIVATE)?;
            durable::replace(disk, &file(NEXT, DOCUMENT), &evidence.bytes, Mode::PRIVATE)?;
            let epoch = layout::epoch();
            disk.sync(SyncTarget::Dir(Some(&epoch)))?;
            if durable::exists(disk, &folder(CURRENT))? {
                durable::remove_tree(disk, &folder(PREVIOUS))?;
                disk.rename(&folder(CURRENT), &folder(PREVIOUS))?;
                disk.sync(SyncTarget::Dir(Some(&epoch)))?;
            }
            disk.rename(&folder(NEXT), &folder(CURRENT))?;
            disk.sync(SyncTarget::Dir(Some(&epoch)))
        };
        put().map_err(|error| error.to_reason().into())
    }

    /// Finishes the renames that a power cut came between.
    pub fn settle_evidence(&self, _held: &ActivationLock) -> Result<(), Reasons> {
        if !self.is_between_renames()? {
            return Ok(());
        }
        let disk = self.disk();
        let rename = disk.rename(&folder(NEXT), &folder(CURRENT));
        let settled = rename.and_then(|()| disk.sync(SyncTarget::Dir(Some(&layout::epoch()))));
        settled.map_err(|error| error.to_reason().into())
    }
}
