//! Certificates, keys and revocation lists, as PEM and as the DER within it.

use autonomy_schema::{Code, Duration, Name, Time};
use autonomy_trust::{Demand, IdentityFiles, describe_certificates, describe_crls, issued_by, judge_identity};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A CA whose private key nobody has any more.
const CA: &str = "-----BEGIN CERTIFICATE-----
MIIBYzCCAQqgAwIBAgIUS5lcrXfsIGfPBh9QtFW9KKHX71EwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEcm9vdDAgFw0yNjExMjkxMzA0MzlaGA8yMTI2MTEwNTEzMDQz
OVowDzENMAsGA1UEAwwEcm9vdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABB9d
K5H5Jg9gNp3MK8bJCnDkUgvXcq0ZaBcYrj+W3crpu9nKw9Y7iBsAZt0TAwvfRX+i
OdjMMwTy8x0ykqKTauCjQjBAMA8GA1UdEwEB/wQFMAMBAf8wDgYDVR0PAQH/BAQD
AgEGMB0GA1UdDgQWBBTk4xkOhNnOekDLIA4OscklBthycTAKBggqhkjOPQQDAgNH
ADBEAiANqkYn3zIhhSsjiFn+AbwpadxadkLlMe0KZoSCqPlbjwIgI9gnDTSodJOi
APCLEaRrUPHHks8FJq3sBi/TWpGx7Io=
-----END CERTIFICATE-----
";

/// The bytes as they come, and as the content of a certificate, a list and a key.
pub(crate) fn certificates(bytes: &[u8]) -> bool {
    let wrapped = |label: &str| {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(bytes)).into_bytes()
    };
    let (certificate, crl, key) = (wrapped("CERTIFICATE"), wrapped("X509 CRL"), wrapped("PRIVATE KEY"));
    [judged(bytes, bytes, bytes), judged(&certificate, &crl, &key)].contains(&true)
}

/// Whether one of them can be read.
fn judged(certificate: &[u8], crl: &[u8], key: &[u8]) -> bool {
    let (node, fleet) = (Name::fixed("node-a"), Name::fixed("harbor"));
    // 2026-12-01, when everything in the corpus is valid.
    let now = Time::from_unix(1_796_083_200);
    let demand = Demand { node: &node, fleet: &fleet, now, window: Duration::from_millis(0) };
    let under = |ca| {
        let files = IdentityFiles {
            certificate: Some(certificate),
            key: Some(key),
            ca: Some(ca),
            crl: Some(crl),
            attest: Some(key),
        };
        judge_identity(&files, &demand).1
    };
    let refused = [Code::CertificateUnreadable, Code::CertificateUntrusted, Code::CertificateUnsupported];
    let findings = under(CA.as_bytes());
    assert!(findings.iter().any(|finding| refused.contains(&finding.reason.code)), "a forgery: {findings:?}");
    assert!(!issued_by(certificate, CA.as_bytes()), "a forgery");
    assert!(findings.is_sorted_by_key(|finding| &finding.reason), "{findings:?}");
    under(certificate);
    describe_certificates(certificate).is_ok() | describe_crls(crl).is_ok()
}
