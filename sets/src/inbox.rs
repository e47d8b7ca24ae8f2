//! A set that was verified, into the inbox: its entry appears in one rename. What imports from a medium and what receives from
//! peers share this.

use autonomy_schema::lock::Lock;
use autonomy_schema::{Mode, Reason, RelPath, StateManifest, document, set};
use autonomy_stateroot::{
    DiskError, Durability, FillError, Filling, LockGuard, SetSource, StatCache, StateRoot, SyncTarget, Writer, durable,
    fill, layout, read_file,
};
use autonomy_trust::Verified;

use crate::verify::{VerifiedDocuments, VerifiedSet};

/// What of a set was verified, and is written as it was.
#[derive(Clone, Copy)]
pub struct Documents<'a> {
    /// The manifest.
    pub manifest: &'a Verified<StateManifest>,
    /// The lock.
    pub lock: &'a Verified<Lock>,
    /// The bytes of the policy bundle.
    pub policy: &'a [u8],
}

impl<'a> From<&'a VerifiedSet> for Documents<'a> {
    fn from(set: &'a VerifiedSet) -> Self {
        Self { manifest: &set.manifest, lock: &set.lock, policy: &set.policy }
    }
}

impl<'a> From<&'a VerifiedDocuments> for Documents<'a> {
    fn from(set: &'a VerifiedDocuments) -> Self {
        Self { manifest: &set.manifest, lock: &set.lock, policy: &set.policy }
    }
}

/// Who puts a set into the inbox, and how.
pub struct Putting<'a> {
    /// Who.
    pub writer: Writer,
    /// The shared lock of the store: no collection runs between an object and its link.
    pub store: &'a dyn LockGuard,
    /// What is known of objects.
    pub cache: &'a mut StatCache,
    /// Told after each file: bytes done, bytes in all.
    pub progress: &'a dyn Fn(u64, u64),
}

/// Stores a set, whose artifacts come from `source`, and makes it durable.
pub fn put_in_inbox(
    root: &StateRoot,
    source: &dyn SetSource,
    documents: Documents<'_>,
    putting: &mut Putting<'_>,
) -> Result<(), FillError> {
    let fingerprint = documents.manifest.fingerprint();
    let part = layout::inbox_part(fingerprint, putting.writer);
    durable::remove_tree(root.disk(), &part)?;
    let written = write(root, source, documents, &part, putting).and_then(|()| {
        root.disk().sync(SyncTarget::Fs)?;
        take_place(root, &part, &layout::inbox_entry(fingerprint))?;
        Ok(root.disk().sync(SyncTarget::Dir(Some(&layout::inbox())))?)
    });
    if written.is_err() {
        // If this fails too, the next one begins with it.
        durable::remove_tree(root.disk(), &part).ok();
    }
    written
}

/// Puts the entry where it belongs. The other wing may have been quicker, with the same bytes.
fn take_place(root: &StateRoot, part: &RelPath, entry: &RelPath) -> Result<(), DiskError> {
    match root.disk().rename(part, entry) {
        Err(error) if durable::exists(root.disk(), entry)? => {
            let is_there = matches!(
                error.source.kind(),
                std::io::ErrorKind::DirectoryNotEmpty | std::io::ErrorKind::AlreadyExists
            );
            if is_there { durable::remove_tree(root.disk(), part) } else { Err(error) }
        }
        renamed => renamed,
    }
}

/// Writes the files of the set below `part`: artifacts as links to objects, and the documents.
fn write(
    root: &StateRoot,
    source: &dyn SetSource,
    documents: Documents<'_>,
    part: &RelPath,
    putting: &mut Putting<'_>,
) -> Result<(), FillError> {
    durable::make_dirs(root.disk(), part)?;
    let mut filling = Filling {
        root,
        set: source,
        manifest: documents.manifest.document(),
        base: part,
        writer: putting.writer,
        durability: Durability::Batched,
        cache: &mut *putting.cache,
    };
    fill(&mut filling, |done, total| {
        (putting.progress)(done, total);
        Ok(())
    })?;
    write_documents(root, source, documents, part)
}

/// Writes the verified bytes of the documents below `folder`, which exists, and the roots, which are verified whenever they
/// are used. Not durable.
pub fn write_documents(
    root: &StateRoot,
    source: &dyn SetSource,
    documents: Documents<'_>,
    folder: &RelPath,
) -> Result<(), FillError> {
    let (manifest, lock) = (documents.manifest, documents.lock);
    let verified: [(&'static str, &[u8]); 5] = [
        (set::MANIFEST, manifest.bytes()),
        (set::MANIFEST_SIGNATURES, manifest.signatures()),
        (set::LOCK, lock.bytes()),
        (set::LOCK_SIGNATURES, lock.signatures()),
        (set::POLICY, documents.policy),
    ];
    for (name, bytes) in verified {
        durable::write_new(root.disk(), &folder.join(&RelPath::fixed(name)), bytes, Mode::FILE)?;
    }
    let refused = |reason: Reason| FillError::Refused(reason.into());
    let listed = source.list().map_err(|error| refused(error.to_reason()))?;
    for file in listed.iter().filter(|file| set::is_root_file(&file.path)) {
        let bytes = read_file(source, &file.path, document::MAX_DOCUMENT_BYTES as u64).map_err(refused)?;
        let path = file.path.parse::<RelPath>().map_err(|error| refused(error.to_reason()))?;
        durable::make_dirs(root.disk(), &folder.join(&RelPath::fixed(set::ROOTS)))?;
        durable::write_new(root.disk(), &folder.join(&path), &bytes.unwrap_or_default(), Mode::FILE)?;
    }
    Ok(())
}
