//! The node's own certificate: whose it is, when it is valid, what for, and whether the key is its own.

use autonomy_schema::{Code, Name, Time};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::x509::X509Version;

use super::{Demand, Findings, Identity, Key, algorithm, card, shown};

/// What `uri` names when its path is `/domains/<fleet>/peers/<id>`: the fleet and the node.
pub fn peer_of_uri(uri: &str) -> Option<(Name, Name)> {
    let (_, rest) = uri.split_once("://")?;
    let (_, path) = rest.split_once('/')?;
    let (fleet, id) = path.strip_prefix("domains/")?.split_once("/peers/")?;
    Some((fleet.parse().ok()?, id.parse().ok()?))
}

/// Whom the certificate of a peer (DER) names: the fleet, where it says one, and the node.
///
/// The URI name counts first. Without one, the first DNS name, then the common name: certificates of a PKI that knows no
/// URI names; of the fleet the CA then vouches alone. `None` when there is no name, when URI names contradict each other,
/// or when one speaks of peers and is not understood: such a certificate is no fallback's business.
pub fn peer_of_certificate(der: &[u8]) -> Option<(Option<Name>, Name)> {
    let certificate = super::read::certificate(der).ok()?;
    let uris = uris(&certificate);
    let claims = uris.iter().filter(|uri| uri.contains("/domains/") || uri.contains("/peers/"));
    let mut peers: Vec<Option<(Name, Name)>> = claims.map(|uri| peer_of_uri(uri)).collect();
    peers.sort();
    peers.dedup();
    match peers.as_slice() {
        [] => {}
        [Some((fleet, id))] => return Some((Some(fleet.clone()), id.clone())),
        _ => return None,
    }
    let names = certificate.subject_alternative_name().ok().flatten();
    let mut dns = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| if let GeneralName::DNSName(dns) = name { Some(*dns) } else { None });
    let name = match dns.next() {
        Some(dns) => dns,
        None => certificate.subject().iter_common_name().next()?.as_str().ok()?,
    };
    Some((None, name.parse().ok()?))
}

/// The URI names of a certificate.
pub(super) fn uris(certificate: &X509Certificate<'_>) -> Vec<String> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names);
    names.filter_map(|name| if let GeneralName::URI(uri) = name { Some((*uri).to_owned()) } else { None }).collect()
}

/// Writes down what the certificate says.
pub(super) fn record(certificate: &X509Certificate<'_>, identity: &mut Identity) {
    let card = card::certificate(certificate);
    identity.serial = Some(card.serial);
    identity.subject = Some(card.subject);
    identity.uris = card.uris;
    identity.key_id = Some(card.key_id);
    identity.not_before = Some(card.not_before);
    identity.expires = Some(card.expires);
}

/// Judges names, times and uses.
pub(super) fn judge(
    certificate: &X509Certificate<'_>,
    demand: &Demand<'_>,
    identity: &mut Identity,
    findings: &mut Findings,
) {
    names(demand, identity, findings);
    let (from, until) = validity(certificate);
    if demand.now < from {
        findings.error(
            Code::CertificateNotYetValid,
            format!("the node's certificate is valid from {from}; it is {} now", demand.now),
        );
    }
    if demand.now > until {
        findings.error(
            Code::CertificateExpired,
            format!("the node's certificate expired at {until}; it is {} now", demand.now),
        );
    } else if demand.now.plus(demand.window) >= until {
        findings.warning(
            Code::CertificateExpiring,
            format!("the node's certificate expires at {until}, within {}", demand.window),
        );
    }
    uses(certificate, findings);
    if let Some(oid) = critical(certificate) {
        findings.error(
            Code::CertificateUnsupported,
            format!("the node's certificate has the critical extension {oid}, which is not understood"),
        );
    }
}

