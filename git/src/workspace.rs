//! The folder that holds what was fetched: one bare repository for each commit that is in use, mostly one in all.
//!
//! ```text
//! lock                  held while a process fetches
//! new.git/              a fetch that is not finished; whatever is found there is left over and removed
//! <40 hex>.git/         a shallow repository with that commit
//!   autonomy-in-use     locked, shared, by every set that reads it
//! ```
//!
//! A fetch goes into a fresh repository that takes the place of the old by a rename. So objects of old commits cannot
//! pile up, a fetch that was cut or went beyond the cap leaves nothing, and nothing that a damaged repository holds
//! can spoil the next fetch. The price is that each new commit is received whole (its files, not its history).

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use git2::{Repository, RepositoryInitMode, RepositoryInitOptions};

use crate::error::GitError;
use crate::exchange::Exchange;
use crate::resolve::CommitId;

const LOCK: &str = "lock";
const NEW: &str = "new.git";
const IN_USE: &str = "autonomy-in-use";
/// How often a held lock is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// The workspace, with its lock held.
pub(crate) struct Workspace {
    folder: PathBuf,
    _lock: File,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> GitError {
    let path = path.to_owned();
    move |source| GitError::Workspace { action, path, source }
}

impl Workspace {
    /// Waits for the lock as long as for a silent server.
    pub(crate) fn lock(folder: &Path, exchange: &Exchange) -> Result<Self, GitError> {
        fs::create_dir_all(folder).map_err(failed("create", folder))?;
        let path = folder.join(LOCK);
        let lock = open_lock(&path)?;
        let since = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Self { folder: folder.to_owned(), _lock: lock }),
                Err(TryLockError::Error(source)) => return Err(failed("lock", &path)(source)),
                Err(TryLockError::WouldBlock) if since.elapsed() >= exchange.silence => {
                    return Err(GitError::Busy { path: folder.to_owned() });
                }
                Err(TryLockError::WouldBlock) => {}
            }
            if exchange.check().is_err() {
                return Err(GitError::Cancelled { url: exchange.url.to_string() });
            }
            std::thread::sleep(RETRY);
        }
    }

    fn of(&self, commit: CommitId) -> PathBuf {
        self.folder.join(format!("{commit}.git"))
    }

    /// The repository of `commit`, if it is kept and opens, and the lock that keeps it.
    pub(crate) fn kept(&self, commit: CommitId) -> Option<(Repository, File)> {
        let path = self.of(commit);
        let repository = Repository::open_bare(&path).ok()?;
        Some((repository, in_use(&path).ok()?))
    }

    /// Throws a kept repository away.
    pub(crate) fn discard(&self, commit: CommitId) -> Result<(), GitError> {
        let path = self.of(commit);
        remove(&path)
    }

    /// A fresh repository to fetch into.
    pub(crate) fn fresh(&self) -> Result<Fresh, GitError> {
        let path = self.folder.join(NEW);
        remove(&path)?;
        let mut options = RepositoryInitOptions::new();
        options.bare(true).no_reinit(true).external_template(false).mode(RepositoryInitMode::SHARED_UMASK);
        let repository = Repository::init_opts(&path, &options)
            .map_err(|error| failed("create", &path)(io::Error::other(error.message().to_owned())))?;
        Ok(Fresh { path, repository: Some(repository) })
    }

    /// Gives the fetched repository its name and removes all others that nobody reads.
    pub(crate) fn keep(&self, mut fresh: Fresh, commit: CommitId) -> Result<(Repository, File), GitError> {
        // Closed before it moves: libgit2 remembers paths.
        fresh.repository = None;
        let path = self.of(commit);
        remove(&path)?;
        fs::rename(&fresh.path, &path).map_err(failed("rename into", &path))?;
        let lock = in_use(&path)?;
        let repository = Repository::open_bare(&path)
            .map_err(|error| failed("open", &path)(io::Error::other(error.message().to_owned())))?;
        self.tidy(&path)?;
        Ok((repository, lock))
    }

    fn tidy(&self, keep: &Path) -> Result<(), GitError> {
        let listed = fs::read_dir(&self.folder).map_err(failed("list", &self.folder))?;
        for entry in listed {
            let path = entry.map_err(failed("list", &self.folder))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".git"));
            let ours = name.is_some_and(|name| name.parse::<CommitId>().is_ok());
            if !ours || path == keep {
                continue;
            }
            // One without the file was cut before it was ever used.
            let read = File::open(path.join(IN_USE)).is_ok_and(|file| file.try_lock().is_err());
            if !read {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

fn open_lock(path: &Path) -> Result<File, GitError> {
    File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(failed("open", path))
}

fn in_use(repository: &Path) -> Result<File, GitError> {
    let path = repository.join(IN_USE);
    let file = open_lock(&path)?;
    // Only a tidying process locks it otherwise, and that holds the workspace's lock, which is ours now.
    file.lock_shared().map_err(failed("lock", &path))?;
    Ok(file)
}

fn remove(path: &Path) -> Result<(), GitError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A repository that is gone again unless it is kept.
pub(crate) struct Fresh {
    path: PathBuf,
    repository: Option<Repository>,
}

impl Fresh {
    pub(crate) fn repository(&self) -> Option<&Repository> {
        self.repository.as_ref()
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        self.repository = None;
        // The next fetch tries again; after `keep` there is nothing left to remove.
        let _left_over = remove(&self.path);
    }
}
