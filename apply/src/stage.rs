//! Staging: an immutable generation is built beside the active one, from objects by hard link, and made durable.
//! Every byte is hashed on the handle that it is copied from; nothing of the active generation is touched.

use std::collections::BTreeSet;

use autonomy_schema::canonical::CanonicalError;
use autonomy_schema::manifest::{Artifact, FilePins, StateManifest};
use autonomy_schema::{Code, Mode, Name, Reason, Reasons, RelPath, set};
use autonomy_stateroot::{
    DiskError, Durability, InsertError, LockGuard, LockMode, ObjectStore, Pins, Placed, SetSource, StatCache,
    StateRoot, SyncTarget, durable, layout,
};
use autonomy_trust::Verified;

use crate::observe::{Event, Observer, stopped};

/// Above this many files, one sync of the file system is cheaper than one per file (DESIGN §5).
const MANY_FILES: usize = 64;

/// A whole and durable generation that nothing points to yet. Only [`stage`] and a journal of phase `staged` make one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Staged(Name);

impl Staged {
    /// What a journal of phase `staged` or later says.
    pub(crate) fn recovered(generation: Name) -> Self {
        Self(generation)
    }

    pub(crate) fn into_generation(self) -> Name {
        self.0
    }
}

/// Staging failed; what it wrote is removed by the caller.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The set is not what its manifest says (it changed since it was verified).
    #[error("{0}")]
    Refused(Reasons),
    /// The state root's disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A document could not be written.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
}

impl StageError {
    /// The error as reasons.
    pub fn into_reasons(self) -> Reasons {
        match self {
            Self::Refused(reasons) => reasons,
            Self::Disk(error) => error.to_reason().into(),
            Self::Canonical(error) => Reason::new(Code::IoError, error.to_string()).into(),
        }
    }
}

/// What is staged, and from where.
pub(crate) struct Staging<'a> {
    pub(crate) root: &'a StateRoot,
    pub(crate) set: &'a dyn SetSource,
    pub(crate) manifest: &'a Verified<StateManifest>,
    pub(crate) lock: &'a Verified<autonomy_schema::lock::Lock>,
    pub(crate) policy: &'a [u8],
    /// The plan that makes or made the generation.
    pub(crate) plan: Option<&'a [u8]>,
    pub(crate) cache: &'a mut StatCache,
}

/// Builds `generations/<generation>` and makes it durable.
pub(crate) fn stage(
    staging: &mut Staging<'_>,
    generation: &Name,
    observer: &mut dyn Observer,
) -> Result<Staged, StageError> {
    let _writer = shared_store(staging.root)?;
    let manifest = staging.manifest.document();
    let batched = manifest.spec.artifacts.len() * 2 > MANY_FILES;
    let durability = if batched { Durability::Batched } else { Durability::PerFile };
    let disk = staging.root.disk();
    let base = layout::generation(generation);
    disk.mkdir(&base)?;
    let mut folders = BTreeSet::from([base.clone()]);
    place_objects(staging, &base, durability, &mut folders, observer)?;
    write_documents(staging, &base, batched)?;
    if batched {
        disk.sync(SyncTarget::Fs)?;
    } else {
        // Deepest first, so that nothing durable points to what is not.
        for folder in folders.iter().rev() {
            disk.sync(SyncTarget::Dir(Some(folder)))?;
        }
        disk.sync(SyncTarget::Dir(Some(&layout::objects())))?;
        disk.sync(SyncTarget::Dir(Some(&layout::generations())))?;
    }
    Ok(Staged(generation.clone()))
}

/// Holds off gc while objects are stored that nothing references yet.
fn shared_store(root: &StateRoot) -> Result<Box<dyn LockGuard>, StageError> {
    root.store_lock(LockMode::Shared)?.ok_or_else(|| {
        StageError::Refused(Reason::new(Code::Locked, "the object store is locked by a garbage collection").into())
    })
}

fn index_pins(pins: &FilePins) -> Pins {
    Pins { size: pins.segments.size, sha256: None, blake3: pins.segments.index, mode: Mode::FILE }
}

fn file_pins(pins: &FilePins) -> Pins {
    Pins { size: pins.size, sha256: Some(pins.digest), blake3: pins.blake3, mode: pins.mode }
}

/// Both files of an artifact: where each lies in the set, and its pins.
fn files(artifact: &Artifact) -> Result<[(RelPath, Pins); 2], StageError> {
    // A plan with anything but files is blocked, so this is reached only if plan and apply disagree.
    let pins = artifact.file().ok_or_else(|| {
        StageError::Refused(Reason::new(Code::NotBuilt, format!("artifact `{}` is no file", artifact.name)).into())
    })?;
    let index = rel(&set::segment_index(&artifact.name))?;
    Ok([(index, index_pins(&pins)), (RelPath::fixed(set::ARTIFACTS).join(&artifact.path), file_pins(&pins))])
}

