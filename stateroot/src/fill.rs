//! The artifacts of a set into a folder of the state root: objects, hard-linked. What stages a generation and what puts a
//! set into the inbox share this.

use std::collections::BTreeSet;

use autonomy_schema::manifest::StateManifest;
use autonomy_schema::{Reason, Reasons, RelPath};

use crate::cache::StatCache;
use crate::contents::{Content, contents};
use crate::disk::DiskError;
use crate::layout::{self, Writer};
use crate::objects::{Durability, InsertError, ObjectStore, Placed};
use crate::root::StateRoot;
use crate::source::SetSource;

/// Artifacts were not placed.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    /// The set is not what its manifest says (it changed since it was verified), or the caller stopped it.
    #[error("{0}")]
    Refused(Reasons),
    /// The state root's disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl FillError {
    /// The error as reasons.
    pub fn into_reasons(self) -> Reasons {
        match self {
            Self::Refused(reasons) => reasons,
            Self::Disk(error) => error.to_reason().into(),
        }
    }
}

/// What is placed, and where. The manifest was verified by the caller.
pub struct Filling<'a> {
    /// The state root.
    pub root: &'a StateRoot,
    /// Where objects that the store lacks come from.
    pub set: &'a dyn SetSource,
    /// Names the artifacts and pins their bytes.
    pub manifest: &'a StateManifest,
    /// The folder, which exists.
    pub base: &'a RelPath,
    /// Who writes.
    pub writer: Writer,
    /// Who syncs.
    pub durability: Durability,
    /// What is known of objects.
    pub cache: &'a mut StatCache,
}

/// Links every file of every artifact below the folder, copying what the store lacks; every byte is hashed on the handle
/// that it is copied from. `after` is told, after each file, the bytes done and the bytes in all, and may stop it.
/// Gives the folders in use, the base among them: with what was placed, they wait for the caller's sync.
pub fn fill(
    filling: &mut Filling<'_>,
    mut after: impl FnMut(u64, u64) -> Result<(), Reasons>,
) -> Result<BTreeSet<RelPath>, FillError> {
    let store = ObjectStore::new(filling.root).for_writer(filling.writer);
    let contents = contents(filling.manifest, filling.set).map_err(|reason| FillError::Refused(reason.into()))?;
    let total = contents.iter().map(|content| content.pins.size).sum();
    let mut folders = BTreeSet::from([filling.base.clone()]);
    let (mut done, mut written) = (0, Vec::new());
    for Content { path, pins } in &contents {
        let to = filling.base.join(path);
        make_folders(filling.root, &to, &mut folders)?;
        let open = || filling.set.open(path).map_err(|error| PlaceError::Source(error.to_reason()));
        match store.place(open, pins, &to, filling.durability, filling.cache) {
            Ok(Placed::Written) => written.push(layout::object(pins.blake3, pins.mode)),
            Ok(Placed::Reused | Placed::Healed) => {}
            Err(error) => return Err(refused(filling.root, &written, error.named(path))),
        }
        done += pins.size;
        after(done, total).map_err(FillError::Refused)?;
    }
    Ok(folders)
}

/// A set that is another than the verified one leaves nothing in the store: no refusal may fill it. A broken disk keeps
/// what it has, for the next try.
fn refused(root: &StateRoot, written: &[RelPath], error: FillError) -> FillError {
    if let FillError::Refused(_) = error {
        for object in written {
            // What stays behind is one object that nothing refers to, for gc.
            root.disk().remove(object).ok();
        }
    }
    error
}

/// An error of placing one object, before the path is known.
enum PlaceError {
    Source(Reason),
    Insert(InsertError),
}

impl From<InsertError> for PlaceError {
    fn from(error: InsertError) -> Self {
        Self::Insert(error)
    }
}

impl PlaceError {
    fn named(self, path: &RelPath) -> FillError {
        match self {
            Self::Source(reason) => FillError::Refused(reason.into()),
            Self::Insert(InsertError::Disk(error)) => FillError::Disk(error),
            Self::Insert(other) => FillError::Refused(other.to_reason(path.as_str()).into()),
        }
    }
}

/// Makes the folders above `path` that this filling has not made yet.
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
