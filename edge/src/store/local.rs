//! Segments that are on this node already are copied before anything is asked for: a release that changed little needs little.

use std::collections::BTreeSet;
use std::io::{BufReader, Read};
use std::sync::Arc;

use autonomy_schema::segments::Entries;
use autonomy_schema::{Blake3, RelPath, StateManifest, set};
use autonomy_sets::{KeptSet, kept};
use autonomy_stateroot::{Folded, SetSource};

use super::payload::Key;
use super::{Segment, Store, StoreError};

/// Bytes that are gathered before they are written.
const BATCH: usize = 4 << 20;
/// A gap up to this many bytes is read over rather than sought over.
const MAX_GAP: u64 = 64 << 10;

impl Store {
    /// Copies what the sets of this node hold of the segments that lack, and makes it durable.
    pub(super) fn copy_local(&mut self) -> Result<(), StoreError> {
        let broken = |reasons: autonomy_schema::Reasons| StoreError::Disk(reasons.into_vec().swap_remove(0));
        for kept in kept(&self.root).map_err(broken)? {
            self.copy_of_set(kept.set, &kept.manifest)?;
        }
        let transit: Vec<(Blake3, StateManifest)> = self
            .sets
            .iter()
            .filter(|(_, set)| set.is_transit)
            .map(|(fingerprint, set)| (*fingerprint, set.manifest.clone()))
            .collect();
        for (fingerprint, manifest) in transit {
            let base = autonomy_stateroot::layout::edge_set(fingerprint);
            let set = KeptSet::new(&self.root, base, format!("the set {fingerprint} in transit"), manifest.clone());
            self.copy_of_set(set, &manifest)?;
        }
        self.copy_of_partials()?;
        self.sync_dirty()
    }

    fn is_complete(&self) -> bool {
        self.payloads.values().all(super::payload::Payload::is_whole)
    }

    fn copy_of_set(&mut self, set: KeptSet, manifest: &StateManifest) -> Result<(), StoreError> {
        // A damaged index of a tree: nothing is taken from that set.
        let Ok(folded) = Folded::new(Arc::new(set), manifest) else { return Ok(()) };
        for artifact in &manifest.spec.artifacts {
            if self.is_complete() {
                return Ok(());
            }
            let names = (set::segment_index(&artifact.name).parse(), set::payload(artifact).parse());
            let (Some(pins), (Ok(index), Ok(payload))) = (artifact.payload(), names) else { continue };
            let Ok(index) = folded.open(&index) else { continue };
            let open = |offset| folded.open_at(&payload, offset).ok();
            self.copy(index.take(pins.segments.size), &open, &|_| true)?;
        }
        Ok(())
    }

    /// What other sets under way have received.
    fn copy_of_partials(&mut self) -> Result<(), StoreError> {
        let root = self.root.clone();
        let keys: Vec<Key> = self.payloads.keys().copied().collect();
        for key in keys {
            let (Some(index), Some(payload)) = (self.index_of(key), self.payloads.get(&key)) else { continue };
            if payload.whole.is_some() {
                continue;
            }
            let count = u32::try_from(payload.pins.segments.count).unwrap_or(u32::MAX);
            let present: BTreeSet<u32> = (0..count).filter(|number| payload.has(*number)).collect();
            if present.is_empty() {
                continue;
            }
            let open = |offset| root.disk().open_at(&key.partial(), offset).ok();
            self.copy(root.disk().open(&index)?, &open, &|number| present.contains(&number))?;
        }
        Ok(())
    }

    /// Copies from one payload, by its index, what others lack. What is not as the index says is passed over.
    fn copy(
        &mut self,
        index: impl Read,
        open: &dyn Fn(u64) -> Option<Box<dyn Read + Send>>,
        has: &dyn Fn(u32) -> bool,
    ) -> Result<(), StoreError> {
        let (mut batch, mut gathered, mut seen) = (Vec::new(), 0, BTreeSet::new());
        let mut reader: Option<(u64, Box<dyn Read + Send>)> = None;
        let (mut offset, mut last) = (0, None);
        for (number, segment) in (0..).zip(Entries::of(BufReader::new(index)).map_while(Result::ok)) {
            let begin = offset;
            offset += segment.length;
            if !has(number) || seen.contains(&segment.id) || last == Some(segment.id) {
                continue;
            }
            if !self.lacks(&segment.id) {
                // Payloads repeat themselves, and each such segment has as many places.
                last = Some(segment.id);
                continue;
            }
            let at = match reader.take() {
                Some((at, mut file)) if begin >= at && begin - at <= MAX_GAP => {
                    let skipped = std::io::copy(&mut (&mut file).take(begin - at), &mut std::io::sink());
                    skipped.is_ok().then_some(file)
                }
                Some(_) | None => open(begin),
            };
            let Some(mut file) = at else { return self.put_all(batch) };
            let mut bytes = Vec::with_capacity(usize::try_from(segment.length).unwrap_or_default());
            if (&mut file).take(segment.length).read_to_end(&mut bytes).is_err() {
                return self.put_all(batch);
            }
            reader = Some((begin + bytes.len() as u64, file));
            if Blake3::of(&bytes) != segment.id {
                continue;
            }
            gathered += bytes.len();
            seen.insert(segment.id);
            batch.push(Segment { id: segment.id, bytes });
            if gathered >= BATCH {
                self.put_all(std::mem::take(&mut batch))?;
                (gathered, seen) = (0, BTreeSet::new());
            }
        }
        self.put_all(batch)
    }

    fn put_all(&mut self, batch: Vec<Segment>) -> Result<(), StoreError> {
        self.write(batch, None).map(drop)
    }

    /// Whether some place of a segment is empty.
    fn lacks(&self, id: &Blake3) -> bool {
        self.names.find(id).iter().any(|place| {
            self.slots
                .get(usize::from(place.payload))
                .and_then(|key| self.payloads.get(key))
                .is_some_and(|payload| !payload.has(place.number))
        })
    }

    /// The index of a payload, in the documents of a set that names it.
    pub(super) fn index_of(&self, key: Key) -> Option<RelPath> {
        self.sets.iter().find_map(|(fingerprint, set)| {
            let mut artifacts = set.manifest.spec.artifacts.iter();
            let artifact = artifacts.find(|artifact| Key::of(artifact).is_some_and(|(found, _)| found == key))?;
            let name = set::segment_index(&artifact.name).parse::<RelPath>().ok()?;
            Some(autonomy_stateroot::layout::edge_set(*fingerprint).join(&name))
        })
    }
}
