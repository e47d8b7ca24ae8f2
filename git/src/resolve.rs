//! What a `ref` means: one rule for local and remote repositories.

use std::fmt;
use std::str::FromStr;

use git2::Oid;

use crate::error::GitError;
use crate::url::GitUrl;

/// The id of a commit: 40 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId(pub(crate) Oid);

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is not 40 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a commit id: 40 lower-case hex digits")]
pub struct BadCommitId(String);

impl FromStr for CommitId {
    type Err = BadCommitId;

    fn from_str(text: &str) -> Result<Self, BadCommitId> {
        let bad = || BadCommitId(text.chars().take(80).flat_map(char::escape_debug).collect());
        let hex = text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !hex {
            return Err(bad());
        }
        Oid::from_str(text).map(Self).map_err(|_unlikely| bad())
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// This very commit.
    Commit(CommitId),
    /// What the ref of this whole name points to.
    Ref(String),
}

/// Finds out what the URL asks for; `exists` knows the repository's refs by their whole names.
///
/// Unlike `git rev-parse`, a name that is both a branch and a tag is refused: whoever may push tags could otherwise
/// move a node that follows a branch.
pub(crate) fn wanted(url: &GitUrl, exists: impl Fn(&str) -> bool) -> Result<Wanted, GitError> {
    let Some(name) = url.reference() else {
        let missing = "the repository has no HEAD that leads to a commit: name a branch or tag with `?ref=`";
        return if exists("HEAD") { Ok(Wanted::Ref("HEAD".to_owned())) } else { Err(not_found(url, missing)) };
    };
    if let Ok(commit) = name.to_ascii_lowercase().parse() {
        return Ok(Wanted::Commit(commit));
    }
    if name == "HEAD" || name.starts_with("refs/") {
        return if exists(name) { Ok(Wanted::Ref(name.to_owned())) } else { Err(no_ref(url, name)) };
    }
    let (branch, tag) = (format!("refs/heads/{name}"), format!("refs/tags/{name}"));
    match (exists(&branch), exists(&tag)) {
        (true, true) => Err(GitError::Ambiguous { url: url.to_string(), reference: name.to_owned() }),
        (true, false) => Ok(Wanted::Ref(branch)),
        (false, true) => Ok(Wanted::Ref(tag)),
        (false, false) => Err(no_ref(url, name)),
    }
}

pub(crate) fn not_found(url: &GitUrl, what: impl Into<String>) -> GitError {
    GitError::NotFound { url: url.to_string(), what: what.into() }
}

fn no_ref(url: &GitUrl, name: &str) -> GitError {
    let hint = if name.len() < 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        "; a commit is named by all of its 40 digits"
    } else {
        ""
    };
    not_found(url, format!("the repository has no branch or tag `{name}`{hint}"))
}
