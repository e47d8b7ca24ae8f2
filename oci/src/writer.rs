//! Writing sets into an image layout that may lie on a FAT32 stick.
//!
//! Every name is a word, a dot or hex digits in lower case, no file is larger than FAT32 takes, and no links are made.
//! The order is durable: blobs, then the index that names them. What was cut off leaves the old index and, at most,
//! blobs that nothing names; the next run uses them again or removes them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use autonomy_schema::{Blake3, Code, Reason, RelPath, Sha256, canonical};
use autonomy_stateroot::{SetSource, SourceError};
use sha2::Digest as _;

use crate::layout::{BLOBS, INDEX, Layout, MARKER, blob};
use crate::set::{self, FILE_TYPE, SET_TYPE};
use crate::spec::{Descriptor, EMPTY_TYPE, Index, MANIFEST_TYPE, REF_NAME, TITLE};

/// Largest file of FAT32: one byte less than 4 GiB.
pub const MAX_FAT_FILE: u64 = u32::MAX as u64;
/// A blob while it is written.
const PART: &str = "incoming.part";
/// The index while it is written.
const INDEX_PART: &str = "index.part";
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
            Self::Medium { source, .. } => {
                let full = matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
                let code = if full { Code::DiskFull } else { Code::IoError };
                Reason::new(code, format!("{self}: {source}"))
            }
            Self::Refused(reason) => reason.clone(),
        }
    }
}

impl From<Reason> for WriteError {
    fn from(reason: Reason) -> Self {
        Self::Refused(reason)
    }
}

impl From<SourceError> for WriteError {
    fn from(error: SourceError) -> Self {
        Self::Refused(error.to_reason())
    }
}

/// What the signed manifest says of a file's bytes.
#[derive(Debug, Clone, Copy)]
pub enum Pin {
    /// Nothing: its signatures speak for it.
    None,
    /// Their SHA-256.
    Sha256(Sha256),
    /// Their BLAKE3.
    Blake3(Blake3),
}

/// What is known of a file before it is read.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its path below the set.
    pub path: RelPath,
    /// Its size.
    pub size: u64,
    /// Its digest.
    pub pin: Pin,
}

/// A layout that is being written.
#[derive(Debug)]
pub struct LayoutWriter {
    to: PathBuf,
    index: Index,
}

impl LayoutWriter {
    /// Opens a folder that is empty or absent, or that holds a layout already.
    pub fn open(to: &Path) -> Result<Self, WriteError> {
        let taken = match fs::read_dir(to) {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(source) => return Err(medium("read", to, source)),
        };
        let writer = Self { to: to.to_owned(), index: Index::default() };
        for part in [format!("{BLOBS}/{PART}"), INDEX_PART.to_owned()] {
            writer.remove(&part)?;
        }
        // The marker is written last of a new layout's frame: without it and with blobs, an earlier run was cut off.
        let begun = taken && !to.join(MARKER).exists() && fs::read_dir(to).is_ok_and(only_blobs);
        if taken && !begun {
            let layout = Layout::open(to).map_err(|reasons| reasons.into_vec().swap_remove(0))?;
            return Ok(Self { index: layout.index().clone(), ..writer });
        }
        let blobs = to.join(BLOBS);
        fs::create_dir_all(&blobs).map_err(|source| medium("make", &blobs, source))?;
        Ok(writer)
    }

    /// Adds a set: the files that are `wanted`, in order, under a tag. `progress` is told of bytes that were read.
    /// Gives the digest of its OCI manifest.
    pub fn add(
        &mut self,
        set: &dyn SetSource,
        wanted: &[Wanted],
        tag: &str,
        progress: &dyn Fn(u64),
    ) -> Result<Sha256, WriteError> {
        // Before a byte is written.
        if let Some(file) = wanted.iter().find(|file| file.size > MAX_FAT_FILE) {
            return Err(too_large(file).into());
        }
        let mut layers = Vec::with_capacity(wanted.len());
        let mut done = 0;
        for file in wanted {
            let digest = self.file(set, file, &|bytes| progress(done + bytes))?;
            done += file.size;
            layers.push(Descriptor::new(FILE_TYPE, digest, file.size).with(TITLE, file.path.as_str()));
        }
        let bytes = set::manifest(SET_TYPE, layers)?;
        self.bytes(autonomy_schema::oci::EMPTY_CONFIG, EMPTY_TYPE)?;
        let mut entry = self.bytes(&bytes, MANIFEST_TYPE)?;
        let digest = entry.digest;
        entry.artifact_type = Some(SET_TYPE.to_owned());
        let entry = entry.with(REF_NAME, tag);
        self.index.manifests.retain(|other| other.annotations.get(REF_NAME).map(String::as_str) != Some(tag));
        self.index.manifests.push(entry);
        Ok(digest)
    }

