//! Verification of a whole set: signatures first, then the closed list of files, then every byte of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Read};

use autonomy_schema::lock::Lock;
use autonomy_schema::manifest::StateManifest;
use autonomy_schema::segments::{Entries, IndexError};
use autonomy_schema::{Blake3, Code, Reason, Reasons, RelPath, Sha256, document, set};
use autonomy_stateroot::{
    Content, Identity, Known, Pins, SetSource, SourceFile, StatCache, known_contents, read_failed, read_file,
    regular_files,
};
use autonomy_trust::{Context, Signed, Verified, verify_lock, verify_manifest};
use sha2::Digest as _;

use crate::roots;

/// Bytes read at once while hashing.
const BUFFER: usize = 128 << 10;

/// How a set is verified.
pub struct SetCheck<'a> {
    /// The set.
    pub set: &'a dyn SetSource,
    /// Root, floors, clock, node, purpose.
    pub context: &'a Context<'a>,
    /// Digests of files that did not change since they were hashed; an empty cache makes every byte be read.
    pub cache: &'a StatCache,
    /// Told after each file: bytes done, bytes in all.
    pub progress: &'a dyn Fn(u64, u64),
}

/// A set whose every byte was checked.
#[derive(Debug)]
pub struct VerifiedSet {
    /// The manifest.
    pub manifest: Verified<StateManifest>,
    /// The lock.
    pub lock: Verified<Lock>,
    /// The bytes of the policy bundle.
    pub policy: Vec<u8>,
    /// What was hashed, for the stat cache.
    pub learned: Vec<Learned>,
}

/// A file that was hashed.
#[derive(Debug, Clone, Copy)]
pub struct Learned {
    /// Which file, as it was before and after the hashing.
    pub identity: Identity,
    /// Its size.
    pub size: u64,
    /// Its digests.
    pub digests: (Blake3, Sha256),
}

/// Puts into the cache what was hashed.
pub fn learn(cache: &mut StatCache, learned: &[Learned]) {
    for entry in learned {
        cache.put(entry.identity, entry.size, entry.digests.0, entry.digests.1);
    }
}

/// How much of a set lies there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// All but the artifacts: their bytes come later, by the segment indices.
    Documents,
}

/// The documents of a set that was verified; its artifacts are elsewhere.
#[derive(Debug)]
pub struct VerifiedDocuments {
    /// The manifest.
    pub manifest: Verified<StateManifest>,
    /// The lock.
    pub lock: Verified<Lock>,
    /// The bytes of the policy bundle.
    pub policy: Vec<u8>,
}

/// Verifies signatures, the list of files, and every byte. All reasons that can be told at once.
pub fn verify_set(check: &SetCheck<'_>) -> Result<VerifiedSet, Reasons> {
    verify(check, Extent::Whole)
}

/// The same of a set without `artifacts/`: signatures, the list of files, policy, lock, and every index.
pub fn verify_documents(check: &SetCheck<'_>) -> Result<VerifiedDocuments, Reasons> {
    let VerifiedSet { manifest, lock, policy, learned: _ } = verify(check, Extent::Documents)?;
    Ok(VerifiedDocuments { manifest, lock, policy })
}

impl Extent {
    /// Whether a file of the set is among what lies there.
    fn holds(self, name: &str) -> bool {
        match self {
            Self::Whole => true,
            Self::Documents => name.strip_prefix(set::ARTIFACTS).is_none_or(|rest| !rest.starts_with('/')),
        }
    }
}

