//! The record of the operating system, and the evidence of those that were replaced. What is signed is judged elsewhere.
//!
//! Evidence is two files, and no rename moves both, so each lies in a folder of its own, and the folders are renamed: what
//! is new is made whole in `epoch/next`; then `previous` becomes `older`, `current` becomes `previous`, `next` becomes
//! `current`, and `older` goes. A power cut after the first rename leaves `older` for `previous`, one after the second `next`
//! for `current`; whoever reads knows it, and the next writer finishes it.

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
const OLDER: &str = "older";
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
        let failed = |error: DiskError| Reasons::from(error.to_reason());
        let name = match (slot, self.renames().map_err(failed)?) {
            (EvidenceSlot::Current, Renames::NextIsLeft) => NEXT,
            (EvidenceSlot::Current, Renames::Done | Renames::PreviousIsAway) => CURRENT,
            (EvidenceSlot::Previous, Renames::PreviousIsAway) => OLDER,
            (EvidenceSlot::Previous, Renames::Done | Renames::NextIsLeft) => PREVIOUS,
        };
        let read = |name, cap| {
            let path = file(name, DOCUMENT);
            read_capped(self.disk(), &path, cap).map_err(|error| Reasons::from(error.to_reason()))
        };
        let Some(bytes) = read(name, MAX_EVIDENCE_BYTES.max(MAX_DOCUMENT_BYTES) as u64)? else {
            let lost = durable::exists(self.disk(), &folder(name)).map_err(failed)?;
            return if lost { Err(corrupt(&file(name, DOCUMENT), "it is missing")) } else { Ok(None) };
        };
        let path = file(name, SIGNATURES);
        let signatures = read_capped(self.disk(), &path, MAX_SIGNATURES_BYTES).map_err(|error| error.to_reason())?;
        let signatures = signatures.ok_or_else(|| corrupt(&path, "it is missing"))?;
        Ok(Some(EvidenceBytes { bytes, signatures }))
    }

    fn renames(&self) -> Result<Renames, DiskError> {
        let there = |name| durable::exists(self.disk(), &folder(name));
        Ok(match (there(CURRENT)?, there(PREVIOUS)?) {
            (true, false) if there(OLDER)? => Renames::PreviousIsAway,
            // On the very first evidence there is no `previous`, and `next` may be half made.
            (false, true) if there(NEXT)? => Renames::NextIsLeft,
            (true | false, _) => Renames::Done,
        })
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
            for (from, to) in [(PREVIOUS, OLDER), (CURRENT, PREVIOUS)] {
                if durable::exists(disk, &folder(from))? {
                    disk.rename(&folder(from), &folder(to))?;
                    disk.sync(SyncTarget::Dir(Some(&epoch)))?;
                }
            }
            disk.rename(&folder(NEXT), &folder(CURRENT))?;
            disk.sync(SyncTarget::Dir(Some(&epoch)))?;
            durable::remove_tree(disk, &folder(OLDER))
        };
        put().map_err(|error| error.to_reason().into())
    }

    /// Finishes, or takes back, the renames that a power cut came between.
    pub fn settle_evidence(&self, _held: &ActivationLock) -> Result<(), Reasons> {
        let disk = self.disk();
        let settle = || -> Result<(), DiskError> {
            let (from, to) = match self.renames()? {
                Renames::Done => return durable::remove_tree(disk, &folder(OLDER)),
                Renames::PreviousIsAway => (OLDER, PREVIOUS),
                Renames::NextIsLeft => (NEXT, CURRENT),
            };
            disk.rename(&folder(from), &folder(to))?;
            disk.sync(SyncTarget::Dir(Some(&layout::epoch())))?;
            durable::remove_tree(disk, &folder(OLDER))
        };
        settle().map_err(|error| error.to_reason().into())
    }
}

/// How far the renames of [`StateRoot::put_evidence`] came.
enum Renames {
    /// Nothing is under way that a reader must know of.
    Done,
    /// `previous` is away, and `current` is not yet in its place.
    PreviousIsAway,
    /// `current` is in the place of `previous`, and `next` is not yet in its own.
    NextIsLeft,
}
