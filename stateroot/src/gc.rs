//! Garbage: generations and objects that nothing needs any more.
//!
//! A generation goes in one rename before anything of it is removed, so a power loss leaves it whole or gone; what is left
//! under a dot name is removed by the next collection. Nothing is collected while it is unknown what is needed.

use std::collections::{BTreeMap, BTreeSet};

use autonomy_schema::journal::{Journal, Phase};
use autonomy_schema::relay::Relay;
use autonomy_schema::{Blake3, Code, Name, Reason, Reasons, RelPath, StateManifest, canonical, document};
use serde::{Deserialize, Serialize};

use crate::contents::{Content, Stored, contents};
use crate::disk::{DiskError, FileKind, LockGuard, SyncTarget, read_capped};
use crate::lock::ActivationLock;
use crate::root::{StateRoot, corrupt};
use crate::{durable, layout};

/// Largest `edge/pins.json` in bytes: some ten thousand manifests.
const MAX_PINS_BYTES: u64 = 1 << 20;

/// `edge/pins.json`: what the relay daemon still needs. It is written anew whenever the active generation changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayPins {
    /// The generation that was active when this was written.
    pub generation: Name,
    /// Manifests that are not relayed yet.
    pub manifests: BTreeSet<Blake3>,
    /// Objects that are being read.
    pub objects: BTreeSet<Blake3>,
}

/// What a collection would remove, and what it keeps.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Garbage {
    /// Generations that go, oldest first.
    pub generations: Vec<Name>,
    /// Generations that stay, each with why.
    pub kept: BTreeMap<Name, Vec<&'static str>>,
    /// Objects that go: their names below `objects/`.
    pub objects: Vec<String>,
    /// What an earlier collection or copy left half done, and policy bundles that no slot names.
    pub leftovers: Vec<RelPath>,
    /// Bytes that become free.
    pub bytes: u64,
}

impl Garbage {
    /// Whether there is nothing to remove.
    pub fn is_empty(&self) -> bool {
        self.generations.is_empty() && self.objects.is_empty() && self.leftovers.is_empty()
    }
}

/// Finds what nothing needs, keeping the newest `keep` generations beside those that are needed. Writes nothing.
pub fn find(root: &StateRoot, keep: usize) -> Result<Garbage, Reasons> {
    let failed = |error: DiskError| Reasons::from(error.to_reason());
    let names = root.generations().map_err(failed)?;
    let mut manifests = BTreeMap::new();
    let mut unreadable = Vec::new();
    // What is being staged may not have its manifest yet. It is kept, and its objects with it: nothing else is made of them.
    let staging = root.journal()?.filter(|journal| journal.phase == Phase::Intent).map(|journal| journal.generation);
    for name in names.iter().filter(|name| Some(*name) != staging.as_ref()) {
        match manifest(root, name) {
            Ok(known) => drop(manifests.insert(name.clone(), known)),
            Err(reasons) => unreadable.extend(reasons.into_vec()),
        }
    }
    // An object is removed only when it is known that nothing kept is made of it.
    Reasons::check(unreadable)?;
    let relay = relay_pins(root, &manifests)?;
    let mut kept = needed(root, &manifests, relay.as_ref())?;
    for name in names.iter().rev().filter(|name| !kept.contains_key(*name)).take(keep).cloned().collect::<Vec<_>>() {
        kept.entry(name).or_default().push("newest");
    }
    kept.retain(|name, _| manifests.contains_key(name) || Some(name) == staging.as_ref());
    let mut objects: BTreeSet<String> = BTreeSet::new();
    for (name, (manifest, _)) in kept.keys().filter_map(|name| manifests.get_key_value(name)) {
        objects.extend(objects_of(root, name, manifest)?);
    }
    let pinned = relay.map(|pins| pins.objects).unwrap_or_default();
    let generations: Vec<Name> = names.into_iter().filter(|name| !kept.contains_key(name)).collect();
    let mut garbage = Garbage { generations, kept, ..Garbage::default() };
    look_for_objects(root, &objects, &pinned, &mut garbage).map_err(failed)?;
    look_for_bundles(root, &mut garbage).map_err(failed)?;
    garbage.bytes = freed(root, &garbage).map_err(failed)?;
    Ok(garbage)
}

fn manifest(root: &StateRoot, name: &Name) -> Result<(StateManifest, Blake3), Reasons> {
    let path = layout::generation_manifest(name);
    let bytes =
        read_capped(root.disk(), &path, document::MAX_DOCUMENT_BYTES as u64).map_err(|error| error.to_reason())?;
    let bytes = bytes.ok_or_else(|| corrupt(&path, "it is missing, so nobody knows what its generation needs"))?;
    let parsed = document::parse(&bytes).map_err(|reasons| corrupt(&path, &reasons.one_line()))?;
    Ok((parsed, Blake3::of(&bytes)))
}