fn rel(text: &str) -> Result<RelPath, StageError> {
    text.parse().map_err(|error: autonomy_schema::path::PathError| {
        StageError::Refused(Reason::new(Code::UnsafePath, error.to_string()).into())
    })
}

/// Places every object in the generation: linked from the store, copied there first when it lacks it.
fn place_objects(
    staging: &mut Staging<'_>,
    base: &RelPath,
    durability: Durability,
    folders: &mut BTreeSet<RelPath>,
    observer: &mut dyn Observer,
) -> Result<(), StageError> {
    let store = ObjectStore::new(staging.root);
    let artifacts = &staging.manifest.document().spec.artifacts;
    let total = artifacts.iter().filter_map(Artifact::file).map(|pins| pins.size).sum();
    let (mut done, mut written) = (0, Vec::new());
    for artifact in artifacts {
        for (path, pins) in files(artifact)? {
            let to = base.join(&path);
            make_folders(staging.root, &to, folders)?;
            let open = || {
                staging
                    .set
                    .open(&path)
                    .map_err(|error| PlaceError::Stage(StageError::Refused(error.to_reason().into())))
            };
            match store.place(open, &pins, &to, durability, staging.cache) {
                Ok(Placed::Written) => written.push(layout::object(pins.blake3, pins.mode)),
                Ok(Placed::Reused | Placed::Healed) => {}
                Err(error) => return Err(refused(staging.root, &written, error.named(&path))),
            }
        }
        stopped(observer).map_err(StageError::Refused)?;
        done += artifact.file().map_or(0, |pins| pins.size);
        observer.event(&Event::Staged { done, total });
    }
    Ok(())
}

/// A set that is another than the verified one leaves nothing in the store: no refusal may fill it. A broken disk keeps
/// what it has, for the next try.
fn refused(root: &StateRoot, written: &[RelPath], error: StageError) -> StageError {
    if let StageError::Refused(_) = error {
        for object in written {
            // What stays behind is one object that nothing refers to, for gc.
            root.disk().remove(object).ok();
        }
    }
    error
}

/// An error of placing one object, before the path is known.
enum PlaceError {
    Stage(StageError),
    Insert(InsertError),
}

impl From<InsertError> for PlaceError {
    fn from(error: InsertError) -> Self {
        Self::Insert(error)
    }
}

impl PlaceError {
    fn named(self, path: &RelPath) -> StageError {
        match self {
            Self::Stage(error) => error,
            Self::Insert(InsertError::Disk(error)) => StageError::Disk(error),
            Self::Insert(other) => StageError::Refused(other.to_reason(path.as_str()).into()),
        }
    }
}

/// Makes the folders above `path` that this staging has not made yet.
fn make_folders(root: &StateRoot, path: &RelPath, folders: &mut BTreeSet<RelPath>) -> Result<(), DiskError> {
    let mut missing = Vec::new();
    let mut above = path.parent();
    while let Some(folder) = above.filter(|folder| !folders.contains(folder)) {
        above = folder.parent();
        missing.push(folder);
    }
    for folder in missing.into_iter().rev() {
        root.disk().mkdir(&folder)?;
        folders.insert(folder);
    }
    Ok(())
}

/// Writes the signed documents, `edge.toml` and `plan.json`; the very bytes that were verified.
fn write_documents(staging: &Staging<'_>, base: &RelPath, batched: bool) -> Result<(), StageError> {
    let manifest = staging.manifest;
    let edge = manifest.document().spec.relay.edge_toml();
    let files: [(&'static str, &[u8]); 6] = [
        (set::MANIFEST, manifest.bytes()),
        (set::MANIFEST_SIGNATURES, manifest.signatures()),
        (set::LOCK, staging.lock.bytes()),
        (set::LOCK_SIGNATURES, staging.lock.signatures()),
        (set::POLICY, staging.policy),
        ("edge.toml", edge.as_bytes()),
    ];
    let disk = staging.root.disk();
    for (name, bytes) in files.into_iter().chain(staging.plan.map(|plan| ("plan.json", plan))) {
        let path = base.join(&RelPath::fixed(name));
        disk.set_len(&path, 0)?;
        disk.write_at(&path, 0, bytes)?;
        if !batched {
            disk.sync(SyncTarget::File(&path))?;
        }
    }
    Ok(())
}

/// Removes a generation that nothing points to, whole or not.
pub(crate) fn discard(root: &StateRoot, generation: &Name) -> Result<(), DiskError> {
    let path = layout::generation(generation);
    if root.disk().stat(&path)?.is_some() {
        durable::remove_tree(root.disk(), &path)?;
        root.disk().sync(SyncTarget::Dir(Some(&layout::generations())))?;
    }
    Ok(())
}
