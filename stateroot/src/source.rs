//! Reading a set that lies outside the state root: in a folder, later on other media.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use autonomy_schema::{Blake3, Code, Reason, Reasons, RelPath, StateManifest, document, set};
use rustix::io::Errno;

use crate::at;
use crate::disk::{DiskError, FileKind, Identity};

/// Most entries of a set, folders included: the largest tree ([`autonomy_schema::tree::MAX_FILES`]) in folders of its own
/// fits, and [`autonomy_schema::manifest::MAX_ARTIFACTS`] artifacts with their indices.
pub const MAX_ENTRIES: usize = 300_000;

/// What an entry of a set is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceKind {
    /// A regular file.
    File,
    /// A symbolic link; it is never followed.
    Symlink,
    /// A device, socket or pipe.
    Other,
    /// Anything whose name is not a safe path; the path is shown escaped, and what is below it is not looked at.
    BadName,
}

/// One entry of a set. Folders are not listed; what is in them is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceFile {
    /// Path below the set.
    pub path: String,
    /// What it is.
    pub kind: SourceKind,
    /// Size in bytes.
    pub size: u64,
    /// Which file it is, where the source knows.
    pub identity: Option<Identity>,
}

/// A set could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The source does not exist or is not a set.
    #[error("`{0}` {1}")]
    NotFound(String, &'static str),
    /// A file of the set does not exist.
    #[error("the set has no `{0}`")]
    Missing(String),
    /// A file of the set is a symbolic link or special.
    #[error("`{0}` is not a regular file")]
    NotRegular(String),
    /// The set has more than [`MAX_ENTRIES`] entries.
    #[error("`{0}` holds more than {MAX_ENTRIES} entries")]
    TooMany(String),
    /// A file of the set is larger than the source can hand out.
    #[error("`{path}` has {size} bytes; the source gives at most {cap}")]
    TooLarge {
        /// Which.
        path: String,
        /// Its size.
        size: u64,
        /// The source's cap.
        cap: u64,
    },
    /// A file of the set is to be put together from parts, and some are nowhere.
    #[error("{0}")]
    Incomplete(Reason),
    /// The medium failed.
    #[error("cannot read `{path}`")]
    Io {
        /// What was read.
        path: String,
        /// What the operating system said.
        source: io::Error,
    },
}

impl SourceError {
    /// What the disk of a state root says of a file of a set that lies there.
    pub fn stored(path: &str, error: DiskError) -> Self {
        if error.is_not_found() {
            return Self::Missing(path.to_owned());
        }
        Self::Io { path: path.to_owned(), source: error.source }
    }

    /// The error as a reason.
    pub fn to_reason(&self) -> Reason {
        match self {
            Self::NotFound(..) => Reason::new(Code::SourceNotFound, self.to_string()),
            Self::Missing(_) => Reason::new(Code::MissingFile, self.to_string()),
            Self::NotRegular(_) => Reason::new(Code::SymlinkRefused, self.to_string()),
            Self::TooMany(_) => Reason::new(Code::LimitExceeded, self.to_string()),
            Self::TooLarge { .. } => Reason::new(Code::SourceTooLarge, self.to_string()),
            Self::Incomplete(reason) => reason.clone(),
            Self::Io { path, source } => read_failed(path, source),
        }
    }
}

/// Why reading `name` failed. A source that judges what it reads says so in the error itself; everything else is the
/// machine's.
pub fn read_failed(name: &str, error: &io::Error) -> Reason {
    let judged = error.get_ref().and_then(|inner| inner.downcast_ref::<Reasons>());
    judged
        .and_then(|reasons| reasons.as_slice().first().cloned())
        .unwrap_or_else(|| Reason::new(Code::IoError, format!("cannot read `{name}`: {error}")))
}

/// A judgement as the error of a read; [`read_failed`] gives it back.
pub fn read_refused(reason: Reason) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Reasons::from(reason))
}

