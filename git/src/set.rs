//! A set as it lies in a commit, read straight from the object database: nothing is checked out.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::sync::{Mutex, MutexGuard, PoisonError};

use autonomy_schema::RelPath;
use autonomy_stateroot::source::MAX_ENTRIES;
use autonomy_stateroot::{SetSource, SourceError, SourceFile, SourceKind};
use git2::{ErrorCode, ObjectType, Oid, Repository};

use crate::error::GitError;
use crate::loose::{self, Part};
use crate::options::{GitOptions, MAX_TREE_BYTES};
use crate::resolve::{CommitId, not_found};
use crate::url::GitUrl;

/// A set in a commit of a git repository.
///
/// Every object is hashed when it is read, and one that is not what its id says is an error: libgit2's strict hash
/// verification, on by default and demanded again in `register.rs`.
pub struct GitSet {
    // libgit2's handle may move between threads but not be shared.
    repository: Mutex<Repository>,
    url: GitUrl,
    commit: CommitId,
    root: Oid,
    max_blob_bytes: u64,
    /// Held for the set's life: a fetch does not remove what is read.
    _in_use: Option<File>,
}

impl fmt::Debug for GitSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitSet").field("url", &self.url).field("commit", &self.commit).finish_non_exhaustive()
    }
}

/// What an entry of a tree is.
fn kind_of(mode: i32) -> Kind {
    match mode & 0o170_000 {
        0o040_000 => Kind::Folder,
        0o100_000 => Kind::Other(SourceKind::File),
        0o120_000 => Kind::Other(SourceKind::Symlink),
        // Submodules, and what no git writes.
        _ => Kind::Other(SourceKind::Other),
    }
}

enum Kind {
    Folder,
    Other(SourceKind),
}

impl GitSet {
    /// The set below the URL's `path` in `commit`.
    pub(crate) fn at(
        repository: Repository,
        url: &GitUrl,
        commit: CommitId,
        options: &GitOptions<'_>,
        in_use: Option<File>,
    ) -> Result<Self, GitError> {
        let failed = |source| GitError::Git { url: url.to_string(), action: "read the commit's tree", source };
        let whole = |id| loose::check(&repository, id, Part::Whole(MAX_TREE_BYTES)).map_err(failed);
        whole(commit.0)?;
        let mut root = repository.find_commit(commit.0).map_err(failed)?.tree_id();
        for part in url.path().into_iter().flat_map(RelPath::components) {
            whole(root)?;
            let tree = repository.find_tree(root).map_err(failed)?;
            let shown = url.path().map_or("", RelPath::as_str);
            let found = tree.iter().find(|entry| entry.name_bytes() == part.as_bytes());
            root = match found.map(|entry| (kind_of(entry.filemode_raw()), entry.id())) {
                Some((Kind::Folder, id)) => id,
                Some((Kind::Other(_), _)) => {
                    return Err(not_found(
                        url,
                        format!("`{shown}` is not a folder in commit {commit}: `{part}` is a file, link or submodule"),
                    ));
                }
                None => return Err(not_found(url, format!("commit {commit} has no folder `{shown}`"))),
            };
        }
        Ok(Self {
            repository: Mutex::new(repository),
            url: url.clone(),
            commit,
            root,
            max_blob_bytes: options.max_blob_bytes,
            _in_use: in_use,
        })
    }

    /// The commit that is read.
    pub fn commit(&self) -> CommitId {
        self.commit
    }

    /// Where it comes from.
    pub fn url(&self) -> &GitUrl {
        &self.url
    }

    /// Reads and hashes every file of the set. One beyond the cap is not damaged for that; `open` refuses it.
    pub(crate) fn verify(&self) -> Result<(), SourceError> {
        let readable = |file: &&SourceFile| file.kind == SourceKind::File && file.size <= self.max_blob_bytes;
        for file in self.list()?.iter().filter(readable) {
            if let Ok(path) = file.path.parse() {
                self.open(&path)?;
            }
        }
        Ok(())
    }

    fn repository(&self) -> MutexGuard<'_, Repository> {
        self.repository.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object, if it is of this type and not too large: its header is read first.
    fn size_of(&self, repository: &Repository, id: Oid, wanted: ObjectType, path: &str) -> Result<u64, SourceError> {
        let failed = |source| broken(path, &source);
        // A tree is read right after this; a blob may only be listed.
        let part = if wanted == ObjectType::Tree { Part::Whole(MAX_TREE_BYTES) } else { Part::Header };
        loose::check(repository, id, part).map_err(failed)?;
        let (size, found) = repository.odb().and_then(|objects| objects.read_header(id)).map_err(failed)?;
        if found != wanted {
            let why = format!("object {id} is a {found}, not a {wanted}");
            return Err(SourceError::Io {
                path: path.to_owned(),
                source: io::Error::new(io::ErrorKind::InvalidData, why),
            });
        }
        let cap = if wanted == ObjectType::Tree { MAX_TREE_BYTES } else { self.max_blob_bytes };
        let size = size as u64;
        // A blob is listed whatever its size; it is `open` that inflates it.
        if size > cap && wanted == ObjectType::Tree {
            return Err(SourceError::TooLarge { path: path.to_owned(), size, cap });
        }
        Ok(size)
    }

