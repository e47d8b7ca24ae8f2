//! Verification of evidence: what a node signed of itself, against its own attest key.

use autonomy_schema::document::{Document as _, parse};
use autonomy_schema::evidence::Evidence;
use autonomy_schema::{Code, Reason, Reasons};

use crate::bundle;
use crate::key::{Message, PublicKey};
use crate::verified::Signed;

/// Verifies evidence by the attest key of its node.
pub fn verify_evidence(signed: Signed<'_>, key: &PublicKey) -> Result<Evidence, Reasons> {
    if signed.bytes.len() > Evidence::MAX_BYTES {
        let message = format!("the evidence has {} bytes; the cap is {}", signed.bytes.len(), Evidence::MAX_BYTES);
        return Err(Reason::new(Code::DocumentTooLarge, message).into());
    }
    let message = Message::new(signed.bytes);
    let (lines, reasons) = bundle::parse(signed.signatures, message.digest());
    let forged = |why: &str| Reasons::from(Reason::new(Code::EvidenceForged, format!("the evidence {why}")));
    Reasons::check(reasons).map_err(|_other_bytes| forged("has no signature over its bytes"))?;
    let [line] = lines.as_slice() else { return Err(forged("has more than one signature, or none")) };
    if !key.verifies(&message, line) {
        return Err(forged("is not signed by the attest key of this node"));
    }
    parse(signed.bytes)
}
