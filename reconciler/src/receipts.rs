//! What a node signs for: that it has a set, or runs it. Receipts lie in the state root, and ride back on the
//! medium that brought the set.

use std::path::Path;

use autonomy_precheck::evidence::attest_key;
use autonomy_schema::set::SIGNATURES_SUFFIX;
use autonomy_schema::{Reason, Reasons, Time};
use autonomy_sets::{Became, ReceiptSigner, sign_receipts};
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
