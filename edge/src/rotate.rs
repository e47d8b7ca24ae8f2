//! `--rotate-certs`: a new certificate for the node, from a CA whose key is on it.

use std::path::Path;

use autonomy_authority::Authority;
use autonomy_precheck::{Replaced, certificates, demands, note_certificate};
use autonomy_schema::node::Node;
use autonomy_schema::{Code, Duration, Reason, Reasons, Time};
use autonomy_signing::{DEFAULT_CRL_VALIDITY, DEFAULT_NODE_VALIDITY};
use autonomy_stateroot::{NewCertificates, StateRoot};
use autonomy_trust::{
    Demand, IdentityFiles, MAX_CRL_BYTES, MAX_IDENTITY_BYTES, Severity, describe_certificates, judge_identity,
};

/// What a new certificate, or a new list, makes good.
const MENDED: [Code; 8] = [
    Code::CaMissing,
    Code::KeyMissing,
    Code::CertificateMissing,
    Code::CertificateExpired,
    Code::CertificateExpiring,
    Code::CrlMissing,
    Code::CrlExpired,
    Code::CrlExpiring,
];

/// Replaces certificate, key, CA and revocation list as one, when one of them is missing, has ended, or ends within the window
/// that the active manifest demands. Gives the new serial number; `None` when nothing was due.
pub(crate) fn rotate(root: &StateRoot, ca: &Path, now: Time, actor: &str) -> Result<Option<String>, Reasons> {
    let node = root.node()?;
    let window = demands(root).cert_expiry_window;
    let found = certificates(root, &node, now, window, true);
    if !found.findings.iter().any(|(_, reason)| MENDED.contains(&reason.code)) {
        return Ok(None);
    }
    let held = root.lock("edged precheck --rotate-certs").map_err(|error| error.to_reason())?;
    let mut authority = Authority::open(ca)?;
    if *authority.fleet() != node.fleet {
        let message =
            format!("the CA in {} is of fleet `{}`, the node of `{}`", ca.display(), authority.fleet(), node.fleet);
        return Err(Reason::new(Code::ScopeMismatch, message)
            .with_remedy("name the CA of the node's own fleet")
            .into());
    }
    let kept = root.certificates(MAX_IDENTITY_BYTES, MAX_CRL_BYTES).map_err(|error| error.to_reason())?;
    let anchors = anchors(kept.ca.as_deref(), authority.certificate(), ca)?;
    let issued = authority.issue(&node.node_id, None, DEFAULT_NODE_VALIDITY, now)?;
    let (list, number) = authority.list(DEFAULT_CRL_VALIDITY, now)?;
    if let Some(installed) = found.identity.crl_number.filter(|installed| *installed >= number) {
        let message = format!("the CA in {} made list {number}; list {installed} is here", ca.display());
        let reason = Reason::new(Code::CrlUntrusted, message);
        return Err(reason.with_remedy("bring the newest copy of the CA: an older one forgot what was revoked").into());
    }
    let lists = if anchors == authority.certificate().as_bytes() {
        list.into_bytes()
    } else {
        // The lists of the other CAs count on.
        [list.into_bytes(), kept.crl.unwrap_or_default()].concat()
    };
    let new = NewCertificates {
        certificate: issued.certificate_pem.as_bytes(),
        key: issued.private_pem.as_bytes(),
        ca: &anchors,
        crl: &lists,
    };
    is_good(&new, &node, now)?;
    root.install_certificates(&held, &new).map_err(|error| error.to_reason())?;
    let by = Replaced { actor, verb: "precheck --rotate-certs", time: now };
    note_certificate(root, &held, by, Some(&issued.serial))?;
    Ok(Some(issued.serial))
}

/// What the node trusts: as before. A CA on the node replaces nobody's trust; where there is none yet, it is that one.
fn anchors(known: Option<&[u8]>, own: &str, ca: &Path) -> Result<Vec<u8>, Reason> {
    let Some(known) = known else { return Ok(own.as_bytes().to_vec()) };
    let digests = |pem: &[u8]| describe_certificates(pem).unwrap_or_default().into_iter().map(|card| card.digest);
    let (own_digest, mut trusted) = (digests(own.as_bytes()).next(), digests(known));
    if own_digest.is_some() && trusted.any(|digest| Some(&digest) == own_digest.as_ref()) {
        return Ok(known.to_vec());
    }
    let message = format!("the CA in {} is none of those in `identity/ca.crt`", ca.display());
    let remedy = "name the CA that this node trusts; another one is brought with `autonomy cert import`";
    Err(Reason::new(Code::CertificateUntrusted, message).with_remedy(remedy))
}

/// Judged as a peer would, before anything is replaced.
fn is_good(new: &NewCertificates<'_>, node: &Node, now: Time) -> Result<(), Reasons> {
    let files = IdentityFiles {
        certificate: Some(new.certificate),
        key: Some(new.key),
        ca: Some(new.ca),
        crl: Some(new.crl),
        attest: None,
    };
    let demand = Demand { node: &node.node_id, fleet: &node.fleet, now, window: Duration::from_millis(0) };
    let (_, findings) = judge_identity(&files, &demand);
    let errors = findings.into_iter().filter(|finding| finding.severity == Severity::Error);
    Reasons::check(errors.map(|finding| finding.reason).collect())
}