/// The names of the objects that a generation is made of.
pub fn objects_of(root: &StateRoot, generation: &Name, manifest: &StateManifest) -> Result<Vec<String>, Reasons> {
    let contents = contents(manifest, &Stored::generation(root.disk(), generation)).map_err(|reason| {
        let why = format!("its tree indices do not tell what it needs: {}", reason.message);
        corrupt(&layout::generation(generation), &why)
    })?;
    let object = |content: Content| layout::object(content.pins.blake3, content.pins.mode).file_name().to_owned();
    Ok(contents.into_iter().map(object).collect())
}

/// What the relay needs; `None` on a node that has no relay.
fn relay_pins(
    root: &StateRoot,
    manifests: &BTreeMap<Name, (StateManifest, Blake3)>,
) -> Result<Option<RelayPins>, Reasons> {
    let current = root.current()?;
    let relays = current.as_ref().and_then(|current| manifests.get(current));
    let relays = relays.is_some_and(|(manifest, _)| manifest.spec.relay != Relay::default());
    let has_local = durable::exists(root.disk(), &layout::edge_local()).map_err(|error| error.to_reason())?;
    if !relays && !has_local {
        return Ok(None);
    }
    let path = layout::edge_pins();
    let stale = |why: String| Reasons::from(Reason::new(Code::RelayPinsStale, format!("`{path}` {why}")));
    let bytes = match read_capped(root.disk(), &path, MAX_PINS_BYTES) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Err(stale("is missing, and this node has a relay".to_owned())),
        Err(error) => return Err(stale(error.to_string())),
    };
    let pins: RelayPins = serde_json::from_slice(&bytes).map_err(|error| stale(error.to_string()))?;
    if canonical::to_bytes(&pins).ok().as_ref() != Some(&bytes) {
        return Err(stale("is not canonical JSON".to_owned()));
    }
    if Some(&pins.generation) != current.as_ref() {
        let active = current.map_or_else(|| "nothing".to_owned(), |current| current.to_string());
        return Err(stale(format!("was written when {} was active; now {active} is", pins.generation)));
    }
    Ok(Some(pins))
}

/// Every generation that something needs, with what that is.
fn needed(
    root: &StateRoot,
    manifests: &BTreeMap<Name, (StateManifest, Blake3)>,
    relay: Option<&RelayPins>,
) -> Result<BTreeMap<Name, Vec<&'static str>>, Reasons> {
    let mut needed: BTreeMap<Name, Vec<&'static str>> = BTreeMap::new();
    let mut put = |name: Name, why| needed.entry(name).or_default().push(why);
    for (name, why) in [(root.current()?, "active"), (root.lkg()?, "last known good")] {
        if let Some(name) = name {
            put(name, why);
        }
    }
    if let Some(journal) = root.journal()?.filter(|journal| !journal.phase.is_final()) {
        let Journal { generation, previous, supersedes, .. } = journal;
        let taken_over = supersedes.map(|waits| [Some(waits.generation), waits.previous]);
        let named = [Some(generation), previous].into_iter().chain(taken_over.into_iter().flatten());
        for name in named.flatten() {
            put(name, "change in progress");
        }
    }
    let pinned = root.pinned()?;
    let waiting = outbox(root)?;
    for (name, (_, fingerprint)) in manifests {
        if pinned.contains(fingerprint) {
            put(name.clone(), "pinned");
        }
        if waiting.contains(name) {
            put(name.clone(), "in the outbox");
        }
        if relay.is_some_and(|relay| relay.manifests.contains(fingerprint)) {
            put(name.clone(), "the relay needs it");
        }
    }
    Ok(needed)
}

/// The generations that entries of the outbox point to.
fn outbox(root: &StateRoot) -> Result<BTreeSet<Name>, Reasons> {
    let failed = |error: DiskError| Reasons::from(error.to_reason());
    let mut found = BTreeSet::new();
    for manifest in root.outbox().map_err(failed)? {
        let entry = layout::outbox_entry(manifest);
        let text = root.disk().read_link(&entry).map_err(failed)?.unwrap_or_default();
        found.insert(layout::outbox_target(&text).ok_or_else(|| corrupt(&entry, "it points to no generation"))?);
    }
    Ok(found)
}

