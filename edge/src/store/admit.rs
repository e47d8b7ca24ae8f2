//! The life of a set here: admitted, loaded again after a restart, forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use autonomy_schema::manifest::Artifact;
use autonomy_schema::{Blake3, Code, Mode, Name, Reason, RelPath, StateManifest, Time, document, set};
use autonomy_sets::{Documents, write_documents};
use autonomy_stateroot::{
    DiskError, FileKind, LockMode, Pins, SetSource as _, Stored, SyncTarget, digests, durable, known_contents, layout,
    pinned_contents, read_capped, unverified,
};

use super::account::BLOCK;
use super::body::{Incoming, TarSet};
use super::judge::{is_kept, judge, refused};
use super::names::{Names, Place};
use super::payload::{Key, Payload};
use super::{MAX_UNDER_WAY, Set, Store, StoreError, busy};

/// Most segments that are named at once: some 16 GiB of payloads. Each takes 32 bytes of memory.
const MAX_NAMED: usize = 1 << 20;
/// Sets that are remembered after they were completed.
const MAX_RECENT: usize = 4;
/// The number of payloads that are here whole.
const ELSEWHERE: u16 = u16::MAX;

impl Store {
    pub(super) fn is_known(&self, fingerprint: Blake3) -> Result<bool, StoreError> {
        Ok(self.sets.contains_key(&fingerprint) || is_kept(&self.root, fingerprint)?)
    }

    /// Verifies a body, and puts its documents where they stay.
    pub(super) fn admit(
        &mut self,
        incoming: &Incoming,
        fingerprint: Blake3,
        from: &Name,
        clock: Time,
    ) -> Result<(), StoreError> {
        let body = TarSet::open(&self.root, &incoming.path, incoming.size).map_err(refused)?;
        if let Some((_, found)) = unverified(&body).filter(|(_, found)| *found != fingerprint) {
            let message = format!("the manifest is {found}; it was sent as {fingerprint}");
            return Err(refused(Reason::new(Code::DigestMismatch, message)));
        }
        let documents = judge(&self.root, &body, clock)?.documents;
        let manifest = documents.manifest.document().clone();
        self.check_rank(&manifest, fingerprint)?;
        self.check_count(&manifest)?;
        let need = incoming.size + BLOCK * (16 + 3 * manifest.spec.artifacts.len() as u64);
        self.reserve(need)?;
        let admitted = self.unpack(&body, Documents::from(&documents), fingerprint).and_then(|()| {
            self.insert(fingerprint, manifest, incoming.size, Some(from.clone()))?;
            if let Some(set) = self.sets.get_mut(&fingerprint) {
                set.touched = Some(clock);
            }
            self.make_room(self.promised())?;
            self.name_all()?;
            self.copy_local()
        });
        // The caller measures what is there now.
        self.account.release(need);
        admitted.inspect_err(|_| {
            // It was not accepted, so nothing of it stays.
            if let Err(error) = self.forget(fingerprint) {
                tracing::warn!(event = "edge.store.failed", manifest = %fingerprint, reason = %error, "a set that was not accepted could not be removed");
            }
        })
    }

    /// Whether one more may be under way, as far as numbers go.
    fn check_count(&mut self, manifest: &StateManifest) -> Result<(), StoreError> {
        let stays = |set: &Set| !set.is_transit && set.manifest.metadata.name != manifest.metadata.name;
        if self.sets.values().filter(|set| stays(set)).count() >= MAX_UNDER_WAY {
            let abandoned = self.sets.iter().filter(|(_, set)| stays(set) && set.is_abandoned);
            let Some(longest) = abandoned.min_by_key(|(_, set)| set.touched).map(|(fingerprint, _)| *fingerprint)
            else {
                return Err(busy("as many sets are under way as may be"));
            };
            self.forget(longest)?;
        }
        let own: BTreeMap<Key, usize> = manifest.spec.artifacts.iter().filter_map(counted).collect();
        let named = own.values().fold(0_usize, |sum, count| sum.saturating_add(*count));
        if named > MAX_NAMED {
            let message = format!("the set has {named} segments; a node that receives takes {MAX_NAMED}");
            return Err(refused(Reason::new(Code::LimitExceeded, message)));
        }
        let staying = self.sets.values().filter(|set| stays(set));
        let all: BTreeMap<Key, usize> =
            staying.flat_map(|set| set.manifest.spec.artifacts.iter().filter_map(counted)).chain(own).collect();
        if all.values().sum::<usize>() > MAX_NAMED {
            return Err(busy("the sets under way have as many segments as may be"));
        }
        Ok(())
    }

