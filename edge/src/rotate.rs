//! `--rotate-certs`: a new certificate for the node, from a CA whose key is on it.

use std::path::Path;

use autonomy_authority::Authority;
use autonomy_precheck::{Replaced, certificates, demands, note_certificate};
use autonomy_schema::node::Node;
use autonomy_schema::{Code, Duration, Reason, Reasons, Time};
use autonomy_signing::{DEFAULT_CRL_VALIDITY, DEFAULT_NODE_VALIDITY};
use autonomy_stateroot::{NewCertificates, StateRoot};
use autonomy_trust::{Demand, IdentityFiles, Severity, judge_identity};

/// What a new certificate, or a new list, makes good.
const MENDED: [Code; 6] = [
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
    let issued = authority.issue(&node.node_id, None, DEFAULT_NODE_VALIDITY, now)?;
    let (list, _number) = authority.list(DEFAULT_CRL_VALIDITY, now)?;
    let new = NewCertificates {
        certificate: issued.certificate_pem.as_bytes(),
        key: issued.private_pem.as_bytes(),
        ca: authority.certificate().as_bytes(),
        crl: list.as_bytes(),
    };
    is_good(&new, &node, now)?;
    root.install_certificates(&held, &new).map_err(|error| error.to_reason())?;
    let by = Replaced { actor, verb: "precheck --rotate-certs", time: now };
    note_certificate(root, &held, by, Some(&issued.serial))?;
    Ok(Some(issued.serial))
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
