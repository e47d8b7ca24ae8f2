//! The pinned trust root, and the ones before it, which are kept: what was admitted under them is still here.
//!
//! Two files are pinned, `trust/root.json` and its signatures, and no rename moves both. So each root is kept whole below
//! `trust/roots/` first, and the pinned one's signatures are read from there: `trust/root.json` alone decides, by one
//! rename. The file beside it is for people with openssl.

use autonomy_schema::document::{self, MAX_DOCUMENT_BYTES};
use autonomy_schema::root::TrustRoot;
use autonomy_schema::set::MAX_SIGNATURES_BYTES;
use autonomy_schema::{Mode, Reasons, RelPath, Time};

use crate::disk::{DiskError, read_capped};
use crate::lock::ActivationLock;
use crate::root::{StateRoot, corrupt, one_line};
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
    /// The pinned trust root.
    pub fn trust_root_bytes(&self) -> Result<RootBytes, Reasons> {
        let path = layout::trust_root();
        let bytes = self.read(&path, MAX_DOCUMENT_BYTES as u64)?.ok_or_else(|| corrupt(&path, "it is missing"))?;
        if let Ok(root) = document::parse::<TrustRoot>(&bytes)
            && let Some(kept) = self.kept_root(root.version)?.filter(|kept| kept.bytes == bytes)
        {
            return Ok(kept);
        }
        let path = layout::trust_root_signatures();
        let signatures = self.read(&path, MAX_SIGNATURES_BYTES)?.ok_or_else(|| corrupt(&path, "it is missing"))?;
        Ok(RootBytes { bytes, signatures })
    }

    /// The root of that version, when it is kept.
    pub fn kept_root(&self, version: u64) -> Result<Option<RootBytes>, Reasons> {
        let bytes = self.read(&layout::kept_root(version), MAX_DOCUMENT_BYTES as u64)?;
        let signatures = self.read(&layout::kept_root_signatures(version), MAX_SIGNATURES_BYTES)?;
        Ok(bytes.zip(signatures).map(|(bytes, signatures)| RootBytes { bytes, signatures }))
    }

    /// The earliest time to which a root of this node brought the time mark down, if one did.
    pub(crate) fn earliest_reset(&self, pinned: &TrustRoot) -> Result<Option<Time>, Reasons> {
        let mut resets: Vec<Time> = pinned.reset_time_mark.into_iter().collect();
        let mut version = pinned.version;
        while let Some(kept) = version.checked_sub(1).map(|before| self.kept_root(before)).transpose()?.flatten() {
            version -= 1;
            // A damaged one is told of by those who verify it.
            resets.extend(document::parse::<TrustRoot>(&kept.bytes).ok().and_then(|root| root.reset_time_mark));
        }
        Ok(resets.into_iter().min())
    }

    fn read(&self, path: &RelPath, cap: u64) -> Result<Option<Vec<u8>>, Reasons> {
        read_capped(self.disk(), path, cap).map_err(|error| error.to_reason().into())
    }

    /// Pins `next`, durably: after a power loss the one before it is pinned, or this one. The caller has verified that it is
    /// the successor of the one that is pinned. The floors follow ([`StateRoot::settle_trust`]).
    pub fn pin_root(&self, held: &ActivationLock, next: &RootBytes) -> Result<(), Reasons> {
        let failed = |error: DiskError| Reasons::from(error.to_reason());
        durable::ensure_dir(self.disk(), &layout::trust_roots()).map_err(failed)?;
        self.keep_root(&self.trust_root_bytes()?)?;
        self.keep_root(next)?;
        let signatures = layout::trust_root_signatures();
        durable::replace(self.disk(), &signatures, &next.signatures, Mode::PRIVATE).map_err(failed)?;
        durable::replace(self.disk(), &layout::trust_root(), &next.bytes, Mode::PRIVATE).map_err(failed)?;
        self.settle_trust(held)
    }

    fn keep_root(&self, root: &RootBytes) -> Result<(), Reasons> {
        let parsed = document::parse::<TrustRoot>(&root.bytes);
        let version = parsed.map_err(|reasons| corrupt(&layout::trust_root(), &one_line(&reasons)))?.version;
        if self.kept_root(version)?.as_ref() == Some(root) {
            return Ok(());
        }
        let write = |path: &RelPath, bytes: &[u8]| durable::replace(self.disk(), path, bytes, Mode::PRIVATE);
        write(&layout::kept_root_signatures(version), &root.signatures)
            .and_then(|()| write(&layout::kept_root(version), &root.bytes))
            .map_err(|error| error.to_reason().into())
    }

    /// Brings floors and the signatures beside the root to what is pinned, where a power cut left them behind. What is
    /// damaged stays as it is: whoever reads it says so.
    pub fn settle_trust(&self, _held: &ActivationLock) -> Result<(), Reasons> {
        let failed = |error: DiskError| Reasons::from(error.to_reason());
        let (Ok(pinned), Ok(Some(floors))) = (self.trust_root_bytes(), self.floors()) else { return Ok(()) };
        let Ok(root) = document::parse::<TrustRoot>(&pinned.bytes) else { return Ok(()) };
        let raised = floors.under(&root);
        if raised != floors {
            self.write_floors(&raised).map_err(failed)?;
        }
        let beside = layout::trust_root_signatures();
        if self.read(&beside, MAX_SIGNATURES_BYTES)?.as_ref() != Some(&pinned.signatures) {
            durable::replace(self.disk(), &beside, &pinned.signatures, Mode::PRIVATE).map_err(failed)?;
        }
        Ok(())
    }
}
