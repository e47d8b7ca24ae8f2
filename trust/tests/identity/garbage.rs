//! Arbitrary bytes, and honest files with arbitrary bytes changed: a finding or none, and never a panic.

use std::sync::LazyLock;

use autonomy_trust::{IdentityFiles, describe_certificates, describe_crls, judge_identity};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use crate::pki::{Files, Spec};

static HONEST: LazyLock<(Spec, Files)> = LazyLock::new(|| {
    let mut spec = Spec::default();
    spec.revoke(5);
    let files = spec.files();
    (spec, files)
});

fn der(pem: &[u8]) -> Vec<u8> {
    let block = x509_parser::pem::Pem::iter_from_buffer(pem).next();
    block.expect("a block").expect("PEM").contents
}

fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der)).into_bytes()
}

fn judged(certificate: &[u8], key: &[u8], ca: &[u8], crl: &[u8]) -> usize {
    let files = IdentityFiles {
        certificate: Some(certificate),
        key: Some(key),
        ca: Some(ca),
        crl: Some(crl),
        attest: Some(key),
    };
    judge_identity(&files, &HONEST.0.demand()).1.len()
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(judged(&bytes, &bytes, &bytes, &bytes) >= 4);
        let certificate = pem("CERTIFICATE", &bytes);
        let crl = pem("X509 CRL", &bytes);
        let key = pem("PRIVATE KEY", &bytes);
        prop_assert!(judged(&certificate, &key, &certificate, &crl) >= 4);
        prop_assert!(describe_certificates(&certificate).is_err());
        prop_assert!(describe_crls(&crl).is_err());
    }

    #[test]
    fn one_changed_byte_never_panics_and_never_passes(at in any::<prop::sample::Index>(), change in 1_u8..=255) {
        let files = HONEST.1.borrow();
        let (certificate, key, ca, crl) = (
            files.certificate.expect("made"), files.key.expect("made"), files.ca.expect("made"), files.crl.expect("made"),
        );
        let flip = |file: &[u8], label: &str| {
            let mut bytes = der(file);
            let at = at.index(bytes.len());
            bytes[at] ^= change;
            pem(label, &bytes)
        };
        // A certificate and a list are signed over all that counts; a root is trusted as it stands.
        prop_assert!(judged(&flip(certificate, "CERTIFICATE"), key, ca, crl) > 0);
        prop_assert!(judged(certificate, key, ca, &flip(crl, "X509 CRL")) > 0);
        judged(certificate, key, &flip(ca, "CERTIFICATE"), crl);
        judged(certificate, &flip(key, "PRIVATE KEY"), ca, crl);
    }
}
