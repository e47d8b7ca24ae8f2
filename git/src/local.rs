//! Repositories on this machine's file system: opened where they lie, never written.

use std::ffi::OsStr;
use std::path::Path;

use git2::{ErrorCode, Repository, RepositoryOpenFlags};

use crate::error::GitError;
use crate::loose::{self, Part};
use crate::options::MAX_TREE_BYTES;
use crate::resolve::{CommitId, Wanted, not_found, wanted};
use crate::url::GitUrl;

/// Most tags between a ref and its commit.
const MAX_TAGS: usize = 16;

/// Opens the repository, bare or with a work tree. Folders above are not searched and `GIT_*` variables not read.
pub(crate) fn open(url: &GitUrl) -> Result<Repository, GitError> {
    let folder = Path::new(&url.repository);
    let no_ceilings: [&OsStr; 0] = [];
    Repository::open_ext(folder, RepositoryOpenFlags::NO_SEARCH, no_ceilings).map_err(|source| {
        if source.code() == ErrorCode::NotFound {
            return not_found(url, format!("there is no git repository at `{}`", url.repository));
        }
        if source.code() == ErrorCode::Owner {
            return GitError::Owner { url: url.to_string(), folder: url.repository.clone() };
        }
        GitError::Git { url: url.to_string(), action: "open the repository", source }
    })
}

/// The commit that the URL means now.
pub(crate) fn tip(repository: &Repository, url: &GitUrl) -> Result<CommitId, GitError> {
    let failed = |source| GitError::Git { url: url.to_string(), action: "read what the ref points to", source };
    let exists = |name: &str| repository.find_reference(name).and_then(|found| found.resolve()).is_ok();
    let whole = |id| loose::check(repository, id, Part::Whole(MAX_TREE_BYTES)).map_err(failed);
    match wanted(url, exists)? {
        Wanted::Commit(commit) => match whole(commit.0).map(|()| repository.find_commit(commit.0))? {
            Ok(_) => Ok(commit),
            Err(error) if error.code() == ErrorCode::NotFound => {
                Err(not_found(url, format!("the repository has no commit {commit}")))
            }
            Err(source) => Err(failed(source)),
        },
        Wanted::Ref(name) => {
            let found = repository.find_reference(&name).and_then(|found| found.resolve()).map_err(failed)?;
            let mut id = found.target().ok_or_else(|| not_found(url, format!("`{name}` points to nothing")))?;
            // Tags may point to tags; git itself follows as many, but nobody honest makes more.
            for _ in 0..MAX_TAGS {
                whole(id)?;
                let object = repository.find_object(id, None).map_err(failed)?;
                match object.as_tag() {
                    Some(tag) => id = tag.target_id(),
                    None => return object.peel_to_commit().map(|commit| CommitId(commit.id())).map_err(failed),
                }
            }
            Err(not_found(url, format!("`{name}` is a tag of a tag of more than {MAX_TAGS} tags")))
        }
    }
}
