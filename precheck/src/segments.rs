//! An artifact that is whole nowhere, put together from the segments of what the generations of the state root hold. Nothing
//! of it is trusted: each segment is hashed when it is used.

use std::collections::BTreeMap;
use std::io::Read;

use autonomy_schema::document::{self, MAX_DOCUMENT_BYTES};
use autonomy_schema::manifest::{Artifact, SegmentsRef};
use autonomy_schema::segments::{Segment, parse_index};
use autonomy_schema::{Blake3, Name, RelPath, StateManifest, set};
use autonomy_stateroot::{StateRoot, layout, read_capped};

use crate::write::Writer;

/// Most places of one segment that are tried.
const MAX_PLACES: usize = 4;

/// Where segments are.
pub(crate) struct Segments<'a> {
    root: &'a StateRoot,
    wanted: Vec<Segment>,
    places: BTreeMap<Blake3, Vec<(RelPath, u64)>>,
}

impl<'a> Segments<'a> {
    /// Looks for the segments of an artifact of a generation; `None` where its own index is damaged, or one of them is nowhere.
    pub(crate) fn search(root: &'a StateRoot, generation: &Name, artifact: &Artifact) -> Option<Self> {
        let pins = artifact.file()?;
        let wanted = index(root, generation, &artifact.name, pins.segments, pins.size)?;
        let places = wanted.iter().map(|segment| (segment.id, Vec::new())).collect();
        let mut found = Self { root, wanted, places };
        for other in root.generations().ok()? {
            let path = layout::generation_manifest(&other);
            let bytes = read_capped(root.disk(), &path, MAX_DOCUMENT_BYTES as u64).ok().flatten();
            let Some(manifest) = bytes.and_then(|bytes| document::parse::<StateManifest>(&bytes).ok()) else {
                continue;
            };
            for artifact in &manifest.spec.artifacts {
                found.add(&other, artifact);
            }
        }
        found.places.values().all(|places| !places.is_empty()).then_some(found)
    }

    fn add(&mut self, generation: &Name, artifact: &Artifact) {
        let Some(pins) = artifact.file() else { return };
        let Some(segments) = index(self.root, generation, &artifact.name, pins.segments, pins.size) else { return };
        let path = layout::in_generation(generation, &RelPath::fixed(set::ARTIFACTS).join(&artifact.path));
        let mut offset = 0;
        for segment in segments {
            if let Some(places) = self.places.get_mut(&segment.id).filter(|places| places.len() < MAX_PLACES) {
                places.push((path.clone(), offset));
            }
            offset += segment.length;
        }
    }

    /// Writes the artifact; gives whether every segment was whole somewhere.
    pub(crate) fn copy(&self, writer: &mut Writer<'_>) -> Result<bool, String> {
        for segment in &self.wanted {
            let places = self.places.get(&segment.id).map(Vec::as_slice).unwrap_or_default();
            let Some(bytes) = places.iter().find_map(|(path, offset)| self.read(path, *offset, segment)) else {
                return Ok(false);
            };
            writer.write(&bytes)?;
        }
        Ok(true)
    }

    /// A segment, when it is whole there.
    fn read(&self, path: &RelPath, offset: u64, segment: &Segment) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        // The index was found to hold segments of at most `MAX_SEGMENT`.
        self.root.disk().open_at(path, offset).ok()?.take(segment.length).read_to_end(&mut bytes).ok()?;
        (Blake3::of(&bytes) == segment.id).then_some(bytes)
    }
}

/// The index of an artifact, when it is what its manifest pins.
fn index(root: &StateRoot, generation: &Name, artifact: &Name, pinned: SegmentsRef, size: u64) -> Option<Vec<Segment>> {
    let path = layout::in_generation(generation, &set::segment_index(artifact).parse().ok()?);
    let bytes = read_capped(root.disk(), &path, pinned.size).ok()??;
    if Blake3::of(&bytes) != pinned.index {
        return None;
    }
    parse_index(&bytes, size).ok()
}