fn verify(check: &SetCheck<'_>, extent: Extent) -> Result<VerifiedSet, Reasons> {
    let (files, mut reasons) = regular_files(check.set)?;
    let signed = |name: &'static str, signatures: &'static str, cap: usize| -> Result<(Vec<u8>, Vec<u8>), Reasons> {
        let bytes = read(check.set, &files, name, cap as u64)?;
        let bytes = bytes.ok_or_else(|| missing(name))?;
        // Without its signature file a document has no signatures: that is what the verifier then says.
        let signatures = read(check.set, &files, signatures, set::MAX_SIGNATURES_BYTES)?.unwrap_or_default();
        Ok((bytes, signatures))
    };
    let (bytes, signatures) =
        with(&reasons, signed(set::MANIFEST, set::MANIFEST_SIGNATURES, document::MAX_DOCUMENT_BYTES))?;
    // A gap between the roots is why the signers are not known.
    let versions = files.keys().filter_map(|name| set::root_version(name.strip_prefix("roots/")?));
    reasons.extend(roots::strays(check.set, set::ROOTS, versions, check.context.root));
    let manifest = with(&reasons, verify_manifest(Signed { bytes: &bytes, signatures: &signatures }, check.context))?;
    let mut known = known_contents(manifest.document(), check.set);
    known.files.retain(|content| extent.holds(content.path.as_str()));
    compare(manifest.document(), &known, extent, &files, &mut reasons);
    let lock = signed(set::LOCK, set::LOCK_SIGNATURES, document::MAX_DOCUMENT_BYTES).and_then(|(bytes, signatures)| {
        verify_lock(Signed { bytes: &bytes, signatures: &signatures }, &manifest, check.context)
    });
    let policy = policy(check.set, &files, manifest.document());
    let mut bytes = Bytes {
        check,
        files: &files,
        learned: Vec::new(),
        done: 0,
        total: known.files.iter().map(|content| content.pins.size).sum(),
        buffer: vec![0; BUFFER],
    };
    let indices = indices(manifest.document());
    for content in &known.files {
        bytes.content(content, indices.get(content.path.as_str()).copied(), &mut reasons);
    }
    let learned = bytes.learned;
    match (lock, policy) {
        (Ok(lock), Ok(policy)) => {
            Reasons::check(reasons)?;
            Ok(VerifiedSet { manifest, lock, policy, learned })
        }
        (lock, policy) => {
            reasons.extend(lock.err().into_iter().chain(policy.err()).flat_map(Reasons::into_vec));
            Err(Reasons::new(reasons).unwrap_or_else(|| missing(set::LOCK)))
        }
    }
}

/// A set that is read without asking who signed it: its documents, and its policy bundle as the manifest pins it.
pub struct Draft {
    /// The manifest.
    pub manifest: StateManifest,
    /// BLAKE3 of its bytes.
    pub fingerprint: Blake3,
    /// The bytes of the policy bundle.
    pub policy: Vec<u8>,
}

/// Reads manifest and policy of a set, and compares the list of its files; signatures may be absent. Artifacts are not
/// read.
pub fn read_draft(source: &dyn SetSource) -> Result<Draft, Reasons> {
    let (files, mut reasons) = regular_files(source)?;
    let bytes = read(source, &files, set::MANIFEST, document::MAX_DOCUMENT_BYTES as u64)?;
    let bytes = with(&reasons, bytes.ok_or_else(|| missing(set::MANIFEST)))?;
    let manifest: StateManifest = with(&reasons, document::parse(&bytes))?;
    compare(&manifest, &known_contents(&manifest, source), Extent::Whole, &files, &mut reasons);
    let policy = with(&reasons, policy(source, &files, &manifest))?;
    Reasons::check(reasons)?;
    Ok(Draft { fingerprint: document::fingerprint(&bytes), manifest, policy })
}

/// What a source lists, by name.
pub type Files = BTreeMap<String, SourceFile>;

/// Adds what is wrong with the list of files to a failure that ends the verification.
fn with<T>(reasons: &[Reason], result: Result<T, Reasons>) -> Result<T, Reasons> {
    result.map_err(|failure| {
        let all = failure.as_slice().iter().chain(reasons).cloned().collect();
        Reasons::new(all).unwrap_or(failure)
    })
}

fn missing(name: &str) -> Reasons {
    Reason::new(Code::MissingFile, format!("the set lacks `{name}`")).into()
}

/// A small file of the set; `None` when it is absent.
fn read(source: &dyn SetSource, files: &Files, name: &str, cap: u64) -> Result<Option<Vec<u8>>, Reasons> {
    if !files.contains_key(name) {
        return Ok(None);
    }
    Ok(read_file(source, name, cap)?)
}

fn rel(name: &str) -> Result<RelPath, Reasons> {
    name.parse().map_err(|error: autonomy_schema::path::PathError| error.to_reason().into())
}

