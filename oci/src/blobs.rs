//! What sets come to on a medium, before a byte of it is written: a list of blobs, each with its digest, its size and a way
//! to its bytes. Whatever writes media writes such a list.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use autonomy_schema::{Blake3, Code, Reason, RelPath, Sha256, oci};
use autonomy_stateroot::{SetSource, read_failed, read_refused};
use sha2::Digest as _;

use crate::pack::{Cuts, MAX_PACK_BYTES, PACK_TYPE, Packing};
use crate::set::{BASES, FILE_TYPE, SET_TYPE, TRUST_TAG, TRUST_TYPE};
use crate::spec::{Descriptor, EMPTY_TYPE, MANIFEST_TYPE, MAX_MANIFEST_BYTES, Manifest, REF_NAME, TITLE};

/// Largest file of FAT32: one byte less than 4 GiB.
pub const MAX_FAT_FILE: u64 = u32::MAX as u64;
/// Bytes read at once.
const BUFFER: usize = 256 << 10;

/// Opens the bytes of a blob, anew each time.
type Open<'a> = Box<dyn Fn() -> Result<Box<dyn Read + Send + 'a>, Reason> + Send + Sync + 'a>;

/// A blob that is not written yet.
pub struct Blob<'a> {
    /// SHA-256 of its bytes.
    pub digest: Sha256,
    /// Their number.
    pub size: u64,
    /// What people call it.
    pub name: String,
    open: Open<'a>,
}

impl std::fmt::Debug for Blob<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blob").field("name", &self.name).field("digest", &self.digest).finish_non_exhaustive()
    }
}

impl<'a> Blob<'a> {
    /// A blob whose bytes are at hand.
    pub fn of(name: &str, bytes: Vec<u8>) -> Self {
        let (digest, size) = (Sha256::of(&bytes), bytes.len() as u64);
        let open: Open<'a> = Box::new(move || Ok(Box::new(io::Cursor::new(bytes.clone()))));
        Self { digest, size, name: name.to_owned(), open }
    }

    /// A blob whose bytes are a file of a set.
    fn file(set: &'a dyn SetSource, path: &RelPath, digest: Sha256, size: u64) -> Self {
        let (name, path) = (path.to_string(), path.clone());
        let open: Open<'a> = Box::new(move || {
            let file = set.open(&path).map_err(|error| error.to_reason())?;
            Ok(file as Box<dyn Read + Send + 'a>)
        });
        Self { digest, size, name, open }
    }

    /// A blob that is a pack.
    fn pack(set: &'a dyn SetSource, cuts: &Arc<Cuts>, pack: &Range<usize>, digest: Sha256) -> Self {
        let (size, name) = (cuts.size(pack), format!("the pack {digest}"));
        let (cuts, pack) = (Arc::clone(cuts), pack.clone());
        let open: Open<'a> = Box::new(move || Ok(Box::new(Packing::new(set, &cuts, &pack))));
        Self { digest, size, name, open }
    }

    /// A stream of all of it, whose end is an error when the bytes are other than announced.
    pub(crate) fn stream(&self) -> Result<impl Read + Send + use<'a>, Reason> {
        let (name, digest) = (self.name.clone(), self.digest);
        Ok(Checked { source: (self.open)()?, hash: sha2::Sha256::new(), name, digest })
    }

    /// Opens its bytes, as they are.
    pub(crate) fn open(&self) -> Result<Box<dyn Read + Send + 'a>, Reason> {
        (self.open)()
    }

    /// Reads all of it, piece by piece. What turns out to be longer, shorter or other than announced is an error, after
    /// the pieces.
    pub fn read<E: From<Reason>>(&self, mut each: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut hash = sha2::Sha256::new();
        pieces(&self.name, (self.open)()?, self.size, |piece| {
            hash.update(piece);
            each(piece)
        })?;
        let found = Sha256::from_bytes(hash.finalize().into());
        if found == self.digest { Ok(()) } else { Err(other(&self.name, &found, &self.digest).into()) }
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

/// What of a set goes onto a medium.
#[derive(Debug, Default)]
pub struct Parts {
    /// Its files, in order; artifacts that are built from segments are not among them.
    pub files: Vec<Wanted>,
    /// The segments that the receiver lacks.
    pub cuts: Cuts,
    /// Manifests that the receiver is taken to have the artifacts of.
    pub bases: BTreeSet<Blake3>,
}

/// How large files on a medium may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Any file.
    pub file: u64,
    /// A pack.
    pub pack: u64,
}

