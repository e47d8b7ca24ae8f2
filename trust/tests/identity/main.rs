//! The judge of a node's certificates: each thing that can be wrong with them, and the very finding it must give.
//! The certificates are made by rcgen and by stock openssl, never by the code under test.
#![expect(clippy::expect_used, reason = "a fixture that cannot be built is a broken test")]

mod garbage;
mod openssl;
mod pki;
mod revocation;

use autonomy_schema::{Code, Duration};
use autonomy_trust::{Severity, judge_identity, peer_of_uri};
use rcgen::{BasicConstraints, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType};

use crate::pki::{Spec, date, name, time};

/// What is changed, in words; the change; the codes that must come, sorted.
type Row = (&'static str, fn(&mut Spec), &'static [Code]);

pub(crate) fn check(rows: &[Row]) {
    for (what, change, expected) in rows {
        let mut spec = Spec::default();
        change(&mut spec);
        let (_, findings) = spec.judge();
        let codes: Vec<Code> = findings.iter().map(|finding| finding.reason.code).collect();
        assert_eq!(codes, *expected, "{what}: {findings:#?}");
        assert!(findings.iter().all(|finding| !finding.reason.remedy.is_empty()), "{what}");
    }
}

fn san(text: &str) -> Vec<SanType> {
    vec![SanType::URI(text.try_into().expect("ASCII"))]
}

#[test]
fn an_honest_node_has_no_findings_and_its_facts_are_told() {
    let spec = Spec::default();
    let (identity, findings) = spec.judge();
    assert_eq!(findings, []);
    assert_eq!(identity.serial.as_deref(), Some("7b"));
    assert_eq!(identity.peer, Some((name("harbor"), name("node-a"))));
    assert_eq!(identity.uris, ["spiffe://harbor/domains/harbor/peers/node-a"]);
    assert_eq!(identity.subject.as_deref(), Some("CN=node-a"));
    assert_eq!(identity.expires, Some(time(90)));
    assert_eq!(identity.ca_expires, Some(time(3650)));
    assert_eq!(identity.ca_subject.as_deref(), Some("CN=harbor CA"));
    assert_eq!(identity.crl_number, Some(7));
    assert_eq!(identity.crl_next_update, Some(time(30)));
    assert!(identity.ca.is_some() && identity.key_id.is_some());
}

#[test]
fn missing_files_are_each_named() {
    check(&[
        ("no certificate", |spec| spec.drop("node.crt"), &[Code::CertificateMissing]),
        ("no key", |spec| spec.drop("node.key"), &[Code::KeyMissing]),
        ("no CA", |spec| spec.drop("ca.crt"), &[Code::CaMissing]),
        ("no list", |spec| spec.drop("crl.pem"), &[Code::CrlMissing]),
        (
            "nothing at all",
            |spec| ["node.crt", "node.key", "ca.crt", "crl.pem"].into_iter().for_each(|file| spec.drop(file)),
            &[Code::CaMissing, Code::CertificateMissing, Code::CrlMissing, Code::KeyMissing],
        ),
    ]);
}

#[test]
fn unreadable_files_are_each_named() {
    check(&[
        ("not PEM", |spec| spec.put("node.crt", b"hello"), &[Code::CertificateUnreadable]),
        ("empty", |spec| spec.put("node.crt", b""), &[Code::CertificateUnreadable]),
        ("cut", |spec| spec.cut("node.crt"), &[Code::CertificateUnreadable]),
        (
            "a key in the place of the certificate",
            |spec| spec.copy("node.key", "node.crt"),
            &[Code::CertificateUnreadable],
        ),
        (
            "more than the cap",
            |spec| spec.put("node.crt", "\n".repeat((64 << 10) + 1).as_bytes()),
            &[Code::CertificateUnreadable],
        ),
        ("more certificates than the cap", |spec| spec.repeat("ca.crt", 9), &[Code::CaUnreadable]),
        ("CA not PEM", |spec| spec.put("ca.crt", b"\xff\xfe"), &[Code::CaUnreadable]),
        ("key not PEM", |spec| spec.put("node.key", b"secret"), &[Code::KeyUnreadable]),
        ("key cut", |spec| spec.cut("node.key"), &[Code::KeyUnreadable]),
        ("a certificate in the place of the key", |spec| spec.copy("node.crt", "node.key"), &[Code::KeyUnreadable]),
        ("list not PEM", |spec| spec.put("crl.pem", b"hello"), &[Code::CrlUnreadable]),
        ("list cut", |spec| spec.cut("crl.pem"), &[Code::CrlUnreadable]),
        (
            "more than the cap of a list",
            |spec| spec.put("crl.pem", "\n".repeat((1 << 20) + 1).as_bytes()),
            &[Code::CrlUnreadable],
        ),
    ]);
}

