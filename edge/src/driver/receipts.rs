//! Receipts that peers give back: local evidence of who has a set.

use std::collections::BTreeMap;

use autonomy_schema::receipt::{MAX_RECEIPT_BYTES, Receipt, ReceiptName};
use autonomy_schema::{Blake3, Code, Name, Reason, Reasons, Sha256};
use autonomy_stateroot::{KeptReceipt, StateRoot, layout, read_capped};
use autonomy_trust::{PublicKey, Receipted, Signed, bundle, verify_receipt};

use crate::storage::Storage;
use crate::store::{MAX_RECEIPTS, SignedReceipt, Store, StoreError};

/// Most receipts of one node for one manifest that are kept: it is received, activated, rolled back, a few times over.
const MAX_OF_NODE: usize = 16;
/// Longest signature line that is kept, in bytes: that of one key, with room for a log entry.
const MAX_LINE_BYTES: usize = 16 << 10;
/// Most bytes that a receipt takes on the disk besides its own: the ends of two blocks.
const BLOCKS: u64 = 2 * 4096;
/// Largest public key in bytes.
const MAX_KEY_BYTES: u64 = 16 << 10;

/// Keeps receipts.
pub(super) struct Keep {
    root: StateRoot,
    storage: Storage,
}

impl Keep {
    pub(super) fn new(root: &StateRoot, storage: &Storage) -> Self {
        Self { root: root.clone(), storage: storage.clone() }
    }

    /// Keeps those that count. One that does not is told and passed over: the set is with the peer nevertheless.
    /// Gives how many were not here before.
    pub(super) async fn receipts(&self, peer: &Name, manifest: Blake3, receipts: Vec<SignedReceipt>) -> usize {
        if receipts.is_empty() {
            return 0;
        }
        let (root, of) = (self.root.clone(), peer.clone());
        let kept = self.storage.call(move |stores| {
            let (mut new, mut refused) = (0, Vec::new());
            // No honest peer gives more.
            for receipt in receipts.iter().take(MAX_RECEIPTS) {
                match keep(&root, &mut stores.store, &of, manifest, receipt) {
                    Ok(is_new) => new += usize::from(is_new),
                    Err(reasons) => refused.push(reasons.one_line()),
                }
            }
            (new, refused)
        });
        let (new, refused) = kept.await.unwrap_or_default();
        for reasons in refused {
            tracing::warn!(event = "edge.receipt.refused", %peer, %manifest, reasons, "a receipt of the peer does not count");
        }
        new
    }
}

/// A receipt counts for this manifest when its node is known to have signed it; where the node's key is not known, when the
/// node itself gave it. Gives whether it was not here before.
fn keep(
    root: &StateRoot,
    store: &mut Store,
    peer: &Name,
    manifest: Blake3,
    given: &SignedReceipt,
) -> Result<bool, Reasons> {
    let bytes = given.document.as_bytes();
    // One line signs a receipt; what stands around it is not kept.
    let signatures = [given.signatures.trim().as_bytes(), b"\n"].concat();
    let signatures = signatures.as_slice();
    if bytes.len() > MAX_RECEIPT_BYTES || signatures.len() > MAX_LINE_BYTES {
        return Err(Reason::new(Code::DocumentTooLarge, "the receipt is larger than one may be").into());
    }
    let says: Receipt = autonomy_schema::document::parse(bytes)?;
    let known = known(root, &says.node_id)?;
    let (receipt, key) = match verify_receipt(Signed { bytes, signatures }, &known)? {
        Receipted::Verified(receipt) => {
            let key = known.get(&receipt.node_id).map(PublicKey::id);
            (receipt, key)
        }
        Receipted::Unverified(receipt) if receipt.node_id == *peer => {
            let (lines, _) = bundle::parse(signatures, Sha256::of(bytes));
            let [line] = lines.as_slice() else {
                return Err(Reason::new(Code::BadSignatureLine, "the receipt has not one signature").into());
            };
            (receipt, line.hint())
        }
        // What somebody says of a third, whose key is not known here, proves nothing.
        Receipted::Unverified(_) => return Ok(false),
    };
    if receipt.manifest != manifest {
        let message = format!("a receipt for {} came where one for {manifest} belongs", receipt.manifest);
        return Err(Reason::new(Code::BadValue, message).into());
    }
    let Some(key) = key else {
        return Err(Reason::new(Code::BadSignatureLine, "the receipt does not say which key signed it").into());
    };
    let name = ReceiptName::of(&receipt.node_id, key, receipt.counter);
    let failed = |error: autonomy_stateroot::DiskError| Reasons::from(error.to_reason());
    let kept = read_capped(root.disk(), &layout::receipt(&name), MAX_RECEIPT_BYTES as u64);
    match kept.map_err(|error| error.to_reason())? {
        Some(kept) if kept == bytes => return Ok(false),
        Some(_) => {
            let message =
                format!("node `{}` signed two receipts with the counter {}", receipt.node_id, receipt.counter);
            return Err(Reason::new(Code::ReceiptReplayed, message).into());
        }
        None => {}
    }
    let of_node = root.kept_receipts(&ReceiptName::prefix(&receipt.node_id, key))?;
    let same = |kept: &&KeptReceipt| {
        autonomy_schema::document::parse::<Receipt>(&kept.bytes).is_ok_and(|kept| kept.manifest == manifest)
    };
    if of_node.iter().filter(same).count() >= MAX_OF_NODE {
        let message = format!("{MAX_OF_NODE} receipts of node `{}` for {manifest} are here", receipt.node_id);
        return Err(Reason::new(Code::LimitExceeded, message).into());
    }
    let length = (bytes.len() + signatures.len()) as u64;
    store.reserve_bytes(length + BLOCKS).map_err(StoreError::into_reasons)?;
    let held = root.lock_receipts().map_err(|error| error.to_reason())?;
    root.keep_receipt(&held, &name, bytes, signatures).map_err(failed)?;
    Ok(true)
}

/// The attest key that is known of a node.
fn known(root: &StateRoot, node: &Name) -> Result<BTreeMap<Name, PublicKey>, Reasons> {
    let path = layout::trust_node(node);
    let bytes = read_capped(root.disk(), &path, MAX_KEY_BYTES).map_err(|error| error.to_reason())?;
    let Some(bytes) = bytes else { return Ok(BTreeMap::new()) };
    let text = String::from_utf8_lossy(&bytes);
    let key = PublicKey::parse_pem(&text).map_err(|error| Reason::new(Code::WrongKey, format!("`{path}`: {error}")))?;
    Ok(BTreeMap::from([(node.clone(), key)]))
}
