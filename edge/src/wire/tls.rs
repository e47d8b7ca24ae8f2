//! The node's certificates in, both ends of TLS 1.3 with mutual authentication out; replaced while connections stand.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use autonomy_schema::node::Node;
use autonomy_schema::{Code, Mode, Name, Reason, Reasons, Time};
use autonomy_stateroot::{Certificates, StateRoot};
use autonomy_trust::{
    Demand, IdentityFiles, MAX_CRL_BYTES, MAX_IDENTITY_BYTES, Severity, describe_crls, judge_identity,
};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig, ServerConfig};
use tokio::sync::watch;

use super::verify::{ALGORITHMS, Authorities, End, PeerVerifier};

/// The one protocol that is spoken.
pub(super) const ALPN: &[u8] = b"h2";

/// The certificates of a node as TLS uses them.
pub struct Credentials {
    found: Certificates,
    node: Node,
    provider: Arc<CryptoProvider>,
    authorities: Arc<Authorities>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    server: Arc<ServerConfig>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("node", &self.node.node_id).finish_non_exhaustive()
    }
}

impl Credentials {
    fn load(root: &StateRoot, now: Time) -> Result<Self, Reasons> {
        let node = root.node()?;
        let found = root.certificates(MAX_IDENTITY_BYTES, MAX_CRL_BYTES).map_err(|error| error.to_reason())?;
        judge(&found, &node, now)?;
        let text = |file: &Option<Vec<u8>>| file.clone().unwrap_or_default();
        let unreadable = |code| move |error: rustls::pki_types::pem::Error| Reason::new(code, error.to_string());
        let chain = certificates(&text(&found.certificate)).map_err(unreadable(Code::CertificateUnreadable))?;
        let anchors = certificates(&text(&found.ca)).map_err(unreadable(Code::CaUnreadable))?;
        let lists = newest_first(&text(&found.crl)).map_err(unreadable(Code::CrlUnreadable))?;
        let key = PrivateKeyDer::from_pem_slice(&text(&found.key))
            .map_err(|_secret| Reason::new(Code::KeyUnreadable, "`node.key` is not a private key in PEM"))?;
        let authorities =
            Authorities::new(&anchors, &lists).map_err(|what| Reason::new(Code::CertificateUnsupported, what))?;
        let authorities = Arc::new(authorities);
        let provider =
            Arc::new(CryptoProvider { signature_verification_algorithms: ALGORITHMS, ..aws_lc_rs::default_provider() });
        let server = server(&provider, &authorities, &chain, &key).map_err(|error| unusable(&error))?;
        Ok(Self { found, node, provider, authorities, chain, key, server: Arc::new(server) })
    }

    /// For connections that peers open.
    pub(super) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// For a connection to `peer`, and nobody else.
    pub(super) fn client(&self, peer: &Name) -> Result<ClientConfig, rustls::Error> {
        let verifier = PeerVerifier {
            authorities: Arc::clone(&self.authorities),
            expected: Some((self.node.fleet.clone(), peer.clone())),
        };
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        config.enable_sni = false;
        Ok(config)
    }