impl Default for Limits {
    /// Those of a FAT32 medium.
    fn default() -> Self {
        Self { file: MAX_FAT_FILE, pack: MAX_PACK_BYTES }
    }
}

/// A set as it will lie on a medium.
#[derive(Debug)]
pub struct SetPlan<'a> {
    /// What an index says of it, tag included.
    pub entry: Descriptor,
    /// The blobs that it needs, each once, its OCI manifest last.
    pub blobs: Vec<Blob<'a>>,
    /// Bytes of the packs among them.
    pub packed: u64,
    /// Number of the packs among them.
    pub packs: usize,
}

impl SetPlan<'_> {
    /// Bytes of all blobs.
    pub fn bytes(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.size).sum()
    }
}

/// Plans a set under a tag. Files whose SHA-256 is pinned are not read for it, all others are; packs are made once, for their
/// digest.
pub fn plan_set<'a>(set: &'a dyn SetSource, parts: Parts, limits: Limits, tag: &str) -> Result<SetPlan<'a>, Reason> {
    plan(SET_TYPE, set, parts, limits, tag)
}

/// Plans what changes whom nodes trust: the files of a folder that `autonomy trust import` takes.
pub fn plan_trust(files: &dyn SetSource, wanted: Vec<Wanted>) -> Result<SetPlan<'_>, Reason> {
    plan(TRUST_TYPE, files, Parts { files: wanted, ..Parts::default() }, Limits::default(), TRUST_TAG)
}

fn plan<'a>(
    kind: &str,
    set: &'a dyn SetSource,
    parts: Parts,
    limits: Limits,
    tag: &str,
) -> Result<SetPlan<'a>, Reason> {
    let Parts { files, cuts, bases } = parts;
    if let Some(file) = files.iter().find(|file| file.size > limits.file) {
        return Err(too_large(file, limits));
    }
    let mut blobs = Vec::with_capacity(files.len() + 2);
    let mut layers = Vec::with_capacity(files.len());
    for file in &files {
        let digest = file.digest(set)?;
        layers.push(Descriptor::new(FILE_TYPE, digest, file.size).with(TITLE, file.path.as_str()));
        blobs.push(Blob::file(set, &file.path, digest, file.size));
    }
    let cuts = Arc::new(cuts);
    let packs = cuts.packs(limits.pack);
    let mut packed = 0;
    for pack in &packs {
        let (digest, size) = (digest_of(Packing::new(set, &cuts, pack))?, cuts.size(pack));
        layers.push(Descriptor::new(PACK_TYPE, digest, size));
        blobs.push(Blob::pack(set, &cuts, pack, digest));
        packed += size;
    }
    let manifest = manifest(kind, layers, &bases)?;
    let mut entry = Descriptor::of(MANIFEST_TYPE, &manifest).with(REF_NAME, tag);
    entry.artifact_type = Some(kind.to_owned());
    blobs.push(Blob::of(EMPTY_TYPE, oci::EMPTY_CONFIG.to_vec()));
    blobs.push(Blob::of("the OCI manifest", manifest));
    let mut known = BTreeSet::new();
    blobs.retain(|blob| known.insert(blob.digest));
    Ok(SetPlan { entry, blobs, packed, packs: packs.len() })
}

