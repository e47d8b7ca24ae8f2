//! The certificates of a fleet that has no other PKI: a CA, the nodes' certificates, revocation lists.
//!
//! PEM in, PEM out, time as an argument. The CA signs leaves alone (path length 0), so there is one key to guard and
//! one revocation list to bring to the nodes. What is demanded of a node's certificate is judged in `trust`.

use autonomy_schema::{Duration, Name, Time};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber,
};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;
use zeroize::Zeroizing;

const DAY: u64 = 86_400_000;
/// How long a CA is valid: as long as the hardware of a fleet.
pub const DEFAULT_CA_VALIDITY: Duration = Duration::from_millis(3650 * DAY);
/// How long a node's certificate is valid: a node without a network is visited a few times a year.
pub const DEFAULT_NODE_VALIDITY: Duration = Duration::from_millis(90 * DAY);
/// When the next revocation list is due: far more than the window of a week in which its end is a finding.
pub const DEFAULT_CRL_VALIDITY: Duration = Duration::from_millis(30 * DAY);
/// How far back validity begins, in seconds: clocks of nodes without a network differ.
const BACKDATED: i64 = 3600;
/// Longest common name (X.520 `ub-common-name`), in characters, all of which are ASCII here.
const MAX_COMMON_NAME: usize = 64;
/// Longest CA certificate or key in PEM, in bytes.
const MAX_CA_PEM: usize = 16 << 10;
/// Bytes of a serial number: 126 random bits.
const SERIAL_BYTES: usize = 16;
/// Longest serial number of anybody's certificate (RFC 5280), in bytes.
const MAX_SERIAL_BYTES: usize = 20;

/// Why a certificate or a revocation list could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The CA's certificate or key is not what it should be.
    #[error("{0}")]
    Ca(&'static str),
    /// The CA's certificate has ended or has not begun.
    #[error("the CA certificate is valid from {from} until {until}; it is {now} now")]
    CaNotValid {
        /// First second.
        from: Time,
        /// Last second.
        until: Time,
        /// The time of the attempt.
        now: Time,
    },
    /// A node's key that shall be kept cannot be read.
    #[error("the node's key is not a private key in PEM")]
    NodeKey,
    /// A serial number is not hex.
    #[error("`{0}` is not a serial number in hex")]
    Serial(String),
    /// The validity is zero, or ends beyond the year 9999.
    #[error("the validity {0} is zero or too long")]
    Validity(Duration),
    /// There is no randomness.
    #[error("the system gives no randomness")]
    Random(#[source] getrandom::Error),
    /// The library failed.
    #[error("cannot {action}")]
    Failed {
        /// What was tried.
        action: &'static str,
        /// What the library said.
        #[source]
        source: rcgen::Error,
    },
}

fn failed(action: &'static str) -> impl FnOnce(rcgen::Error) -> CertificateError {
    move |source| CertificateError::Failed { action, source }
}

/// A new CA.
pub struct CaPair {
    /// `CERTIFICATE`.
    pub certificate_pem: String,
    /// PKCS#8 `PRIVATE KEY`, P-256, not encrypted.
    pub private_pem: Zeroizing<String>,
}

/// A node's new certificate.
pub struct Issued {
    /// `CERTIFICATE`.
    pub certificate_pem: String,
    /// The node's private key, `PRIVATE KEY`, not encrypted: nodes start unattended.
    pub private_pem: Zeroizing<String>,
    /// The serial number in lower-case hex.
    pub serial: String,
    /// The last second of validity: as asked for, or the CA's own end when that comes first.
    pub expires: Time,
}

/// A revoked certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Its serial number in hex.
    pub serial: String,
    /// When it was revoked.
    pub at: Time,
}

/// The URI name of a node: `spiffe://<fleet>/domains/<fleet>/peers/<id>`.
pub fn peer_uri(fleet: &Name, node: &Name) -> String {
    format!("spiffe://{fleet}/domains/{fleet}/peers/{node}")
}

/// Makes a CA for `fleet`. Two CAs of one fleet differ in name, so that their revocation lists are told apart.
pub fn create_ca(fleet: &Name, now: Time, valid_for: Duration) -> Result<CaPair, CertificateError> {
    let key = KeyPair::generate().map_err(failed("make the CA's key"))?;
    let serial = random_serial()?;
    let tag = hex::encode(serial.to_bytes().get(..4).unwrap_or_default());
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&format!("{fleet:.48} CA {tag}", fleet = fleet.as_str()));
    params.serial_number = Some(serial);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = validity(now, end(now, valid_for)?)?;
    let certificate = params.self_signed(&key).map_err(failed("sign the CA's certificate"))?;
    Ok(CaPair { certificate_pem: certificate.pem(), private_pem: Zeroizing::new(key.serialize_pem()) })
}

/// An opened CA: its certificate and the key that belongs to it.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    from: Time,
    until: Time,
}

