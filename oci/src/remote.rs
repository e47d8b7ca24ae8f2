//! A set in a registry, pulled into a folder: what is there already stays, what broke off goes on.
//!
//! Blobs come into `.pull/<hex>.part` and are renamed into place when they hash to their digests; `manifest.json` is the
//! last one, so that a folder that was cut off is no set yet.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use autonomy_schema::document::MAX_DOCUMENT_BYTES;
use autonomy_schema::{Code, Reason, Reasons, RelPath, Sha256, set as names};
use autonomy_stateroot::{DirSet, SetSource, SourceError, SourceFile, SourceKind, regular_files};
use rustix::fs::FlockOperation;
use sha2::Digest as _;

use crate::registry::{Registry, RegistryError, for_this_platform};
use crate::set::{self, SET_TYPE};
use crate::spec::{DOCKER_LIST_TYPE, Descriptor, INDEX_TYPE, Index, Manifest};

/// Where blobs are while they come.
const PARTS: &str = ".pull";
/// Bytes hashed at once.
const BUFFER: usize = 256 << 10;

/// What becomes of files in the folder that are not of the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strays {
    /// They are somebody's: the pull is refused.
    Refuse,
    /// They are of an earlier pull: they go.
    Remove,
}

/// A set in a registry.
pub struct RemoteSet {
    registry: Registry,
    files: BTreeMap<String, Descriptor>,
    digest: Sha256,
}

impl RemoteSet {
    /// Reads the list of the set that the reference names. Of an index, the entry for this machine.
    pub fn open(registry: Registry) -> Result<Self, Reasons> {
        let (mut media_type, mut bytes) = registry.named().map_err(|error| error.to_reason())?;
        if matches!(media_type.as_str(), INDEX_TYPE | DOCKER_LIST_TYPE) {
            let index = Index::parse(&bytes)?;
            let entry = for_this_platform(&index).map_err(|error| error.to_reason())?;
            let chosen = registry.manifest(&entry.digest.to_string());
            (media_type, bytes) = chosen.map_err(|error| incomplete(&error))?;
        }
        let listed = Manifest::parse(&bytes).and_then(|manifest| whole_files(&manifest));
        let files = listed.map_err(|reason| {
            let place = registry.reference();
            Reason { message: format!("{place} ({media_type}): {}", reason.message), ..reason }
        })?;
        Ok(Self { digest: Sha256::of(&bytes), registry, files })
    }

    /// The digest of its OCI manifest.
    pub fn digest(&self) -> Sha256 {
        self.digest
    }

    /// Its files by path, as the registry tells them.
    pub fn files(&self) -> BTreeMap<String, SourceFile> {
        let file = |(path, descriptor): (&String, &Descriptor)| {
            let (path, size) = (path.clone(), descriptor.size);
            (path.clone(), SourceFile { path, kind: SourceKind::File, size, identity: None })
        };
        self.files.iter().map(file).collect()
    }

    /// Pulls the set into a folder, which is made when it is absent. `check` is asked about the bytes of `manifest.json`
    /// before anything else comes; `progress` is told bytes done and bytes in all.
    pub fn pull(
        &self,
        to: &Path,
        strays: Strays,
        check: &dyn Fn(&[u8]) -> Result<(), Reasons>,
        progress: &dyn Fn(u64, u64),
    ) -> Result<PulledSet, Reasons> {
        let folder = Folder::lock(to)?;
        let there = folder.sift(&self.files, strays)?;
        let Some(listed) = self.files.get(names::MANIFEST) else {
            let message = format!("{} lists no `{}`", self.registry.reference(), names::MANIFEST);
            return Err(Reason::new(Code::MissingFile, message).into());
        };
        let manifest = self.registry.pull_bytes(listed, MAX_DOCUMENT_BYTES as u64);
        let manifest = manifest.map_err(|error| incomplete(&error))?;
        check(&manifest)?;
        let total = self.files.values().map(|it| it.size).fold(0_u64, u64::saturating_add);
        let rest = || self.files.iter().filter(|(path, _)| *path != names::MANIFEST);
        let (mut done, mut lacking) = (listed.size, Vec::new());
        for (path, descriptor) in rest() {
            if there.get(path) == Some(&descriptor.size) && folder.holds(path, descriptor)? {
                done += descriptor.size;
                progress(done, total);
            } else {
                lacking.push((path, descriptor));
            }
        }
        folder.has_room(&lacking)?;
        if !lacking.is_empty() {
            folder.unmake()?;
        }
        for (path, descriptor) in lacking {
            let part = folder.part(descriptor.digest);
            let tell = |bytes| progress(done + bytes, total);
            self.registry.pull_blob(descriptor, &part, &tell).map_err(|error| incomplete(&error))?;
            done += descriptor.size;
            folder.settle(&part, path)?;
        }
        let part = folder.part(listed.digest);
        fs::write(&part, &manifest).map_err(|error| broken("write", &part, &error))?;
        folder.settle(&part, names::MANIFEST)?;
        folder.finish()?;
        let dir = DirSet::open(to).map_err(|error| error.to_reason())?;
        Ok(PulledSet { dir, digest: self.digest, shown: self.registry.reference().to_string() })
    }
}

