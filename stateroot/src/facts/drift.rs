//! What differs between the active generation and its manifest.

use std::collections::{BTreeMap, BTreeSet};

use autonomy_schema::facts::{Drift, DriftKind};
use autonomy_schema::{Blake3, Mode, Name, RelPath, Sha256, StateManifest, set};

use super::walk::{self, Found};
use crate::cache::StatCache;
use crate::contents::{Stored, known_contents};
use crate::disk::{DiskError, FileKind, Query, Stat};
use crate::hash::Hashes;
use crate::layout;
use crate::root::StateRoot;

/// The plan that made a generation.
const PLAN: &str = "plan.json";
/// The configuration of `edged`.
const EDGE: &str = "edge.toml";

/// The content that a file must have.
#[derive(Clone, Copy)]
enum Content {
    /// Its BLAKE3.
    Blake3(Blake3),
    /// Its SHA-256.
    Sha256(Sha256),
    /// Any: it is verified by its own means.
    Any,
}

/// What a file of the generation must be.
struct Expected {
    content: Content,
    size: Option<u64>,
    mode: Option<Mode>,
}

/// How the content of files is known.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    /// What is known of files whose identity did not change.
    pub(super) cache: &'a StatCache,
    /// Reads every file, whatever the cache knows.
    pub(super) verify_content: bool,
}

/// What differs between a generation, active or not, and a manifest, sorted by path: what [`super::collect`] says of
/// the active one. Files that `cache` does not know are read.
pub fn drift_of(
    root: &StateRoot,
    generation: &Name,
    manifest: &StateManifest,
    cache: &StatCache,
) -> Result<Vec<Drift>, DiskError> {
    let found = walk::walk_generation(root.disk(), generation)?.generation;
    find(root.disk(), generation, manifest, &found, Known { cache, verify_content: false })
}

/// Compares what lies in the generation with its manifest, sorted by path.
pub(super) fn find(
    disk: &(impl Query + ?Sized),
    generation: &Name,
    manifest: &StateManifest,
    found: &[Found],
    known: Known<'_>,
) -> Result<Vec<Drift>, DiskError> {
    let (expected, unknown) = expected(disk, generation, manifest);
    let folders = folders_of(&expected, &unknown);
    let mut drift = Vec::new();
    let mut present = BTreeSet::new();
    // Below a folder that should not be there, nothing more is told.
    // What a damaged index would have named is not known: the index is what is told.
    let mut strange: BTreeSet<String> = unknown.iter().cloned().collect();
    for Found { path, safe, stat } in found {
        let text = path.as_str();
        if has_ancestor(text, &strange) {
            continue;
        }
        let is_dir = stat.kind == FileKind::Dir;
        if let Some(expected) = expected.get(text).filter(|_| *safe) {
            present.insert(text);
            if stat.kind == FileKind::File {
                compare(disk, &layout::in_generation(generation, path), path, stat, expected, known, &mut drift)?;
            } else {
                drift.push(wrong_type(path, stat, "file"));
            }
        } else if *safe && folders.contains(text) {
            if !is_dir {
                drift.push(wrong_type(path, stat, "folder"));
            }
        } else if !(*safe && is_allowed_extra(text, stat.kind)) {
            let actual = kind_text(stat.kind).to_owned();
            drift.push(Drift::generation(path.clone(), DriftKind::Extra, "", actual));
        } else {
            continue;
        }
        if is_dir && !folders.contains(text) {
            strange.insert(text.to_owned());
        }
    }
    for (text, expected) in &expected {
        if !present.contains(text.as_str())
            && let Ok(path) = text.parse()
        {
            let expected = content_text(expected.content);
            drift.push(Drift::generation(path, DriftKind::Missing, expected, ""));
        }
    }
    drift.sort();
    Ok(drift)
}

