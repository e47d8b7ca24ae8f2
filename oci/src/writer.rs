//! Writing sets into an image layout that may lie on a FAT32 stick.
//!
//! Every name is a word, a dot or hex digits in lower case, no file is larger than FAT32 takes, and no links are made.
//! The order is durable: blobs, then the index that names them. What was cut off leaves the old index and, at most,
//! blobs that nothing names; the next run uses them again or removes them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use autonomy_schema::{Code, Reason, Sha256, canonical};
use autonomy_stateroot::{DirSet, regular_files};
use sha2::Digest as _;

use crate::blobs::{Blob, SetPlan, pieces};
use crate::layout::{BLOBS, INDEX, INDEX_PART, Layout, MARKER, blob};
use crate::spec::{Descriptor, Index, REF_NAME};

/// A blob while it is written.
const PART: &str = "incoming.part";
/// Bytes copied at once.
const BUFFER: usize = 256 << 10;

/// A set was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The medium refused.
    #[error("cannot {verb} `{path}`")]
    Medium {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The set refused, or is not what it should be.
    #[error("{0}")]
    Refused(Reason),
}

impl WriteError {
    /// The error as a reason.
    pub fn to_reason(&self) -> Reason {
        match self {
            Self::Medium { source, .. } => Reason::new(Code::IoError, format!("{self}: {source}")),
            Self::Refused(reason) => reason.clone(),
        }
    }
}

impl From<Reason> for WriteError {
    fn from(reason: Reason) -> Self {
        Self::Refused(reason)
    }
}

/// A layout that is being written.
#[derive(Debug)]
pub struct LayoutWriter {
    to: PathBuf,
    index: Index,
    /// One writer at a time: what another one is about to name looks as if nothing named it.
    _locked: File,
}

/// Locks the folder, which must hold no link: what lies behind one is not ours to write.
fn lock(to: &Path) -> Result<File, WriteError> {
    let folder = File::open(to).map_err(|source| medium("open", to, source))?;
    match rustix::fs::flock(&folder, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let message = format!("another export writes to `{}`", to.display());
            return Err(Reason::new(Code::Locked, message).with_remedy("wait for it, or choose another folder").into());
        }
        Err(error) => return Err(medium("lock", to, error.into())),
    }
    let dir = DirSet::open(to).map_err(|error| error.to_reason())?;
    let (_, mut reasons) = regular_files(&dir)?;
    if reasons.is_empty() { Ok(folder) } else { Err(reasons.swap_remove(0).into()) }
}

impl LayoutWriter {
    /// Opens a folder that is empty or absent, or that holds a layout already.
    pub fn open(to: &Path) -> Result<Self, WriteError> {
        let taken = match fs::read_dir(to) {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(source) => return Err(medium("read", to, source)),
        };
        if to.join(autonomy_volumes::shape::name(0)).exists() {
            return Err(in_volumes(to).into());
        }
        // No link is followed, and nothing is removed, before it is known that there is none.
        fs::create_dir_all(to).map_err(|source| medium("make", to, source))?;
        let writer = Self { to: to.to_owned(), index: Index::default(), _locked: lock(to)? };
        for part in [format!("{BLOBS}/{PART}"), INDEX_PART.to_owned()] {
            writer.remove(&part)?;
        }
        // The index is the last of a new layout's frame: without it, an earlier run was cut off.
        let begun = taken && !to.join(INDEX).exists() && fs::read_dir(to).is_ok_and(only_blobs);
        if taken && !begun {
            let layout = Layout::open_folder(to).map_err(|reasons| reasons.into_vec().swap_remove(0))?;
            return Ok(Self { index: layout.index().clone(), ..writer });
        }
        let blobs = to.join(BLOBS);
        fs::create_dir_all(&blobs).map_err(|source| medium("make", &blobs, source))?;
        Ok(writer)
    }

    /// Writes the blobs of a set; those that are there whole are not written again. The set gets its tag, which another
    /// one loses. `progress` is told the bytes that are done.
    pub fn add(&mut self, set: &SetPlan<'_>, progress: &dyn Fn(u64)) -> Result<(), WriteError> {
        let mut done = 0;
        for blob in &set.blobs {
            if !self.holds(blob.digest, blob.size) {
                self.blob(blob, &|bytes| progress(done + bytes))?;
            }
            done += blob.size;
            progress(done);
        }
        let tag = set.entry.annotations.get(REF_NAME).cloned();
        self.enter(set.entry.clone(), tag.as_deref());
        Ok(())
    }

    /// Copies a blob in; bytes that are not those of its descriptor are refused.
    pub(crate) fn put_blob(&self, descriptor: &Descriptor, source: &mut dyn Read) -> Result<(), WriteError> {
        let part = self.part_of(descriptor.digest);
        let mut out = create(&part)?;
        let mut hash = sha2::Sha256::new();
        let name = format!("the blob {}", descriptor.digest);
        pieces(&name, source, descriptor.size, |piece| {
            hash.update(piece);
            out.write_all(piece).map_err(|source| medium("write", &part, source))
        })?;
        if Sha256::from_bytes(hash.finalize().into()) != descriptor.digest {
            let message = format!("{name} is not what its digest says");
            return Err(Reason::new(Code::DigestMismatch, message).into());
        }
        self.settle(out, &part, &blob(descriptor.digest))
    }

    /// Where a blob lies while it comes.
    pub(crate) fn part_of(&self, digest: Sha256) -> PathBuf {
        self.to.join(format!("{}.part", blob(digest)))
    }

