//! What a node signs for: that it has a set, or runs it. Both wings sign, under one counter.

use autonomy_schema::receipt::{Receipt, ReceiptName, ReceiptResult};
use autonomy_schema::version::{ApiVersion, Kind};
use autonomy_schema::{Blake3, Code, Document as _, Name, Reason, Reasons, Time, document};
use autonomy_stateroot::{KeptReceipt, ReceiptsLock, StateRoot};
use autonomy_trust::AttestKey;

/// Most sets that are signed for at once; a medium for a whole fleet brings a node a few.
const MAX_SETS: usize = 64;
/// Most receipts of its own that a node keeps; older ones go.
const MAX_OWN: usize = 256;

/// What became of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Became {
    /// Its manifest.
    pub manifest: Blake3,
    /// What became of it.
    pub result: ReceiptResult,
    /// The peer that brought it, where one did.
    pub from: Option<Name>,
}

/// Who signs.
pub struct ReceiptSigner {
    /// The node's attest key.
    pub key: AttestKey,
    /// Its boot epoch; 0 where none is kept.
    pub boot_epoch: u64,
}

/// Signs for what became of sets. What is signed for already, as this result, is not signed for again. Gives the receipts,
/// oldest first.
pub fn sign_receipts(
    root: &StateRoot,
    signer: &ReceiptSigner,
    became: &[Became],
    clock: Time,
) -> Result<Vec<KeptReceipt>, Reasons> {
    let became = &became[..became.len().min(MAX_SETS)];
    if became.is_empty() {
        return Ok(Vec::new());
    }
    let node = root.node()?.node_id;
    let held = root.lock_receipts().map_err(|error| error.to_reason())?;
    let own = own(root, &node, signer)?;
    // The last word on a manifest, when it says the same.
    let newest = |it: &Became| {
        let last = own.iter().rev().find(|(receipt, _)| receipt.manifest == it.manifest);
        last.filter(|(receipt, _)| receipt.result == it.result)
    };
    let mut given: Vec<(u64, KeptReceipt)> =
        became.iter().filter_map(newest).map(|(receipt, kept)| (receipt.counter, kept.clone())).collect();
    let new: Vec<&Became> = became.iter().filter(|it| newest(it).is_none()).collect();
    if !new.is_empty() {
        // A counter that was lost is made good by what it counted.
        let counted = own.last().map_or(0, |(receipt, _)| receipt.counter);
        let first = root.receipt_counter()?.max(counted).saturating_add(1);
        let made = new.len();
        let last = first.saturating_add(made as u64 - 1);
        root.raise_receipt_counter(&held, last).map_err(|error| error.to_reason())?;
        for (counter, it) in (first..).zip(new) {
            given.push((counter, sign(root, &held, signer, receipt(&node, signer, it, counter, clock))?));
        }
        for (_, old) in own.iter().take((own.len() + made).saturating_sub(MAX_OWN)) {
            root.forget_receipt(&held, &old.file).map_err(|error| error.to_reason())?;
        }
    }
    given.sort_by_key(|(counter, _)| *counter);
    Ok(given.into_iter().map(|(_, kept)| kept).collect())
}

fn receipt(node: &Name, signer: &ReceiptSigner, became: &Became, counter: u64, time: Time) -> Receipt {
    Receipt {
        api_version: ApiVersion::default(),
        kind: Kind::Receipt,
        node_id: node.clone(),
        manifest: became.manifest,
        result: became.result,
        boot_epoch: signer.boot_epoch,
        counter,
        time,
        from: became.from.clone(),
    }
}

fn sign(
    root: &StateRoot,
    held: &ReceiptsLock,
    signer: &ReceiptSigner,
    receipt: Receipt,
) -> Result<KeptReceipt, Reasons> {
    Reasons::check(receipt.validate())?;
    let bytes = receipt.to_canonical().map_err(|error| Reason::new(Code::BadValue, error.to_string()))?;
    let line = signer.key.sign_line(&bytes).map_err(|error| Reason::new(Code::WrongKey, error.to_string()))?;
    let signatures = (line + "\n").into_bytes();
    let name = ReceiptName::of(&receipt.node_id, signer.key.id(), receipt.counter);
    root.keep_receipt(held, &name, &bytes, &signatures).map_err(|error| error.to_reason())?;
    Ok(KeptReceipt { file: name.file(), bytes, signatures })
}

/// The receipts of this node, by their counters. What was damaged is none.
fn own(root: &StateRoot, node: &Name, signer: &ReceiptSigner) -> Result<Vec<(Receipt, KeptReceipt)>, Reasons> {
    let kept = root.kept_receipts(&ReceiptName::prefix(node, signer.key.id()))?;
    let mut own: Vec<(Receipt, KeptReceipt)> = kept
        .into_iter()
        .filter_map(|kept| Some((document::parse::<Receipt>(&kept.bytes).ok()?, kept)))
        .filter(|(receipt, _)| receipt.node_id == *node)
        .collect();
    own.sort_by_key(|(receipt, _)| receipt.counter);
    Ok(own)
}
