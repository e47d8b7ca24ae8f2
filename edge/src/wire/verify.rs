//! Whether a peer's certificate is good: chain, validity, use, revocation (INV-09), by `webpki`; and whom it names, by `trust`.
//!
//! One judge for both ends of a connection, at the handshake and again when the node's own files change.

use std::fmt;
use std::sync::Arc;

use autonomy_schema::Name;
use autonomy_trust::peer_of_certificate;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, ServerName, SignatureVerificationAlgorithm, TrustAnchor, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, PeerMisbehaved, SignatureScheme};
use webpki::{
    BorrowedCertRevocationList, CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, RevocationCheckDepth,
    RevocationOptionsBuilder, UnknownStatusPolicy, aws_lc_rs as algorithms,
};

/// What `trust` supports as well (`certificate_unsupported`); no RSA.
const ALL: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::ED25519,
];

/// The same for TLS 1.3, where the scheme tells the curve.
pub(super) const ALGORITHMS: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: ALL,
    mapping: &[
        (SignatureScheme::ECDSA_NISTP256_SHA256, &[algorithms::ECDSA_P256_SHA256]),
        (SignatureScheme::ECDSA_NISTP384_SHA384, &[algorithms::ECDSA_P384_SHA384]),
        (SignatureScheme::ED25519, &[algorithms::ED25519]),
    ],
};

/// Which end of a connection the peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It connected to us.
    Client,
    /// We connected to it.
    Server,
}

/// The CAs that the fleet trusts, and what they revoked.
pub(super) struct Authorities {
    anchors: Vec<TrustAnchor<'static>>,
    subjects: Vec<DistinguishedName>,
    lists: Vec<CertRevocationList<'static>>,
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorities({} anchors, {} lists)", self.anchors.len(), self.lists.len())
    }
}

impl Authorities {
    /// Reads CAs and lists (DER). Of an issuer's lists the first counts. The error names what cannot be read.
    pub(super) fn new(
        anchors: &[CertificateDer<'_>],
        lists: &[CertificateRevocationListDer<'_>],
    ) -> Result<Self, String> {
        let anchor = |der| webpki::anchor_from_trusted_cert(der).map(|anchor| anchor.to_owned());
        let anchors: Vec<_> =
            anchors.iter().map(anchor).collect::<Result<_, _>>().map_err(|error| format!("`ca.crt`: {error}"))?;
        let list = |der: &CertificateRevocationListDer<'_>| {
            BorrowedCertRevocationList::from_der(der).and_then(|list| list.to_owned()).map(CertRevocationList::from)
        };
        let lists: Vec<_> =
            lists.iter().map(list).collect::<Result<_, _>>().map_err(|error| format!("`crl.pem`: {error}"))?;
        let subjects = anchors.iter().map(|anchor| DistinguishedName::in_sequence(anchor.subject.as_ref())).collect();
        Ok(Self { anchors, subjects, lists })
    }

    /// Judges a chain, the peer's own certificate first. As `trust` demands it: a fresh list of the certificate's issuer must be
    /// there, those of the other issuers count where they are.
    pub(super) fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        end: End,
        now: UnixTime,
    ) -> Result<(), CertificateError> {
        let lists: Vec<&CertRevocationList<'_>> = self.lists.iter().collect();
        let certificate = EndEntityCert::try_from(certificate).map_err(told)?;
        let own = (RevocationCheckDepth::EndEntity, UnknownStatusPolicy::Deny, ExpirationPolicy::Enforce);
        let others = (RevocationCheckDepth::Chain, UnknownStatusPolicy::Allow, ExpirationPolicy::Ignore);
        for (depth, unknown, expiration) in [own, others] {
            let revocation = RevocationOptionsBuilder::new(&lists)
                .map_err(|_no_list| CertificateError::UnknownRevocationStatus)?
                .with_depth(depth)
                .with_status_policy(unknown)
                .with_expiration_policy(expiration)
                .build();
            let usage = match end {
                End::Client => KeyUsage::client_auth(),
                End::Server => KeyUsage::server_auth(),
            };
            certificate
                .verify_for_usage(ALL, &self.anchors, intermediates, now, usage, Some(revocation), None)
                .map_err(told)?;
        }
        Ok(())
    }
}

/// The words of rustls, which decide the alert that the peer is sent.
#[expect(clippy::wildcard_enum_match_arm, reason = "everything else is told as it is")]
fn told(error: webpki::Error) -> CertificateError {
    use webpki::Error;
    match error {
        Error::BadDer | Error::BadDerTime | Error::TrailingData(_) => CertificateError::BadEncoding,
        Error::CertNotValidYet { time, not_before } => CertificateError::NotValidYetContext { time, not_before },
        Error::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        Error::UnknownIssuer => CertificateError::UnknownIssuer,
        Error::CertRevoked => CertificateError::Revoked,
        Error::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        Error::CrlExpired { time, next_update } => CertificateError::ExpiredRevocationListContext { time, next_update },
        Error::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    }
}

/// Why a certificate was refused, in one word for logs and metrics.
pub(super) fn word(error: &CertificateError) -> &'static str {
    use CertificateError as E;
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other failure of a certificate is one word")]
    match error {
        E::Revoked => "revoked",
        E::Expired | E::ExpiredContext { .. } => "expired",
        E::NotValidYet | E::NotValidYetContext { .. } => "not_yet_valid",
        E::UnknownIssuer | E::BadSignature => "unknown_ca",
        E::UnknownRevocationStatus => "revocation_unknown",
        E::ExpiredRevocationList | E::ExpiredRevocationListContext { .. } => "crl_expired",
        E::NotValidForName => "wrong_peer",
        _ => "certificate_invalid",
    }
}

/// Judges peers in a handshake.
#[derive(Debug)]
pub(super) struct PeerVerifier {
    pub(super) authorities: Arc<Authorities>,
    /// Whom we want to reach, with the fleet; `None` takes whoever has a name.
    pub(super) expected: Option<(Name, Name)>,
}

impl PeerVerifier {
    fn signed(
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &ALGORITHMS)
    }

    /// TLS 1.2 is not offered, so nobody may come with it.
    fn old() -> rustls::Error {
        rustls::Error::PeerMisbehaved(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.authorities.judge(certificate, intermediates, End::Server, now)?;
        // Nodes have ids, not host names.
        let (fleet, id) = peer_of_certificate(certificate).ok_or(CertificateError::NotValidForName)?;
        let is_expected =
            self.expected.as_ref().is_some_and(|(own, wanted)| fleet.is_none_or(|it| it == *own) && id == *wanted);
        if is_expected { Ok(ServerCertVerified::assertion()) } else { Err(CertificateError::NotValidForName.into()) }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(Self::old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::signed(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ALGORITHMS.supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.authorities.subjects
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.authorities.judge(certificate, intermediates, End::Client, now)?;
        // Which fleet it is of decides later what it may do: that is an answer, and no failed handshake.
        peer_of_certificate(certificate).ok_or(CertificateError::NotValidForName)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(Self::old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::signed(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ALGORITHMS.supported_schemes()
    }
}