    /// Sets under way, without those that a newer one of their stream is about to replace.
    fn live(&self) -> impl Iterator<Item = (Blake3, &Set)> {
        let under_way = |set: &Set| !set.is_transit;
        let is_newest = move |set: &Set| {
            let metadata = &set.manifest.metadata;
            let mut others = self.sets.values().filter(|other| under_way(other)).map(|other| &other.manifest.metadata);
            !others.any(|other| other.name == metadata.name && other.serial > metadata.serial)
        };
        self.sets
            .iter()
            .filter(move |(_, set)| under_way(set) && is_newest(set))
            .map(|(fingerprint, set)| (*fingerprint, set))
    }

    /// Bytes that the sets under way will yet take, until all of them are complete.
    fn promised(&self) -> u64 {
        let live: BTreeSet<Key> = self.live().flat_map(|(_, set)| &set.keys).copied().collect();
        let (mut lacking, mut freed) = (0, 0);
        for payload in self.payloads.values().filter(|payload| payload.whole.is_none()) {
            if live.contains(&payload.key) {
                lacking += payload.pins.size.next_multiple_of(BLOCK).saturating_sub(payload.allocated);
            } else {
                freed += payload.allocated;
            }
        }
        let placed: u64 = self.live().map(|(fingerprint, _)| self.cost(fingerprint)).sum();
        (lacking + placed).saturating_sub(freed)
    }

    /// Writes the documents, durably; they appear in one rename.
    fn unpack(&self, body: &TarSet, documents: Documents<'_>, fingerprint: Blake3) -> Result<(), StoreError> {
        let disk = self.root.disk();
        let (part, place) = (layout::edge_set_part(fingerprint), layout::edge_set(fingerprint));
        durable::remove_tree(disk, &part)?;
        durable::make_dirs(disk, &part)?;
        let written = write_documents(&self.root, body, documents, &part).map_err(StoreError::from);
        let written = written.and_then(|()| self.write_indices(body, documents.manifest.document(), &part));
        let written = written.and_then(|()| {
            disk.sync(SyncTarget::Fs)?;
            disk.rename(&part, &place)?;
            Ok(disk.sync(SyncTarget::Dir(Some(&layout::edge_sets())))?)
        });
        if written.is_err() {
            // If this fails too, the next start removes it.
            durable::remove_tree(disk, &part).ok();
        }
        written
    }

    fn write_indices(&self, body: &TarSet, manifest: &StateManifest, part: &RelPath) -> Result<(), StoreError> {
        for content in pinned_contents(manifest).map_err(refused)? {
            if content.path.as_str().starts_with(set::ARTIFACTS) {
                continue;
            }
            let place = part.join(&content.path);
            if let Some(folder) = place.parent() {
                durable::make_dirs(self.root.disk(), &folder)?;
            }
            let found = self.copy_index(body, &content.path, content.pins.size, &place)?;
            if found != content.pins.blake3 {
                // It was verified a moment ago.
                let message = format!("`{}` is {found}; it was {}", content.path, content.pins.blake3);
                return Err(StoreError::Disk(Reason::new(Code::IoError, message)));
            }
        }
        Ok(())
    }

    /// Copies a file of the body piece by piece, as an index may have 40 MiB; gives its hash.
    fn copy_index(&self, body: &TarSet, path: &RelPath, size: u64, to: &RelPath) -> Result<Blake3, StoreError> {
        let disk = self.root.disk();
        let file = body.open(path).map_err(|error| refused(error.to_reason()))?;
        let (mut file, mut hasher, mut offset) = (file.take(size), blake3::Hasher::new(), 0);
        let mut buffer = vec![0; 256 << 10];
        disk.set_len(to, 0)?;
        loop {
            let read = file.read(&mut buffer).map_err(|source| DiskError::new("read", path, source))?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            disk.write_at(to, offset, &buffer[..read])?;
            offset += read as u64;
        }
        disk.set_meta(to, Mode::FILE)?;
        Ok(Blake3::from_bytes(*hasher.finalize().as_bytes()))
    }

    /// Takes a set, whose documents lie there, among those under way, and finds out what of it is here.
    fn insert(
        &mut self,
        fingerprint: Blake3,
        manifest: StateManifest,
        documents: u64,
        from: Option<Name>,
    ) -> Result<(), StoreError> {
        let pinned: Vec<_> = manifest.spec.artifacts.iter().filter_map(Key::of).collect();
        let artifacts = layout::edge_set(fingerprint).join(&RelPath::fixed(set::ARTIFACTS));
        let is_transit = durable::exists(self.root.disk(), &artifacts)?;
        let set = Set {
            manifest,
            documents,
            is_transit,
            keys: pinned.iter().map(|(key, _)| *key).collect(),
            from,
            touched: None,
            is_abandoned: false,
        };
        self.sets.insert(fingerprint, set);
        if is_transit {
            return Ok(());
        }
        for (key, pins) in pinned {
            if self.payloads.contains_key(&key) {
                continue;
            }
            let mut payload = Payload::new(key, pins);
            if let Some(index) = self.index_of(key) {
                payload.scan(&self.root, &index)?;
            }
            self.payloads.insert(key, payload);
        }
        self.find_whole(fingerprint)
    }