#[test]
fn times_are_judged_at_the_given_time() {
    check(&[
        ("the last second outside the window", |spec| spec.now(time(23).unix() - 1), &[]),
        ("the list within the window", |spec| spec.now(time(23).unix()), &[Code::CrlExpiring]),
        ("the list in its last second", |spec| spec.now(time(30).unix()), &[Code::CrlExpiring]),
        ("the list expired", |spec| spec.now(time(30).unix() + 1), &[Code::CrlExpired]),
        (
            "the certificate within the window",
            |spec| spec.now(time(84).unix()),
            &[Code::CertificateExpiring, Code::CrlExpired],
        ),
        (
            "the certificate expired",
            |spec| spec.now(time(90).unix() + 1),
            &[Code::CertificateExpired, Code::CrlExpired],
        ),
        (
            "the clock an hour back",
            |spec| spec.now(time(0).unix() - 4000),
            &[Code::CertificateNotYetValid, Code::CrlNotYetValid],
        ),
        (
            "the clock two days back",
            |spec| spec.now(time(-2).unix()),
            &[Code::CaNotYetValid, Code::CertificateNotYetValid, Code::CrlNotYetValid],
        ),
        ("the CA ends within the window", |spec| spec.ca.not_after = date(5), &[Code::CaExpiring]),
        ("the CA ended", |spec| spec.ca.not_after = date(0) - time::Duration::SECOND, &[Code::CaExpired]),
        (
            "a longer window",
            |spec| spec.window = Duration::from_millis(91 * 86_400_000),
            &[Code::CertificateExpiring, Code::CrlExpiring],
        ),
    ]);
}

#[test]
fn what_ends_soon_is_a_warning_and_the_rest_are_errors() {
    let mut spec = Spec::default();
    spec.now(time(84).unix());
    let severities: Vec<_> = spec.judge().1.iter().map(|finding| finding.severity).collect();
    assert_eq!(severities, [Severity::Warning, Severity::Error]);
}

#[test]
fn the_name_must_be_this_nodes_in_this_fleet() {
    check(&[
        ("no URI name", |spec| spec.leaf.subject_alt_names = Vec::new(), &[Code::CertificateWrongName]),
        (
            "another node",
            |spec| spec.leaf.subject_alt_names = san("spiffe://harbor/domains/harbor/peers/node-b"),
            &[Code::CertificateWrongName],
        ),
        (
            "another fleet",
            |spec| spec.leaf.subject_alt_names = san("spiffe://pier/domains/pier/peers/node-a"),
            &[Code::CertificateWrongName],
        ),
        (
            "both",
            |spec| spec.leaf.subject_alt_names = san("spiffe://pier/domains/pier/peers/node-b"),
            &[Code::CertificateWrongName, Code::CertificateWrongName],
        ),
        (
            "more behind the path",
            |spec| spec.leaf.subject_alt_names = san("spiffe://h/domains/harbor/peers/node-a/x"),
            &[Code::CertificateWrongName],
        ),
        (
            "two nodes",
            |spec| spec.leaf.subject_alt_names.extend(san("spiffe://harbor/domains/harbor/peers/node-b")),
            &[Code::CertificateWrongName],
        ),
        (
            "another trust domain, the same path",
            |spec| {
                spec.leaf.subject_alt_names = san("spiffe://prod.example/domains/harbor/peers/node-a");
            },
            &[],
        ),
        ("other names beside it", |spec| spec.leaf.subject_alt_names.extend(san("https://example.org/x")), &[]),
    ]);
}

#[test]
fn a_peer_is_read_from_the_path_alone() {
    for (uri, peer) in [
        ("spiffe://harbor/domains/harbor/peers/node-a", Some(("harbor", "node-a"))),
        ("spiffe://elsewhere/domains/h.1/peers/N_2", Some(("h.1", "N_2"))),
        ("spiffe://harbor/domains/harbor/peers/", None),
        ("spiffe://harbor/domains/harbor/peers/../x", None),
        ("spiffe://harbor/domains/harbor/peers/a?b", None),
        ("spiffe://harbor/peers/node-a", None),
        ("/domains/harbor/peers/node-a", None),
        ("", None),
    ] {
        assert_eq!(peer_of_uri(uri), peer.map(|(fleet, id)| (name(fleet), name(id))), "{uri}");
    }
}

#[test]
fn the_key_must_be_the_certificates_and_no_other_purposes() {
    check(&[
        (
            "another key",
            |spec| spec.put("node.key", KeyPair::generate().expect("a key").serialize_pem().as_bytes()),
            &[Code::CertificateWrongKey],
        ),
        ("the attest key", |spec| spec.attest = Some(spec.leaf_key.public_key_pem()), &[Code::KeyShared]),
        ("another attest key", |spec| spec.attest = Some(KeyPair::generate().expect("a key").public_key_pem()), &[]),
        (
            "the attest key, and no certificate yet",
            |spec| {
                spec.attest = Some(spec.leaf_key.public_key_pem());
                spec.drop("node.crt");
            },
            &[Code::CertificateMissing, Code::KeyShared],
        ),
    ]);
}

