//! Why a repository could not be read.

use std::io;
use std::path::PathBuf;

use autonomy_schema::{Code, Reason};
use autonomy_stateroot::SourceError;

/// A set could not be taken from a git repository. Messages name the URL, which holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The repository, the ref, or the folder does not exist.
    #[error("{url}: {what}")]
    NotFound {
        /// The source.
        url: String,
        /// What is not there.
        what: String,
    },
    /// A ref that names two things.
    #[error("{url}: `{reference}` is both a branch and a tag")]
    Ambiguous {
        /// The source.
        url: String,
        /// The ref.
        reference: String,
    },
    /// The host does not answer, or not as a git server does.
    #[error("{url}: {detail}")]
    Unreachable {
        /// The source.
        url: String,
        /// What happened, with its causes.
        detail: String,
    },
    /// TLS failed: mostly the certificate.
    #[error("{url}: {detail} (trusted: {trusted})")]
    Tls {
        /// The source.
        url: String,
        /// What happened, with its causes.
        detail: String,
        /// Where the trusted certificates come from.
        trusted: String,
    },
    /// The ssh host key is not the known one.
    #[error("{url}: ssh does not know the host's key, or knows another one: {detail}")]
    HostKey {
        /// The source.
        url: String,
        /// What ssh said.
        detail: String,
    },
    /// No credentials, or wrong ones.
    #[error("{url}: access refused ({detail})")]
    Refused {
        /// The source.
        url: String,
        /// What was sent and where credentials were looked for.
        detail: String,
    },
    /// The server sends elsewhere.
    #[error("{url}: redirects to `{to}`, which is not followed")]
    Redirected {
        /// The source.
        url: String,
        /// Where to.
        to: String,
    },
    /// More than the cap.
    #[error("{url}: {what} is more than {cap}; nothing was kept")]
    TooLarge {
        /// The source.
        url: String,
        /// What is too large.
        what: String,
        /// The cap with its unit.
        cap: String,
    },
    /// Nothing came for too long.
    #[error("{url}: nothing was received for {seconds} seconds")]
    Silent {
        /// The source.
        url: String,
        /// The limit.
        seconds: u64,
    },
    /// The caller stopped it.
    #[error("{url}: stopped on request")]
    Cancelled {
        /// The source.
        url: String,
    },
    /// The repository belongs to another user, and git does not open such.
    #[error("{url}: the repository belongs to another user")]
    Owner {
        /// The source.
        url: String,
        /// Its folder.
        folder: String,
    },
    /// A file of credentials or certificates cannot be used.
    #[error("`{}` {problem}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What would be right.
        remedy: String,
    },
    /// The ssh client cannot be started.
    #[error("{url}: cannot start `{program}`")]
    Start {
        /// The source.
        url: String,
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// Another process fetches into the same workspace.
    #[error("another process fetches into `{}`", path.display())]
    Busy {
        /// The workspace.
        path: PathBuf,
    },
    /// The workspace cannot be written.
    #[error("cannot {action} `{}`", path.display())]
    Workspace {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The repository is damaged, or the server said something that git does not understand.
    #[error("{url}: cannot {action}")]
    Git {
        /// The source.
        url: String,
        /// What was tried.
        action: &'static str,
        /// What libgit2 said.
        source: git2::Error,
    },
    /// The tree cannot be listed.
    #[error("{url}: cannot list the set")]
    Set {
        /// The source.
        url: String,
        /// Why.
        source: SourceError,
    },
}

impl GitError {
    /// The error as a reason.
    pub fn to_reason(&self) -> Reason {
        let (code, remedy) = match self {
            Self::NotFound { .. } => {
                (Code::SourceNotFound, "check the URL, `ref` and `path`; `git ls-remote` shows the refs")
            }
            Self::Ambiguous { .. } => (Code::SourceError, "write the whole name, `refs/heads/…` or `refs/tags/…`"),
            Self::Unreachable { .. } => (Code::SourceError, "check the host, the port and the network; then try again"),
            Self::Tls { .. } => (Code::SourceError, "name the certificate of the server's CA with `--ca-file`"),
            Self::HostKey { .. } => (
                Code::SourceError,
                "compare the host's key on another way (`ssh-keyscan` alone proves nothing) and add it to `known_hosts`",
            ),
            Self::Refused { .. } => (
                Code::SourceError,
                "https: add `https://USER:TOKEN@HOST` to the credentials file (mode 0600); ssh: give the node a key that the host knows",
            ),
            Self::Redirected { .. } => (Code::SourceError, "if that place is the right one, name it in the source"),
            Self::TooLarge { .. } | Self::Set { source: SourceError::TooMany(_), .. } => {
                (Code::SourceTooLarge, Code::SourceTooLarge.remedy())
            }
            Self::Silent { .. } => (Code::SourceError, "try again when the connection is better"),
            Self::Cancelled { .. } => (Code::SourceError, "run it again"),
            Self::Owner { folder, .. } => {
                let remedy = format!("if it is trusted: `git config --global --add safe.directory '{folder}'`");
                return Reason::new(Code::SourceError, self.whole()).with_remedy(remedy);
            }
            Self::File { remedy, .. } => (Code::SourceError, remedy.as_str()),
            Self::Start { .. } => {
                (Code::SourceError, "install the OpenSSH client, or name it with GIT_SSH or GIT_SSH_COMMAND")
            }
            Self::Busy { .. } => (Code::Locked, "wait for it and try again"),
            Self::Workspace { .. } => (Code::IoError, Code::IoError.remedy()),
            Self::Git { .. } | Self::Set { .. } => (Code::SourceError, "check the repository with `git fsck`"),
        };
        Reason::new(code, self.whole()).with_remedy(remedy)
    }

    /// The message with its causes.
    fn whole(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(source) = cause {
            text.push_str(": ");
            text.push_str(&shown(&source.to_string()));
            cause = source.source();
        }
        text
    }
}

/// Most characters of what another program or host said that are repeated.
const SHOWN_CHARS: usize = 600;

/// Text of another program or host on one line, without control characters, not too long.
pub(crate) fn shown(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let line: String = text.trim().chars().take(SHOWN_CHARS).map(clean).collect();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}