/// Every file that the generation must hold, and the folders of trees whose index cannot be read.
fn expected(
    disk: &(impl Query + ?Sized),
    generation: &Name,
    manifest: &StateManifest,
) -> (BTreeMap<String, Expected>, Vec<String>) {
    let spec = &manifest.spec;
    let edge = spec.relay.edge_toml();
    // Signatures, and what `set::files` names and nothing below tells more of.
    let mut files: BTreeMap<String, Expected> = set::files(manifest)
        .into_keys()
        .map(|path| (path, Expected { content: Content::Any, size: None, mode: None }))
        .collect();
    let mut put = |path: String, content: Content, size: u64, mode: Option<Mode>| {
        files.insert(path, Expected { content, size: Some(size), mode });
    };
    put(set::LOCK.to_owned(), Content::Sha256(spec.lock.digest), spec.lock.size, None);
    put(set::POLICY.to_owned(), Content::Sha256(spec.policy.digest), spec.policy.size, None);
    put(EDGE.to_owned(), Content::Blake3(Blake3::of(edge.as_bytes())), edge.len() as u64, None);
    let known = known_contents(manifest, &Stored::generation(disk, generation));
    for content in known.files {
        // The mode of an index says nothing.
        let mode = content.path.as_str().starts_with(set::ARTIFACTS).then_some(content.pins.mode);
        put(content.path.to_string(), Content::Blake3(content.pins.blake3), content.pins.size, mode);
    }
    let unknown = known.unknown.into_iter().map(|(folder, _)| folder.to_string()).collect();
    (files, unknown)
}

/// The folders that the expected files lie in, and those of trees whose files are not known.
fn folders_of<'a>(expected: &'a BTreeMap<String, Expected>, unknown: &'a [String]) -> BTreeSet<&'a str> {
    let mut folders = BTreeSet::from([set::ROOTS]);
    folders.extend(unknown.iter().map(String::as_str));
    for path in expected.keys().chain(unknown) {
        let mut at = path.as_str();
        while let Some((folder, _)) = at.rsplit_once('/') {
            if !folders.insert(folder) {
                break;
            }
            at = folder;
        }
    }
    folders
}

fn has_ancestor(path: &str, folders: &BTreeSet<String>) -> bool {
    !folders.is_empty() && path.match_indices('/').any(|(at, _)| folders.contains(&path[..at]))
}

/// What may lie in a generation although its manifest does not name it.
fn is_allowed_extra(path: &str, kind: FileKind) -> bool {
    kind == FileKind::File && (path == PLAN || set::is_root_file(path))
}

fn wrong_type(path: &RelPath, stat: &Stat, expected: &str) -> Drift {
    Drift::generation(path.clone(), DriftKind::Type, expected, kind_text(stat.kind))
}

fn kind_text(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "file",
        FileKind::Dir => "folder",
        FileKind::Symlink => "symbolic link",
        FileKind::Other => "special file",
    }
}

fn content_text(content: Content) -> String {
    match content {
        Content::Blake3(digest) => digest.to_string(),
        Content::Sha256(digest) => digest.to_string(),
        Content::Any => String::new(),
    }
}

/// Compares one regular file.
fn compare(
    disk: &(impl Query + ?Sized),
    at: &RelPath,
    path: &RelPath,
    stat: &Stat,
    expected: &Expected,
    known: Known<'_>,
    drift: &mut Vec<Drift>,
) -> Result<(), DiskError> {
    if let Some(mode) = expected.mode.filter(|mode| *mode != stat.mode) {
        drift.push(Drift::generation(path.clone(), DriftKind::Mode, mode.to_string(), stat.mode.to_string()));
    }
    let mut other = |actual: String| {
        let expected = content_text(expected.content);
        drift.push(Drift::generation(path.clone(), DriftKind::Content, expected, actual));
    };
    // Another size tells enough; a file that grew without bound is not read.
    if expected.size.is_some_and(|size| size != stat.size) {
        other(format!("{} bytes", stat.size));
        return Ok(());
    }
    if matches!(expected.content, Content::Any) {
        return Ok(());
    }
    let known = known.cache.get(&stat.identity, stat.size).filter(|_| !known.verify_content);
    let wants_blake3 = matches!(expected.content, Content::Blake3(_));
    let (blake3, sha256) = match known {
        Some((blake3, sha256)) => (Some(blake3), Some(sha256)),
        None => Hashes::new(wants_blake3, !wants_blake3).of_file(disk, at, stat.size)?,
    };
    match (expected.content, blake3, sha256) {
        (Content::Blake3(wanted), Some(actual), _) if actual != wanted => other(actual.to_string()),
        (Content::Sha256(wanted), _, Some(actual)) if actual != wanted => other(actual.to_string()),
        _ => {}
    }
    Ok(())
}