fn names(demand: &Demand<'_>, identity: &mut Identity, findings: &mut Findings) {
    let wanted = format!("/domains/{}/peers/{}", demand.fleet, demand.node);
    let mut peers: Vec<(Name, Name)> = identity.uris.iter().filter_map(|uri| peer_of_uri(uri)).collect();
    peers.sort();
    peers.dedup();
    match peers.as_slice() {
        [] => findings.error(
            Code::CertificateWrongName,
            format!("the node's certificate has no URI name with the path `{wanted}`"),
        ),
        [(fleet, id)] => {
            if fleet != demand.fleet {
                findings.error(
                    Code::CertificateWrongName,
                    format!("the node's certificate is for fleet `{fleet}`; this node's is `{}`", demand.fleet),
                );
            }
            if id != demand.node {
                findings.error(
                    Code::CertificateWrongName,
                    format!("the node's certificate is for node `{id}`; this node is `{}`", demand.node),
                );
            }
        }
        _ => findings.error(
            Code::CertificateWrongName,
            format!("the node's certificate names {} different nodes; one is right: `{wanted}`", peers.len()),
        ),
    }
    if let [peer] = peers.as_slice() {
        identity.peer = Some(peer.clone());
    }
}

fn uses(certificate: &X509Certificate<'_>, findings: &mut Findings) {
    let mut wrong =
        |message: &str| findings.error(Code::CertificateWrongUse, format!("the node's certificate {message}"));
    if certificate.version() != X509Version::V3 {
        wrong("is not X.509 version 3");
    }
    if certificate.is_ca() {
        wrong("is a CA's; a node's must not sign others");
    }
    if certificate.key_usage().ok().flatten().is_some_and(|usage| !usage.value.digital_signature()) {
        wrong("does not allow digital signatures, which TLS needs");
    }
    if !for_both_sides(certificate) {
        wrong("is not for both serverAuth and clientAuth; a node is both to its peers");
    }
}

/// Whether the certificate may be used by a TLS server and by a TLS client; without a list of uses it may.
pub(super) fn for_both_sides(certificate: &X509Certificate<'_>) -> bool {
    let uses = certificate.extended_key_usage().ok().flatten().map(|uses| uses.value);
    uses.is_none_or(|uses| uses.any || (uses.server_auth && uses.client_auth))
}

/// Judges whether the private key belongs to the certificate, and is not the attest key.
pub(super) fn judge_key(
    certificate: &X509Certificate<'_>,
    key: Option<&Key>,
    attest: Option<&Key>,
    findings: &mut Findings,
) {
    match Key::of(certificate.public_key()) {
        Err(algorithm) => findings.error(
            Code::CertificateUnsupported,
            format!("the key of the node's certificate is {algorithm}; supported are {}", algorithm::SUPPORTED),
        ),
        Ok(public) => {
            if key.is_some_and(|key| *key != public) {
                findings.error(
                    Code::CertificateWrongKey,
                    "`node.key` is not the key of the certificate in `node.crt`".to_owned(),
                );
            }
            if let Some(attest) = attest {
                judge_shared(&public, attest, findings);
            }
        }
    }
}

/// Refuses one key for both purposes.
pub(super) fn judge_shared(key: &Key, attest: &Key, findings: &mut Findings) {
    if key == attest {
        findings.error(Code::KeyShared, format!("`node.key` and `attest.key` are the same {} key", key.name()));
    }
}

/// First and last second of validity.
pub(super) fn validity(certificate: &X509Certificate<'_>) -> (Time, Time) {
    let validity = certificate.validity();
    (Time::from_unix(validity.not_before.timestamp()), Time::from_unix(validity.not_after.timestamp()))
}

/// A critical extension that nobody here acts on.
pub(super) fn critical(certificate: &X509Certificate<'_>) -> Option<String> {
    let unknown = certificate.extensions().iter().find(|extension| {
        extension.critical
            && !matches!(
                extension.parsed_extension(),
                ParsedExtension::BasicConstraints(_)
                    | ParsedExtension::KeyUsage(_)
                    | ParsedExtension::ExtendedKeyUsage(_)
                    | ParsedExtension::SubjectAlternativeName(_)
            )
    });
    unknown.map(|extension| shown(&extension.oid.to_id_string()))
}
