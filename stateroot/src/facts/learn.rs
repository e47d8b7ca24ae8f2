//! What the stat cache should know of a generation.

use autonomy_schema::Name;

use super::walk::{self, Found};
use crate::cache::StatCache;
use crate::disk::{DiskError, FileKind};
use crate::hash::Hashes;
use crate::layout;
use crate::root::StateRoot;

/// Hashes every file of a generation that `cache` does not know, so that [`super::collect`] needs not. Nothing is
/// taken from the manifest: a damaged file is learned as it is. The last step of an apply: whatever links or changes
/// a file of the generation afterwards moves its `ctime`, and the cache knows it no more.
pub fn learn(root: &StateRoot, generation: &Name, cache: &mut StatCache) -> Result<(), DiskError> {
    let found = walk::walk_generation(root.disk(), generation)?.generation;
    for Found { path, stat, .. } in found.iter().filter(|found| found.safe && found.stat.kind == FileKind::File) {
        if cache.get(&stat.identity, stat.size).is_some() {
            continue;
        }
        let at = layout::in_generation(generation, path);
        if let (Some(blake3), Some(sha256)) = Hashes::new(true, true).of_file(root.disk(), &at, stat.size)? {
            cache.put(stat.identity, stat.size, blake3, sha256);
        }
    }
    Ok(())
}
