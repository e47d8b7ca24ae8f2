//! The node's certificates, as they lie in its state root.

use autonomy_schema::finding::Severity;
use autonomy_schema::node::Node;
use autonomy_schema::{Code, Duration, Reason, RelPath, Time};
use autonomy_stateroot::{StateRoot, layout, read_capped};
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
    let mut unreadable = Vec::new();
    let mut read = |path: RelPath, cap: u64, code| match read_capped(root.disk(), &path, cap) {
        Ok(bytes) => bytes,
        Err(error) => {
            unreadable.push((Severity::Error, Reason { code, ..error.to_reason() }));
            None
        }
    };
    let certificate = read(layout::node_certificate(), MAX_IDENTITY_BYTES, Code::CertificateUnreadable);
    let key = read(layout::node_key(), MAX_IDENTITY_BYTES, Code::KeyUnreadable);
    let ca = read(layout::ca_certificate(), MAX_IDENTITY_BYTES, Code::CaUnreadable);
    let crl = read(layout::crl(), MAX_CRL_BYTES, Code::CrlUnreadable);
    let attest = read(layout::attest_pub(), MAX_IDENTITY_BYTES, Code::WrongKey);
    let files = IdentityFiles {
        certificate: certificate.as_deref(),
        key: key.as_deref(),
        ca: ca.as_deref(),
        crl: crl.as_deref(),
        attest: attest.as_deref(),
    };
    let has_none = certificate.is_none() && key.is_none() && ca.is_none() && crl.is_none() && unreadable.is_empty();
    let demand = Demand { node: &node.node_id, fleet: &node.fleet, now, window };
    let (identity, found) = judge_identity(&files, &demand);
    let told = found.into_iter().map(|finding| {
        let severity = match finding.severity {
            autonomy_trust::Severity::Error if has_none && !is_needed => Severity::Info,
            autonomy_trust::Severity::Error => Severity::Error,
            autonomy_trust::Severity::Warning => Severity::Warning,
        };
        (severity, finding.reason)
    });
    let mut findings: Vec<(Severity, Reason)> = told.collect();
    // What could not be read was told as missing as well.
    for (_, reason) in &unreadable {
        let missing = reason.code.as_str().replace("unreadable", "missing");
        findings.retain(|(_, told)| told.code.as_str() != missing);
    }
    findings.extend(unreadable);
    findings.sort_by(|a, b| a.1.cmp(&b.1));
    Certificates { identity, findings }
}