    /// What a process that ended had under way.
    pub(super) fn load(&mut self) -> Result<(), StoreError> {
        let disk = self.root.clone();
        let disk = disk.disk();
        for entry in list(disk, &layout::edge_sets())? {
            let path = durable::child(&layout::edge_sets(), &entry.name)?;
            let fingerprint = format!("blake3:{}", entry.name).parse::<Blake3>().ok();
            match fingerprint.filter(|_| entry.kind == FileKind::Dir).and_then(|found| Some((found, self.read(found)?)))
            {
                // It came into the inbox, and what comes after that did not happen any more.
                Some((found, (manifest, size))) if !is_kept(&self.root, found)? => {
                    self.insert(found, manifest, size, None)?;
                }
                Some(_) | None => durable::remove_tree(disk, &path)?,
            }
        }
        for entry in list(disk, &layout::inbox())?.iter().filter(|entry| entry.name.starts_with(layout::RECEIVING)) {
            durable::remove_tree(disk, &durable::child(&layout::inbox(), &entry.name)?)?;
        }
        self.drop_payloads()?;
        self.name_all()?;
        Ok(self.account.settle(&self.root)?)
    }

    /// The manifest of documents that lie there, and the size of them all; `None` where they are not those of this fingerprint.
    fn read(&self, fingerprint: Blake3) -> Option<(StateManifest, u64)> {
        let path = layout::edge_set(fingerprint).join(&RelPath::fixed(set::MANIFEST));
        let bytes = read_capped(self.root.disk(), &path, document::MAX_DOCUMENT_BYTES as u64).ok()??;
        if document::fingerprint(&bytes) != fingerprint {
            return None;
        }
        let manifest: StateManifest = document::parse(&bytes).ok()?;
        let documents = pinned_contents(&manifest)
            .ok()?
            .into_iter()
            .filter(|content| !content.path.as_str().starts_with(set::ARTIFACTS));
        let indices: u64 = documents.map(|content| content.pins.size).sum();
        let size = bytes.len() as u64 + manifest.spec.policy.size + indices;
        if !self.has_indices(fingerprint, &manifest) {
            tracing::warn!(event = "edge.set.damaged", manifest = %fingerprint, "an index of a set under way is not what it was; the set goes, and may be sent again");
            return None;
        }
        Some((manifest, size))
    }

    /// Whether every index lies there as it was accepted.
    fn has_indices(&self, fingerprint: Blake3, manifest: &StateManifest) -> bool {
        let base = layout::edge_set(fingerprint);
        let indices = pinned_contents(manifest).unwrap_or_default().into_iter();
        indices.filter(|content| !content.path.as_str().starts_with(set::ARTIFACTS)).all(|content| {
            let found = digests(self.root.disk(), &base.join(&content.path), content.pins.size);
            found.is_ok_and(|(blake3, _)| blake3 == content.pins.blake3)
        })
    }

    /// An older set of the same stream that is under way is of no use any more.
    pub(super) fn drop_older(&mut self, fingerprint: Blake3) -> Result<(), StoreError> {
        let Some(metadata) = self.sets.get(&fingerprint).map(|set| set.manifest.metadata.clone()) else {
            return Ok(());
        };
        let older = self.sets.iter().filter(|(_, set)| {
            let other = &set.manifest.metadata;
            !set.is_transit && other.name == metadata.name && other.serial < metadata.serial
        });
        let older: Vec<Blake3> = older.map(|(fingerprint, _)| *fingerprint).collect();
        for fingerprint in older {
            self.drop_set(fingerprint)?;
        }
        self.drop_payloads()?;
        self.name_all()
    }

    /// Forgets a set, and what is of no use without it.
    pub(super) fn forget(&mut self, fingerprint: Blake3) -> Result<(), StoreError> {
        self.drop_set(fingerprint)?;
        self.drop_payloads()?;
        self.name_all()
    }

    /// Removes the documents of a set, and its artifacts when it is in transit: in one rename, so none is ever half there.
    /// Not durable: the next start looks at what is there.
    pub(super) fn drop_set(&mut self, fingerprint: Blake3) -> Result<(), StoreError> {
        let disk = self.root.disk();
        let (place, doomed) = (layout::edge_set(fingerprint), layout::edge_set_part(fingerprint));
        let objects = self.objects_in_transit(fingerprint);
        durable::remove_tree(disk, &doomed)?;
        if durable::exists(disk, &place)? {
            disk.rename(&place, &doomed)?;
        }
        self.sets.remove(&fingerprint);
        durable::remove_tree(disk, &doomed)?;
        self.release(&objects)
    }