    /// A blob that came whole.
    pub(crate) fn settle_part(&self, part: &Path, digest: Sha256) -> Result<(), WriteError> {
        let file = OpenOptions::new().read(true).open(part).map_err(|source| medium("read", part, source))?;
        self.settle(file, part, &blob(digest))
    }

    /// Writes a manifest or an index.
    pub(crate) fn put_document(&self, digest: Sha256, bytes: &[u8]) -> Result<(), WriteError> {
        if self.holds(digest, bytes.len() as u64) {
            return Ok(());
        }
        self.write(&blob(digest), &format!("{BLOBS}/{PART}"), bytes)
    }

    /// Enters a manifest into the index: under a tag, which moves, or without one.
    pub(crate) fn enter(&mut self, entry: Descriptor, tag: Option<&str>) {
        let entry = match tag {
            Some(tag) => entry.with(REF_NAME, tag),
            None => entry,
        };
        self.index.manifests.retain(|other| match tag {
            Some(tag) => other.annotations.get(REF_NAME).map(String::as_str) != Some(tag),
            None => other.digest != entry.digest || other.annotations.contains_key(REF_NAME),
        });
        self.index.manifests.push(entry);
    }

    /// Makes durable what was added. Blobs that nothing names any more are removed after it.
    pub fn finish(self) -> Result<(), WriteError> {
        let marker = self.to.join(MARKER);
        if !marker.exists() {
            self.write(MARKER, INDEX_PART, &marker_text()?)?;
        }
        let bytes = self.index.to_bytes().map_err(|error| unwritable(&error))?;
        self.sync_dir(BLOBS)?;
        self.write(INDEX, INDEX_PART, &bytes)?;
        self.sync_dir(".")?;
        let layout =
            Layout::open_folder(&self.to).map_err(|reasons| WriteError::Refused(reasons.into_vec().swap_remove(0)))?;
        for unnamed in layout.unnamed_blobs() {
            self.remove(&unnamed)?;
        }
        Ok(())
    }

    /// Writes one blob, hashing what is written.
    fn blob(&self, wanted: &Blob<'_>, progress: &dyn Fn(u64)) -> Result<(), WriteError> {
        let part = self.to.join(BLOBS).join(PART);
        let mut out = create(&part)?;
        let mut size = 0;
        wanted.read(|piece| {
            out.write_all(piece).map_err(|source| medium("write", &part, source))?;
            size += piece.len() as u64;
            progress(size);
            Ok::<_, WriteError>(())
        })?;
        self.settle(out, &part, &blob(wanted.digest))
    }

    /// Whether a blob is there and hashes to its name. The medium is read for it; one that cannot be read is written anew.
    pub(crate) fn holds(&self, digest: Sha256, size: u64) -> bool {
        let path = self.to.join(blob(digest));
        let nofollow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
        let Ok(file) = OpenOptions::new().read(true).custom_flags(nofollow).open(&path) else { return false };
        let mut file = file.take(size.saturating_add(1));
        let mut hash = sha2::Sha256::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Sha256::from_bytes(hash.finalize().into()) == digest,
                Ok(read) => hash.update(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    fn write(&self, name: &str, part: &str, bytes: &[u8]) -> Result<(), WriteError> {
        let part = self.to.join(part);
        let mut out = create(&part)?;
        out.write_all(bytes).map_err(|source| medium("write", &part, source))?;
        self.settle(out, &part, name)
    }

    fn settle(&self, out: File, part: &Path, name: &str) -> Result<(), WriteError> {
        out.sync_all().map_err(|source| medium("sync", part, source))?;
        drop(out);
        let to = self.to.join(name);
        fs::rename(part, &to).map_err(|source| medium("rename to", &to, source))
    }

    fn sync_dir(&self, name: &str) -> Result<(), WriteError> {
        let path = self.to.join(name);
        File::open(&path).and_then(|dir| dir.sync_all()).map_err(|source| medium("sync", &path, source))
    }

    fn remove(&self, name: &str) -> Result<(), WriteError> {
        let path = self.to.join(name);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(medium("remove", &path, source)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// The bytes of the marker file.
pub(crate) fn marker_text() -> Result<Vec<u8>, WriteError> {
    let text = canonical::to_bytes(&serde_json::json!({ "imageLayoutVersion": "1.0.0" }));
    text.map_err(|error| unwritable(&error))
}

fn only_blobs(entries: fs::ReadDir) -> bool {
    entries.flatten().all(|entry| entry.file_name() == "blobs" || entry.file_name() == MARKER)
}

fn create(path: &Path) -> Result<File, WriteError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(medium("remove", path, source)),
        Ok(()) | Err(_) => {}
    }
    OpenOptions::new().write(true).create_new(true).open(path).map_err(|source| medium("create", path, source))
}

pub(crate) fn medium(verb: &'static str, path: &Path, source: io::Error) -> WriteError {
    WriteError::Medium { verb, path: path.display().to_string(), source }
}

fn in_volumes(to: &Path) -> Reason {
    let message = format!("`{}` holds an export in volumes, and nothing lies beside one", to.display());
    Reason::new(Code::BadValue, message).with_remedy("give --split, which replaces it, or choose another folder")
}

pub(crate) fn unwritable(error: &canonical::CanonicalError) -> WriteError {
    Reason::new(Code::BadValue, error.to_string()).into()
}
