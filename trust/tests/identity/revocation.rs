//! Revocation lists: whom they revoke, whose they are, what they cannot be.

use autonomy_schema::Code;
use autonomy_trust::describe_crls;
use rcgen::{BasicConstraints, CrlIssuingDistributionPoint, IsCa, KeyPair, KeyUsagePurpose};

use crate::check;
use crate::pki::{Spec, ca, date, time};

#[test]
fn the_revoked_are_refused_even_by_an_expired_list() {
    check(&[
        ("revoked", |spec| spec.revoke(123), &[Code::CertificateRevoked]),
        ("another is revoked", |spec| spec.revoke(124), &[]),
        (
            "revoked by an expired list",
            |spec| {
                spec.revoke(123);
                spec.crl.next_update = date(-1);
                spec.crl.this_update = date(-9);
            },
            &[Code::CertificateRevoked, Code::CrlExpired],
        ),
    ]);
}

#[test]
fn a_list_must_be_the_issuers() {
    check(&[
        (
            "the CA may not sign lists",
            |spec| spec.ca.key_usages = vec![KeyUsagePurpose::KeyCertSign],
            &[Code::CrlUntrusted],
        ),
        ("another CA's list of the same name", |spec| foreign(spec, "harbor CA"), &[Code::CrlUntrusted]),
        ("another CA's list", |spec| foreign(spec, "another CA"), &[Code::CrlUntrusted]),
        (
            "a list for some certificates alone",
            |spec| {
                spec.crl.issuing_distribution_point = Some(CrlIssuingDistributionPoint {
                    distribution_point: rcgen::CrlDistributionPoint { uris: vec!["http://example.org/c".to_owned()] },
                    scope: Some(rcgen::CrlScope::CaCertsOnly),
                });
            },
            &[Code::CertificateUnsupported],
        ),
    ]);
}

/// A list that revokes the node, from a CA which is not the fleet's.
fn foreign(spec: &mut Spec, subject: &str) {
    let mut other = Spec::default();
    other.ca = ca(subject, BasicConstraints::Unconstrained, 3650);
    other.ca_key = KeyPair::generate().expect("a key");
    other.revoke(123);
    spec.put("crl.pem", other.files().text("crl.pem").as_bytes());
}

#[test]
fn of_several_lists_the_newest_counts_for_freshness_and_all_for_revocation() {
    let mut spec = Spec::default();
    let fresh = spec.files().text("crl.pem");
    spec.revoke(123);
    spec.crl.this_update = date(-9);
    spec.crl.next_update = date(-8);
    let stale = spec.files().text("crl.pem");
    spec.put("crl.pem", format!("{stale}{fresh}").as_bytes());
    let (identity, findings) = spec.judge();
    let codes: Vec<_> = findings.iter().map(|finding| finding.reason.code).collect();
    assert_eq!(codes, [Code::CertificateRevoked]);
    assert_eq!(identity.crl_next_update, Some(time(30)));
}

#[test]
fn the_list_of_an_intermediate_is_the_one_that_is_needed() {
    let mut spec = Spec::default();
    spec.with_intermediate(BasicConstraints::Constrained(0));
    assert_eq!(spec.judge().1, []);
    let roots = same_ca(&spec);
    spec.put("crl.pem", roots.files().text("crl.pem").as_bytes());
    let codes: Vec<_> = spec.judge().1.iter().map(|finding| finding.reason.code).collect();
    assert_eq!(codes, [Code::CrlUntrusted]);
}

#[test]
fn a_revoked_intermediate_is_refused() {
    let mut spec = Spec::default();
    spec.with_intermediate(BasicConstraints::Constrained(0));
    spec.intermediate_serial(9);
    let mut roots = same_ca(&spec);
    roots.revoke(9);
    let roots = roots.files().text("crl.pem");
    spec.freeze();
    let own = spec.files().text("crl.pem");
    spec.put("crl.pem", format!("{own}{roots}").as_bytes());
    let findings = spec.judge().1;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].reason.code, Code::CertificateRevoked);
    assert!(findings[0].reason.message.contains("serial 09"), "{}", findings[0].reason);
}

#[test]
fn a_list_is_described() {
    let mut spec = Spec::default();
    spec.revoke(0x00ff);
    let cards = describe_crls(spec.files().text("crl.pem").as_bytes()).expect("reads");
    assert_eq!(cards.len(), 1);
    assert_eq!((cards[0].number, cards[0].next_update), (Some(7), Some(time(30))));
    assert_eq!(cards[0].revoked, ["ff"]);
    assert_eq!(cards[0].issuer, "CN=harbor CA");
    assert!(matches!(spec.ca.is_ca, IsCa::Ca(_)));
}

fn same_ca(spec: &Spec) -> Spec {
    let mut other = Spec::default();
    other.ca = spec.ca.clone();
    other.ca_key = KeyPair::from_pem(&spec.ca_key.serialize_pem()).expect("a key");
    other
}
