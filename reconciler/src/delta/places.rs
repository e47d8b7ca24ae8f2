//! Where segments are.

use std::io::{BufReader, Read};
use std::sync::Arc;

use autonomy_oci::pack::read_table;
use autonomy_oci::spec::Descriptor;
use autonomy_oci::{LayoutSet, PACK_TYPE};
use autonomy_schema::segments::{Entries, Segment};
use autonomy_schema::{Blake3, Reason, RelPath, StateManifest, set};
use autonomy_stateroot::{Folded, SetSource, SourceError, StateRoot, unverified};

use autonomy_sets::kept;

/// Not found yet.
const NOWHERE: u32 = u32::MAX;

/// Where one segment is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    id: Blake3,
    /// Which of the origins.
    pub(super) origin: u32,
    pub(super) length: u32,
    pub(super) offset: u64,
}

/// What holds segments.
enum Origin {
    Pack(Arc<LayoutSet>, Descriptor),
    Artifact(Arc<dyn SetSource>, RelPath),
}

impl Origin {
    fn open_at(&self, offset: u64) -> Result<Box<dyn Read + Send>, SourceError> {
        match self {
            Self::Pack(set, pack) => set.open_pack(pack, offset),
            Self::Artifact(set, path) => set.open_at(path, offset),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Pack(set, pack) => format!("the pack {} of {}", pack.digest, set.describe()),
            Self::Artifact(set, path) => format!("`{path}` of {}", set.describe()),
        }
    }
}

/// The segments that are looked for. Only they take memory: 48 bytes each.
#[derive(Default)]
pub(super) struct Wanted(Vec<Place>);

impl Wanted {
    pub(super) fn add(&mut self, segment: Segment) {
        // The entry of an index was found to be at most `MAX_SEGMENT`.
        let length = u32::try_from(segment.length).unwrap_or(u32::MAX);
        self.0.push(Place { id: segment.id, origin: NOWHERE, length, offset: 0 });
    }
}

/// Where the wanted segments are, by name.
pub(super) struct Places {
    sorted: Vec<Place>,
    origins: Vec<Origin>,
    /// How many were not found.
    left: usize,
}

impl Places {
    /// Looks for segments in the packs of a set, in what the state root keeps, in the artifacts of the set, and in the
    /// other sets of its medium, until each is found.
    pub(super) fn search(wanted: Wanted, set: &Arc<LayoutSet>, root: Option<&StateRoot>) -> Result<Self, Reason> {
        let mut sorted = wanted.0;
        sorted.sort_unstable_by_key(|place| place.id);
        sorted.dedup_by_key(|place| place.id);
        let mut found = Self { left: sorted.len(), sorted, origins: Vec::new() };
        for pack in set.packs() {
            found.pack(set, pack)?;
        }
        let kept = match root {
            Some(root) if found.left > 0 => kept(root).map_err(|reasons| reasons.into_vec().swap_remove(0))?,
            Some(_) | None => Vec::new(),
        };
        for kept in kept {
            // A damaged index of a tree: nothing is taken from that set.
            let Ok(set) = Folded::new(Arc::new(kept.set), &kept.manifest) else { continue };
            found.artifacts(&(Arc::new(set) as Arc<dyn SetSource>), &kept.manifest);
        }
        if found.left > 0 {
            found.whole(set);
        }
        if found.left > 0 {
            for (_, other) in set.layout().sets() {
                if let Ok(other) = other.map(Arc::new)
                    && other.digest() != set.digest()
                {
                    found.others(&other);
                }
            }
        }
        Ok(found)
    }

    /// Where a segment is.
    pub(super) fn get(&self, id: &Blake3) -> Option<&Place> {
        let at = self.sorted.binary_search_by_key(id, |place| place.id).ok()?;
        self.sorted.get(at).filter(|place| place.origin != NOWHERE)
    }

    /// Opens what holds a segment, at an offset.
    pub(super) fn open_at(&self, origin: u32, offset: u64) -> Result<Box<dyn Read + Send>, SourceError> {
        match self.origins.get(origin as usize) {
            Some(origin) => origin.open_at(offset),
            None => Err(SourceError::Missing(format!("origin {origin}"))),
        }
    }

    /// What people call what holds a segment.
    pub(super) fn name(&self, origin: u32) -> String {
        self.origins.get(origin as usize).map(Origin::name).unwrap_or_default()
    }

    /// What another set of the medium holds. What is wrong with it is told when it is imported itself.
    fn others(&mut self, set: &Arc<LayoutSet>) {
        for pack in set.packs() {
            self.pack(set, pack).ok();
        }
        self.whole(set);
    }

    /// What a set of the medium holds as files.
    fn whole(&mut self, set: &Arc<LayoutSet>) {
        if let Some((manifest, _)) = unverified(&**set) {
            self.artifacts(&(Arc::clone(set) as Arc<dyn SetSource>), &manifest);
        }
    }

    fn pack(&mut self, set: &Arc<LayoutSet>, pack: &Descriptor) -> Result<(), Reason> {
        let named = |mut reason: Reason| {
            reason.message = format!("{PACK_TYPE} {}: {}", pack.digest, reason.message);
            reason
        };
        let table = set.open_pack(pack, 0).map_err(|error| error.to_reason())?;
        let origin = self.origin(Origin::Pack(Arc::clone(set), pack.clone()));
        read_table(table, pack.size, |id, length, offset| self.found(origin, id, length, offset)).map_err(named)
    }

    /// What the artifacts of a set hold, as their indices say; one that cannot be read holds nothing.
    fn artifacts(&mut self, set: &Arc<dyn SetSource>, manifest: &StateManifest) {
        for artifact in &manifest.spec.artifacts {
            let (Some(pins), Ok(index), Ok(path)) = (
                artifact.payload(),
                set::segment_index(&artifact.name).parse::<RelPath>(),
                set::payload(artifact).parse::<RelPath>(),
            ) else {
                continue;
            };
            if self.left == 0 {
                return;
            }
            // A set on a medium need not hold what its index describes.
            let (Ok(index), Ok(_)) = (set.open(&index), set.open(&path)) else { continue };
            let origin = self.origin(Origin::Artifact(Arc::clone(set), path));
            let mut offset = 0;
            for segment in Entries::of(BufReader::new(index.take(pins.segments.size))).map_while(Result::ok) {
                let length = u32::try_from(segment.length).unwrap_or(u32::MAX);
                self.found(origin, segment.id, length, offset);
                offset += segment.length;
            }
        }
    }

    fn origin(&mut self, origin: Origin) -> u32 {
        self.origins.push(origin);
        // More would need more files than a medium can name.
        u32::try_from(self.origins.len() - 1).unwrap_or(NOWHERE)
    }

    fn found(&mut self, origin: u32, id: Blake3, length: u32, offset: u64) {
        let Ok(at) = self.sorted.binary_search_by_key(&id, |place| place.id) else { return };
        let Some(place) = self.sorted.get_mut(at) else { return };
        if place.origin == NOWHERE && place.length == length {
            (place.origin, place.offset) = (origin, offset);
            self.left -= 1;
        }
    }
}