/// A set that was pulled.
#[derive(Debug)]
pub struct PulledSet {
    dir: DirSet,
    digest: Sha256,
    shown: String,
}

impl PulledSet {
    /// The digest of its OCI manifest.
    pub fn digest(&self) -> Sha256 {
        self.digest
    }
}

impl SetSource for PulledSet {
    fn list(&self) -> Result<Vec<SourceFile>, SourceError> {
        self.dir.list()
    }

    fn open(&self, path: &RelPath) -> Result<Box<dyn io::Read + Send>, SourceError> {
        self.dir.open(path)
    }

    fn open_at(&self, path: &RelPath, offset: u64) -> Result<Box<dyn io::Read + Send>, SourceError> {
        self.dir.open_at(path, offset)
    }

    fn describe(&self) -> String {
        self.shown.clone()
    }

    fn revision(&self) -> Option<String> {
        Some(format!("oci:{}", self.digest))
    }
}

/// The folder that a set is pulled into. One pull at a time has it.
struct Folder {
    path: PathBuf,
    _locked: File,
}

impl Folder {
    fn lock(path: &Path) -> Result<Self, Reason> {
        fs::create_dir_all(path).map_err(|error| broken("make", path, &error))?;
        let opened = File::open(path).map_err(|error| broken("open", path, &error))?;
        if !opened.metadata().is_ok_and(|it| it.is_dir()) {
            return Err(Reason::new(Code::BadValue, format!("`{}` is not a folder", path.display())));
        }
        match rustix::fs::flock(&opened, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), _locked: opened }),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let message = format!("another pull writes to `{}`", path.display());
                Err(Reason::new(Code::Locked, message).with_remedy("wait for it, or pull into another folder"))
            }
            Err(error) => Err(broken("lock", path, &error.into())),
        }
    }

    /// The sizes of what is there already; what is no part of the set is refused or goes. Links are always refused, so
    /// that nothing is written beside the folder.
    fn sift(&self, wanted: &BTreeMap<String, Descriptor>, strays: Strays) -> Result<BTreeMap<String, u64>, Reasons> {
        let dir = DirSet::open(&self.path).map_err(|error| error.to_reason())?;
        let (files, mut reasons) = regular_files(&dir)?;
        let mut sizes = BTreeMap::new();
        let parts: BTreeSet<String> = wanted.values().map(|it| format!("{PARTS}/{}", part_name(it.digest))).collect();
        for (path, file) in files {
            if wanted.contains_key(&path) {
                sizes.insert(path, file.size);
            } else if is_part(&path) || strays == Strays::Remove {
                if !parts.contains(&path) {
                    let stray = self.path.join(&path);
                    fs::remove_file(&stray).map_err(|error| broken("remove", &stray, &error))?;
                    // A folder that is empty now may be where a file will come; one that is not stays.
                    let above = stray.ancestors().skip(1).take_while(|above| *above != self.path);
                    for folder in above {
                        if fs::remove_dir(folder).is_err() {
                            break;
                        }
                    }
                }
            } else {
                let message = format!("`{path}` lies in {} and is no part of the set", self.path.display());
                reasons.push(Reason::new(Code::ExtraneousFile, message).with_remedy("pull into a folder of its own"));
            }
        }
        let inside = |path: &&String| is_part(path);
        reasons.extend(wanted.keys().filter(inside).map(|path| {
            Reason::new(Code::UnsafePath, format!("the set lists `{path}`, where blobs are kept while they come"))
        }));
        Reasons::check(reasons)?;
        let parts = self.path.join(PARTS);
        fs::create_dir_all(&parts).map_err(|error| broken("make", &parts, &error))?;
        Ok(sizes)
    }

    fn part(&self, digest: Sha256) -> PathBuf {
        self.path.join(PARTS).join(part_name(digest))
    }

    /// Whether a file hashes to what is wanted. It is read for that.
    fn holds(&self, path: &str, wanted: &Descriptor) -> Result<bool, Reason> {
        let path = self.path.join(path);
        let nofollow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
        let file = OpenOptions::new().read(true).custom_flags(nofollow).open(&path);
        let mut file = file.map_err(|error| broken("read", &path, &error))?.take(wanted.size.saturating_add(1));
        let (mut hasher, mut buffer) = (sha2::Sha256::new(), vec![0; BUFFER]);
        loop {
            match file.read(&mut buffer).map_err(|error| broken("read", &path, &error))? {
                0 => return Ok(Sha256::from_bytes(hasher.finalize().into()) == wanted.digest),
                count => hasher.update(&buffer[..count]),
            }
        }
    }

    /// Refuses before anything comes what cannot fit; partial blobs count.
    fn has_room(&self, lacking: &[(&String, &Descriptor)]) -> Result<(), Reason> {
        let stat =
            rustix::fs::statvfs(&self.path).map_err(|error| broken("ask the space of", &self.path, &error.into()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let missing = lacking.iter().map(|(_, wanted)| {
            let kept = fs::metadata(self.part(wanted.digest)).map_or(0, |it| it.len());
            wanted.size.saturating_sub(kept)
        });
        let needed = missing.fold(0_u64, u64::saturating_add);
        if needed <= free {
            return Ok(());
        }
        let message = format!("{needed} bytes are to come, `{}` has room for {free}", self.path.display());
        Err(Reason::new(Code::DiskFull, message).with_remedy("free space, or pull to another disk"))
    }

    /// A whole blob to its place.
    fn settle(&self, part: &Path, path: &str) -> Result<(), Reason> {
        let to = self.path.join(path);
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).map_err(|error| broken("make", folder, &error))?;
        }
        File::open(part).and_then(|file| file.sync_all()).map_err(|error| broken("sync", part, &error))?;
        fs::rename(part, &to).map_err(|error| broken("rename to", &to, &error))
    }

    /// Takes away what makes a set of the folder: between an earlier set and this one it is none.
    fn unmake(&self) -> Result<(), Reason> {
        let manifest = self.path.join(names::MANIFEST);
        match fs::remove_file(&manifest) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(broken("remove", &manifest, &error)),
            Ok(()) | Err(_) => {}
        }
        let synced = File::open(&self.path).and_then(|dir| dir.sync_all());
        synced.map_err(|error| broken("sync", &self.path, &error))
    }

    fn finish(&self) -> Result<(), Reason> {
        let parts = self.path.join(PARTS);
        fs::remove_dir_all(&parts).map_err(|error| broken("remove", &parts, &error))?;
        let synced = File::open(&self.path).and_then(|dir| dir.sync_all());
        synced.map_err(|error| broken("sync", &self.path, &error))
    }
}