/// The closed list against what is there.
pub fn compare(manifest: &StateManifest, known: &Known, extent: Extent, files: &Files, reasons: &mut Vec<Reason>) {
    let mut documents = set::files(manifest);
    documents.retain(|name, _| extent.holds(name));
    let wanted: BTreeSet<&str> =
        documents.keys().map(String::as_str).chain(known.files.iter().map(|content| content.path.as_str())).collect();
    let signatures = [set::MANIFEST_SIGNATURES, set::LOCK_SIGNATURES];
    for name in &wanted {
        // The verifier has told of absent signatures already.
        if !files.contains_key(*name) && !signatures.contains(name) {
            reasons.extend(missing(name).into_vec());
        }
    }
    // What a damaged index would have named is not known; the index is what is told.
    let unknown: Vec<String> = known.unknown.iter().map(|(folder, _)| format!("{folder}/")).collect();
    for (_, reason) in &known.unknown {
        // An absent one was told of above.
        if reason.code != Code::MissingFile {
            reasons.push(reason.clone());
        }
    }
    for name in files.keys() {
        let may_be = set::is_root_file(name) || unknown.iter().any(|folder| name.starts_with(folder));
        if !wanted.contains(name.as_str()) && !may_be {
            let message = format!("`{name}` is not named by the manifest");
            reasons.push(Reason::new(Code::ExtraneousFile, message));
        }
    }
}

/// The size of the payload that each segment index speaks of, by the name of its file.
fn indices(manifest: &StateManifest) -> BTreeMap<String, u64> {
    let artifacts = manifest.spec.artifacts.iter();
    artifacts.filter_map(|artifact| Some((set::segment_index(&artifact.name), artifact.payload()?.size))).collect()
}

fn policy(source: &dyn SetSource, files: &Files, manifest: &StateManifest) -> Result<Vec<u8>, Reasons> {
    let pinned = &manifest.spec.policy;
    if pinned.size > set::MAX_POLICY_BYTES {
        let message =
            format!("`{}` is pinned at {} bytes; the cap is {}", set::POLICY, pinned.size, set::MAX_POLICY_BYTES);
        return Err(Reason::new(Code::DocumentTooLarge, message).into());
    }
    size_matches(files, set::POLICY, pinned.size)?;
    let bytes = read(source, files, set::POLICY, pinned.size)?.ok_or_else(|| missing(set::POLICY))?;
    let digest = Sha256::of(&bytes);
    if digest == pinned.digest { Ok(bytes) } else { Err(other_digest(set::POLICY, &pinned.digest, &digest).into()) }
}

fn size_matches(files: &Files, name: &str, size: u64) -> Result<(), Reason> {
    match files.get(name) {
        Some(file) if file.size != size => {
            Err(Reason::new(Code::SizeMismatch, format!("`{name}` has {} bytes, the manifest pins {size}", file.size)))
        }
        _ => Ok(()),
    }
}

fn other_digest(name: &str, pinned: &dyn std::fmt::Display, found: &dyn std::fmt::Display) -> Reason {
    Reason::new(Code::DigestMismatch, format!("`{name}` is {found}, the manifest pins {pinned}"))
}

/// The bytes of artifacts and their indices.
struct Bytes<'a> {
    check: &'a SetCheck<'a>,
    files: &'a Files,
    learned: Vec<Learned>,
    done: u64,
    total: u64,
    buffer: Vec<u8>,
}