/// A set that can be listed and read.
pub trait SetSource: Send + Sync {
    /// Every entry, sorted by path.
    fn list(&self) -> Result<Vec<SourceFile>, SourceError>;
    /// Opens a regular file; nothing else.
    fn open(&self, path: &RelPath) -> Result<Box<dyn Read + Send>, SourceError>;
    /// The same from an offset on; nothing is read when it lies behind the end. A source that can seek does: what puts
    /// artifacts together from segments asks for many places.
    fn open_at(&self, path: &RelPath, offset: u64) -> Result<Box<dyn Read + Send>, SourceError> {
        let mut file = self.open(path)?;
        skip(&mut file, offset).map_err(|source| SourceError::Io { path: path.to_string(), source })?;
        Ok(file)
    }
    /// What a person calls the source.
    fn describe(&self) -> String;
    /// The revision that was read, where the source has revisions: `commit:<40 hex>`.
    fn revision(&self) -> Option<String> {
        None
    }
    /// What is wrong with the medium although everything could be read so far.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Reads over the first bytes of a stream.
pub(crate) fn skip(file: &mut dyn Read, bytes: u64) -> io::Result<()> {
    io::copy(&mut file.take(bytes), &mut io::sink()).map(drop)
}

/// The regular files of a source by path, and reasons against everything else in it.
pub fn regular_files(source: &dyn SetSource) -> Result<(BTreeMap<String, SourceFile>, Vec<Reason>), Reason> {
    let mut files = BTreeMap::new();
    let mut reasons = Vec::new();
    for file in source.list().map_err(|error| error.to_reason())? {
        match file.kind {
            SourceKind::File => {
                files.insert(file.path.clone(), file);
            }
            SourceKind::Symlink | SourceKind::Other => {
                let message = format!("`{}` is a symbolic link or special file", file.path);
                reasons.push(Reason::new(Code::SymlinkRefused, message));
            }
            SourceKind::BadName => {
                reasons.push(Reason::new(Code::UnsafePath, format!("`{}` is not a safe file name", file.path)));
            }
        }
    }
    Ok((files, reasons))
}

/// A file of a source within its cap; `None` when it is absent. Not a byte beyond `cap + 1` is read.
pub fn read_file(source: &dyn SetSource, name: &str, cap: u64) -> Result<Option<Vec<u8>>, Reason> {
    let path = name.parse::<RelPath>().map_err(|error| error.to_reason())?;
    let file = match source.open(&path) {
        Ok(file) => file,
        Err(SourceError::Missing(_)) => return Ok(None),
        Err(error) => return Err(error.to_reason()),
    };
    let mut bytes = Vec::new();
    let read = file.take(cap.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|error| read_failed(name, &error))?;
    if bytes.len() as u64 > cap {
        return Err(Reason::new(Code::DocumentTooLarge, format!("`{name}` is longer than {cap} bytes")));
    }
    Ok(Some(bytes))
}

/// The manifest of a set as it lies there, verified by nobody, with its fingerprint; `None` where there is none that can be
/// read, which whoever verifies the set tells.
pub fn unverified(source: &dyn SetSource) -> Option<(StateManifest, Blake3)> {
    let bytes = read_file(source, set::MANIFEST, document::MAX_DOCUMENT_BYTES as u64).ok()??;
    Some((document::parse(&bytes).ok()?, document::fingerprint(&bytes)))
}

/// A set in a folder. The folder is held open; nothing outside it is ever read.
#[derive(Debug)]
pub struct DirSet {
    root: OwnedFd,
    path: PathBuf,
}

impl DirSet {
    /// Opens the folder at `path`, which may be reached through links.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        match at::open_root(path, true) {
            Ok(root) => Ok(Self { root, path: path.to_owned() }),
            Err(source) => {
                let shown = path.display().to_string();
                if source.kind() == io::ErrorKind::NotFound {
                    return Err(SourceError::NotFound(shown, "does not exist"));
                }
                if source.kind() == io::ErrorKind::NotADirectory {
                    return Err(SourceError::NotFound(shown, "is not a folder"));
                }
                Err(SourceError::Io { path: shown, source })
            }
        }
    }

    /// Lists one folder into `found`; gives the folders in it.
    fn list_folder(&self, folder: &str, found: &mut Vec<SourceFile>) -> io::Result<Vec<String>> {
        let (dir, names) = at::names(at::open_dir(self.root.as_fd(), folder)?)?;
        let mut folders = Vec::new();
        for (name, _) in names {
            let Some(stat) = at::stat_name(dir.fd()?, name.as_c_str())? else { continue };
            let name = at::name_text(&name);
            let path = if folder == "." { name } else { format!("{folder}/{name}") };
            let kind = match (path.parse::<RelPath>(), stat.kind) {
                (Err(_), _) => SourceKind::BadName,
                (Ok(_), FileKind::Dir) => {
                    folders.push(path);
                    continue;
                }
                (Ok(_), FileKind::File) => SourceKind::File,
                (Ok(_), FileKind::Symlink) => SourceKind::Symlink,
                (Ok(_), FileKind::Other) => SourceKind::Other,
            };
            let path = if kind == SourceKind::BadName { path.escape_debug().to_string() } else { path };
            found.push(SourceFile { path, kind, size: stat.size, identity: Some(stat.identity) });
            if found.len() > MAX_ENTRIES {
                break;
            }
        }
        Ok(folders)
    }
}

impl SetSource for DirSet {
    fn list(&self) -> Result<Vec<SourceFile>, SourceError> {
        let mut found = Vec::new();
        let mut todo = vec![".".to_owned()];
        let mut folders = 0;
        while let Some(folder) = todo.pop() {
            let below = self
                .list_folder(&folder, &mut found)
                .map_err(|source| SourceError::Io { path: self.path.join(&folder).display().to_string(), source })?;
            folders += below.len();
            todo.extend(below);
            if found.len() + folders > MAX_ENTRIES {
                return Err(SourceError::TooMany(self.describe()));
            }
        }
        found.sort();
        Ok(found)
    }

    fn open(&self, path: &RelPath) -> Result<Box<dyn Read + Send>, SourceError> {
        Ok(Box::new(self.file(path)?))
    }

    fn open_at(&self, path: &RelPath, offset: u64) -> Result<Box<dyn Read + Send>, SourceError> {
        let mut file = self.file(path)?;
        let sought = file.seek(SeekFrom::Start(offset));
        sought.map_err(|source| SourceError::Io { path: path.to_string(), source })?;
        Ok(Box::new(file))
    }

    fn describe(&self) -> String {
        self.path.display().to_string()
    }
}

impl DirSet {
    fn file(&self, path: &RelPath) -> Result<File, SourceError> {
        match at::open_file(self.root.as_fd(), path.as_str()) {
            Ok((fd, _)) => Ok(File::from(fd)),
            Err(source) => {
                let path = path.to_string();
                // What `openat2` says of a link, `open_file` of a folder or a special file, and both of a file in
                // the place of a folder.
                let strange = [Errno::LOOP, Errno::ISDIR, Errno::NOTDIR].map(|errno| Some(errno.raw_os_error()));
                if source.kind() == io::ErrorKind::NotFound {
                    return Err(SourceError::Missing(path));
                }
                if strange.contains(&source.raw_os_error()) || source.kind() == io::ErrorKind::InvalidInput {
                    return Err(SourceError::NotRegular(path));
                }
                Err(SourceError::Io { path, source })
            }
        }
    }
}
