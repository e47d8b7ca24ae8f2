//! What lies on a medium into the inbox: verified, stored, activated by nobody. `reconcile` takes it from there.

use std::collections::BTreeSet;
use std::path::Path;

use autonomy_apply::{ServiceRunner, Silent};
use autonomy_oci::{Layout, LayoutRef, Pick, SET_TYPE};
use autonomy_schema::{Blake3, Code, Mode, Reason, Reasons, RelPath, StateManifest, document, set};
use autonomy_stateroot::{
    DirSet, Durability, InsertError, LockMode, ObjectStore, Pins, SetSource, StatCache, StateRoot, SyncTarget, durable,
    layout, read_capped,
};
use autonomy_trust::Purpose;
use serde_json::json;

use crate::judge::{Options, load, peek};
use crate::record::{Actor, Recorder};
use crate::recovery::{recover_held, told};
use crate::roots;
use crate::set::{SetCheck, VerifiedSet, verify_set};

/// A set on a medium, with the eyes of this node.
#[derive(Debug, Clone)]
pub struct OnMedium {
    /// How it is named there.
    pub name: String,
    /// Its manifest as it says of itself; nothing of it counts when `standing` is a refusal.
    pub manifest: StateManifest,
    /// The fingerprint of its manifest.
    pub fingerprint: Blake3,
    /// What importing it would come to, or came to.
    pub standing: Standing,
}

/// How a set on a medium stands to this node.
#[derive(Debug, Clone)]
pub enum Standing {
    /// It verifies, and is not here yet.
    Takes,
    /// It is in the inbox, or it is what the node runs.
    Here,
    /// It is signed for other nodes, or for this one and older than what it has seen.
    NotForUs(Reasons),
    /// It does not verify.
    Refused(Reasons),
}

/// What an import came to.
#[derive(Debug)]
pub struct Import {
    /// The sets of the medium, by stream and serial.
    pub sets: Vec<OnMedium>,
    /// A record that could not be written, or what a recovery did first.
    pub warning: Option<String>,
}

impl Import {
    /// Why not everything that should have come did; `None` when it did.
    pub fn refusal(&self) -> Option<Reasons> {
        let (mut refused, mut other, mut here) = (Vec::new(), Vec::new(), false);
        for found in &self.sets {
            match &found.standing {
                Standing::Takes | Standing::Here => here = true,
                Standing::Refused(reasons) => refused.extend(reasons.as_slice().iter().cloned()),
                Standing::NotForUs(reasons) => other.extend(reasons.as_slice().iter().cloned()),
            }
        }
        if refused.is_empty() && !here {
            refused = other;
        }
        Reasons::new(refused)
    }
}

/// A set, and how it is named on its medium.
type Named = (String, Box<dyn SetSource>);

/// The sets of a medium.
fn sets(path: &Path) -> Result<Vec<Named>, Reasons> {
    if path.join(set::MANIFEST).exists() {
        let folder = DirSet::open(path).map_err(|error| Reasons::from(error.to_reason()))?;
        return Ok(vec![(folder.describe(), Box::new(folder))]);
    }
    let layout = Layout::open(path)?;
    let mut digests = BTreeSet::new();
    for entry in &layout.index().manifests {
        if layout.manifest(entry)?.kind() == SET_TYPE {
            digests.insert(entry.digest);
        }
    }
    let mut found: Vec<Named> = Vec::new();
    for digest in digests {
        let wanted = LayoutRef { path: path.to_owned(), pick: Some(Pick::Digest(digest)) };
        found.push((wanted.to_string(), Box::new(Layout::open(path)?.into_set(&wanted)?)));
    }
    if found.is_empty() {
        return Err(Reason::new(Code::MissingFile, format!("`{}` holds no set", path.display())).into());
    }
    Ok(found)
}

/// A set that was looked at.
struct Seen {
    told: OnMedium,
    set: Box<dyn SetSource>,
    verified: Option<VerifiedSet>,
}

fn look(root: &StateRoot, path: &Path, options: &Options<'_>) -> Result<Vec<Seen>, Reasons> {
    let mut seen = Vec::new();
    for (name, set) in sets(path)? {
        let bytes = peek(&*set, set::MANIFEST, document::MAX_DOCUMENT_BYTES as u64);
        let manifest: StateManifest = document::parse(&bytes)?;
        let fingerprint = document::fingerprint(&bytes);
        let (standing, verified) = if is_here(root, fingerprint)? {
            (Standing::Here, None)
        } else {
            match verify(root, &*set, options) {
                Ok(verified) if verified.manifest.fingerprint() == fingerprint => (Standing::Takes, Some(verified)),
                Ok(_) => (Standing::Refused(changed()), None),
                Err(reasons) => (standing_of(reasons), None),
            }
        };
        seen.push(Seen { told: OnMedium { name, manifest, fingerprint, standing }, set, verified });
    }
    let key = |seen: &Seen| (seen.told.manifest.metadata.name.clone(), seen.told.manifest.metadata.serial);
    seen.sort_by_key(key);
    Ok(seen)
}

fn changed() -> Reasons {
    Reason::new(Code::IoError, "the medium changed while it was read").into()
}