impl Bytes<'_> {
    /// `indexes` is the size of the payload when the file is a segment index.
    fn content(&mut self, content: &Content, indexes: Option<u64>, reasons: &mut Vec<Reason>) {
        let (name, pins) = (content.path.as_str(), content.pins);
        let checked = match indexes {
            Some(size) => self.index(name, pins.blake3, pins.size, size),
            None => self.file(name, &pins),
        };
        reasons.extend(checked.err());
        self.done += pins.size;
        (self.check.progress)(self.done, self.total);
    }

    /// An index must hash to its pin, and its lengths must add up to the artifact's size.
    fn index(&mut self, name: &str, pinned: Blake3, index_size: u64, size: u64) -> Result<(), Reason> {
        // A file that was hashed under this pin before was parsed then as well.
        if self.cached(name).is_some_and(|(blake3, _)| blake3 == pinned) {
            return size_matches(self.files, name, index_size);
        }
        let Some(listed) = self.files.get(name) else { return Ok(()) };
        size_matches(self.files, name, index_size)?;
        let path = rel(name).map_err(first)?;
        let file = self.check.set.open(&path).map_err(|error| error.to_reason())?;
        // Read once, and never whole in memory: what is parsed is what was hashed.
        let mut hashing =
            Hashing { file: file.take(index_size), blake3: blake3::Hasher::new(), sha256: sha2::Sha256::new() };
        let mut buffered = BufReader::with_capacity(BUFFER, &mut hashing);
        let lengths = Entries::of(&mut buffered).map(|segment| segment.map(|segment| segment.length));
        let parsed = lengths.sum::<std::io::Result<u64>>();
        // What follows a bad entry belongs to the hash as well.
        std::io::copy(&mut buffered, &mut std::io::sink()).map_err(|error| read_failed(name, &error))?;
        let (found, sha256) = hashing.digests();
        if found != pinned {
            return Err(other_digest(name, &pinned, &found));
        }
        if let Some(identity) = listed.identity {
            self.learned.push(Learned { identity, size: index_size, digests: (found, sha256) });
        }
        let bad = |error: &dyn std::fmt::Display| Reason::new(Code::BadValue, format!("`{name}`: {error}"));
        match parsed {
            Ok(sum) if sum == size => Ok(()),
            Ok(sum) => Err(bad(&IndexError::BadSum { sum, size })),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Err(bad(&error)),
            Err(error) => Err(read_failed(name, &error)),
        }
    }

    fn cached(&self, name: &str) -> Option<(Blake3, Sha256)> {
        let file = self.files.get(name)?;
        self.check.cache.get(&file.identity?, file.size)
    }

    /// Size and digests of one file; an absent one was told of already.
    fn file(&mut self, name: &str, pins: &Pins) -> Result<(), Reason> {
        let Some(listed) = self.files.get(name) else { return Ok(()) };
        size_matches(self.files, name, pins.size)?;
        let (blake3, sha256) = match self.cached(name) {
            Some(digests) => digests,
            None => self.hash(name, listed, pins.size)?,
        };
        if blake3 != pins.blake3 {
            return Err(other_digest(name, &pins.blake3, &blake3));
        }
        match pins.sha256 {
            Some(pinned) if pinned != sha256 => Err(other_digest(name, &pinned, &sha256)),
            _ => Ok(()),
        }
    }

    fn hash(&mut self, name: &str, listed: &SourceFile, size: u64) -> Result<(Blake3, Sha256), Reason> {
        let path = rel(name).map_err(first)?;
        let mut file = self.check.set.open(&path).map_err(|error| error.to_reason())?;
        let (mut blake3, mut sha256) = (blake3::Hasher::new(), sha2::Sha256::new());
        let mut read = 0;
        loop {
            let count = file.read(&mut self.buffer);
            let count = count.map_err(|error| read_failed(name, &error))?;
            if count == 0 {
                break;
            }
            read += count as u64;
            if read > size {
                break;
            }
            blake3.update(&self.buffer[..count]);
            sha256.update(&self.buffer[..count]);
        }
        if read != size {
            return Err(Reason::new(
                Code::SizeMismatch,
                format!("`{name}` does not have the {size} bytes that are pinned"),
            ));
        }
        let digests = (Blake3::from_bytes(*blake3.finalize().as_bytes()), Sha256::from_bytes(sha256.finalize().into()));
        if let Some(identity) = listed.identity {
            self.learned.push(Learned { identity, size, digests });
        }
        Ok(digests)
    }
}

/// Hashes what is read through it.
struct Hashing<R> {
    file: R,
    blake3: blake3::Hasher,
    sha256: sha2::Sha256,
}

impl<R> Hashing<R> {
    fn digests(self) -> (Blake3, Sha256) {
        (Blake3::from_bytes(*self.blake3.finalize().as_bytes()), Sha256::from_bytes(self.sha256.finalize().into()))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.blake3.update(&buffer[..read]);
        self.sha256.update(&buffer[..read]);
        Ok(read)
    }
}

/// The first of several reasons, where one file gives one.
fn first(reasons: Reasons) -> Reason {
    reasons.into_vec().swap_remove(0)
}
