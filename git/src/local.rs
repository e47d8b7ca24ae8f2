//! Repositories on this machine's file system: opened where they lie, never written.

use std::ffi::OsStr;
use std::path::Path;

use git2::{ErrorCode, Repository, RepositoryOpenFlags};

use crate::error::GitError;
use crate::resolve::{CommitId, Wanted, not_found, wanted};
use crate::url::GitUrl;

/// Opens the repository, bare or with a work tree. Folders above are not searched and `GIT_*` variables not read.
pub(crate) fn open(url: &GitUrl) -> Result<Repository, GitError> {
    let folder = Path::new(&url.repository);
    let no_ceilings: [&OsStr; 0] = [];
    Repository::open_ext(folder, RepositoryOpenFlags::NO_SEARCH, no_ceilings).map_err(|source| match source.code() {
        ErrorCode::NotFound => not_found(url, format!("there is no git repository at `{}`", url.repository)),
        ErrorCode::Owner => GitError::Owner { url: url.to_string(), folder: url.repository.clone() },
        _ => GitError::Git { url: url.to_string(), action: "open the repository", source },
    })
}

/// The commit that the URL means now.
pub(crate) fn tip(repository: &Repository, url: &GitUrl) -> Result<CommitId, GitError> {
    let failed = |source| GitError::Git { url: url.to_string(), action: "read what the ref points to", source };
    let exists = |name: &str| repository.find_reference(name).and_then(|found| found.resolve()).is_ok();
    match wanted(url, exists)? {
        Wanted::Commit(commit) => match repository.find_commit(commit.0) {
            Ok(_) => Ok(commit),
            Err(error) if error.code() == ErrorCode::NotFound => {
                Err(not_found(url, format!("the repository has no commit {commit}")))
            }
            Err(source) => Err(failed(source)),
        },
        Wanted::Ref(name) => {
            let commit = repository.find_reference(&name).and_then(|found| found.peel_to_commit()).map_err(failed)?;
            Ok(CommitId(commit.id()))
        }
    }
}
