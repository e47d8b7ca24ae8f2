//! A set that became whole: into the inbox, or into transit when it is for other nodes; and the receipt for it.

use std::collections::{BTreeMap, BTreeSet};

use autonomy_precheck::{epoch, evidence};
use autonomy_schema::manifest::ArtifactType;
use autonomy_schema::receipt::ReceiptResult;
use autonomy_schema::{Blake3, Code, Mode, Name, Reason, Reasons, RelPath, Time, set};
use autonomy_sets::{Became, Documents, Putting, ReceiptSigner, put_in_inbox, sign_receipts};
use autonomy_stateroot::{
    Durability, FillError, Filling, LockGuard, ObjectStore, Pins, StatCache, SyncTarget, Unfolded, Writer, contents,
    durable, fill, layout,
};

use super::account::BLOCK;
use super::judge::{Judged, judge, refused};
use super::payload::{Key, Whole};
use super::received::Received;
use super::{Set, Store, StoreError};

impl From<FillError> for StoreError {
    fn from(error: FillError) -> Self {
        match error {
            FillError::Refused(reasons) => refused(reasons),
            FillError::Disk(error) => error.into(),
        }
    }
}

/// Whether it is the time alone that speaks against a set.
fn is_of_the_hour(reasons: &Reasons) -> bool {
    reasons.as_slice().iter().all(|reason| matches!(reason.code, Code::Expired | Code::IssuedInFuture))
}

impl Store {
    /// Completes every set that lacks nothing; gives those that became whole. One that is no longer admitted goes, unless it
    /// is the time alone that speaks against it. One that cannot be completed keeps nobody else from anything: its error is
    /// given when it is the one that is asked for, and it is tried again at the next look.
    pub(super) fn complete_all(&mut self, asked: Option<Blake3>, clock: Time) -> Result<Vec<Blake3>, StoreError> {
        let is_due = |set: &&Blake3| !self.failed.contains(*set) || asked == Some(**set);
        let due: Vec<Blake3> = self.sets.keys().filter(is_due).copied().collect();
        let ready: Vec<Blake3> = due.into_iter().filter(|set| self.lacks_nothing(*set)).collect();
        let (mut completed, mut failed) = (Vec::new(), None);
        for fingerprint in ready {
            match self.complete(fingerprint, clock) {
                Ok(true) => completed.push(fingerprint),
                Ok(false) => {}
                Err(StoreError::Refused(reasons)) => {
                    tracing::warn!(event = "edge.set.refused", manifest = %fingerprint, reasons = %reasons, "a set that became whole is not admitted");
                    // A clock that is wrong comes right again: what is durable stays until a newer set of its stream comes.
                    if is_of_the_hour(&reasons) {
                        self.failed.insert(fingerprint);
                    } else {
                        self.forget(fingerprint)?;
                    }
                }
                Err(error) => {
                    tracing::warn!(event = "edge.completion.failed", manifest = %fingerprint, reason = %error, "a set that lacks nothing could not be completed");
                    self.failed.insert(fingerprint);
                    if asked == Some(fingerprint) {
                        failed = Some(error);
                    }
                }
            }
        }
        failed.map_or(Ok(completed), Err)
    }

    fn lacks_nothing(&self, fingerprint: Blake3) -> bool {
        self.sets.get(&fingerprint).is_some_and(|set| {
            let mut keys = set.manifest.spec.artifacts.iter().filter_map(Key::of);
            !set.is_transit
                && keys.all(|(key, _)| self.payloads.get(&key).is_some_and(super::payload::Payload::is_durable))
        })
    }

    /// `false` when it cannot be now: garbage is being collected, or what was here is gone.
    fn complete(&mut self, fingerprint: Blake3, clock: Time) -> Result<bool, StoreError> {
        let Ok(store) = self.root.share_store() else { return Ok(false) };
        self.find_whole(fingerprint)?;
        if !self.lacks_nothing(fingerprint) {
            self.name_all()?;
            return Ok(false);
        }
        let base = layout::edge_set(fingerprint);
        let judged = judge(&self.root, &Received::new(&self.root, base, BTreeMap::new()), clock)?;
        let mut cache = StatCache::load(&self.root);
        // Asked before all of it is hashed.
        let cost = self.cost(fingerprint);
        self.reserve(cost)?;
        let placed = self.place_objects(fingerprint, &mut cache);
        let placed = placed.and_then(|()| self.put_in_place(fingerprint, &judged, &*store, &mut cache));
        // It is measured when the set is settled, or by the next walk.
        self.account.release(cost);
        placed?;
        drop(store);
        self.settle_completed(fingerprint, judged.is_ours, clock)?;
        Ok(true)
    }