/// The OCI manifest.
fn manifest(kind: &str, layers: Vec<Descriptor>, bases: &BTreeSet<Blake3>) -> Result<Vec<u8>, Reason> {
    let count = layers.len();
    let mut manifest = Manifest::artifact(kind, layers);
    if !bases.is_empty() {
        let bases: Vec<String> = bases.iter().map(ToString::to_string).collect();
        manifest.annotations.insert(BASES.to_owned(), bases.join(" "));
    }
    let bytes = manifest.to_bytes().map_err(|error| Reason::new(Code::BadValue, error.to_string()))?;
    if bytes.len() as u64 <= MAX_MANIFEST_BYTES {
        return Ok(bytes);
    }
    let size = bytes.len();
    let message = format!("the OCI manifest of {count} files has {size} bytes; registries take {MAX_MANIFEST_BYTES}");
    Err(Reason::new(Code::LimitExceeded, message))
}

fn digest_of(mut pack: Packing<'_>) -> Result<Sha256, Reason> {
    let mut hash = sha2::Sha256::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match pack.read(&mut buffer).map_err(|error| read_failed("a pack", &error))? {
            0 => return Ok(Sha256::from_bytes(hash.finalize().into())),
            read => hash.update(&buffer[..read]),
        }
    }
}

impl Wanted {
    /// The SHA-256 that is pinned, or that of the bytes that are there.
    fn digest(&self, set: &dyn SetSource) -> Result<Sha256, Reason> {
        if let Pin::Sha256(digest) = self.pin {
            return Ok(digest);
        }
        let (mut sha256, mut blake3) = (sha2::Sha256::new(), blake3::Hasher::new());
        let file = set.open(&self.path).map_err(|error| error.to_reason())?;
        pieces(self.path.as_str(), file, self.size, |piece| {
            sha256.update(piece);
            blake3.update(piece);
            Ok::<_, Reason>(())
        })?;
        let found = Blake3::from_bytes(*blake3.finalize().as_bytes());
        match self.pin {
            Pin::Blake3(pinned) if pinned != found => Err(other(self.path.as_str(), &found, &pinned)),
            Pin::None | Pin::Sha256(_) | Pin::Blake3(_) => Ok(Sha256::from_bytes(sha256.finalize().into())),
        }
    }
}

/// A stream that is hashed while it is read.
struct Checked<R> {
    source: R,
    hash: sha2::Sha256,
    name: String,
    digest: Sha256,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(into)?;
        self.hash.update(&into[..read]);
        if read == 0 && !into.is_empty() {
            let found = Sha256::from_bytes(self.hash.clone().finalize().into());
            if found != self.digest {
                return Err(read_refused(other(&self.name, &found, &self.digest)));
            }
        }
        Ok(read)
    }
}

/// Reads a stream of exactly `size` bytes, and at most one more.
pub(crate) fn pieces<E: From<Reason>>(
    name: &str,
    source: impl Read,
    size: u64,
    mut each: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut source = source.take(size.saturating_add(1));
    let mut buffer = vec![0; BUFFER];
    let mut done = 0;
    loop {
        let read = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(read_failed(name, &error).into()),
        };
        done += read as u64;
        each(&buffer[..read])?;
    }
    if done == size {
        return Ok(());
    }
    let message = format!("`{name}` does not have the {size} bytes that are expected");
    Err(Reason::new(Code::SizeMismatch, message).into())
}

fn other(name: &str, found: &dyn std::fmt::Display, pinned: &dyn std::fmt::Display) -> Reason {
    Reason::new(Code::DigestMismatch, format!("`{name}` is {found}, and {pinned} is expected"))
}

fn too_large(file: &Wanted, limits: Limits) -> Reason {
    let Wanted { path, size, .. } = file;
    let message = format!("`{path}` has {size} bytes; one file of the medium holds at most {}", limits.file);
    Reason::new(Code::LimitExceeded, message)
}
