//! One walk over the state root: what it holds, and what lies in the active generation. One `lstat` a name.

use std::collections::BTreeSet;

use autonomy_schema::{Name, RelPath};

use crate::disk::{DiskError, FileKind, Query, Stat};
use crate::layout;

/// Something in the active generation.
pub(super) struct Found {
    /// Its path below the generation; a name that is no safe path is shown with its strange characters replaced.
    pub(super) path: RelPath,
    /// Whether `path` is its real path. If not, no manifest can name it, so it is extra.
    pub(super) safe: bool,
    /// What it is.
    pub(super) stat: Stat,
}

/// What the walk found.
pub(super) struct Walked {
    /// Bytes that everything takes, hard links counted once.
    pub(super) used_bytes: u64,
    /// Everything in the active generation, folders before what is in them.
    pub(super) generation: Vec<Found>,
}

/// Walks everything; `current` is the active generation.
pub(super) fn walk(disk: &(impl Query + ?Sized), current: Option<&Name>) -> Result<Walked, DiskError> {
    walk_from(disk, None, current.map(layout::generation).as_ref())
}

/// Walks one generation.
pub(super) fn walk_generation(disk: &(impl Query + ?Sized), generation: &Name) -> Result<Walked, DiskError> {
    let folder = layout::generation(generation);
    walk_from(disk, Some(folder.clone()), Some(&folder))
}

fn walk_from(
    disk: &(impl Query + ?Sized),
    start: Option<RelPath>,
    current: Option<&RelPath>,
) -> Result<Walked, DiskError> {
    let mut walked = Walked { used_bytes: 0, generation: Vec::new() };
    let mut seen = BTreeSet::new();
    let mut todo = vec![start];
    while let Some(folder) = todo.pop() {
        let entries = match disk.list_stat(folder.as_ref()) {
            Ok(entries) => entries,
            // Another process may remove what it made while we look.
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(error),
        };
        let in_current = folder.as_ref().zip(current).and_then(|(folder, current)| {
            let below = folder.as_str().strip_prefix(current.as_str())?;
            if below.is_empty() { Some("") } else { below.strip_prefix('/') }
        });
        for (name, stat) in entries {
            let is_new = stat.nlink < 2 || seen.insert((stat.identity.dev, stat.identity.ino));
            if is_new || stat.kind == FileKind::Dir {
                walked.used_bytes = walked.used_bytes.saturating_add(stat.allocated);
            }
            let safe = name.parse::<RelPath>().ok();
            if let Some(prefix) = in_current {
                let shown = safe.clone().unwrap_or_else(|| printable(&name));
                let path = prefix.parse::<RelPath>().map_or_else(|_top| shown.clone(), |prefix| prefix.join(&shown));
                walked.generation.push(Found { path, safe: safe.is_some(), stat });
            }
            // Below a name that we cannot say, nothing of ours lies.
            if let Some(name) = safe.filter(|_| stat.kind == FileKind::Dir) {
                todo.push(Some(folder.as_ref().map_or_else(|| name.clone(), |folder| folder.join(&name))));
            }
        }
    }
    Ok(walked)
}

/// A safe path that shows an unsafe name.
fn printable(name: &str) -> RelPath {
    let shown: String = name.chars().map(|c| if c.is_control() || c == '\\' { '?' } else { c }).collect();
    shown.parse().unwrap_or_else(|_| RelPath::fixed("?"))
}