    /// Copies a blob in; bytes that are not those of its descriptor are refused.
    pub(crate) fn put_blob(&self, descriptor: &Descriptor, source: &mut dyn Read) -> Result<(), WriteError> {
        let part = self.part_of(descriptor.digest);
        let mut out = create(&part)?;
        let copied = io::copy(&mut source.take(descriptor.size.saturating_add(1)), &mut out);
        copied.map_err(|source| medium("write", &part, source))?;
        drop(out);
        self.settle_part(&part, descriptor.digest)?;
        if self.holds(descriptor.digest, descriptor.size) {
            return Ok(());
        }
        self.remove(&blob(descriptor.digest))?;
        let message = format!("the blob {} is not what its digest says", descriptor.digest);
        Err(Reason::new(Code::DigestMismatch, message).into())
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
            let text = canonical::to_bytes(&serde_json::json!({ "imageLayoutVersion": "1.0.0" }));
            self.write(MARKER, INDEX_PART, &text.map_err(|error| unwritable(&error))?)?;
        }
        let bytes = self.index.to_bytes().map_err(|error| unwritable(&error))?;
        self.sync_dir(BLOBS)?;
        self.write(INDEX, INDEX_PART, &bytes)?;
        self.sync_dir(".")?;
        let layout =
            Layout::open(&self.to).map_err(|reasons| WriteError::Refused(reasons.into_vec().swap_remove(0)))?;
        for unnamed in layout.unnamed_blobs() {
            self.remove(&unnamed)?;
        }
        Ok(())
    }

    /// Copies one file into a blob. One that is there whole is not written again.
    fn file(&self, set: &dyn SetSource, wanted: &Wanted, progress: &dyn Fn(u64)) -> Result<Sha256, WriteError> {
        if let Pin::Sha256(digest) = wanted.pin
            && self.holds(digest, wanted.size)
        {
            progress(wanted.size);
            return Ok(digest);
        }
        let part = self.to.join(BLOBS).join(PART);
        let mut source = set.open(&wanted.path)?.take(wanted.size.saturating_add(1));
        let mut out = create(&part)?;
        let (mut sha256, mut blake3) = (sha2::Sha256::new(), blake3::Hasher::new());
        let mut buffer = vec![0; BUFFER];
        let mut size = 0;
        loop {
            let read = source.read(&mut buffer).map_err(|error| {
                Reason::new(Code::IoError, format!("cannot read `{}` of {}: {error}", wanted.path, set.describe()))
            })?;
            if read == 0 {
                break;
            }
            size += read as u64;
            sha256.update(&buffer[..read]);
            if let Pin::Blake3(_) = wanted.pin {
                blake3.update(&buffer[..read]);
            }
            out.write_all(&buffer[..read]).map_err(|source| medium("write", &part, source))?;
            progress(size);
        }
        let digest = Sha256::from_bytes(sha256.finalize().into());
        wanted.check(size, digest, Blake3::from_bytes(*blake3.finalize().as_bytes()))?;
        self.settle(out, &part, &blob(digest))?;
        Ok(digest)
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

    fn bytes(&self, bytes: &[u8], media_type: &str) -> Result<Descriptor, WriteError> {
        let descriptor = Descriptor::of(media_type, bytes);
        if !self.holds(descriptor.digest, descriptor.size) {
            self.write(&blob(descriptor.digest), &format!("{BLOBS}/{PART}"), bytes)?;
        }
        Ok(descriptor)
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

fn only_blobs(entries: fs::ReadDir) -> bool {
    entries.flatten().all(|entry| entry.file_name() == "blobs")
}

fn create(path: &Path) -> Result<File, WriteError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(medium("remove", path, source)),
        Ok(()) | Err(_) => {}
    }
    OpenOptions::new().write(true).create_new(true).open(path).map_err(|source| medium("create", path, source))
}

fn medium(verb: &'static str, path: &Path, source: io::Error) -> WriteError {
    WriteError::Medium { verb, path: path.display().to_string(), source }
}

fn unwritable(error: &canonical::CanonicalError) -> WriteError {
    Reason::new(Code::BadValue, error.to_string()).into()
}

fn too_large(file: &Wanted) -> Reason {
    let Wanted { path, size, .. } = file;
    let message = format!("`{path}` has {size} bytes; one file of a FAT32 medium holds at most {MAX_FAT_FILE}");
    Reason::new(Code::LimitExceeded, message).with_remedy("bring it as several artifacts")
}

impl Wanted {
    /// Refuses bytes that are not those that are wanted.
    pub(crate) fn check(&self, size: u64, sha256: Sha256, blake3: Blake3) -> Result<(), Reason> {
        if size != self.size {
            let message = format!("`{}` does not have the {} bytes that are expected", self.path, self.size);
            return Err(Reason::new(Code::SizeMismatch, message));
        }
        let (found, pinned) = match self.pin {
            Pin::Sha256(pinned) if pinned != sha256 => (sha256.to_string(), pinned.to_string()),
            Pin::Blake3(pinned) if pinned != blake3 => (blake3.to_string(), pinned.to_string()),
            Pin::None | Pin::Sha256(_) | Pin::Blake3(_) => return Ok(()),
        };
        let message = format!("`{}` is {found}, the manifest pins {pinned}", self.path);
        Err(Reason::new(Code::DigestMismatch, message))
    }
}
