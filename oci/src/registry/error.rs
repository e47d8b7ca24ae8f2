//! What can go wrong with a registry.

use std::path::PathBuf;
use std::time::Duration;

use autonomy_schema::{Code, Reason, Sha256};

/// A registry could not be used. No text in it is a secret.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A file beside the registry (certificates, docker's config, a partial blob) is not as needed.
    #[error("`{}` {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A credential helper did not do its part.
    #[error("the credential helper `docker-credential-{name}` {problem}")]
    Helper {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// The credentials, or having none, did not do.
    #[error("{place} refuses (status {status}); {tried}")]
    Refused {
        /// The address.
        place: String,
        /// 401 or 403.
        status: u16,
        /// Which credentials were tried, from where.
        tried: String,
    },
    /// The registry has no such thing.
    #[error("{what} is not in the registry: {place} answered with status 404")]
    NotFound {
        /// What was asked for.
        what: String,
        /// The address.
        place: String,
    },
    /// The registry asks for patience, or failed.
    #[error("{place} answered with status {status}{detail}")]
    Status {
        /// The address.
        place: String,
        /// The status.
        status: u16,
        /// What it said, after a colon.
        detail: String,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// It does not know a blob of a manifest. All of them were pushed before, so this passes: docker's registry writes the
    /// link of a blob in place, and finds it empty while somebody else pushes the same blob.
    #[error("{place} does not know a blob that was pushed before{detail}")]
    LacksBlob {
        /// The address.
        place: String,
        /// What it said, after a colon.
        detail: String,
    },
    /// No connection, or one that broke.
    #[error("{place} cannot be reached: {detail}")]
    Unreachable {
        /// The address.
        place: String,
        /// Why.
        detail: String,
    },
    /// The certificate is not trusted.
    #[error("{place}: {detail}; trusted is {trusted}")]
    Tls {
        /// The address.
        place: String,
        /// Why.
        detail: String,
        /// Which certificates are trusted.
        trusted: String,
    },
    /// Too little came for too long.
    #[error("{place} gave less than 1 KiB in {} seconds", silence.as_secs_f32())]
    Silent {
        /// The address.
        place: String,
        /// The span.
        silence: Duration,
    },
    /// A redirect leads to another host, or a place to write to does.
    #[error("{place} leads to {to}, which the reference does not name; only the reference's own host is contacted")]
    Redirected {
        /// The address.
        place: String,
        /// Where it leads.
        to: String,
    },
    /// Tokens come from another host.
    #[error(
        "{place} wants a token of {realm}, which the reference does not name; only the reference's own host is contacted"
    )]
    RealmElsewhere {
        /// The address.
        place: String,
        /// Where tokens come from.
        realm: String,
    },
    /// Bytes do not hash to what was asked for.
    #[error("{what}: expected {expected}, found {found}")]
    Digest {
        /// What was asked for.
        what: String,
        /// The digest it should have.
        expected: String,
        /// The digest it has.
        found: Sha256,
    },
    /// There are more or fewer bytes than said.
    #[error("{what}: expected {expected} bytes, {found}")]
    Size {
        /// What was asked for.
        what: String,
        /// Their number.
        expected: u64,
        /// What was found.
        found: String,
    },
    /// A document is larger than its cap.
    #[error("{what} is larger than {cap} bytes; no more is read")]
    TooLarge {
        /// What was asked for.
        what: String,
        /// The cap.
        cap: u64,
    },
    /// An answer breaks the specification.
    #[error("{place} answered with something else than distribution-spec 1.1 says: {detail}")]
    Malformed {
        /// The address.
        place: String,
        /// What is wrong.
        detail: String,
    },
    /// No image for this platform.
    #[error("the index has nothing for {wanted}; it has {offered}")]
    NoPlatform {
        /// This platform.
        wanted: String,
        /// What there is.
        offered: String,
    },
    /// What is to be sent cannot be read where it lies.
    #[error("{0}")]
    Source(Reason),
    /// What was to be sent is not fit for it.
    #[error("{what} cannot be sent: {problem}")]
    Unfit {
        /// What was to be sent.
        what: String,
        /// What is wrong.
        problem: String,
    },
    /// Others kept writing the list of referrers.
    #[error(
        "the list of referrers `{tag}` was changed by others {tries} times in a row; nothing of it is lost, try again"
    )]
    Contended {
        /// The tag.
        tag: String,
        /// How often it was tried.
        tries: usize,
    },
    /// The caller asked to stop.
    #[error("stopped on request")]
    Cancelled,
}

