//! How much of what a node keeps is kept once: artifacts, whole objects, segments.

use std::collections::BTreeMap;
use std::io::{BufReader, Read as _};

use autonomy_schema::segments::Entries;
use autonomy_schema::{Blake3, Reasons, RelPath, set};
use autonomy_stateroot::{SetSource as _, StateRoot, read_failed};
use serde::Serialize;

use autonomy_sets::kept;

/// What the sets of a state root come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SegmentStat {
    /// Sets: generations and the inbox, each manifest once.
    pub sets: u64,
    /// Artifacts of all of them.
    pub artifacts: u64,
    /// Their bytes, as if each set were kept by itself.
    pub logical_bytes: u64,
    /// Different objects.
    pub objects: u64,
    /// Their bytes: what the disk holds.
    pub object_bytes: u64,
    /// Different segments of the objects.
    pub segments: u64,
    /// Their bytes: what would be left if each segment were kept once.
    pub segment_bytes: u64,
}

impl SegmentStat {
    /// How many bytes of artifacts stand for one that is kept, in hundredths; `None` while nothing is kept.
    pub fn ratio(&self, bytes: u64) -> Option<u64> {
        self.logical_bytes.saturating_mul(100).checked_div(bytes)
    }
}

/// Looks at every set and at the segment index of every object. Only names and lengths of segments are in memory. Writes
/// nothing.
pub fn segment_stat(root: &StateRoot) -> Result<SegmentStat, Reasons> {
    let mut stat = SegmentStat::default();
    let mut objects = BTreeMap::new();
    let mut segments: Vec<(Blake3, u32)> = Vec::new();
    for kept in kept(root)? {
        stat.sets += 1;
        for artifact in &kept.manifest.spec.artifacts {
            let Some(pins) = artifact.payload() else { continue };
            stat.artifacts += 1;
            stat.logical_bytes += pins.size;
            if objects.insert(pins.blake3, pins.size).is_some() {
                continue;
            }
            let path = set::segment_index(&artifact.name).parse::<RelPath>().map_err(|error| error.to_reason())?;
            let index = kept.set.open(&path).map_err(|error| error.to_reason())?.take(pins.segments.size);
            for segment in Entries::of(BufReader::new(index)) {
                let segment = segment.map_err(|error| read_failed(path.as_str(), &error))?;
                segments.push((segment.id, u32::try_from(segment.length).unwrap_or(u32::MAX)));
            }
        }
    }
    segments.sort_unstable();
    segments.dedup();
    stat.objects = objects.len() as u64;
    stat.object_bytes = objects.values().sum();
    stat.segments = segments.len() as u64;
    stat.segment_bytes = segments.iter().map(|(_, length)| u64::from(*length)).sum();
    Ok(stat)
}