    /// Whether a peer that is connected would be let in now.
    pub(super) fn judge(&self, chain: &[CertificateDer<'_>], end: End) -> Result<(), CertificateError> {
        let (first, rest) = chain.split_first().ok_or(CertificateError::BadEncoding)?;
        self.authorities.judge(first, rest, end, UnixTime::now())
    }

    /// Who this node is.
    pub fn node(&self) -> &Node {
        &self.node
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, rustls::pki_types::pem::Error> {
    CertificateDer::pem_slice_iter(pem).collect()
}

/// The revocation lists, the newest of each issuer before its older ones.
fn newest_first(pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, rustls::pki_types::pem::Error> {
    let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(pem).collect::<Result<_, _>>()?;
    // In the order of the file, as the lists are; they were judged, so they can be read.
    let cards = describe_crls(pem).unwrap_or_default();
    let mut dated: Vec<_> = lists.into_iter().enumerate().collect();
    dated.sort_by_key(|(at, _)| std::cmp::Reverse(cards.get(*at).map(|card| (card.this_update, card.number))));
    Ok(dated.into_iter().map(|(_, list)| list).collect())
}

fn unusable(error: &rustls::Error) -> Reason {
    Reason::new(Code::CertificateUnsupported, format!("TLS does not take the node's certificate: {error}"))
}

fn server(
    provider: &Arc<CryptoProvider>,
    authorities: &Arc<Authorities>,
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let verifier = PeerVerifier { authorities: Arc::clone(authorities), expected: None };
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(chain.to_vec(), key.clone_key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Every connection is judged anew (INV-09): nothing of an earlier one lets a peer in.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    Ok(config)
}

/// Every error against the files, as `autonomy cert check` finds them.
fn judge(found: &Certificates, node: &Node, now: Time) -> Result<(), Reasons> {
    let files = IdentityFiles {
        certificate: found.certificate.as_deref(),
        key: found.key.as_deref(),
        ca: found.ca.as_deref(),
        crl: found.crl.as_deref(),
        attest: found.attest.as_deref(),
    };
    let demand =
        Demand { node: &node.node_id, fleet: &node.fleet, now, window: autonomy_schema::Duration::from_millis(0) };
    let (_, findings) = judge_identity(&files, &demand);
    let errors = findings.into_iter().filter(|finding| finding.severity == Severity::Error);
    let mut reasons: Vec<Reason> = errors.map(|finding| finding.reason).collect();
    if found.key_mode.is_some_and(|mode| mode != Mode::PRIVATE) {
        reasons.push(Reason::new(Code::KeyExposed, "`identity/node.key` can be read by others"));
    }
    Reasons::check(reasons)
}

/// The clock, which only the handshake needs (INV-11 binds decisions of the relay, not this).
pub(super) fn clock() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_unix(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// The node's TLS, shared by server and client; clones are the same one.
#[derive(Clone)]
pub struct Tls {
    root: StateRoot,
    current: Arc<watch::Sender<Arc<Credentials>>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.current.borrow().fmt(f)
    }
}

impl Tls {
    /// Reads and judges the certificates of the state root.
    pub fn open(root: StateRoot) -> Result<Self, Reasons> {
        let credentials = Credentials::load(&root, clock())?;
        Ok(Self { root, current: Arc::new(watch::Sender::new(Arc::new(credentials))) })
    }

    /// What new handshakes use.
    pub fn current(&self) -> Arc<Credentials> {
        Arc::clone(&self.current.borrow())
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<Credentials>> {
        self.current.subscribe()
    }

    /// Reads the files again, as SIGHUP asks. True when they are others: new handshakes use them, and connections whose
    /// peer they no longer admit are closed. Files that do not hold together change nothing.
    pub fn reload(&self) -> Result<bool, Reasons> {
        let credentials = Credentials::load(&self.root, clock()).inspect_err(|reasons| {
            tracing::error!(event = "edge.identity.refused", reasons = reasons.one_line(), "the old certificates stay");
        })?;
        let has_changed = credentials.found != self.current.borrow().found;
        if has_changed {
            tracing::info!(event = "edge.identity.reloaded", "new handshakes use the new certificates");
            self.current.send_replace(Arc::new(credentials));
        }
        Ok(has_changed)
    }

    /// Looks at the files every `pause` and reloads when they have changed, for ever.
    pub async fn follow(self, pause: Duration) {
        let mut seen = None;
        loop {
            tokio::time::sleep(pause).await;
            let found = self.root.certificates(MAX_IDENTITY_BYTES, MAX_CRL_BYTES).ok();
            // Refused files are told once, until they change again.
            if found.as_ref() != Some(&self.current.borrow().found) && found != seen {
                self.reload().ok();
                seen = found;
            }
        }
    }
}