impl RegistryError {
    /// The same as a reason with a stable code.
    pub fn to_reason(&self) -> Reason {
        let code = match self {
            Self::Source(reason) => return reason.clone(),
            Self::Digest { .. } => Code::DigestMismatch,
            Self::Size { .. } => Code::SizeMismatch,
            Self::TooLarge { .. } => Code::DocumentTooLarge,
            Self::NotFound { .. } => Code::SourceNotFound,
            Self::Cancelled => Code::Superseded,
            Self::File { .. }
            | Self::Helper { .. }
            | Self::Refused { .. }
            | Self::Status { .. }
            | Self::LacksBlob { .. }
            | Self::Unreachable { .. }
            | Self::Tls { .. }
            | Self::Silent { .. }
            | Self::Redirected { .. }
            | Self::RealmElsewhere { .. }
            | Self::Malformed { .. }
            | Self::NoPlatform { .. }
            | Self::Unfit { .. }
            | Self::Contended { .. } => Code::RegistryError,
        };
        let reason = Reason::new(code, self.to_string());
        match self.remedy() {
            Some(remedy) => reason.with_remedy(remedy),
            None => reason,
        }
    }

    fn remedy(&self) -> Option<&'static str> {
        Some(match self {
            Self::Refused { .. } => "log in with `docker login` or `skopeo login`, or name another docker config",
            Self::NotFound { .. } => "check the repository and the tag; some registries hide what they do not allow",
            Self::Status { status: 429, .. } => "wait; the registry limits how often it may be asked",
            Self::Tls { .. } => "name a PEM file of CA certificates with `--ca-file`",
            Self::Redirected { .. } | Self::RealmElsewhere { .. } => {
                "let the registry serve blobs and tokens itself, or mirror it to one that does"
            }
            Self::NoPlatform { .. } => "name the digest of an image that fits this machine",
            Self::Silent { .. } => "try again: what came is kept; `--patience` sets how long a slow link may be silent",
            Self::File { .. }
            | Self::Helper { .. }
            | Self::Status { .. }
            | Self::LacksBlob { .. }
            | Self::Unreachable { .. }
            | Self::Digest { .. }
            | Self::Size { .. }
            | Self::TooLarge { .. }
            | Self::Malformed { .. }
            | Self::Source(_)
            | Self::Unfit { .. }
            | Self::Contended { .. }
            | Self::Cancelled => return None,
        })
    }

    /// Whether another attempt may do.
    pub(crate) fn again(&self) -> Again {
        match self {
            Self::Unreachable { .. } | Self::LacksBlob { .. } => Again::Soon,
            Self::Status { status, retry_after, .. } if *status == 429 || *status >= 500 => {
                retry_after.map_or(Again::Soon, Again::After)
            }
            Self::Status { .. }
            | Self::File { .. }
            | Self::Helper { .. }
            | Self::Refused { .. }
            | Self::NotFound { .. }
            | Self::Tls { .. }
            | Self::Silent { .. }
            | Self::Redirected { .. }
            | Self::RealmElsewhere { .. }
            | Self::Digest { .. }
            | Self::Size { .. }
            | Self::TooLarge { .. }
            | Self::Malformed { .. }
            | Self::NoPlatform { .. }
            | Self::Source(_)
            | Self::Unfit { .. }
            | Self::Contended { .. }
            | Self::Cancelled => Again::No,
        }
    }
}

/// When another attempt may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// Never.
    No,
    /// After a wait of our own.
    Soon,
    /// After the wait that the registry asks for.
    After(Duration),
}

/// Text of another host on one line, without control characters, not too long.
pub(crate) fn shown(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let line: String = text.trim().chars().take(300).map(clean).collect();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}
