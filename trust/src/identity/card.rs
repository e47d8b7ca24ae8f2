//! What a certificate or a revocation list says about itself, for people and for facts. Nothing of it is judged.

use autonomy_schema::{Reason, Sha256, Time};
use x509_parser::certificate::X509Certificate;
use x509_parser::revocation_list::CertificateRevocationList;

use super::{Findings, Key, authority, leaf, read, shown};

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// The serial number, lower-case hex without leading zeros.
    pub serial: String,
    /// Whom it is for.
    pub subject: String,
    /// Who signed it, by its own word.
    pub issuer: String,
    /// The URI names.
    pub uris: Vec<String>,
    /// First second of validity.
    pub not_before: Time,
    /// Last second of validity.
    pub expires: Time,
    /// Whether it is a CA's.
    pub ca: bool,
    /// The algorithm of its key.
    pub algorithm: String,
    /// SHA-256 of its key's `SubjectPublicKeyInfo`.
    pub key_id: Sha256,
    /// SHA-256 of the certificate (DER).
    pub digest: Sha256,
}

/// What a revocation list says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlCard {
    /// Who signed it, by its own word.
    pub issuer: String,
    /// Its number; `None` when it has none or one beyond 64 bits.
    pub number: Option<u64>,
    /// Since when it is valid.
    pub this_update: Time,
    /// When the next one is due.
    pub next_update: Option<Time>,
    /// The revoked serial numbers, in the list's order.
    pub revoked: Vec<String>,
}

/// Reads the certificates of a PEM file.
pub fn describe_certificates(pem: &[u8]) -> Result<Vec<Card>, Vec<Reason>> {
    let file = read::Place { file: "the file", ..read::NODE };
    let blocks = read::certificates(pem, &file).map_err(|reason| vec![reason])?;
    let mut findings = Findings::default();
    let cards = read::parse(&blocks, &file, &mut findings).iter().map(certificate).collect();
    refused(findings).map_or(Ok(cards), Err)
}

/// Reads the revocation lists of a PEM file.
pub fn describe_crls(pem: &[u8]) -> Result<Vec<CrlCard>, Vec<Reason>> {
    let blocks = read::crl_blocks(pem).map_err(|reason| vec![reason])?;
    let mut findings = Findings::default();
    let cards = read::parse_crls(&blocks, &mut findings).iter().map(crl).collect();
    refused(findings).map_or(Ok(cards), Err)
}

/// Whether the first certificate of one PEM file is signed by the first of another.
pub fn issued_by(certificate: &[u8], ca: &[u8]) -> bool {
    let blocks = |pem| read::certificates(pem, &read::NODE).ok();
    let (Some(certificate), Some(ca)) = (blocks(certificate), blocks(ca)) else { return false };
    let mut unread = Findings::default();
    let certificates = read::parse(&certificate, &read::NODE, &mut unread);
    let issuers = read::parse(&ca, &read::NODE, &mut unread);
    match (certificates.first(), issuers.first()) {
        (Some(certificate), Some(issuer)) => authority::issued(certificate, issuer, &mut None),
        _ => false,
    }
}

fn refused(findings: Findings) -> Option<Vec<Reason>> {
    let reasons: Vec<Reason> = findings.sorted().into_iter().map(|finding| finding.reason).collect();
    (!reasons.is_empty()).then_some(reasons)
}

pub(super) fn certificate(certificate: &X509Certificate<'_>) -> Card {
    let (not_before, expires) = leaf::validity(certificate);
    Card {
        serial: serial(certificate.raw_serial()),
        subject: shown(&certificate.subject().to_string()),
        issuer: shown(&certificate.issuer().to_string()),
        uris: leaf::uris(certificate),
        not_before,
        expires,
        ca: certificate.is_ca(),
        algorithm: Key::of(certificate.public_key()).map_or_else(|other| other, |key| key.name().to_owned()),
        key_id: Sha256::of(certificate.public_key().raw),
        digest: Sha256::of(certificate.as_raw()),
    }
}

pub(super) fn crl(list: &CertificateRevocationList<'_>) -> CrlCard {
    CrlCard {
        issuer: shown(&list.issuer().to_string()),
        number: list.crl_number().and_then(|number| u64::try_from(number).ok()),
        this_update: Time::from_unix(list.last_update().timestamp()),
        next_update: list.next_update().map(|due| Time::from_unix(due.timestamp())),
        revoked: list.iter_revoked_certificates().map(|entry| serial(entry.raw_serial())).collect(),
    }
}

/// A serial number as openssl shows it, in lower case.
pub(super) fn serial(raw: &[u8]) -> String {
    let start = raw.iter().position(|byte| *byte != 0).unwrap_or(raw.len().saturating_sub(1));
    let digits = raw.get(start..).unwrap_or_default().iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits.filter_map(|digit| char::from_digit(u32::from(digit), 16)).collect()
}