impl Ca {
    /// Opens a CA: one certificate and one unencrypted private key, in PEM. Any CA will do whose key is ECDSA or
    /// Ed25519, also one that was not made here.
    pub fn open(certificate_pem: &str, private_pem: &str) -> Result<Self, CertificateError> {
        if certificate_pem.len() > MAX_CA_PEM || private_pem.len() > MAX_CA_PEM {
            return Err(CertificateError::Ca("the CA's certificate or key is longer than any honest one"));
        }
        let key = key_pair(private_pem).ok_or(CertificateError::Ca("the CA's key is not a private key in PEM"))?;
        let block = Pem::iter_from_buffer(certificate_pem.as_bytes()).next().and_then(Result::ok);
        let block = block.ok_or(CertificateError::Ca("the CA's certificate is not PEM"))?;
        let parsed = X509Certificate::from_der(&block.contents);
        let (_, parsed) = parsed.map_err(|_not_x509| CertificateError::Ca("the CA's certificate is not X.509"))?;
        if !parsed.is_ca() {
            return Err(CertificateError::Ca("the certificate is not a CA's"));
        }
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(CertificateError::Ca("the key is not that of the CA's certificate"));
        }
        let from = Time::from_unix(parsed.validity().not_before.timestamp());
        let until = Time::from_unix(parsed.validity().not_after.timestamp());
        let issuer = Issuer::from_ca_cert_pem(certificate_pem, key).map_err(failed("read the CA's certificate"))?;
        Ok(Self { issuer, from, until })
    }

    /// Issues a certificate with a new key for `node`.
    pub fn issue(&self, fleet: &Name, node: &Name, now: Time, valid_for: Duration) -> Result<Issued, CertificateError> {
        let key = KeyPair::generate().map_err(failed("make the node's key"))?;
        self.certify(&key, fleet, node, now, valid_for)
    }

    /// Issues a certificate with a new serial number for the key that `node` has.
    pub fn renew(
        &self,
        private_pem: &str,
        fleet: &Name,
        node: &Name,
        now: Time,
        valid_for: Duration,
    ) -> Result<Issued, CertificateError> {
        let key = key_pair(private_pem).ok_or(CertificateError::NodeKey)?;
        self.certify(&key, fleet, node, now, valid_for)
    }

    fn certify(
        &self,
        key: &KeyPair,
        fleet: &Name,
        node: &Name,
        now: Time,
        valid_for: Duration,
    ) -> Result<Issued, CertificateError> {
        self.valid_at(now)?;
        let uri = SanType::URI(peer_uri(fleet, node).try_into().map_err(failed("write the node's name"))?);
        let serial = random_serial()?;
        let expires = end(now, valid_for)?.min(self.until);
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(node.as_str());
        params.serial_number = Some(serial.clone());
        params.subject_alt_names = vec![uri];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = validity(now, expires)?;
        let certificate = params.signed_by(key, &self.issuer).map_err(failed("sign the node's certificate"))?;
        Ok(Issued {
            certificate_pem: certificate.pem(),
            private_pem: Zeroizing::new(key.serialize_pem()),
            serial: hex::encode(serial.to_bytes()),
            expires,
        })
    }

    /// Makes a revocation list. Its number must be above that of every list before it.
    pub fn revocation_list(
        &self,
        number: u64,
        revoked: &[Revoked],
        now: Time,
        valid_for: Duration,
    ) -> Result<String, CertificateError> {
        self.valid_at(now)?;
        let (this_update, next_update) = validity(now, end(now, valid_for)?)?;
        let entry = |entry: &Revoked| {
            Ok(RevokedCertParams {
                serial_number: SerialNumber::from_slice(&serial_bytes(&entry.serial)?),
                revocation_time: date(entry.at)?,
                reason_code: None,
                invalidity_date: None,
            })
        };
        let params = CertificateRevocationListParams {
            this_update,
            next_update,
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect::<Result<_, CertificateError>>()?,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).map_err(failed("sign the revocation list"))?;
        list.pem().map_err(failed("write the revocation list"))
    }

    fn valid_at(&self, now: Time) -> Result<(), CertificateError> {
        if now < self.from || now > self.until {
            return Err(CertificateError::CaNotValid { from: self.from, until: self.until, now });
        }
        Ok(())
    }
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ca").field("from", &self.from).field("until", &self.until).finish_non_exhaustive()
    }
}

fn key_pair(private_pem: &str) -> Option<KeyPair> {
    // openssl ecparam writes the curve in a block before the key.
    let start = private_pem.find("-----BEGIN EC PRIVATE KEY-----").unwrap_or_default();
    KeyPair::from_pem(private_pem.get(start..)?).ok()
}

fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name.chars().take(MAX_COMMON_NAME).collect::<String>());
    subject
}

/// Positive, never beginning with a zero byte, so that it is as long in every reader.
fn random_serial() -> Result<SerialNumber, CertificateError> {
    let mut bytes = [0; SERIAL_BYTES];
    getrandom::fill(&mut bytes).map_err(CertificateError::Random)?;
    bytes[0] = (bytes[0] & 0x3f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn serial_bytes(text: &str) -> Result<Vec<u8>, CertificateError> {
    let bytes = hex::decode(text).ok().filter(|bytes| (1..=MAX_SERIAL_BYTES).contains(&bytes.len()));
    bytes.ok_or_else(|| CertificateError::Serial(text.chars().take(48).collect()))
}

fn end(now: Time, valid_for: Duration) -> Result<Time, CertificateError> {
    let until = now.plus(valid_for);
    if until <= now { Err(CertificateError::Validity(valid_for)) } else { Ok(until) }
}

fn validity(now: Time, until: Time) -> Result<(OffsetDateTime, OffsetDateTime), CertificateError> {
    Ok((date(Time::from_unix(now.unix().saturating_sub(BACKDATED)))?, date(until)?))
}

fn date(time: Time) -> Result<OffsetDateTime, CertificateError> {
    OffsetDateTime::from_unix_timestamp(time.unix())
        .map_err(|_out_of_range| CertificateError::Validity(Duration::from_millis(0)))
}
