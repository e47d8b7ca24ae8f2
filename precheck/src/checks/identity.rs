//! The node's certificates, as they lie in its state root.

use autonomy_schema::finding::Severity;
use autonomy_schema::node::Node;
use autonomy_schema::{Code, Duration, Reason, Time};
use autonomy_stateroot::StateRoot;
use autonomy_trust::{Demand, Identity, IdentityFiles, MAX_CRL_BYTES, MAX_IDENTITY_BYTES, judge_identity};

/// What they say, and what is wrong with them.
#[derive(Debug)]
pub struct Certificates {
    /// What they say.
    pub identity: Identity,
    /// Sorted by code.
    pub findings: Vec<(Severity, Reason)>,
}

/// Judges the certificates of a node that is in a relay, or might be. On one that has none and takes part in none
/// (`is_needed`), it is only told that they are missing.
pub fn certificates(root: &StateRoot, node: &Node, now: Time, window: Duration, is_needed: bool) -> Certificates {
    let found = match root.certificates(MAX_IDENTITY_BYTES, MAX_CRL_BYTES) {
        Ok(found) => found,
        Err(error) => {
            let reason = error.to_reason();
            let reason = Reason { code: Code::CertificateUnreadable, ..reason };
            return Certificates { identity: Identity::default(), findings: vec![(Severity::Error, reason)] };
        }
    };
    let has_none = found.certificate.is_none() && found.key.is_none() && found.ca.is_none() && found.crl.is_none();
    let files = IdentityFiles {
        certificate: found.certificate.as_deref(),
        key: found.key.as_deref(),
        ca: found.ca.as_deref(),
        crl: found.crl.as_deref(),
        attest: found.attest.as_deref(),
    };
    if has_none {
        // One finding says it all.
        let message = "the node has no certificates: `identity/` lacks `node.crt`, `node.key`, `ca.crt` and `crl.pem`";
        let reason = Reason::new(Code::CertificateMissing, message).with_remedy(
            "issue them: `autonomy cert issue`, or bring those of an existing PKI: `autonomy cert import`",
        );
        let severity = if is_needed { Severity::Error } else { Severity::Info };
        return Certificates { identity: Identity::default(), findings: vec![(severity, reason)] };
    }
    let demand = Demand { node: &node.node_id, fleet: &node.fleet, now, window };
    let (identity, findings) = judge_identity(&files, &demand);
    let told = findings.into_iter().map(|finding| {
        let severity = match finding.severity {
            autonomy_trust::Severity::Error => Severity::Error,
            autonomy_trust::Severity::Warning => Severity::Warning,
        };
        (severity, finding.reason)
    });
    Certificates { identity, findings: told.collect() }
}
