//! Verification of receipts: against the attest keys of nodes, of which the trust root knows nothing.

use std::collections::BTreeMap;

use autonomy_schema::document::{Document as _, parse};
use autonomy_schema::receipt::Receipt;
use autonomy_schema::{Code, Name, Reason, Reasons};

use crate::bundle;
use crate::key::{Message, PublicKey};
use crate::verified::Signed;

/// A receipt, and whether the node that it names is known to have signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipted {
    /// Signed by the key that is known of its node.
    Verified(Receipt),
    /// It names a node of which no key is known: it is what somebody says.
    Unverified(Receipt),
}

/// Verifies a receipt against the attest keys of `nodes`. One that names a known node and is not signed by its key, or that
/// is signed by the key of another one, is refused.
pub fn verify_receipt(signed: Signed<'_>, nodes: &BTreeMap<Name, PublicKey>) -> Result<Receipted, Reasons> {
    if signed.bytes.len() > Receipt::MAX_BYTES {
        let message = format!("the receipt has {} bytes; the cap is {}", signed.bytes.len(), Receipt::MAX_BYTES);
        return Err(Reason::new(Code::DocumentTooLarge, message).into());
    }
    let message = Message::new(signed.bytes);
    let (lines, reasons) = bundle::parse(signed.signatures, message.digest());
    Reasons::check(reasons)?;
    let [line] = lines.as_slice() else {
        let message = format!("the receipt has {} signatures; the node's own is the only one", lines.len());
        return Err(Reason::new(Code::BadSignatureLine, message).into());
    };
    let hinted = nodes.iter().find(|(_, key)| line.hint() == Some(key.id()));
    let signs = |(_, key): &(&Name, &PublicKey)| key.verifies(&message, line);
    let found = hinted.filter(signs).or_else(|| nodes.iter().find(signs)).map(|(node, _)| node);
    let receipt: Receipt = parse(signed.bytes)?;
    match found {
        Some(node) if *node == receipt.node_id => Ok(Receipted::Verified(receipt)),
        Some(node) => {
            let message = format!("node `{node}` signed a receipt that names node `{}`", receipt.node_id);
            Err(Reason::new(Code::ScopeMismatch, message).into())
        }
        None if nodes.contains_key(&receipt.node_id) => {
            let message =
                format!("the receipt names node `{}`, and the key that is known of it did not sign", receipt.node_id);
            let reason = Reason::new(Code::BelowThreshold, message);
            Err(reason
                .with_remedy("it is forged, or the node was made anew: then take its new `identity/attest.pub`")
                .into())
        }
        None => Ok(Receipted::Unverified(receipt)),
    }
}
