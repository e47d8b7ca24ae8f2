//! What can come of speaking to a peer.

use std::error::Error as _;
use std::io;

use autonomy_schema::{Reason, Reasons};

use crate::wire::verify::word;

/// What came of speaking to a peer, when it is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// No TCP connection.
    #[error("no connection: {0}")]
    Unreachable(String),
    /// TCP, but no mutual TLS: a word such as `revoked`, `expired`, `unknown_ca`, or the alert of the peer.
    #[error("no mutual TLS: {0}")]
    Tls(String),
    /// The certificate is good, and of somebody else.
    #[error("the peer there is another one than the one that was called")]
    WrongPeer,
    /// Too much, or not now (429, 503).
    #[error("the peer takes nothing for {seconds} s (HTTP status {status})")]
    Throttled {
        /// How long.
        seconds: u64,
        /// 429 or 503.
        status: u16,
    },
    /// The peer said no.
    #[error("the peer refused it (HTTP status {status}){}", .reasons.as_ref().map(|it| format!(": {}", it.one_line())).unwrap_or_default())]
    Refused {
        /// The status of the answer.
        status: u16,
        /// What it says, if it says it in our words.
        reasons: Option<Reasons>,
    },
    /// The answer is not what the protocol says.
    #[error("the answer of the peer is no answer: {0}")]
    Answer(String),
    /// The connection ended, or nothing moved any more.
    #[error("the connection is lost: {0}")]
    Lost(String),
}

/// Most reasons of a peer that are kept.
const MAX_REASONS: usize = 16;
/// Longest text of a peer that is kept, in characters.
const MAX_TEXT: usize = 400;

/// A peer's words, fit for a line of a log.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(MAX_TEXT).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A peer's reasons, fit for the same.
pub(super) fn reasons(reasons: Vec<Reason>) -> Option<Reasons> {
    let fit =
        |reason: Reason| Reason { code: reason.code, message: shown(&reason.message), remedy: shown(&reason.remedy) };
    Reasons::new(reasons.into_iter().take(MAX_REASONS).map(fit).collect())
}

/// The error of a handshake.
pub(super) fn of_io(error: &io::Error) -> WireError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    inner.map_or_else(|| WireError::Lost(error.to_string()), of_tls)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "every other error tells itself")]
fn of_tls(error: &rustls::Error) -> WireError {
    match error {
        rustls::Error::InvalidCertificate(error) => match word(error) {
            "wrong_peer" => WireError::WrongPeer,
            word => WireError::Tls(word.to_owned()),
        },
        rustls::Error::AlertReceived(alert) => WireError::Tls(format!("the peer answered {alert:?}")),
        other => WireError::Tls(other.to_string()),
    }
}

/// The error of HTTP/2, or of what lies below it: in TLS 1.3 a peer refuses our certificate after the handshake.
pub(super) fn of(error: &hyper::Error) -> WireError {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(WireError::Tls(why)) = inner.downcast_ref::<io::Error>().map(of_io) {
            return WireError::Tls(why);
        }
        source = inner.source();
    }
    let why = error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
    WireError::Lost(shown(&why))
}
