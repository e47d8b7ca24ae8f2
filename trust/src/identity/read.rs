//! PEM in, parsed certificates, keys and revocation lists out; every input has a cap.

use autonomy_schema::{Code, Reason};
use p256::pkcs8::der::Decode as _;
use p256::pkcs8::der::asn1::{AnyRef, BitStringRef};
use p256::pkcs8::spki::AlgorithmIdentifierRef;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::X509Extension;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use super::{Findings, Key, Severity, algorithm};

/// Longest file of certificates or of a key, in bytes: eight certificates of 8 KiB, which is beyond any honest chain.
pub const MAX_IDENTITY_BYTES: u64 = 64 << 10;
/// Longest file of revocation lists, in bytes: about 20,000 revoked certificates.
pub const MAX_CRL_BYTES: u64 = 1 << 20;
/// Most certificates in one file: the depth of a chain, or the CAs of a fleet in rotation.
pub const MAX_CERTIFICATES: usize = 8;
/// Most revocation lists in one file: one of each issuer.
pub const MAX_CRLS: usize = 8;

/// A file of certificates, and the codes for what can be wrong with it.
pub(super) struct Place {
    pub(super) file: &'static str,
    pub(super) missing: Code,
    pub(super) unreadable: Code,
}

/// `node.crt`.
pub(super) const NODE: Place =
    Place { file: "node.crt", missing: Code::CertificateMissing, unreadable: Code::CertificateUnreadable };
/// `ca.crt`.
pub(super) const CA: Place = Place { file: "ca.crt", missing: Code::CaMissing, unreadable: Code::CaUnreadable };

/// The blocks of a file of certificates, in order.
pub(super) struct Certificates(Vec<Pem>);

/// The blocks of a file of revocation lists.
pub(super) struct Crls(Vec<Pem>);

/// Reads the blocks of a file of certificates.
pub(super) fn certificates(bytes: &[u8], place: &Place) -> Result<Certificates, Reason> {
    blocks(bytes, "CERTIFICATE", MAX_IDENTITY_BYTES, MAX_CERTIFICATES)
        .map(Certificates)
        .map_err(|problem| Reason::new(place.unreadable, format!("`{}` {problem}", place.file)))
}

/// Parses certificates. One that does not parse is a finding, and ends the list: what comes after it may depend on it.
pub(super) fn parse<'a>(
    certificates: &'a Certificates,
    place: &Place,
    findings: &mut Findings,
) -> Vec<X509Certificate<'a>> {
    let mut parsed = Vec::new();
    for (at, pem) in certificates.0.iter().enumerate() {
        match certificate(&pem.contents) {
            Ok(certificate) => parsed.push(certificate),
            Err(problem) => {
                findings.error(place.unreadable, format!("certificate {} of `{}` {problem}", at + 1, place.file));
                break;
            }
        }
    }
    parsed
}

/// Whether the frame around what is signed, which no signature covers, is DER to the letter: peers refuse what is not.
fn framed(der: &[u8]) -> bool {
    let signed = |frame: AnyRef<'_>| {
        frame.sequence(|reader| {
            AnyRef::decode(reader)?;
            AlgorithmIdentifierRef::decode(reader)?;
            BitStringRef::decode(reader).map(drop)
        })
    };
    AnyRef::from_der(der).and_then(signed).is_ok()
}

/// Parses one certificate.
pub(super) fn certificate(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|_not_x509| "is not an X.509 certificate".to_owned())?;
    if !rest.is_empty() || !framed(der) {
        return Err("is not DER, or has bytes behind its end".to_owned());
    }
    if certificate.signature_algorithm != certificate.tbs_certificate.signature {
        return Err("names two different signature algorithms".to_owned());
    }
    if certificate.extensions_map().is_err() {
        return Err("has an extension twice".to_owned());
    }
    well_formed(certificate.extensions())?;
    Ok(certificate)
}

