//! The pinned trust root, and the ones before it, which are kept: what was admitted under them is still here.
//!
//! Two files are pinned, `trust/root.json` and its signatures, and no rename moves both. So each root is kept whole below
//! `trust/roots/` before it is pinned, and `trust/root.json` alone decides, by one rename. Which copy of its signatures
//! holds is for a verifier to say, so both are handed out.

use autonomy_schema::document::{self, MAX_DOCUMENT_BYTES};
use autonomy_schema::floors::Floors;
use autonomy_schema::root::TrustRoot;
use autonomy_schema::set::MAX_SIGNATURES_BYTES;
use autonomy_schema::{Mode, Reasons, RelPath, Time};

use crate::disk::{DiskError, read_capped};
use crate::lock::ActivationLock;
use crate::root::{StateRoot, corrupt};
use crate::{durable, layout};

/// A trust root as it lies on a disk, and its signatures; verifying them is the caller's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootBytes {
    /// The document.
    pub bytes: Vec<u8>,
    /// Its signature lines.
    pub signatures: Vec<u8>,
}

impl StateRoot {
    /// The pinned trust root, with the signatures beside it, and with those that are kept with it. After a power cut the
    /// first may be those of the next root; damage may have met either.
    pub fn trust_root_bytes(&self) -> Result<Vec<RootBytes>, Reasons> {
        let path = layout::trust_root();
        let bytes = self.read(&path, MAX_DOCUMENT_BYTES as u64)?.ok_or_else(|| corrupt(&path, "it is missing"))?;
        let kept = document::parse::<TrustRoot>(&bytes).ok().and_then(|root| self.kept_root(root.version));
        let kept = kept.filter(|kept| kept.bytes == bytes);
        let path = layout::trust_root_signatures();
        match (self.read(&path, MAX_SIGNATURES_BYTES), kept) {
            (Ok(Some(signatures)), kept) => Ok([RootBytes { bytes, signatures }].into_iter().chain(kept).collect()),
            (_, Some(kept)) => Ok(vec![kept]),
            (Ok(None), None) => Err(corrupt(&path, "it is missing")),
            (Err(reasons), None) => Err(reasons),
        }
    }

    /// The root of that version, when it is kept and can be read. One that cannot vouches for nothing.
    pub fn kept_root(&self, version: u64) -> Option<RootBytes> {
        let bytes = self.read(&layout::kept_root(version), MAX_DOCUMENT_BYTES as u64).ok()??;
        let signatures = self.read(&layout::kept_root_signatures(version), MAX_SIGNATURES_BYTES).ok()??;
        Some(RootBytes { bytes, signatures })
    }

    /// The earliest time to which a root of this node brought the time mark down, if one did.
    pub fn earliest_reset(&self) -> Result<Option<Time>, Reasons> {
        let path = layout::trust_root();
        let bytes = self.read(&path, MAX_DOCUMENT_BYTES as u64)?.ok_or_else(|| corrupt(&path, "it is missing"))?;
        let pinned = parsed(&bytes)?;
        let mut resets: Vec<Time> = pinned.reset_time_mark.into_iter().collect();
        let mut version = pinned.version;
        while let Some(kept) = version.checked_sub(1).and_then(|before| self.kept_root(before)) {
            version -= 1;
            // A damaged one is told of by those who verify it.
            resets.extend(document::parse::<TrustRoot>(&kept.bytes).ok().and_then(|root| root.reset_time_mark));
        }
        Ok(resets.into_iter().min())
    }

    fn read(&self, path: &RelPath, cap: u64) -> Result<Option<Vec<u8>>, Reasons> {
        read_capped(self.disk(), path, cap).map_err(|error| error.to_reason().into())
    }

    /// Pins `next` in the place of `pinned`, durably: after a power loss the one is pinned or the other. The caller has
    /// verified both. The floors follow; where a power cut comes between, [`StateRoot::settle_trust`] brings them up.
    pub fn pin_root(&self, held: &ActivationLock, pinned: &RootBytes, next: &RootBytes) -> Result<(), Reasons> {
        self.keep_root(held, pinned)?;
        self.keep_root(held, next)?;
        self.replace(&layout::trust_root_signatures(), &next.signatures)?;
        self.replace(&layout::trust_root(), &next.bytes)?;
        let Some(floors) = self.floors()? else { return Ok(()) };
        self.settle_trust(held, next, &floors.under(&parsed(&next.bytes)?))
    }

    /// Pins a root again that is kept, in the place of a damaged one. The caller has verified it, and that it is not older
    /// than what the floors say.
    pub fn repin_root(&self, _held: &ActivationLock, kept: &RootBytes) -> Result<(), Reasons> {
        self.replace(&layout::trust_root_signatures(), &kept.signatures)?;
        self.replace(&layout::trust_root(), &kept.bytes)
    }

    /// Keeps a root whose signatures were verified, durably.
    pub fn keep_root(&self, _held: &ActivationLock, root: &RootBytes) -> Result<(), Reasons> {
        let version = parsed(&root.bytes)?.version;
        if self.kept_root(version).as_ref() == Some(root) {
            return Ok(());
        }
        durable::ensure_dir(self.disk(), &layout::trust_roots()).map_err(|error| Reasons::from(error.to_reason()))?;
        self.replace(&layout::kept_root_signatures(version), &root.signatures)?;
        self.replace(&layout::kept_root(version), &root.bytes)
    }

    /// Keeps a revocation list that came by itself, durably, so that it can be handed on. The floors have what it says; after a
    /// power cut its signatures may be those of the list before it, which whoever hands it on finds out.
    pub fn keep_revocation(&self, _held: &ActivationLock, bytes: &[u8], signatures: &[u8]) -> Result<(), DiskError> {
        durable::replace(self.disk(), &layout::revocation_signatures(), signatures, Mode::PRIVATE)?;
        durable::replace(self.disk(), &layout::revocation(), bytes, Mode::PRIVATE)
    }

    /// Brings floors, the signatures beside the root and its kept copy to what is pinned and verified, where a power cut or
    /// damage left them behind.
    pub fn settle_trust(&self, held: &ActivationLock, pinned: &RootBytes, floors: &Floors) -> Result<(), Reasons> {
        if self.floors()?.is_some_and(|found| found != *floors) {
            self.write_floors(floors).map_err(|error| Reasons::from(error.to_reason()))?;
        }
        let beside = layout::trust_root_signatures();
        if self.read(&beside, MAX_SIGNATURES_BYTES).ok().flatten().as_ref() != Some(&pinned.signatures) {
            self.replace(&beside, &pinned.signatures)?;
        }
        let has_kept = durable::exists(self.disk(), &layout::trust_roots());
        if has_kept.map_err(|error| Reasons::from(error.to_reason()))? {
            self.keep_root(held, pinned)?;
        }
        Ok(())
    }

    fn replace(&self, path: &RelPath, bytes: &[u8]) -> Result<(), Reasons> {
        durable::replace(self.disk(), path, bytes, Mode::PRIVATE)
            .map_err(|error: DiskError| Reasons::from(error.to_reason()))
    }
}

fn parsed(bytes: &[u8]) -> Result<TrustRoot, Reasons> {
    document::parse(bytes).map_err(|reasons| corrupt(&layout::trust_root(), &reasons.one_line()))
}
