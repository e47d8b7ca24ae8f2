//! What a node signs for: that it has a set, or runs it. Receipts lie in the state root, and ride back on the
//! medium that brought the set.

use std::path::Path;

use autonomy_precheck::evidence::attest_key;
use autonomy_schema::receipt::ReceiptResult;
use autonomy_schema::set::SIGNATURES_SUFFIX;
use autonomy_schema::{Blake3, Reason, Reasons, Time};
use autonomy_sets::{Became, ReceiptSigner, manifest_of, sign_receipts};
use autonomy_stateroot::{KeptReceipt, StateRoot};

mod collect;

pub use collect::{Collection, Custody, FoundReceipt, collect, known_nodes, look_at_receipts};

/// Signs for what became of sets with the node's attest key.
pub(crate) fn sign(root: &StateRoot, became: &[Became], clock: Time) -> Result<Vec<KeptReceipt>, Reasons> {
    if became.is_empty() {
        return Ok(Vec::new());
    }
    let signer = ReceiptSigner { key: attest_key(root)?, boot_epoch: autonomy_precheck::epoch::known(root) };
    sign_receipts(root, &signer, became, clock)
}

/// Signs that the node runs its active manifest, once nothing can take that back by itself: while it waits to be confirmed,
/// it is not said yet. Gives a warning when no receipt could be made.
pub(crate) fn sign_active(root: &StateRoot, clock: Time) -> Option<String> {
    let runs = || -> Result<Option<Blake3>, Reasons> {
        let current = root.current()?.filter(|current| root.lkg().is_ok_and(|lkg| lkg.as_ref() == Some(current)));
        Ok(current.and_then(|current| manifest_of(root, &current)).map(|(_, manifest)| manifest))
    };
    let signed = runs().and_then(|runs| {
        let active = |manifest| Became { manifest, result: ReceiptResult::Active, from: None };
        sign(root, &runs.into_iter().map(active).collect::<Vec<_>>(), clock)
    });
    signed.err().map(|reasons| format!("no receipt was made: {}", reasons.one_line()))
}

/// Leaves receipts on a medium, each after its signature.
pub(crate) fn leave(medium: &Path, receipts: &[KeptReceipt]) -> Result<(), Reason> {
    if receipts.is_empty() {
        return Ok(());
    }
    let files = receipts.iter().flat_map(|receipt| {
        let beside = format!("{}{SIGNATURES_SUFFIX}", receipt.file);
        [(beside, receipt.signatures.as_slice()), (receipt.file.clone(), receipt.bytes.as_slice())]
    });
    autonomy_oci::leave_receipts(medium, files).map_err(|error| error.to_reason())
}