    /// Into the inbox, or into transit.
    fn put_in_place(
        &self,
        fingerprint: Blake3,
        judged: &Judged,
        store: &dyn LockGuard,
        cache: &mut StatCache,
    ) -> Result<(), StoreError> {
        let base = layout::edge_set(fingerprint);
        let documents = Documents::from(&judged.documents);
        let source = Unfolded::new(Box::new(Received::new(&self.root, base, self.places(fingerprint))));
        if judged.is_ours {
            let mut putting = Putting { writer: Writer::Relay, store, cache, progress: &|_, _| {} };
            put_in_inbox(&self.root, &source, documents, &mut putting)?;
            Ok(())
        } else {
            self.put_in_transit(fingerprint, &source, documents, store, cache)
        }
    }

    /// What completing a set writes anew: the files of trees, files of another mode, and the documents.
    pub(super) fn cost(&self, fingerprint: Blake3) -> u64 {
        let Some(set) = self.sets.get(&fingerprint) else { return 0 };
        // The first file that is made of a payload takes the place of the partial.
        let mut renamed = BTreeSet::new();
        let artifacts = set.manifest.spec.artifacts.iter().filter_map(|artifact| Some((artifact, Key::of(artifact)?)));
        let copied = artifacts.map(|(artifact, (key, pins))| {
            let own = artifact.file().map(|file| Whole::Object(layout::object(file.blake3, file.mode)));
            let whole = self.payloads.get(&key).and_then(|payload| payload.whole.as_ref());
            let is_placed = match whole {
                None => own.is_some() && renamed.insert(key),
                Some(Whole::Files) => true,
                Some(whole) => own.as_ref() == Some(whole),
            };
            let bytes = if is_placed { 0 } else { pins.size };
            bytes + pins.segments.size + artifact.index.map_or(0, |index| index.size) + 4 * BLOCK
        });
        copied.sum::<u64>() + set.documents + 16 * BLOCK
    }

    /// Where the payloads of a set lie.
    fn places(&self, fingerprint: Blake3) -> BTreeMap<String, RelPath> {
        let artifacts =
            self.sets.get(&fingerprint).map(|set| set.manifest.spec.artifacts.as_slice()).unwrap_or_default();
        let place = |artifact| {
            let (key, _) = Key::of(artifact)?;
            let at = match self.payloads.get(&key)?.whole.clone() {
                Some(Whole::Object(path)) => path,
                Some(Whole::Files) => return None,
                None => key.partial(),
            };
            Some((set::payload(artifact), at))
        };
        artifacts.iter().filter_map(place).collect()
    }

    /// Hashes what was received, and makes objects of the files. Their bytes are durable already.
    fn place_objects(&mut self, fingerprint: Blake3, cache: &mut StatCache) -> Result<(), StoreError> {
        let artifacts = self.sets.get(&fingerprint).map(|set| set.manifest.spec.artifacts.clone()).unwrap_or_default();
        let disk = self.root.disk();
        for artifact in &artifacts {
            let Some((key, pins)) = Key::of(artifact) else { continue };
            let Some(payload) = self.payloads.get_mut(&key).filter(|payload| payload.whole.is_none()) else { continue };
            let partial = key.partial();
            if pins.size == 0 && !durable::exists(disk, &partial)? {
                durable::ensure_dir(disk, &layout::segments())?;
                disk.set_len(&partial, 0)?;
            }
            if payload.hashing.finish(&self.root, &partial)? != (pins.blake3, pins.digest) {
                // Every segment is as the signed index says, so it is the index that is wrong.
                let message = format!("the segments of `{}` do not make up what the manifest pins", artifact.name);
                return Err(refused(Reason::new(Code::DigestMismatch, message)));
            }
            let Some(file) = artifact.file() else { continue };
            let object = layout::object(file.blake3, file.mode);
            // Mode and name wait for the one sync that comes before the set appears.
            disk.set_meta(&partial, file.mode)?;
            disk.rename(&partial, &object)?;
            payload.whole = Some(Whole::Object(object.clone()));
            if let Some(stat) = disk.stat(&object)? {
                cache.put(stat.identity, stat.size, file.blake3, file.digest);
            }
        }
        Ok(())
    }

    /// The artifacts beside the documents, in one rename.
    fn put_in_transit(
        &self,
        fingerprint: Blake3,
        source: &Unfolded,
        documents: Documents<'_>,
        _store: &dyn LockGuard,
        cache: &mut StatCache,
    ) -> Result<(), StoreError> {
        let disk = self.root.disk();
        let (base, part) = (layout::edge_set(fingerprint), layout::edge_set_part(fingerprint));
        let artifacts = RelPath::fixed(set::ARTIFACTS);
        durable::remove_tree(disk, &part)?;
        durable::make_dirs(disk, &part)?;
        let mut filling = Filling {
            root: &self.root,
            set: source,
            manifest: documents.manifest.document(),
            base: &part,
            writer: Writer::Relay,
            durability: Durability::Batched,
            cache,
        };
        let placed = fill(&mut filling, |_, _| Ok(())).map_err(StoreError::from).and_then(|_| {
            durable::make_dirs(disk, &part.join(&artifacts))?;
            disk.sync(SyncTarget::Fs)?;
            disk.rename(&part.join(&artifacts), &base.join(&artifacts))?;
            Ok(disk.sync(SyncTarget::Dir(Some(&base)))?)
        });
        // If this fails too, the next start removes it.
        durable::remove_tree(disk, &part).ok();
        placed
    }

