//! A fleet's certificates, made by rcgen to order: what a test changes before they are signed, and after.

use std::collections::BTreeMap;

use autonomy_schema::{Duration, Name, Time};
use autonomy_trust::{Demand, Identity, IdentityFiles, IdentityFinding, judge_identity};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber,
};
use time::OffsetDateTime;

/// 2026-11-20T09:00:00Z, when everything is judged.
const NOW: i64 = 1_795_165_200;
const DAY: i64 = 86_400;

pub(crate) fn time(days: i64) -> Time {
    Time::from_unix(NOW + days * DAY)
}

pub(crate) fn date(days: i64) -> OffsetDateTime {
    at(NOW + days * DAY)
}

fn at(unix: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(unix).expect("a time")
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn common(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

/// The files of `identity/`.
#[derive(Clone, Default)]
pub(crate) struct Files(BTreeMap<&'static str, Vec<u8>>, Option<String>);

impl Files {
    pub(crate) fn text(&self, file: &str) -> String {
        String::from_utf8(self.0[file].clone()).expect("PEM")
    }

    pub(crate) fn borrow(&self) -> IdentityFiles<'_> {
        let file = |name| self.0.get(name).map(Vec::as_slice);
        IdentityFiles {
            certificate: file("node.crt"),
            key: file("node.key"),
            ca: file("ca.crt"),
            crl: file("crl.pem"),
            attest: self.1.as_deref().map(str::as_bytes),
        }
    }
}

/// What is made, and what is done to it afterwards.
pub(crate) struct Spec {
    pub(crate) ca: CertificateParams,
    pub(crate) ca_key: KeyPair,
    pub(crate) leaf: CertificateParams,
    pub(crate) leaf_key: KeyPair,
    pub(crate) crl: CertificateRevocationListParams,
    pub(crate) attest: Option<String>,
    pub(crate) window: Duration,
    now: i64,
    intermediate: Option<CertificateParams>,
    changes: BTreeMap<&'static str, Option<Vec<u8>>>,
}

impl Default for Spec {
    fn default() -> Self {
        let mut leaf = CertificateParams::default();
        leaf.serial_number = Some(SerialNumber::from(123));
        leaf.distinguished_name = common("node-a");
        leaf.subject_alt_names =
            vec![SanType::URI("spiffe://harbor/domains/harbor/peers/node-a".try_into().expect("ASCII"))];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        leaf.not_before = at(NOW - 3600);
        leaf.not_after = date(90);
        Self {
            ca: ca("harbor CA", BasicConstraints::Unconstrained, 3650),
            ca_key: KeyPair::generate().expect("a key"),
            leaf,
            leaf_key: KeyPair::generate().expect("a key"),
            crl: CertificateRevocationListParams {
                this_update: at(NOW - 3600),
                next_update: date(30),
                crl_number: SerialNumber::from(7),
                issuing_distribution_point: None,
                revoked_certs: Vec::new(),
                key_identifier_method: KeyIdMethod::Sha256,
            },
            attest: None,
            window: Duration::from_millis(7 * 86_400_000),
            now: NOW,
            intermediate: None,
            changes: BTreeMap::new(),
        }
    }
}

pub(crate) fn ca(subject: &str, constraints: BasicConstraints, days: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common(subject);
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = at(NOW - DAY);
    params.not_after = date(days);
    params
}

impl Spec {
    pub(crate) fn now(&mut self, unix: i64) {
        self.now = unix;
    }

    pub(crate) fn drop(&mut self, file: &'static str) {
        self.changes.insert(file, None);
    }

    pub(crate) fn put(&mut self, file: &'static str, bytes: &[u8]) {
        self.changes.insert(file, Some(bytes.to_vec()));
    }

    pub(crate) fn copy(&mut self, from: &str, to: &'static str) {
        let bytes = self.files().0[from].clone();
        self.put(to, &bytes);
    }

    /// The first half of the file, its last line lost.
    pub(crate) fn cut(&mut self, file: &'static str) {
        let bytes = self.files().0[file].clone();
        self.put(file, &bytes[..bytes.len() / 2]);
    }

    pub(crate) fn repeat(&mut self, file: &'static str, times: usize) {
        let bytes = self.files().0[file].repeat(times);
        self.put(file, &bytes);
    }

    /// Trusts a CA with this name and another key; its list is there as well.
    pub(crate) fn other_ca(&mut self, subject: &str) {
        let key = KeyPair::generate().expect("a key");
        let other = ca(subject, BasicConstraints::Unconstrained, 3650).self_signed(&key).expect("signs");
        self.put("ca.crt", other.pem().as_bytes());
    }

    /// Issues from an intermediate, which stands behind the node's certificate.
    pub(crate) fn with_intermediate(&mut self, constraints: BasicConstraints) {
        self.intermediate = Some(ca("intermediate", constraints, 700));
    }

    pub(crate) fn intermediate_serial(&mut self, serial: u64) {
        let params = self.intermediate.as_mut().expect("an intermediate");
        params.serial_number = Some(SerialNumber::from(serial));
    }

    /// Keeps the files as they are made now: an intermediate has a new key each time.
    pub(crate) fn freeze(&mut self) {
        for (file, bytes) in self.files().0 {
            self.put(file, &bytes);
        }
    }

    /// The node's name changed after signing, in the DER.
    pub(crate) fn forge(&mut self) {
        self.leaf.subject_alt_names =
            vec![SanType::URI("spiffe://harbor/domains/harbor/peers/node-x".try_into().expect("ASCII"))];
        let block = x509_parser::pem::Pem::iter_from_buffer(self.files().0["node.crt"].as_slice()).next();
        let mut der = block.expect("a block").expect("PEM").contents;
        let at = der.windows(6).position(|window| window == b"node-x").expect("the name");
        der[at + 5] = b'a';
        let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
        let lines: Vec<&str> =
            base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
        let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"));
        self.put("node.crt", pem.as_bytes());
    }

    pub(crate) fn revoke(&mut self, serial: u64) {
        self.crl.revoked_certs.push(RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: at(NOW - 7200),
            reason_code: None,
            invalidity_date: None,
        });
    }

    pub(crate) fn files(&self) -> Files {
        let ca = self.ca.self_signed(&self.ca_key).expect("signs").pem();
        let root = Issuer::from_params(&self.ca, &self.ca_key);
        // rcgen itself refuses to sign a list with a CA that may not.
        let mut may = self.ca.clone();
        may.key_usages = Vec::new();
        let lists = Issuer::from_params(&may, &self.ca_key);
        let (chain, crl) = match &self.intermediate {
            None => (self.leaf.signed_by(&self.leaf_key, &root).expect("signs").pem(), self.crl.signed_by(&lists)),
            Some(params) => {
                let key = KeyPair::generate().expect("a key");
                let middle = params.signed_by(&key, &root).expect("signs").pem();
                let issuer = Issuer::from_params(params, &key);
                let leaf = self.leaf.signed_by(&self.leaf_key, &issuer).expect("signs").pem();
                (leaf + &middle, self.crl.signed_by(&issuer))
            }
        };
        let crl = crl.and_then(|list| list.pem()).expect("signs");
        let made = [
            ("node.crt", chain.into_bytes()),
            ("node.key", self.leaf_key.serialize_pem().into_bytes()),
            ("ca.crt", ca.into_bytes()),
            ("crl.pem", crl.into_bytes()),
        ];
        let mut files = Files(made.into(), self.attest.clone());
        for (file, change) in &self.changes {
            match change {
                Some(bytes) => files.0.insert(file, bytes.clone()),
                None => files.0.remove(file),
            };
        }
        files
    }

    pub(crate) fn demand(&self) -> Demand<'static> {
        static NODE: std::sync::LazyLock<(Name, Name)> = std::sync::LazyLock::new(|| (name("node-a"), name("harbor")));
        Demand { node: &NODE.0, fleet: &NODE.1, now: Time::from_unix(self.now), window: self.window }
    }

    pub(crate) fn judge(&self) -> (Identity, Vec<IdentityFinding>) {
        judge_identity(&self.files().borrow(), &self.demand())
    }
}