    /// Lists one tree into `found`; gives the trees in it.
    fn list_tree(
        &self,
        repository: &Repository,
        (folder, id): (&str, Oid),
        found: &mut Vec<SourceFile>,
    ) -> Result<Vec<(String, Oid)>, SourceError> {
        let shown = if folder.is_empty() { "." } else { folder };
        self.size_of(repository, id, ObjectType::Tree, shown)?;
        let tree = repository.find_tree(id).map_err(|source| broken(shown, &source))?;
        let (mut folders, mut names) = (Vec::new(), BTreeSet::new());
        for entry in &tree {
            let name = entry.name_bytes();
            if !names.insert(name.to_vec()) {
                let why = format!("the tree holds `{}` twice", String::from_utf8_lossy(name).escape_debug());
                return Err(SourceError::Io {
                    path: shown.to_owned(),
                    source: io::Error::new(io::ErrorKind::InvalidData, why),
                });
            }
            let name = String::from_utf8_lossy(name);
            let path = if folder.is_empty() { name.to_string() } else { format!("{folder}/{name}") };
            // A name with a slash in it would pass for a path.
            let safe = std::str::from_utf8(entry.name_bytes()).is_ok_and(|name| !name.contains('/'))
                && path.parse::<RelPath>().is_ok();
            let (path, kind, size) = match kind_of(entry.filemode_raw()) {
                _ if !safe => (path.escape_debug().to_string(), SourceKind::BadName, 0),
                Kind::Folder => {
                    folders.push((path, entry.id()));
                    continue;
                }
                Kind::Other(SourceKind::Other) => (path, SourceKind::Other, 0),
                Kind::Other(kind) => {
                    let size = self.size_of(repository, entry.id(), ObjectType::Blob, &path)?;
                    (path, kind, size)
                }
            };
            found.push(SourceFile { path, kind, size, identity: None });
            if found.len() + folders.len() > MAX_ENTRIES {
                break;
            }
        }
        Ok(folders)
    }

    /// The blob at `path`.
    fn blob_at(&self, repository: &Repository, path: &RelPath) -> Result<Oid, SourceError> {
        let mut id = self.root;
        let mut parts = path.components().peekable();
        while let Some(part) = parts.next() {
            self.size_of(repository, id, ObjectType::Tree, path.as_str())?;
            let tree = repository.find_tree(id).map_err(|source| broken(path.as_str(), &source))?;
            let found = tree.iter().find(|entry| entry.name_bytes() == part.as_bytes());
            let Some(entry) = found else { return Err(SourceError::Missing(path.to_string())) };
            id = entry.id();
            match (kind_of(entry.filemode_raw()), parts.peek()) {
                (Kind::Folder, Some(_)) => {}
                (Kind::Other(SourceKind::File), None) => return Ok(id),
                (Kind::Folder | Kind::Other(_), _) => return Err(SourceError::NotRegular(path.to_string())),
            }
        }
        Err(SourceError::Missing(path.to_string()))
    }
}

fn broken(path: &str, source: &git2::Error) -> SourceError {
    let kind = if source.code() == ErrorCode::NotFound { io::ErrorKind::NotFound } else { io::ErrorKind::InvalidData };
    SourceError::Io { path: path.to_owned(), source: io::Error::new(kind, source.message().to_owned()) }
}

impl SetSource for GitSet {
    fn list(&self) -> Result<Vec<SourceFile>, SourceError> {
        let repository = self.repository();
        let mut found = Vec::new();
        let mut open = vec![(String::new(), self.root)];
        let mut folders = 0;
        while let Some((folder, id)) = open.pop() {
            let below = self.list_tree(&repository, (&folder, id), &mut found)?;
            folders += below.len();
            open.extend(below);
            // Counts folders too: a few trees that name each other many times over are a bomb.
            if found.len() + folders > MAX_ENTRIES {
                return Err(SourceError::TooMany(self.describe()));
            }
        }
        found.sort();
        Ok(found)
    }

    fn open(&self, path: &RelPath) -> Result<Box<dyn Read + Send>, SourceError> {
        let repository = self.repository();
        let id = self.blob_at(&repository, path)?;
        let size = self.size_of(&repository, id, ObjectType::Blob, path.as_str())?;
        if size > self.max_blob_bytes {
            return Err(SourceError::TooLarge { path: path.to_string(), size, cap: self.max_blob_bytes });
        }
        let whole = loose::check(&repository, id, Part::Whole(self.max_blob_bytes));
        whole.map_err(|source| broken(path.as_str(), &source))?;
        let blob = repository.find_blob(id).map_err(|source| broken(path.as_str(), &source))?;
        Ok(Box::new(Cursor::new(blob.content().to_vec())))
    }

    fn describe(&self) -> String {
        self.url.to_string()
    }

    fn revision(&self) -> Option<String> {
        Some(format!("commit:{}", self.commit))
    }
}