    /// What follows: the receipt, and nothing that is not needed any more.
    fn settle_completed(&mut self, fingerprint: Blake3, is_ours: bool, clock: Time) -> Result<(), StoreError> {
        let Some(set) = self.sets.get_mut(&fingerprint) else { return Ok(()) };
        set.is_transit = !is_ours;
        let (from, metadata) = (set.from.clone(), set.manifest.metadata.clone());
        if let Err(reasons) = self.sign(fingerprint, from, clock) {
            tracing::warn!(event = "edge.receipt.failed", manifest = %fingerprint, reasons = %reasons, "no receipt was made");
        }
        let older = |(_, set): &(&Blake3, &Set)| {
            set.manifest.metadata.name == metadata.name && set.manifest.metadata.serial < metadata.serial
        };
        let mut gone: Vec<Blake3> = self.sets.iter().filter(older).map(|(fingerprint, _)| *fingerprint).collect();
        if is_ours {
            self.remember(fingerprint);
            gone.push(fingerprint);
        }
        for fingerprint in gone {
            self.drop_set(fingerprint)?;
        }
        self.drop_payloads()?;
        self.name_all()?;
        Ok(self.account.walk(&self.root)?)
    }

    pub(super) fn sign(&self, manifest: Blake3, from: Option<Name>, clock: Time) -> Result<(), Reasons> {
        let signer = ReceiptSigner { key: evidence::attest_key(&self.root)?, boot_epoch: epoch::known(&self.root) };
        let became = Became { manifest, result: ReceiptResult::Stored, from };
        sign_receipts(&self.root, &signer, &[became], clock).map(drop)
    }

    /// Looks for payloads of a set that lie whole in the object store; what was there and is gone is asked for again.
    pub(super) fn find_whole(&mut self, fingerprint: Blake3) -> Result<(), StoreError> {
        let Some(manifest) = self.sets.get(&fingerprint).map(|set| set.manifest.clone()) else { return Ok(()) };
        let cache = StatCache::load(&self.root);
        for artifact in &manifest.spec.artifacts {
            let Some((key, _)) = Key::of(artifact) else { continue };
            let index = self.index_of(key);
            if self.payloads.get(&key).is_none_or(|payload| payload.whole.is_none() && payload.lacking == 0) {
                continue;
            }
            let found = match artifact.kind {
                ArtifactType::File => self.find_object(&manifest, key, &cache)?,
                ArtifactType::Tree => self.has_files(fingerprint, artifact, &cache)?.then_some(Whole::Files),
            };
            let Some(payload) = self.payloads.get_mut(&key) else { continue };
            if found.is_none() && payload.whole.is_some() {
                payload.forget();
                if let Some(index) = index {
                    payload.scan(&self.root, &index)?;
                }
            }
            payload.whole = found;
        }
        Ok(())
    }

    /// The object of a file, of its own mode or of another one.
    fn find_object(
        &self,
        manifest: &autonomy_schema::StateManifest,
        key: Key,
        cache: &StatCache,
    ) -> Result<Option<Whole>, StoreError> {
        let objects = ObjectStore::new(&self.root);
        let files = manifest.spec.artifacts.iter().filter_map(autonomy_schema::manifest::Artifact::file);
        for file in files.filter(|file| file.blake3 == key.payload) {
            for mode in [file.mode, Mode::FILE, Mode::PROGRAM] {
                let pins = Pins { size: file.size, sha256: None, blake3: file.blake3, mode };
                if objects.holds(&pins, cache)? {
                    return Ok(Some(Whole::Object(layout::object(file.blake3, mode))));
                }
            }
        }
        Ok(None)
    }

    /// Whether every file of a tree is an object already.
    fn has_files(
        &self,
        fingerprint: Blake3,
        artifact: &autonomy_schema::manifest::Artifact,
        cache: &StatCache,
    ) -> Result<bool, StoreError> {
        let Some(manifest) = self.sets.get(&fingerprint).map(|set| &set.manifest) else { return Ok(false) };
        let documents = autonomy_stateroot::Stored::new(self.root.disk(), layout::edge_set(fingerprint));
        let all = contents(manifest, &documents).map_err(refused)?;
        let folder = RelPath::fixed(set::ARTIFACTS).join(&artifact.path);
        let below = format!("{folder}/");
        let objects = ObjectStore::new(&self.root);
        for content in all.iter().filter(|content| content.path.as_str().starts_with(&below)) {
            if !objects.holds(&content.pins, cache)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