/// A medium that serves several nodes holds what is not for this one.
fn standing_of(reasons: Reasons) -> Standing {
    let others = [Code::ScopeMismatch, Code::WrongStream, Code::SerialTooLow];
    if reasons.as_slice().iter().all(|reason| others.contains(&reason.code)) {
        Standing::NotForUs(reasons)
    } else {
        Standing::Refused(reasons)
    }
}

fn verify(root: &StateRoot, set: &dyn SetSource, options: &Options<'_>) -> Result<VerifiedSet, Reasons> {
    let mut loaded = load(root)?;
    loaded.adopt_from(set)?;
    let context = loaded.context(options.clock, Purpose::Change);
    // What lies on a medium is read for certain.
    let cache = StatCache::default();
    let verified = verify_set(&SetCheck { set, context: &context, cache: &cache, progress: options.progress })?;
    loaded.check_offline(&verified.manifest)?;
    Ok(verified)
}

fn is_here(root: &StateRoot, fingerprint: Blake3) -> Result<bool, Reasons> {
    let failed = |error: autonomy_stateroot::DiskError| Reasons::from(error.to_reason());
    if durable::exists(root.disk(), &layout::inbox_entry(fingerprint)).map_err(failed)? {
        return Ok(true);
    }
    Ok(active(root)?.is_some_and(|(_, active)| active == fingerprint))
}

/// The active manifest.
fn active(root: &StateRoot) -> Result<Option<(StateManifest, Blake3)>, Reasons> {
    let Some(generation) = root.current()? else { return Ok(None) };
    let path = layout::generation_manifest(&generation);
    let bytes = read_capped(root.disk(), &path, document::MAX_DOCUMENT_BYTES as u64);
    let Some(bytes) = bytes.map_err(|error| error.to_reason())? else { return Ok(None) };
    Ok(document::parse(&bytes).ok().map(|manifest| (manifest, document::fingerprint(&bytes))))
}

/// Tells what is on a medium, and whether it is trusted. Writes nothing.
pub fn preview(root: &StateRoot, path: &Path, options: &Options<'_>) -> Result<Import, Reasons> {
    let sets = look(root, path, options)?.into_iter().map(|seen| seen.told).collect();
    Ok(Import { sets, warning: None })
}

/// Puts what verifies into the inbox. What was cut off is taken up again: objects that are here whole stay.
pub fn import(
    root: &StateRoot,
    path: &Path,
    actor: &Actor,
    runner: &dyn ServiceRunner,
    options: &Options<'_>,
) -> Result<Import, Reasons> {
    let held = root.lock(&actor.verb).map_err(|error| Reasons::from(error.to_reason()))?;
    let mut silent = Silent;
    let mut recorder = Recorder::open(root, actor, None, &mut silent)?;
    let recovery = recover_held(root, &held, runner, &mut recorder)?;
    let seen = look(root, path, options)?;
    let takes: Vec<Blake3> = seen.iter().filter(|seen| seen.verified.is_some()).map(|s| s.told.fingerprint).collect();
    recorder.begin(json!({ "from": path.display().to_string(), "manifests": takes }))?;
    let mut sets = Vec::new();
    for found in seen {
        if let Some(verified) = &found.verified
            && let Err(reasons) = put(root, &*found.set, verified)
        {
            recorder.end("failed", json!({ "reasons": reasons.as_slice() }));
            return Err(reasons);
        }
        sets.push(found.told);
    }
    clear(root)?;
    let word = if takes.is_empty() { "nothing" } else { "imported" };
    let warning = told(&recovery).or(recorder.end(word, json!({ "manifests": takes })));
    Ok(Import { sets, warning })
}

/// Stores the set and makes it durable; its entry appears in one rename.
fn put(root: &StateRoot, set: &dyn SetSource, verified: &VerifiedSet) -> Result<(), Reasons> {
    let fingerprint = verified.manifest.fingerprint();
    let part = layout::inbox_part(fingerprint);
    let failed = |error: autonomy_stateroot::DiskError| Reasons::from(error.to_reason());
    let _writer = root.store_lock(LockMode::Shared).map_err(failed)?.ok_or_else(|| {
        Reasons::from(Reason::new(Code::Locked, "the object store is locked by a garbage collection"))
    })?;
    if durable::exists(root.disk(), &part).map_err(failed)? {
        durable::remove_tree(root.disk(), &part).map_err(failed)?;
    }
    let written = fill(root, set, verified, &part).and_then(|()| {
        root.disk().sync(SyncTarget::Fs).map_err(failed)?;
        root.disk().rename(&part, &layout::inbox_entry(fingerprint)).map_err(failed)?;
        root.disk().sync(SyncTarget::Dir(Some(&layout::inbox()))).map_err(failed)
    });
    if written.is_err() {
        // If this fails too, the next import begins with it.
        durable::remove_tree(root.disk(), &part).ok();
    }
    written
}

