//! Evidence: made when an operating system was replaced, and judged as a chain of the current one and the one before it.

use autonomy_schema::evidence::Evidence;
use autonomy_schema::root::MAX_KEY_PEM;
use autonomy_schema::{Blake3, Code, Document as _, Reason, Reasons, RelPath};
use autonomy_stateroot::{EvidenceBytes, EvidenceSlot, StateRoot, layout, read_capped};
use autonomy_trust::{AttestKey, PublicKey, Signed, verify_evidence};
use serde::Serialize;

/// Evidence that holds, and the one before it where it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Chain {
    /// Of the epoch that is now.
    pub current: Evidence,
    /// BLAKE3 of its bytes.
    pub digest: Blake3,
    /// Of the epoch before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<Evidence>,
}

/// Judges the evidence of a node: signatures, node, and that each follows from the one before it. `None` on a node whose
/// operating system was never replaced.
pub fn verify(root: &StateRoot) -> Result<Option<Chain>, Reasons> {
    let Some(found) = root.evidence(EvidenceSlot::Current)? else {
        if root.evidence(EvidenceSlot::Previous)?.is_some() {
            let message = "`epoch/current` is missing, although there is evidence before it";
            return Err(Reason::new(Code::CorruptState, message).into());
        }
        return Ok(None);
    };
    let key = public_key(root)?;
    let node = root.node()?.node_id;
    let verified = |found: &EvidenceBytes, which: &str| -> Result<Evidence, Reasons> {
        let signed = Signed { bytes: &found.bytes, signatures: &found.signatures };
        let evidence = verify_evidence(signed, &key).map_err(|reasons| named(which, &reasons))?;
        if evidence.node_id == node {
            return Ok(evidence);
        }
        let message = format!("`{which}` is of node `{}`; this is `{node}`", evidence.node_id);
        Err(Reason::new(Code::EvidenceForged, message).into())
    };
    let current = verified(&found, "epoch/current/evidence.json")?;
    let digest = Blake3::of(&found.bytes);
    let before = root.evidence(EvidenceSlot::Previous)?;
    let broken = |why: &str| {
        let message = format!("`epoch/current/evidence.json` {why}");
        Reasons::from(Reason::new(Code::EvidenceForged, message))
    };
    let previous = match (&before, current.previous_evidence) {
        (None, None) => None,
        (Some(found), Some(named)) if Blake3::of(&found.bytes) == named => {
            Some(verified(found, "epoch/previous/evidence.json")?)
        }
        (Some(_), _) => return Err(broken("does not follow from `epoch/previous/evidence.json`")),
        (None, Some(_)) => return Err(broken("names evidence before it, and that is missing")),
    };
    if let Some(previous) = &previous
        && (previous.boot_epoch >= current.boot_epoch)
    {
        return Err(broken("has no higher epoch than the one before it"));
    }
    Ok(Some(Chain { current, digest, previous }))
}

/// What a file is called before what is wrong with it. Damage of what is signed is damage of the state root.
fn named(which: &str, reasons: &Reasons) -> Reasons {
    let named = reasons.as_slice().iter().map(|reason| {
        let code = if reason.code == Code::EvidenceForged { Code::EvidenceForged } else { Code::CorruptState };
        Reason::new(code, format!("`{which}`: {reason}"))
    });
    Reasons::new(named.collect()).unwrap_or_else(|| reasons.clone())
}

/// Whether what this node signs would be believed here: asked before anything is rebuilt.
pub(crate) fn can_sign(root: &StateRoot) -> Result<(), Reasons> {
    if attest_key(root)?.id() == public_key(root)?.id() {
        return Ok(());
    }
    let message = format!("`{}` is not the public half of `{}`", layout::attest_pub(), layout::attest_key());
    Err(Reason::new(Code::WrongKey, message).into())
}

/// Signs evidence; what would not verify is none.
pub(crate) fn sign(root: &StateRoot, evidence: &Evidence) -> Result<EvidenceBytes, Reasons> {
    Reasons::check(evidence.validate())?;
    let bytes = evidence.to_canonical().map_err(|error| Reason::new(Code::BadValue, error.to_string()))?;
    let line = attest_key(root)?.sign_line(&bytes);
    let line = line.map_err(|error| Reason::new(Code::WrongKey, error.to_string()))?;
    let signed = EvidenceBytes { bytes, signatures: (line + "\n").into_bytes() };
    verify_evidence(Signed { bytes: &signed.bytes, signatures: &signed.signatures }, &public_key(root)?)?;
    Ok(signed)
}

fn pem(root: &StateRoot, path: &RelPath) -> Result<String, Reason> {
    let refuse = |why: &str| Reason::new(Code::WrongKey, format!("`{path}` {why}"));
    let bytes = read_capped(root.disk(), path, MAX_KEY_PEM as u64).map_err(|error| error.to_reason())?;
    let bytes = bytes.ok_or_else(|| refuse("is missing"))?;
    String::from_utf8(bytes).map_err(|_not_utf8| refuse("is no attest key"))
}

/// The key by which a node signs receipts and evidence.
pub fn attest_key(root: &StateRoot) -> Result<AttestKey, Reasons> {
    let path = layout::attest_key();
    let refuse = |_no_key| Reason::new(Code::WrongKey, format!("`{path}` is no attest key"));
    Ok(AttestKey::from_pem(&pem(root, &path)?).map_err(refuse)?)
}

fn public_key(root: &StateRoot) -> Result<PublicKey, Reasons> {
    let path = layout::attest_pub();
    let refuse = |error: autonomy_trust::KeyError| Reason::new(Code::WrongKey, format!("`{path}`: {error}"));
    Ok(PublicKey::parse_pem(&pem(root, &path)?).map_err(refuse)?)
}
