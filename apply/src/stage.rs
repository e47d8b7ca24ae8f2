//! Staging: an immutable generation is built beside the active one, from objects by hard link, and made durable.
//! Every byte is hashed on the handle that it is copied from; nothing of the active generation is touched.

use autonomy_schema::canonical::CanonicalError;
use autonomy_schema::manifest::StateManifest;
use autonomy_schema::{Code, Name, Reason, Reasons, RelPath, set};
use autonomy_stateroot::{
    DiskError, Durability, FillError, Filling, LockError, SetSource, StatCache, StateRoot, SyncTarget, Writer, durable,
    fill, layout,
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

impl From<FillError> for StageError {
    fn from(error: FillError) -> Self {
        match error {
            FillError::Refused(reasons) => Self::Refused(reasons),
            FillError::Disk(error) => Self::Disk(error),
        }
    }
}

impl From<LockError> for StageError {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Held(reason) => Self::Refused(reason.into()),
            LockError::Disk(error) => Self::Disk(error),
        }
    }
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
    let _writer = staging.root.share_store()?;
    let manifest = staging.manifest.document();
    let batched = manifest.spec.artifacts.len() * 2 > MANY_FILES;
    let durability = if batched { Durability::Batched } else { Durability::PerFile };
    let disk = staging.root.disk();
    let base = layout::generation(generation);
    disk.mkdir(&base)?;
    let mut filling = Filling {
        root: staging.root,
        set: staging.set,
        manifest,
        base: &base,
        writer: Writer::Mission,
        durability,
        cache: staging.cache,
    };
    let folders = fill(&mut filling, |done, total| {
        stopped(observer)?;
        observer.event(&Event::Staged { done, total });
        Ok(())
    })?;
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