/// Writes the files of the set below `part`: artifacts as links to objects, the verified bytes of everything else.
fn fill(root: &StateRoot, source: &dyn SetSource, verified: &VerifiedSet, part: &RelPath) -> Result<(), Reasons> {
    let failed = |error: autonomy_stateroot::DiskError| Reasons::from(error.to_reason());
    let store = ObjectStore::new(root);
    let mut cache = StatCache::load(root);
    durable::make_dirs(root.disk(), part).map_err(failed)?;
    for artifact in &verified.manifest.document().spec.artifacts {
        let Some(pins) = artifact.file() else { continue };
        let index = Pins { size: pins.segments.size, sha256: None, blake3: pins.segments.index, mode: Mode::FILE };
        let content = Pins { size: pins.size, sha256: Some(pins.digest), blake3: pins.blake3, mode: pins.mode };
        for (name, pins) in [(set::segment_index(&artifact.name), index), (set::artifact(&artifact.path), content)] {
            let path = rel(&name)?;
            let to = part.join(&path);
            if let Some(folder) = to.parent() {
                durable::make_dirs(root.disk(), &folder).map_err(failed)?;
            }
            let open = || source.open(&path).map_err(|error| Placing::Source(error.to_reason()));
            store.place(open, &pins, &to, Durability::Batched, &mut cache).map_err(|error| error.named(&name))?;
        }
    }
    let manifest = &verified.manifest;
    let documents: [(&str, &[u8]); 5] = [
        (set::MANIFEST, manifest.bytes()),
        (set::MANIFEST_SIGNATURES, manifest.signatures()),
        (set::LOCK, verified.lock.bytes()),
        (set::LOCK_SIGNATURES, verified.lock.signatures()),
        (set::POLICY, &verified.policy),
    ];
    for (name, bytes) in documents {
        write(root, &part.join(&rel(name)?), bytes)?;
    }
    for file in source.list().map_err(|error| error.to_reason())?.iter().filter(|file| set::is_root_file(&file.path)) {
        let bytes = roots::read_file(source, "", &file.path, document::MAX_DOCUMENT_BYTES as u64)?.unwrap_or_default();
        write(root, &part.join(&rel(&file.path)?), &bytes)?;
    }
    Ok(())
}

fn write(root: &StateRoot, path: &RelPath, bytes: &[u8]) -> Result<(), Reasons> {
    let failed = |error: autonomy_stateroot::DiskError| Reasons::from(error.to_reason());
    if let Some(folder) = path.parent() {
        durable::make_dirs(root.disk(), &folder).map_err(failed)?;
    }
    root.disk().set_len(path, 0).map_err(failed)?;
    root.disk().write_at(path, 0, bytes).map_err(failed)
}

/// Removes from the inbox what the node has left behind: sets of its stream that are not newer than what it runs.
pub(crate) fn clear(root: &StateRoot) -> Result<(), Reasons> {
    let failed = |error: autonomy_stateroot::DiskError| Reasons::from(error.to_reason());
    let Some((active, _)) = active(root)? else { return Ok(()) };
    for (fingerprint, manifest) in entries(root)? {
        let metadata = &manifest.metadata;
        if metadata.name == active.metadata.name && metadata.serial <= active.metadata.serial {
            durable::remove_tree(root.disk(), &layout::inbox_entry(fingerprint)).map_err(failed)?;
        }
    }
    Ok(())
}

/// The sets in the inbox. What is there and is none is passed over; `verify` judges what is used.
fn entries(root: &StateRoot) -> Result<Vec<(Blake3, StateManifest)>, Reasons> {
    let listed = match root.disk().list(Some(&layout::inbox())) {
        Ok(listed) => listed,
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        Err(error) => return Err(error.to_reason().into()),
    };
    let mut found = Vec::new();
    for entry in listed {
        let Ok(fingerprint) = format!("blake3:{}", entry.name).parse::<Blake3>() else { continue };
        let path = layout::inbox_entry(fingerprint).join(&RelPath::fixed(set::MANIFEST));
        let Ok(Some(bytes)) = read_capped(root.disk(), &path, document::MAX_DOCUMENT_BYTES as u64) else { continue };
        found.extend(document::parse(&bytes).ok().map(|manifest| (fingerprint, manifest)));
    }
    Ok(found)
}

/// The set in the inbox with the highest serial; its signatures decide when it is used.
pub(crate) fn newest(root: &StateRoot) -> Result<Option<Blake3>, Reasons> {
    let newest =
        entries(root)?.into_iter().max_by_key(|(fingerprint, manifest)| (manifest.metadata.serial, *fingerprint));
    Ok(newest.map(|(fingerprint, _)| fingerprint))
}

fn rel(name: &str) -> Result<RelPath, Reasons> {
    name.parse()
        .map_err(|error: autonomy_schema::path::PathError| Reason::new(Code::UnsafePath, error.to_string()).into())
}

/// An error of placing one object, before its path is known.
enum Placing {
    Source(Reason),
    Insert(InsertError),
}

impl From<InsertError> for Placing {
    fn from(error: InsertError) -> Self {
        Self::Insert(error)
    }
}

impl Placing {
    fn named(self, path: &str) -> Reasons {
        match self {
            Self::Source(reason) => reason.into(),
            Self::Insert(error) => error.to_reason(path).into(),
        }
    }
}
