//! Certificates and revocation lists, judged by `trust` and by stock `openssl`.
#![expect(clippy::expect_used, reason = "a failed helper fails its test")]

use std::path::Path;
use std::process::{Command, Output};
use std::time::SystemTime;

use autonomy_schema::{Code, Duration, Name, Time};
use autonomy_signing::{Ca, CaPair, CertificateError, Issued, Revoked, create_ca, peer_uri};
use autonomy_trust::{Demand, IdentityFiles, describe_certificates, describe_crls, judge_identity};

const DAY: Duration = Duration::from_millis(86_400_000);

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn now() -> Time {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    Time::from_unix(i64::try_from(now).expect("before the end of time"))
}

struct Fleet {
    pair: CaPair,
    ca: Ca,
}

impl Fleet {
    fn new() -> Self {
        let pair = create_ca(&name("harbor"), now(), DAY.times(3650)).expect("a CA");
        let ca = Ca::open(&pair.certificate_pem, &pair.private_pem).expect("opens");
        Self { pair, ca }
    }

    fn issue(&self) -> Issued {
        self.ca.issue(&name("harbor"), &name("node-a"), now(), DAY.times(90)).expect("issues")
    }

    fn codes(&self, issued: &Issued, crl: &str) -> Vec<Code> {
        let files = IdentityFiles {
            certificate: Some(issued.certificate_pem.as_bytes()),
            key: Some(issued.private_pem.as_bytes()),
            ca: Some(self.pair.certificate_pem.as_bytes()),
            crl: Some(crl.as_bytes()),
            attest: None,
        };
        let (node, fleet) = (name("node-a"), name("harbor"));
        let demand = Demand { node: &node, fleet: &fleet, now: now(), window: DAY.times(7) };
        judge_identity(&files, &demand).1.iter().map(|finding| finding.reason.code).collect()
    }
}

fn openssl(dir: &Path, args: &str) -> Output {
    Command::new("openssl").args(args.split(' ')).current_dir(dir).output().expect("openssl runs")
}

#[test]
fn trust_and_openssl_accept_what_is_issued_and_refuse_what_is_revoked() {
    let fleet = Fleet::new();
    let issued = fleet.issue();
    let revoked = [Revoked { serial: issued.serial.clone(), at: now() }];
    let good = fleet.ca.revocation_list(1, &[], now(), DAY.times(30)).expect("a list");
    let bad = fleet.ca.revocation_list(2, &revoked, now(), DAY.times(30)).expect("a list");
    assert_eq!(fleet.codes(&issued, &good), []);
    assert_eq!(fleet.codes(&issued, &bad), [Code::CertificateRevoked]);

    let dir = tempfile::tempdir().expect("a folder");
    let write = |file: &str, text: &str| std::fs::write(dir.path().join(file), text).expect("writes");
    write("node.crt", &issued.certificate_pem);
    write("node.key", &issued.private_pem);
    write("ca.crt", &fleet.pair.certificate_pem);
    write("good.pem", &good);
    write("bad.pem", &bad);
    let verify = "verify -x509_strict -purpose sslserver -CAfile ca.crt -crl_check -CRLfile";
    let done = openssl(dir.path(), &format!("{verify} good.pem node.crt"));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let done = openssl(dir.path(), &format!("{} good.pem node.crt", verify.replace("sslserver", "sslclient")));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let done = openssl(dir.path(), &format!("{verify} bad.pem node.crt"));
    assert!(String::from_utf8_lossy(&done.stderr).contains("certificate revoked"), "{done:?}");
    let keys =
        [openssl(dir.path(), "x509 -in node.crt -noout -pubkey"), openssl(dir.path(), "pkey -in node.key -pubout")];
    assert_eq!(keys[0].stdout, keys[1].stdout, "the key is the certificate's");
    assert!(!keys[0].stdout.is_empty());
}

#[test]
fn a_certificate_says_what_was_asked_for() {
    let fleet = Fleet::new();
    let issued = fleet.issue();
    let card = describe_certificates(issued.certificate_pem.as_bytes()).expect("reads").remove(0);
    assert_eq!(card.uris, [peer_uri(&name("harbor"), &name("node-a"))]);
    assert_eq!(card.uris, ["spiffe://harbor/domains/harbor/peers/node-a"]);
    assert_eq!((card.serial.as_str(), card.expires), (issued.serial.as_str(), issued.expires));
    assert_eq!(card.serial.len(), 32, "128 bits, positive");
    assert!(!card.ca);
    assert_eq!(card.algorithm, "ECDSA P-256");
    assert!(card.not_before < now() && issued.expires > now().plus(DAY.times(89)));
    let authority = describe_certificates(fleet.pair.certificate_pem.as_bytes()).expect("reads").remove(0);
    assert!(authority.ca && authority.subject.starts_with("CN=harbor CA "), "{}", authority.subject);
}

