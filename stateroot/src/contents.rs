//! The files of artifacts: what a manifest pins itself, and what the indices of its trees name.

use std::io::Read;

use autonomy_schema::manifest::{Artifact, StateManifest, TreePins};
use autonomy_schema::{Code, Mode, Name, Reason, RelPath, set, tree};

use crate::disk::Query;
use crate::layout;
use crate::objects::Pins;
use crate::source::{SetSource, SourceError};

/// A file of an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Its path below the set or the generation.
    pub path: RelPath,
    /// What it must be.
    pub pins: Pins,
}

/// Where the indices of trees are read.
pub trait Indices {
    /// Opens the index at a path below the set.
    fn open_index(&self, path: &RelPath) -> Result<Box<dyn Read + Send>, Reason>;
}

impl Indices for dyn SetSource + '_ {
    fn open_index(&self, path: &RelPath) -> Result<Box<dyn Read + Send>, Reason> {
        self.open(path).map_err(|error| error.to_reason())
    }
}

/// A folder of the state root that holds a set: a generation, or an entry of the inbox.
pub struct Stored<'a, D: Query + ?Sized> {
    disk: &'a D,
    base: RelPath,
}

impl<'a, D: Query + ?Sized> Stored<'a, D> {
    /// The folder at `base`.
    pub fn new(disk: &'a D, base: RelPath) -> Self {
        Self { disk, base }
    }

    /// A generation.
    pub fn generation(disk: &'a D, generation: &Name) -> Self {
        Self::new(disk, layout::generation(generation))
    }
}

impl<D: Query + ?Sized> Indices for Stored<'_, D> {
    fn open_index(&self, path: &RelPath) -> Result<Box<dyn Read + Send>, Reason> {
        let opened = self.disk.open(&self.base.join(path));
        opened.map_err(|error| SourceError::stored(path.as_str(), error).to_reason())
    }
}

/// Every file of every artifact, in the order of the manifest and of its indices.
pub fn contents<I: Indices + ?Sized>(manifest: &StateManifest, indices: &I) -> Result<Vec<Content>, Reason> {
    let mut found = Vec::new();
    for artifact in &manifest.spec.artifacts {
        found.extend(contents_of(artifact, indices)?);
    }
    Ok(found)
}

/// The files of one artifact: its indices first.
fn contents_of<I: Indices + ?Sized>(artifact: &Artifact, indices: &I) -> Result<Vec<Content>, Reason> {
    let mut found = own_contents(artifact)?;
    if let Some(pins) = artifact.tree() {
        found.extend(tree_files(artifact, pins, indices)?);
    }
    Ok(found)
}

/// What is known of the files of artifacts where indices may be damaged or absent.
#[derive(Debug, Default)]
pub struct Known {
    /// The files.
    pub files: Vec<Content>,
    /// Folders of trees whose files are not known, below the set or the generation, each with why.
    pub unknown: Vec<(RelPath, Reason)>,
}

/// As much as can be told of what [`contents`] gives; that an index is damaged is told, and nothing below its tree.
pub fn known_contents<I: Indices + ?Sized>(manifest: &StateManifest, indices: &I) -> Known {
    let mut known = Known::default();
    for artifact in &manifest.spec.artifacts {
        match contents_of(artifact, indices) {
            Ok(files) => known.files.extend(files),
            Err(reason) => {
                known.unknown.push((RelPath::fixed(set::ARTIFACTS).join(&artifact.path), reason));
                // Of an artifact without pins, nothing is known.
                known.files.extend(own_contents(artifact).unwrap_or_default());
            }
        }
    }
    known
}

/// The files that the manifest itself pins: files with their segment indices, and the two indices of every tree.
pub fn pinned_contents(manifest: &StateManifest) -> Result<Vec<Content>, Reason> {
    let mut found = Vec::new();
    for artifact in &manifest.spec.artifacts {
        found.extend(own_contents(artifact)?);
    }
    Ok(found)
}

/// The same of one artifact: a file with its segment index, or the two indices of a tree.
fn own_contents(artifact: &Artifact) -> Result<Vec<Content>, Reason> {
    let unpinned = || Reason::new(Code::MissingField, format!("artifact `{}` lacks its pins", artifact.name));
    let segments = artifact.payload().ok_or_else(unpinned)?.segments;
    let index = Pins { size: segments.size, sha256: None, blake3: segments.index, mode: Mode::FILE };
    let mut found = vec![content(&set::segment_index(&artifact.name), index)?];
    if let Some(pins) = artifact.file() {
        let file = Pins { size: pins.size, sha256: Some(pins.digest), blake3: pins.blake3, mode: pins.mode };
        found.push(content(&set::artifact(&artifact.path), file)?);
    }
    if let Some(index) = artifact.tree().map(|pins| pins.index) {
        let pins = Pins { size: index.size, sha256: Some(index.digest), blake3: index.blake3, mode: Mode::FILE };
        found.push(content(&set::tree_index(&artifact.name), pins)?);
    }
    Ok(found)
}

/// The files that the index of a tree names, in its order.
pub(crate) fn tree_files<I: Indices + ?Sized>(
    artifact: &Artifact,
    pins: TreePins,
    indices: &I,
) -> Result<Vec<Content>, Reason> {
    let name = set::tree_index(&artifact.name);
    let index = indices.open_index(&path(&name)?)?;
    let entries = tree::parse(index, pins.index, pins.payload.size).map_err(|error| error.to_reason(&name))?;
    let files = entries.into_iter().map(|entry| {
        let pins = Pins { size: entry.size, sha256: None, blake3: entry.blake3, mode: entry.mode };
        content(&format!("{}/{}", set::artifact(&artifact.path), entry.path), pins)
    });
    files.collect()
}

fn content(name: &str, pins: Pins) -> Result<Content, Reason> {
    Ok(Content { path: path(name)?, pins })
}

fn path(name: &str) -> Result<RelPath, Reason> {
    name.parse().map_err(|error: autonomy_schema::path::PathError| error.to_reason())
}