    /// The objects that a set in transit is made of.
    fn objects_in_transit(&self, fingerprint: Blake3) -> Vec<Pins> {
        let Some(set) = self.sets.get(&fingerprint).filter(|set| set.is_transit) else { return Vec::new() };
        let documents = Stored::new(self.root.disk(), layout::edge_set(fingerprint));
        known_contents(&set.manifest, &documents).files.into_iter().map(|content| content.pins).collect()
    }

    /// Removes those of these objects that nothing is made of any more. While somebody stores objects they stay, for gc.
    fn release(&self, objects: &[Pins]) -> Result<(), StoreError> {
        if objects.is_empty() {
            return Ok(());
        }
        let Some(_store) = self.root.store_lock(LockMode::Exclusive)? else { return Ok(()) };
        let wanted = self.pins().objects;
        for pins in objects.iter().filter(|pins| !wanted.contains(&pins.blake3)) {
            let object = layout::object(pins.blake3, pins.mode);
            // Its other names are where it is used.
            if self.root.disk().stat(&object)?.is_some_and(|stat| stat.nlink == 1) {
                self.root.disk().remove(&object)?;
            }
        }
        Ok(())
    }

    /// Removes payloads that no set needs.
    pub(super) fn drop_payloads(&mut self) -> Result<(), StoreError> {
        let needed: BTreeSet<Key> = self
            .sets
            .values()
            .filter(|set| !set.is_transit)
            .flat_map(|set| set.manifest.spec.artifacts.iter().filter_map(Key::of).map(|(key, _)| key))
            .collect();
        self.payloads.retain(|key, _| needed.contains(key));
        let places: BTreeSet<String> = needed.iter().map(|key| key.partial().to_string()).collect();
        for entry in list(self.root.disk(), &layout::segments())? {
            let path = durable::child(&layout::segments(), &entry.name)?;
            if !places.contains(path.as_str()) {
                durable::remove_tree(self.root.disk(), &path)?;
            }
        }
        Ok(())
    }

    /// Remembers which segments a set had that is complete.
    pub(super) fn remember(&mut self, fingerprint: Blake3) {
        self.recent.push_front(fingerprint);
        self.recent.truncate(MAX_RECENT);
    }

    /// Builds the names anew.
    pub(super) fn name_all(&mut self) -> Result<(), StoreError> {
        // The old ones go first: two of them would not fit into the memory that a daemon has. While it lasts, nothing is named.
        self.names = Names::default();
        self.lacks_names = true;
        let mut names = Names::default();
        let live: BTreeSet<Key> = self.live().flat_map(|(_, set)| &set.keys).copied().collect();
        self.slots = self.payloads.keys().copied().collect();
        for (slot, key) in (0..ELSEWHERE).zip(self.slots.clone()) {
            let Some(index) = self.index_of(key).filter(|_| live.contains(&key)) else { continue };
            names.add(&self.root, &index, slot, usize::MAX)?;
        }
        let transit = self.sets.iter().filter(|(_, set)| set.is_transit).map(|(found, _)| layout::edge_set(*found));
        let recent = self.recent.iter().map(|fingerprint| layout::inbox_entry(*fingerprint));
        for base in transit.chain(recent) {
            let folder = base.join(&RelPath::fixed(set::SEGMENTS));
            for entry in list(self.root.disk(), &folder).unwrap_or_default() {
                let index = durable::child(&folder, &entry.name)?;
                // It may go at any moment, as others work in the inbox; then what comes late is not known, and refused.
                names.add(&self.root, &index, ELSEWHERE, MAX_NAMED).ok();
            }
        }
        names.sort();
        (self.names, self.lacks_names) = (names, false);
        Ok(())
    }

    /// Whether a place of a segment waits for it.
    pub(super) fn is_empty(&self, place: &Place) -> bool {
        let payload = self.slots.get(usize::from(place.payload)).and_then(|key| self.payloads.get(key));
        payload.is_some_and(|payload| !payload.has(place.number))
    }
}

/// Which payload an artifact has, and how many segments.
fn counted(artifact: &Artifact) -> Option<(Key, usize)> {
    let (key, pins) = Key::of(artifact)?;
    Some((key, usize::try_from(pins.segments.count).unwrap_or(usize::MAX)))
}

/// The entries of a folder, which may be absent.
fn list(
    disk: &dyn autonomy_stateroot::StateDisk,
    folder: &RelPath,
) -> Result<Vec<autonomy_stateroot::Entry>, DiskError> {
    match disk.list(Some(folder)) {
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        listed => listed,
    }
}
