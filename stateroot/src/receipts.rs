//! Receipts: the node's own, so that they can be left on a medium again, and those of other nodes that were collected here.

use std::collections::BTreeSet;

use autonomy_schema::receipt::{MAX_RECEIPT_BYTES, ReceiptName, SUFFIX};
use autonomy_schema::set::{MAX_SIGNATURES_BYTES, SIGNATURES_SUFFIX};
use autonomy_schema::{Mode, Reasons, canonical};
use serde::{Deserialize, Serialize};

use crate::disk::{DiskError, FileKind, read_capped};
use crate::lock::ReceiptsLock;
use crate::root::{StateRoot, corrupt};
use crate::{durable, layout};

/// Most receipts that are looked at: a fleet of a hundred nodes, and a hundred releases.
const MAX_KEPT: usize = 10_000;
/// Largest counter file in bytes.
const MAX_COUNTER_BYTES: u64 = 64;

/// `receipts/counter`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counter {
    counter: u64,
}

/// A receipt as it lies on the disk; verifying it is the caller's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptReceipt {
    /// The name of its file.
    pub file: String,
    /// The document.
    pub bytes: Vec<u8>,
    /// Its signature lines.
    pub signatures: Vec<u8>,
}

impl StateRoot {
    /// The highest counter that a receipt of this node may have; 0 before the first.
    pub fn receipt_counter(&self) -> Result<u64, Reasons> {
        let path = layout::receipt_counter();
        let bytes = read_capped(self.disk(), &path, MAX_COUNTER_BYTES).map_err(|error| error.to_reason())?;
        let Some(bytes) = bytes else { return Ok(0) };
        let counter: Counter = serde_json::from_slice(&bytes).map_err(|error| corrupt(&path, &error.to_string()))?;
        Ok(counter.counter)
    }

    /// Raises the counter, durably. Until then no receipt may have it.
    pub fn raise_receipt_counter(&self, _held: &ReceiptsLock, counter: u64) -> Result<(), DiskError> {
        let path = layout::receipt_counter();
        let bytes = canonical::to_bytes(&Counter { counter });
        let bytes = bytes.map_err(|error| DiskError::new("encode", &path, std::io::Error::other(error)))?;
        durable::ensure_dir(self.disk(), &layout::receipts())?;
        durable::replace(self.disk(), &path, &bytes, Mode::PRIVATE)
    }

    /// Keeps a receipt, durably; its signature comes first, so that none lies there unsigned.
    pub fn keep_receipt(
        &self,
        _held: &ReceiptsLock,
        name: &ReceiptName,
        bytes: &[u8],
        signatures: &[u8],
    ) -> Result<(), DiskError> {
        durable::ensure_dir(self.disk(), &layout::receipts())?;
        durable::replace(self.disk(), &layout::receipt_signature(name), signatures, Mode::PRIVATE)?;
        durable::replace(self.disk(), &layout::receipt(name), bytes, Mode::PRIVATE)
    }

    /// Removes receipts whose file has this name. Not durable: one that comes back does no harm.
    pub fn forget_receipt(&self, _held: &ReceiptsLock, file: &str) -> Result<(), DiskError> {
        let document = durable::child(&layout::receipts(), file)?;
        let signature = durable::child(&layout::receipts(), &format!("{file}{SIGNATURES_SUFFIX}"))?;
        durable::remove_tree(self.disk(), &document)?;
        durable::remove_tree(self.disk(), &signature)
    }

    /// The receipts whose file names begin like this. What cannot be read is none.
    pub fn kept_receipts(&self, prefix: &str) -> Result<Vec<KeptReceipt>, Reasons> {
        let files = self.receipt_files()?.into_iter().filter(|file| file.starts_with(prefix));
        Ok(files.take(MAX_KEPT).filter_map(|file| self.kept_receipt(&file)).collect())
    }

    /// The names of the files of all receipts.
    pub fn receipt_files(&self) -> Result<BTreeSet<String>, Reasons> {
        let entries = match self.disk().list(Some(&layout::receipts())) {
            Ok(entries) => entries,
            Err(error) if error.is_not_found() => return Ok(BTreeSet::new()),
            Err(error) => return Err(error.to_reason().into()),
        };
        let files = entries.into_iter().filter(|entry| entry.kind == FileKind::File && entry.name.ends_with(SUFFIX));
        Ok(files.map(|entry| entry.name).collect())
    }

    /// The receipt whose file is called so, if it can be read.
    pub fn kept_receipt(&self, file: &str) -> Option<KeptReceipt> {
        let read = |name: &str, cap| {
            let path = durable::child(&layout::receipts(), name).ok()?;
            read_capped(self.disk(), &path, cap).ok()?
        };
        let bytes = read(file, MAX_RECEIPT_BYTES as u64)?;
        let signatures = read(&format!("{file}{SIGNATURES_SUFFIX}"), MAX_SIGNATURES_BYTES)?;
        Some(KeptReceipt { file: file.to_owned(), bytes, signatures })
    }
}
