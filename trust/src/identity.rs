//! The certificates of a node in, facts about them and findings out: does this node hold a key and a certificate that
//! its peers will accept, now and for a while?
//!
//! The same judge serves `autonomy cert check`, the import of certificates from elsewhere, precheck and plan. It reads
//! what it is handed and nothing else; `docs/formats/certificates.md` draws the files and lists what is demanded.

mod algorithm;
mod authority;
mod card;
mod leaf;
mod read;
mod revoked;

use autonomy_schema::{Code, Duration, Name, Reason, Sha256, Time};

pub use card::{Card, CrlCard, describe_certificates, describe_crls, issued_by};
pub use leaf::{peer_of_certificate, peer_of_uri};
pub use read::{MAX_CERTIFICATES, MAX_CRL_BYTES, MAX_CRLS, MAX_IDENTITY_BYTES};

use algorithm::Key;
use read::Certificates;

/// The files of `identity/`, as PEM; `None` is a file that is not there. Callers read with [`MAX_IDENTITY_BYTES`] and
/// [`MAX_CRL_BYTES`]; longer input is refused here as well.
#[derive(Clone, Copy, Default)]
pub struct IdentityFiles<'a> {
    /// `node.crt`: the node's certificate, then its intermediates.
    pub certificate: Option<&'a [u8]>,
    /// `node.key`: the node's private key.
    pub key: Option<&'a [u8]>,
    /// `ca.crt`: the certificates that the fleet trusts.
    pub ca: Option<&'a [u8]>,
    /// `crl.pem`: the revocation lists.
    pub crl: Option<&'a [u8]>,
    /// `attest.pub`, where it is known: a node's two keys must differ.
    pub attest: Option<&'a [u8]>,
}

/// What the certificates are judged against.
#[derive(Debug, Clone, Copy)]
pub struct Demand<'a> {
    /// Who the node is.
    pub node: &'a Name,
    /// Its fleet.
    pub fleet: &'a Name,
    /// The time of the judgement.
    pub now: Time,
    /// What expires within it is a warning.
    pub window: Duration,
}

/// What the files say, as far as they can be read. What is here is not yet trusted: the findings tell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// Serial number of the node's certificate, lower-case hex without leading zeros.
    pub serial: Option<String>,
    /// Its subject, for people.
    pub subject: Option<String>,
    /// Its URI names.
    pub uris: Vec<String>,
    /// Fleet and node that it names.
    pub peer: Option<(Name, Name)>,
    /// SHA-256 of its public key's `SubjectPublicKeyInfo`.
    pub key_id: Option<Sha256>,
    /// Since when it is valid.
    pub not_before: Option<Time>,
    /// The last second at which it is valid.
    pub expires: Option<Time>,
    /// SHA-256 of the CA certificate (DER) that the node's certificate leads to; of the first in `ca.crt` when it
    /// leads to none.
    pub ca: Option<Sha256>,
    /// The subject of that CA.
    pub ca_subject: Option<String>,
    /// The earliest end among that CA and the intermediates.
    pub ca_expires: Option<Time>,
    /// Number of the newest revocation list of the certificate's issuer; `None` when it has none or one beyond 64 bits.
    pub crl_number: Option<u64>,
    /// Since when that list is valid.
    pub crl_this_update: Option<Time>,
    /// When the next one is due.
    pub crl_next_update: Option<Time>,
}

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Peers refuse the node, or it cannot be told whether they accept it.
    Error,
    /// It works today, and will not for long.
    Warning,
}

/// One finding. They are sorted by code, then message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFinding {
    /// How grave it is.
    pub severity: Severity,
    /// Code, sentence, remedy.
    pub reason: Reason,
}

/// Judges the certificates of a node: every finding, sorted. No finding means that a peer which trusts the same CA and
/// has the same clock accepts this node.
pub fn judge_identity(files: &IdentityFiles<'_>, demand: &Demand<'_>) -> (Identity, Vec<IdentityFinding>) {
    let mut identity = Identity::default();
    let mut findings = Findings::default();
    let chain = load(files.certificate, &read::NODE, &mut findings);
    let anchors = load(files.ca, &read::CA, &mut findings);
    let crls = read::revocation_lists(files.crl, &mut findings);
    let key = read::private_key(files.key, &mut findings);
    let attest = files.attest.and_then(algorithm::public_pem);

    let chain = chain.as_ref().map(|pems| read::parse(pems, &read::NODE, &mut findings)).unwrap_or_default();
    let anchors = anchors.as_ref().map(|pems| read::parse(pems, &read::CA, &mut findings)).unwrap_or_default();
    let (first, intermediates) = match chain.split_first() {
        Some((first, rest)) => (Some(first), rest),
        None => (None, [].as_slice()),
    };
    if let Some(certificate) = first {
        leaf::record(certificate, &mut identity);
        leaf::judge(certificate, demand, &mut identity, &mut findings);
        leaf::judge_key(certificate, key.as_ref(), attest.as_ref(), &mut findings);
    } else if let (Some(key), Some(attest)) = (&key, &attest) {
        leaf::judge_shared(key, attest, &mut findings);
    }
    let path = first.and_then(|leaf| authority::path(leaf, intermediates, &anchors, demand.now, &mut findings));
    authority::judge(path.as_deref(), &anchors, demand, &mut identity, &mut findings);
    if let Some(crls) = &crls {
        let lists = read::parse_crls(crls, &mut findings);
        match (first, &path) {
            (Some(leaf), Some(path)) => revoked::judge(leaf, path, &lists, demand, &mut identity, &mut findings),
            // Nobody vouches for the list: it is told, and decides nothing.
            _ => revoked::record(lists.first(), &mut identity),
        }
    }
    (identity, findings.sorted())
}

fn load(file: Option<&[u8]>, place: &read::Place, findings: &mut Findings) -> Option<Certificates> {
    match file {
        None => {
            findings.error(place.missing, format!("`{}` is missing", place.file));
            None
        }
        Some(bytes) => match read::certificates(bytes, place) {
            Ok(certificates) => Some(certificates),
            Err(reason) => {
                findings.push(Severity::Error, reason);
                None
            }
        },
    }
}

/// Collects findings.
#[derive(Default)]
struct Findings(Vec<IdentityFinding>);

impl Findings {
    fn push(&mut self, severity: Severity, reason: Reason) {
        self.0.push(IdentityFinding { severity, reason });
    }

    fn error(&mut self, code: Code, message: impl Into<String>) {
        self.push(Severity::Error, Reason::new(code, message));
    }

    fn warning(&mut self, code: Code, message: impl Into<String>) {
        self.push(Severity::Warning, Reason::new(code, message));
    }

    fn sorted(mut self) -> Vec<IdentityFinding> {
        self.0.sort_by(|a, b| a.reason.cmp(&b.reason).then(a.severity.cmp(&b.severity)));
        self.0.dedup();
        self.0
    }
}

/// Text out of a certificate, fit for one line of a message.
fn shown(text: &str) -> String {
    /// Longest name in a message, in characters.
    const MAX_SHOWN: usize = 200;
    text.chars().take(MAX_SHOWN).map(|c| if c.is_control() { '?' } else { c }).collect()
}