fn well_formed(extensions: &[X509Extension<'_>]) -> Result<(), String> {
    match extensions.iter().find(|extension| extension.parsed_extension().error().is_some()) {
        Some(bad) => Err(format!("has a malformed extension {}", bad.oid.to_id_string())),
        None => Ok(()),
    }
}

/// Reads the blocks of `crl.pem`.
pub(super) fn revocation_lists(file: Option<&[u8]>, findings: &mut Findings) -> Option<Crls> {
    let Some(bytes) = file else {
        findings.error(Code::CrlMissing, "`crl.pem` is missing");
        return None;
    };
    match crl_blocks(bytes) {
        Ok(crls) => Some(crls),
        Err(reason) => {
            findings.push(Severity::Error, reason);
            None
        }
    }
}

/// The same with the reason of a refusal.
pub(super) fn crl_blocks(bytes: &[u8]) -> Result<Crls, Reason> {
    blocks(bytes, "X509 CRL", MAX_CRL_BYTES, MAX_CRLS)
        .map(Crls)
        .map_err(|problem| Reason::new(Code::CrlUnreadable, format!("`crl.pem` {problem}")))
}

/// Parses revocation lists; one that does not parse is a finding.
pub(super) fn parse_crls<'a>(crls: &'a Crls, findings: &mut Findings) -> Vec<CertificateRevocationList<'a>> {
    let mut parsed = Vec::new();
    for (at, pem) in crls.0.iter().enumerate() {
        match crl(&pem.contents) {
            Ok(list) => parsed.push(list),
            Err((code, problem)) => {
                findings.error(code, format!("revocation list {} of `crl.pem` {problem}", at + 1));
            }
        }
    }
    parsed
}

fn crl(der: &[u8]) -> Result<CertificateRevocationList<'_>, (Code, String)> {
    let unreadable = |problem: &str| (Code::CrlUnreadable, problem.to_owned());
    let (rest, list) =
        CertificateRevocationList::from_der(der).map_err(|_not_crl| unreadable("is not an X.509 revocation list"))?;
    if !rest.is_empty() || !framed(der) {
        return Err(unreadable("is not DER, or has bytes behind its end"));
    }
    if list.signature_algorithm != list.tbs_cert_list.signature {
        return Err(unreadable("names two different signature algorithms"));
    }
    if list.tbs_cert_list.extensions_map().is_err() {
        return Err(unreadable("has an extension twice"));
    }
    well_formed(list.extensions()).map_err(|problem| (Code::CrlUnreadable, problem))?;
    if list.next_update().is_none() {
        return Err(unreadable("does not say when the next one is due"));
    }
    // A critical extension changes what the list covers: a delta, one reason, other issuers.
    let entries = list.iter_revoked_certificates().flat_map(|entry| entry.extensions());
    let critical = list.extensions().iter().chain(entries).find(|extension| extension.critical);
    match critical.map(|extension| extension.oid.to_id_string()) {
        Some(oid) => Err((
            Code::CertificateUnsupported,
            format!("has the critical extension {oid}, so it is not a plain full list"),
        )),
        None => Ok(list),
    }
}

/// Reads `node.key`.
pub(super) fn private_key(file: Option<&[u8]>, findings: &mut Findings) -> Option<Key> {
    let Some(bytes) = file else {
        findings.error(Code::KeyMissing, "`node.key` is missing");
        return None;
    };
    if too_large(bytes, MAX_IDENTITY_BYTES) {
        findings.error(Code::KeyUnreadable, format!("`node.key` has more than {MAX_IDENTITY_BYTES} bytes"));
        return None;
    }
    match algorithm::private_pem(bytes) {
        Ok(key) => Some(key),
        Err(problem) => {
            findings.error(Code::KeyUnreadable, format!("`node.key` {problem}"));
            None
        }
    }
}

fn too_large(bytes: &[u8], cap: u64) -> bool {
    u64::try_from(bytes.len()).map_or(true, |length| length > cap)
}

fn blocks(bytes: &[u8], label: &str, cap: u64, most: usize) -> Result<Vec<Pem>, String> {
    if too_large(bytes, cap) {
        return Err(format!("has more than {cap} bytes"));
    }
    let mut found = Vec::new();
    for pem in Pem::iter_from_buffer(bytes) {
        let pem = pem.map_err(|_not_pem| "has a PEM block that cannot be read".to_owned())?;
        if pem.label != label {
            return Err(format!("holds a PEM block with another label than `{label}`"));
        }
        if found.len() == most {
            return Err(format!("holds more than {most} PEM blocks"));
        }
        found.push(pem);
    }
    if found.is_empty() { Err(format!("holds no PEM block with the label `{label}`")) } else { Ok(found) }
}