#[test]
fn renewal_keeps_the_key_and_changes_the_serial_number() {
    let fleet = Fleet::new();
    let first = fleet.issue();
    let second = fleet.ca.renew(&first.private_pem, &name("harbor"), &name("node-a"), now(), DAY).expect("renews");
    assert_eq!(*first.private_pem, *second.private_pem);
    assert_ne!(first.serial, second.serial);
    let cards = [&first, &second]
        .map(|issued| describe_certificates(issued.certificate_pem.as_bytes()).expect("reads").remove(0));
    assert_eq!(cards[0].key_id, cards[1].key_id);
    assert_ne!(fleet.issue().serial, fleet.issue().serial);
}

#[test]
fn nothing_outlives_the_ca_and_a_ca_that_ended_signs_nothing() {
    let pair = create_ca(&name("harbor"), now(), DAY).expect("a CA");
    let ca = Ca::open(&pair.certificate_pem, &pair.private_pem).expect("opens");
    let issued = ca.issue(&name("harbor"), &name("node-a"), now(), DAY.times(90)).expect("issues");
    assert!(issued.expires <= now().plus(DAY), "{}", issued.expires);
    let later = now().plus(DAY.times(2));
    assert!(matches!(ca.issue(&name("harbor"), &name("node-a"), later, DAY), Err(CertificateError::CaNotValid { .. })));
    assert!(matches!(ca.revocation_list(1, &[], later, DAY), Err(CertificateError::CaNotValid { .. })));
}

#[test]
fn a_ca_is_opened_with_its_own_key_alone() {
    let fleet = Fleet::new();
    let other = create_ca(&name("harbor"), now(), DAY).expect("a CA");
    let leaf = fleet.issue();
    for (certificate, key) in [
        (fleet.pair.certificate_pem.as_str(), other.private_pem.as_str()),
        (leaf.certificate_pem.as_str(), leaf.private_pem.as_str()),
        ("hello", fleet.pair.private_pem.as_str()),
        (fleet.pair.certificate_pem.as_str(), "hello"),
        (fleet.pair.certificate_pem.as_str(), fleet.pair.certificate_pem.as_str()),
        ("", ""),
    ] {
        assert!(matches!(Ca::open(certificate, key), Err(CertificateError::Ca(_))));
    }
}

#[test]
fn an_openssl_ca_issues_too() {
    let dir = tempfile::tempdir().expect("a folder");
    for curve in ["prime256v1", "secp384r1"] {
        let done = openssl(dir.path(), &format!("ecparam -genkey -name {curve} -out ca.key"));
        assert!(done.status.success());
        let subject = "-subj /C=NO/O=Harbor/CN=root -addext keyUsage=critical,keyCertSign,cRLSign";
        let done = openssl(dir.path(), &format!("req -x509 -new -key ca.key {subject} -days 99 -out ca.crt"));
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let read = |file: &str| std::fs::read_to_string(dir.path().join(file)).expect("reads");
        let (certificate, key) = (read("ca.crt"), read("ca.key"));
        let ca = Ca::open(&certificate, &key).expect("opens");
        let pair = CaPair { certificate_pem: certificate, private_pem: key.into() };
        // openssl starts validity now, so the list and the certificate are made a moment later.
        let fleet = Fleet { pair, ca };
        let issued = fleet.issue();
        let crl = fleet.ca.revocation_list(1, &[], now(), DAY.times(30)).expect("a list");
        assert_eq!(fleet.codes(&issued, &crl), [], "{curve}");
    }
}

#[test]
fn a_revocation_list_says_its_number_and_its_end() {
    let fleet = Fleet::new();
    let entry = |serial: &str| Revoked { serial: serial.to_owned(), at: now() };
    let list = fleet.ca.revocation_list(7, &[entry("00ff"), entry("4a01")], now(), DAY.times(30)).expect("a list");
    let card = describe_crls(list.as_bytes()).expect("reads").remove(0);
    assert_eq!(card.number, Some(7));
    assert_eq!(card.revoked, ["ff", "4a01"]);
    assert!(card.next_update.expect("due") > now().plus(DAY.times(29)));
    for bad in ["", "xyz", "abc", &"ab".repeat(21)] {
        let made = fleet.ca.revocation_list(8, &[entry(bad)], now(), DAY);
        assert!(matches!(made, Err(CertificateError::Serial(_))), "{bad}");
    }
}

#[test]
fn a_validity_of_nothing_is_refused() {
    let fleet = Fleet::new();
    let made = fleet.ca.issue(&name("harbor"), &name("node-a"), now(), Duration::from_millis(999));
    assert!(matches!(made, Err(CertificateError::Validity(_))));
}