#[test]
fn the_certificate_must_be_for_what_a_node_does() {
    check(&[
        (
            "server alone",
            |spec| spec.leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
            &[Code::CertificateWrongUse],
        ),
        (
            "client alone",
            |spec| spec.leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
            &[Code::CertificateWrongUse],
        ),
        ("any use", |spec| spec.leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any], &[]),
        ("no list of uses", |spec| spec.leaf.extended_key_usages = Vec::new(), &[]),
        (
            "no signatures",
            |spec| spec.leaf.key_usages = vec![KeyUsagePurpose::KeyAgreement],
            &[Code::CertificateWrongUse],
        ),
        ("a CA", |spec| spec.leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained), &[Code::CertificateWrongUse]),
        (
            "an unknown critical extension",
            |spec| {
                let mut unknown = rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
                unknown.set_criticality(true);
                spec.leaf.custom_extensions.push(unknown);
            },
            &[Code::CertificateUnsupported],
        ),
    ]);
}

#[test]
fn the_issuer_must_be_a_ca_that_the_fleet_trusts() {
    check(&[
        ("no CA", |spec| spec.ca.is_ca = IsCa::NoCa, &[Code::CaInvalid]),
        ("may not sign certificates", |spec| spec.ca.key_usages = vec![KeyUsagePurpose::CrlSign], &[Code::CaInvalid]),
        ("no uses named", |spec| spec.ca.key_usages = Vec::new(), &[]),
        ("another CA", |spec| spec.other_ca("another CA"), &[Code::CertificateUntrusted]),
        ("another CA of the same name", |spec| spec.other_ca("harbor CA"), &[Code::CertificateUntrusted]),
        (
            "the node's certificate as CA",
            |spec| spec.copy("node.crt", "ca.crt"),
            &[Code::CaInvalid, Code::CaInvalid, Code::CertificateUntrusted],
        ),
        ("a changed byte under the signature", |spec| spec.forge(), &[Code::CertificateUntrusted]),
    ]);
}

#[test]
fn a_renewed_ca_stands_beside_the_old_one() {
    let mut spec = Spec::default();
    // Same name, same key, other times: the one that is over stands first and must not be taken.
    let mut over = spec.ca.clone();
    over.not_after = date(-1);
    let over = over.self_signed(&spec.ca_key).expect("signs").pem();
    let files = spec.files();
    spec.put("ca.crt", format!("{over}{}", files.text("ca.crt")).as_bytes());
    assert_eq!(spec.judge().1, []);
}

#[test]
fn intermediates_are_read_from_behind_the_certificate() {
    let mut spec = Spec::default();
    spec.with_intermediate(BasicConstraints::Constrained(0));
    let (identity, findings) = spec.judge();
    assert_eq!(findings, [], "chain of three");
    assert_eq!(identity.ca_subject.as_deref(), Some("CN=harbor CA"));
    assert_eq!(identity.ca_expires, Some(time(700)), "the intermediate ends first");

    // The CA allows no CA below it.
    spec.ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let codes: Vec<_> = spec.judge().1.into_iter().map(|finding| finding.reason.code).collect();
    assert_eq!(codes, [Code::CaInvalid]);

    let mut alone = Spec::default();
    alone.with_intermediate(BasicConstraints::Constrained(0));
    let chain = alone.files().text("node.crt");
    let end = chain.find("-----END CERTIFICATE-----").expect("PEM") + 26;
    alone.put("node.crt", &chain.as_bytes()[..end]);
    let findings = alone.judge().1;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].reason.code, Code::CertificateUntrusted);
    assert!(findings[0].reason.message.contains("CN=intermediate"), "{}", findings[0].reason);
}

#[test]
fn findings_are_sorted_and_repeat_nothing() {
    let mut spec = Spec::default();
    spec.now(time(4000).unix());
    spec.leaf.subject_alt_names = Vec::new();
    spec.drop("node.key");
    let files = spec.files();
    let (_, findings) = judge_identity(&files.borrow(), &spec.demand());
    let reasons: Vec<_> = findings.iter().map(|finding| finding.reason.clone()).collect();
    let mut sorted = reasons.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(reasons, sorted);
    assert_eq!(reasons.len(), 5, "{reasons:?}");
}

#[test]
fn hostile_names_stay_on_one_line() {
    let mut spec = Spec::default();
    spec.leaf.distinguished_name.push(DnType::OrganizationName, "x\n\u{1b}[31mred".to_owned() + &"y".repeat(500));
    let subject = spec.judge().0.subject.expect("a subject");
    assert!(!subject.contains(['\n', '\u{1b}']) && subject.chars().count() <= 200, "{subject}");
}