fn is_part(path: &str) -> bool {
    path.strip_prefix(PARTS).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn part_name(digest: Sha256) -> String {
    format!("{}.part", digest.hex())
}

/// The files of a set that leaves nothing out: a pulled set is a folder, which nothing completes.
fn whole_files(manifest: &Manifest) -> Result<BTreeMap<String, Descriptor>, Reason> {
    let layers = set::layers(manifest, SET_TYPE)?;
    if layers.packs.is_empty() && layers.bases.is_none() {
        return Ok(layers.files);
    }
    let reason = Reason::new(Code::MissingFile, "the set leaves artifacts out, for nodes that have them");
    Err(reason
        .with_remedy("copy it to a medium and import that: `autonomy oci copy oci://… oci:DIR`; or push the set whole"))
}

/// A blob that the registry's own list names and that it does not have.
fn incomplete(error: &RegistryError) -> Reason {
    let reason = error.to_reason();
    if matches!(error, RegistryError::NotFound { .. }) {
        return Reason::new(Code::MissingFile, reason.message).with_remedy("push the set again, whole");
    }
    reason
}

fn broken(verb: &str, path: &Path, error: &io::Error) -> Reason {
    Reason::new(Code::IoError, format!("cannot {verb} `{}`: {error}", path.display()))
}
