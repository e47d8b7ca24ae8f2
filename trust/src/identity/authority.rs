//! From the node's certificate to a CA that the fleet trusts, and what is demanded of every issuer on the way.

use autonomy_schema::{Code, Sha256, Time};
use x509_parser::certificate::X509Certificate;
use x509_parser::x509::X509Version;

use super::{Demand, Findings, Identity, Key, algorithm, card, leaf, shown};

/// The issuers of `leaf`, nearest first, the anchor last; `None` with a finding when no anchor vouches for it.
///
/// One step at a time and never back: an anchor is taken before an intermediate, a valid issuer before one that is
/// not. Each intermediate is used once, so the work is bounded by the caps on both files.
pub(super) fn path<'c, 'a>(
    leaf: &'c X509Certificate<'a>,
    intermediates: &'c [X509Certificate<'a>],
    anchors: &'c [X509Certificate<'a>],
    now: Time,
    findings: &mut Findings,
) -> Option<Vec<&'c X509Certificate<'a>>> {
    if anchors.is_empty() {
        return None;
    }
    let mut issuers: Vec<&X509Certificate<'a>> = Vec::new();
    let mut open: Vec<&X509Certificate<'a>> = valid_first(intermediates, now);
    let anchors = valid_first(anchors, now);
    let mut unsupported = None;
    let mut at = leaf;
    loop {
        if let Some(anchor) = anchors.iter().find(|anchor| issued(at, anchor, &mut unsupported)) {
            issuers.push(anchor);
            return Some(issuers);
        }
        let Some(next) = open.iter().position(|issuer| issued(at, issuer, &mut unsupported)) else { break };
        at = open.remove(next);
        issuers.push(at);
    }
    if let Some(algorithm) = unsupported {
        findings.error(
            Code::CertificateUnsupported,
            format!("a certificate in `node.crt` is signed with {algorithm}; supported are {}", algorithm::SUPPORTED),
        );
    } else {
        let issuer = shown(&at.issuer().to_string());
        findings.error(
            Code::CertificateUntrusted,
            format!(
                "no certificate in `ca.crt` signed the node's certificate; its chain ends at the issuer `{issuer}`"
            ),
        );
    }
    None
}

fn valid_first<'c, 'a>(certificates: &'c [X509Certificate<'a>], now: Time) -> Vec<&'c X509Certificate<'a>> {
    let mut sorted: Vec<_> = certificates.iter().collect();
    sorted.sort_by_key(|certificate| {
        let (from, until) = leaf::validity(certificate);
        now < from || now > until
    });
    sorted
}

/// Whether `issuer` signed `certificate`. A signature in an algorithm that is not supported is noted.
pub(super) fn issued(
    certificate: &X509Certificate<'_>,
    issuer: &X509Certificate<'_>,
    unsupported: &mut Option<String>,
) -> bool {
    if certificate.issuer().as_raw() != issuer.subject().as_raw() {
        return false;
    }
    let verdict = Key::of(issuer.public_key()).and_then(|key| {
        key.verifies(
            &certificate.signature_algorithm,
            certificate.tbs_certificate.as_ref(),
            &certificate.signature_value.data,
        )
    });
    verdict.unwrap_or_else(|algorithm| {
        *unsupported = Some(algorithm);
        false
    })
}

/// Judges the issuers on the path, or every anchor where there is no path.
pub(super) fn judge(
    path: Option<&[&X509Certificate<'_>]>,
    anchors: &[X509Certificate<'_>],
    demand: &Demand<'_>,
    identity: &mut Identity,
    findings: &mut Findings,
) {
    if let Some(anchor) = path.and_then(|path| path.last().copied()).or(anchors.first()) {
        identity.ca = Some(Sha256::of(anchor.as_raw()));
        identity.ca_subject = Some(card::certificate(anchor).subject);
    }
    if let Some(path) = path {
        identity.ca_expires = path.iter().map(|issuer| leaf::validity(issuer).1).min();
        for (below, issuer) in path.iter().enumerate() {
            judge_one(issuer, below, demand, findings);
        }
    } else {
        identity.ca_expires = anchors.iter().map(|issuer| leaf::validity(issuer).1).min();
        for anchor in anchors {
            judge_one(anchor, 0, demand, findings);
        }
    }
}

/// `below` counts the CAs between the issuer and the node's certificate.
fn judge_one(issuer: &X509Certificate<'_>, below: usize, demand: &Demand<'_>, findings: &mut Findings) {
    let name = shown(&issuer.subject().to_string());
    for problem in constraints(issuer, below) {
        findings.error(Code::CaInvalid, format!("the CA certificate `{name}` {problem}"));
    }
    if let Some(oid) = leaf::critical(issuer) {
        findings.error(
            Code::CertificateUnsupported,
            format!("the CA certificate `{name}` has the critical extension {oid}, which is not understood"),
        );
    }
    let (from, until) = leaf::validity(issuer);
    if demand.now < from {
        findings.error(
            Code::CaNotYetValid,
            format!("the CA certificate `{name}` is valid from {from}; it is {} now", demand.now),
        );
    }
    if demand.now > until {
        findings.error(
            Code::CaExpired,
            format!("the CA certificate `{name}` expired at {until}; it is {} now", demand.now),
        );
    } else if demand.now.plus(demand.window) >= until {
        findings.warning(
            Code::CaExpiring,
            format!("the CA certificate `{name}` expires at {until}, within {}", demand.window),
        );
    }
}

fn constraints(issuer: &X509Certificate<'_>, below: usize) -> Vec<String> {
    let mut problems = Vec::new();
    if issuer.version() != X509Version::V3 {
        problems.push("is not X.509 version 3".to_owned());
    }
    if !issuer.is_ca() {
        problems.push("is not a CA's (basicConstraints)".to_owned());
    }
    let longest =
        issuer.basic_constraints().ok().flatten().and_then(|constraints| constraints.value.path_len_constraint);
    if longest.is_some_and(|longest| below > usize::try_from(longest).unwrap_or(usize::MAX)) {
        problems.push(format!("allows fewer CAs below it than the {below} in the chain"));
    }
    if issuer.key_usage().ok().flatten().is_some_and(|usage| !usage.value.key_cert_sign()) {
        problems.push("does not allow signing certificates (keyCertSign)".to_owned());
    }
    if !leaf::for_both_sides(issuer) {
        problems.push("is limited to uses that leave out serverAuth or clientAuth".to_owned());
    }
    problems
}
