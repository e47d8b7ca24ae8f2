//! TLS of the tool server: its own certificate, and clients that a CA vouches for.

use std::sync::Arc;

use autonomy_schema::{Code, Reason};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, version};
use tokio_rustls::TlsAcceptor;

/// What TLS is made of, in PEM.
#[derive(Clone)]
pub struct TlsFiles {
    /// The server's certificate, then its intermediates.
    pub certificate: Vec<u8>,
    /// Its private key.
    pub key: Vec<u8>,
    /// The CAs of clients; `None` lets in whoever shows the token.
    pub client_ca: Option<Vec<u8>>,
}

impl std::fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsFiles").field("client_ca", &self.client_ca.is_some()).finish_non_exhaustive()
    }
}

/// Certificates of a file; none at all is an error.
fn certificates(pem: &[u8], flag: &str) -> Result<Vec<CertificateDer<'static>>, Reason> {
    let unreadable = |why: String| Reason::new(Code::CertificateUnreadable, format!("`{flag}`: {why}"));
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(certificates) if certificates.is_empty() => Err(unreadable("it holds no certificate in PEM".to_owned())),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(unreadable(error.to_string())),
    }
}

pub(crate) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, Reason> {
    let unusable = |error: String| Reason::new(Code::CertificateUnsupported, format!("TLS cannot be set up: {error}"));
    let chain = certificates(&files.certificate, "--tls-cert")?;
    let key = PrivateKeyDer::from_pem_slice(&files.key)
        .map_err(|_secret| Reason::new(Code::KeyUnreadable, "`--tls-key` holds no private key in PEM"))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|error| unusable(error.to_string()))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(pem, "--client-ca")? {
                roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| unusable(error.to_string()))?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| unusable(error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Every connection is judged anew.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(TlsAcceptor::from(Arc::new(config)))
}
