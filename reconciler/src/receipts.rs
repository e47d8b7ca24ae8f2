//! What a node signs for: that it has a set, or runs it. Receipts lie in the state root, and ride back on the
//! medium that brought the set.

use std::path::Path;

use autonomy_precheck::evidence::attest_key;
use autonomy_schema::receipt::{Receipt, ReceiptName, ReceiptResult};
use autonomy_schema::set::SIGNATURES_SUFFIX;
use autonomy_schema::version::{ApiVersion, Kind};
use autonomy_schema::{Blake3, Code, Document as _, Name, Reason, Reasons, Time, document};
use autonomy_sets::manifest_of;
use autonomy_stateroot::{ActivationLock, KeptReceipt, StateRoot};
use autonomy_trust::AttestKey;

mod collect;

pub use collect::{Collection, Custody, FoundReceipt, collect, known_nodes, look_at_receipts};

/// Most sets of one medium that are signed for; a medium for a whole fleet brings a node a few.
const MAX_SETS: usize = 64;
/// Most receipts of its own that a node keeps; older ones go.
const MAX_OWN: usize = 256;

/// What became of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Became {
    pub(crate) manifest: Blake3,
    pub(crate) result: ReceiptResult,
}

/// Who signs.
struct Signer {
    node: Name,
    key: AttestKey,
    boot_epoch: u64,
}

/// Signs for what became of sets. What is signed for already, in these very words, is not signed for again. Gives the
/// receipts, oldest first.
pub(crate) fn sign(
    root: &StateRoot,
    held: &ActivationLock,
    became: &[Became],
    clock: Time,
) -> Result<Vec<KeptReceipt>, Reasons> {
    let became = &became[..became.len().min(MAX_SETS)];
    if became.is_empty() {
        return Ok(Vec::new());
    }
    let boot_epoch = autonomy_precheck::epoch::known(root);
    let signer = Signer { node: root.node()?.node_id, key: attest_key(root)?, boot_epoch };
    let own = own(root, &signer)?;
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
        root.raise_receipt_counter(held, last).map_err(|error| error.to_reason())?;
        for (counter, it) in (first..).zip(new) {
            given.push((counter, signer.sign(root, held, it, counter, clock)?));
        }
        for (_, old) in own.iter().take((own.len() + made).saturating_sub(MAX_OWN)) {
            root.forget_receipt(held, &old.file).map_err(|error| error.to_reason())?;
        }
    }
    given.sort_by_key(|(counter, _)| *counter);
    Ok(given.into_iter().map(|(_, kept)| kept).collect())
}

/// Signs that the node runs its active manifest, once nothing can take that back by itself: while it waits to be confirmed,
/// it is not said yet. Gives a warning when no receipt could be made.
pub(crate) fn sign_active(root: &StateRoot, held: &ActivationLock, clock: Time) -> Option<String> {
    let runs = || -> Result<Option<Blake3>, Reasons> {
        let current = root.current()?.filter(|current| root.lkg().is_ok_and(|lkg| lkg.as_ref() == Some(current)));
        Ok(current.and_then(|current| manifest_of(root, &current)).map(|(_, manifest)| manifest))
    };
    let signed = runs().and_then(|runs| {
        let became: Vec<Became> =
            runs.into_iter().map(|manifest| Became { manifest, result: ReceiptResult::Active }).collect();
        sign(root, held, &became, clock)
    });
    signed.err().map(|reasons| format!("no receipt was made: {}", reasons.one_line()))
}

impl Signer {
    fn sign(
        &self,
        root: &StateRoot,
        held: &ActivationLock,
        became: &Became,
        counter: u64,
        time: Time,
    ) -> Result<KeptReceipt, Reasons> {
        let receipt = Receipt {
            api_version: ApiVersion::default(),
            kind: Kind::Receipt,
            node_id: self.node.clone(),
            manifest: became.manifest,
            result: became.result,
            from: None,
            boot_epoch: self.boot_epoch,
            counter,
            time,
        };
        Reasons::check(receipt.validate())?;
        let bytes = receipt.to_canonical().map_err(|error| Reason::new(Code::BadValue, error.to_string()))?;
        let line = self.key.sign_line(&bytes).map_err(|error| Reason::new(Code::WrongKey, error.to_string()))?;
        let signatures = (line + "\n").into_bytes();
        let name = ReceiptName::of(&self.node, self.key.id(), counter);
        root.keep_receipt(held, &name, &bytes, &signatures).map_err(|error| error.to_reason())?;
        Ok(KeptReceipt { file: name.file(), bytes, signatures })
    }
}

/// The receipts of this node, by their counters. What was damaged is none.
fn own(root: &StateRoot, signer: &Signer) -> Result<Vec<(Receipt, KeptReceipt)>, Reasons> {
    let kept = root.kept_receipts(&ReceiptName::prefix(&signer.node, signer.key.id()))?;
    let mut own: Vec<(Receipt, KeptReceipt)> = kept
        .into_iter()
        .filter_map(|kept| Some((document::parse::<Receipt>(&kept.bytes).ok()?, kept)))
        .filter(|(receipt, _)| receipt.node_id == signer.node)
        .collect();
    own.sort_by_key(|(receipt, _)| receipt.counter);
    Ok(own)
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