/// Objects that no kept generation is made of, and leftovers.
fn look_for_objects(
    root: &StateRoot,
    needed: &BTreeSet<String>,
    pinned: &BTreeSet<Blake3>,
    garbage: &mut Garbage,
) -> Result<(), DiskError> {
    let folder = layout::objects();
    for entry in root.disk().list(Some(&folder))? {
        let Ok(path) = entry.name.parse::<RelPath>() else { continue };
        if entry.kind != FileKind::File {
            continue;
        }
        if entry.name.starts_with(".tmp-") {
            garbage.leftovers.push(folder.join(&path));
        } else if let Some(digest) = layout::object_digest(&entry.name)
            && !needed.contains(&entry.name)
            && !pinned.contains(&digest)
        {
            garbage.objects.push(entry.name);
        }
    }
    let folder = layout::generations();
    for entry in root.disk().list(Some(&folder))? {
        if layout::is_leftover(&entry.name)
            && let Ok(path) = entry.name.parse::<RelPath>()
        {
            garbage.leftovers.push(folder.join(&path));
        }
    }
    Ok(())
}

/// Policy bundles that neither slot names, and what a load left that was cut off. A link that is none may name any of them.
fn look_for_bundles(root: &StateRoot, garbage: &mut Garbage) -> Result<(), DiskError> {
    let folder = layout::policy_bundles();
    let mut named = BTreeSet::new();
    for link in [layout::policy_current(), layout::policy_lkg()] {
        match root.disk().read_link(&link).map(|text| text.map(|text| layout::policy_target(&text))) {
            Ok(None) => {}
            Ok(Some(Some(bundle))) => drop(named.insert(bundle.hex())),
            Ok(Some(None)) => return Ok(()),
            Err(error) if error.source.kind() == std::io::ErrorKind::InvalidInput => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    let entries = match root.disk().list(Some(&folder)) {
        Err(error) if error.is_not_found() => return Ok(()),
        entries => entries?,
    };
    for entry in entries.into_iter().filter(|entry| entry.kind == FileKind::Dir && !named.contains(&entry.name)) {
        let ours = entry.name.strip_prefix(layout::NEW_BUNDLE).unwrap_or(&entry.name);
        if layout::policy_target(&format!("bundles/{ours}")).is_some()
            && let Ok(path) = entry.name.parse::<RelPath>()
        {
            garbage.leftovers.push(folder.join(&path));
        }
    }
    Ok(())
}

/// Bytes of files none of whose names stays.
fn freed(root: &StateRoot, garbage: &Garbage) -> Result<u64, DiskError> {
    let home = root.disk().stat(&layout::generations())?.map(|stat| stat.identity.dev);
    let mut seen: BTreeMap<(u64, u64), (u64, u64, u64)> = BTreeMap::new();
    let mut todo: Vec<RelPath> = garbage.generations.iter().map(layout::generation).collect();
    todo.extend(garbage.leftovers.iter().cloned());
    todo.extend(garbage.objects.iter().filter_map(|name| Some(layout::objects().join(&name.parse().ok()?))));
    while let Some(path) = todo.pop() {
        let Some(stat) = root.disk().stat(&path)? else { continue };
        if home.is_some_and(|home| home != stat.identity.dev) {
            let why = std::io::Error::other("another file system is mounted there, and is not ours to empty");
            return Err(DiskError::new("remove", &path, why));
        }
        if stat.kind == FileKind::Dir {
            for entry in root.disk().list(Some(&path))? {
                todo.push(durable::child(&path, &entry.name)?);
            }
        }
        let nlink = if stat.kind == FileKind::Dir { 1 } else { stat.nlink };
        let place = seen.entry((stat.identity.dev, stat.identity.ino)).or_insert((0, nlink, stat.allocated));
        place.0 += 1;
    }
    Ok(seen.into_values().filter(|(names, nlink, _)| names >= nlink).map(|(.., bytes)| bytes).sum())
}

/// Removes what [`find`] found. `LOCK` and the exclusive lock of the store keep everybody else away meanwhile.
pub fn sweep(
    root: &StateRoot,
    _held: &ActivationLock,
    _store: &dyn LockGuard,
    garbage: &Garbage,
    progress: &dyn Fn(usize),
) -> Result<(), DiskError> {
    let disk = root.disk();
    let mut done = 0;
    let mut removed = |path: &RelPath| -> Result<(), DiskError> {
        durable::remove_tree(disk, path)?;
        done += 1;
        progress(done);
        Ok(())
    };
    for path in &garbage.leftovers {
        removed(path)?;
    }
    for name in &garbage.generations {
        let doomed = layout::doomed_generation(name);
        disk.rename(&layout::generation(name), &doomed)?;
        disk.sync(SyncTarget::Dir(Some(&layout::generations())))?;
        removed(&doomed)?;
    }
    for name in &garbage.objects {
        removed(&durable::child(&layout::objects(), name)?)?;
    }
    disk.sync(SyncTarget::Dir(Some(&layout::generations())))?;
    disk.sync(SyncTarget::Dir(Some(&layout::objects())))
}
