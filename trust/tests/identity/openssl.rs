//! An existing PKI, made by stock openssl: other curves, other key files, and RSA, which is refused by name.

use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use autonomy_schema::{Code, Duration, Time};
use autonomy_trust::{Demand, IdentityFiles, IdentityFinding, judge_identity};

use crate::pki::name;

const CONFIG: &str = "
[req]
distinguished_name = dn
prompt = no
[dn]
CN = unused
[ca]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[node]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth,clientAuth
subjectAltName = URI:spiffe://harbor/domains/harbor/peers/node-a,DNS:node-a.example
authorityKeyIdentifier = keyid
[lists]
database = index
crlnumber = number
default_md = sha256
default_crl_days = 30
";

fn openssl(dir: &Path, args: &str) {
    let done = Command::new("openssl").args(args.split(' ')).current_dir(dir).output().expect("openssl runs");
    assert!(done.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A root and a node's certificate below it; `ca_key` and `node_key` make the keys, `digest` signs.
fn pki(ca_key: &str, node_key: &str, digest: &str) -> (tempfile::TempDir, Vec<IdentityFinding>) {
    let dir = tempfile::tempdir().expect("a folder");
    let at = dir.path();
    std::fs::write(at.join("conf"), CONFIG).expect("writes");
    std::fs::write(at.join("index"), "").expect("writes");
    std::fs::write(at.join("number"), "01\n").expect("writes");
    openssl(at, &format!("{ca_key} -out ca.key"));
    openssl(at, &format!("{node_key} -out node.key"));
    openssl(
        at,
        &format!("req -x509 -new -key ca.key -config conf -extensions ca -subj /CN=root {digest} -days 99 -out ca.crt"),
    );
    openssl(at, "req -new -key node.key -config conf -subj /CN=node-a -out node.csr");
    let sign = "x509 -req -in node.csr -CA ca.crt -CAkey ca.key -CAcreateserial -extfile conf -extensions node";
    openssl(at, &format!("{sign} -days 90 {digest} -out node.crt"));
    openssl(at, "ca -gencrl -config conf -name lists -keyfile ca.key -cert ca.crt -out crl.pem");
    let findings = judge(at);
    (dir, findings)
}

fn judge(dir: &Path) -> Vec<IdentityFinding> {
    let read = |file: &str| std::fs::read(dir.join(file)).expect("reads");
    let (certificate, key, ca, crl) = (read("node.crt"), read("node.key"), read("ca.crt"), read("crl.pem"));
    let files = IdentityFiles {
        certificate: Some(&certificate),
        key: Some(&key),
        ca: Some(&ca),
        crl: Some(&crl),
        attest: None,
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let demand = Demand {
        node: &name("node-a"),
        fleet: &name("harbor"),
        now: Time::from_unix(i64::try_from(now).expect("before the end of time") + 60),
        window: Duration::from_millis(86_400_000),
    };
    judge_identity(&files, &demand).1
}

#[test]
fn every_supported_algorithm_of_openssl_passes() {
    for (ca_key, node_key, digest) in [
        ("ecparam -genkey -name prime256v1", "ecparam -genkey -name prime256v1", "-sha256"),
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384", "ecparam -genkey -name secp384r1", "-sha384"),
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256", "genpkey -algorithm ED25519", "-sha512"),
        ("genpkey -algorithm ED25519", "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384", "-sha256"),
    ] {
        assert_eq!(pki(ca_key, node_key, digest).1, [], "{ca_key} {node_key} {digest}");
    }
}

#[test]
fn rsa_is_refused_by_name() {
    let rsa = "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048";
    let p256 = "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256";
    let findings = pki(rsa, p256, "-sha256").1;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].reason.code, Code::CertificateUnsupported);
    assert!(findings[0].reason.message.contains("RSA"), "{}", findings[0].reason);

    let findings = pki(p256, rsa, "-sha256").1;
    let codes: Vec<Code> = findings.iter().map(|finding| finding.reason.code).collect();
    assert_eq!(codes, [Code::CertificateUnsupported, Code::KeyUnreadable], "{findings:?}");
}

#[test]
fn sha1_and_other_curves_are_refused() {
    let p256 = "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256";
    let p521 = "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521";
    for (ca_key, digest) in [(p256, "-sha1"), (p521, "-sha256")] {
        let codes: Vec<Code> = pki(ca_key, p256, digest).1.iter().map(|finding| finding.reason.code).collect();
        assert_eq!(codes, [Code::CertificateUnsupported], "{ca_key} {digest}");
    }
}

#[test]
fn an_encrypted_key_is_refused_by_name() {
    let p256 = "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256";
    let (dir, findings) = pki(p256, p256, "-sha256");
    assert_eq!(findings, []);
    openssl(dir.path(), "pkcs8 -topk8 -in node.key -passout pass:secret -out sealed.key");
    std::fs::rename(dir.path().join("sealed.key"), dir.path().join("node.key")).expect("renames");
    let findings = judge(dir.path());
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].reason.code, Code::KeyUnreadable);
    assert!(findings[0].reason.message.contains("encrypted"), "{}", findings[0].reason);
}
