//! The two forms of a set with trees: with the files of each (in folders, in git, in a state root), or with one payload for
//! each (in OCI layouts and registries, ADR 11). A set without trees is the same in both.
//!
//! Nothing here is trusted: what comes out is verified like any other set.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use autonomy_schema::manifest::StateManifest;
use autonomy_schema::{Reason, RelPath, set};

use crate::contents::{Content, tree_files};
use crate::source::{SetSource, SourceError, SourceFile, SourceKind, read_refused, skip, unverified};

/// A gap up to this many bytes is read over rather than sought over.
const MAX_GAP: u64 = 256 << 10;

/// The files of a tree, one after the other.
#[derive(Debug)]
struct Tree {
    payload: RelPath,
    size: u64,
    /// Where each begins.
    files: Vec<(u64, Content)>,
}

/// The trees of a set, as its own indices name their files.
fn trees(source: &dyn SetSource, manifest: &StateManifest) -> Result<Vec<Tree>, Reason> {
    let mut found = Vec::new();
    for artifact in &manifest.spec.artifacts {
        let Some(pins) = artifact.tree() else { continue };
        let payload = set::tree_payload(&artifact.name).parse::<RelPath>().map_err(|error| error.to_reason())?;
        let mut size = 0;
        let mut files = Vec::new();
        for content in tree_files(artifact, pins, source)? {
            let begin = size;
            size += content.pins.size;
            files.push((begin, content));
        }
        found.push(Tree { payload, size, files });
    }
    Ok(found)
}

/// A set of files in its OCI form.
pub struct Folded {
    set: Arc<dyn SetSource>,
    trees: BTreeMap<String, Arc<Tree>>,
}

impl Folded {
    /// The OCI form of the set of `manifest`. An index that is damaged or absent is an error.
    pub fn new(set: Arc<dyn SetSource>, manifest: &StateManifest) -> Result<Self, Reason> {
        let trees =
            trees(&*set, manifest)?.into_iter().map(|tree| (tree.payload.to_string(), Arc::new(tree))).collect();
        Ok(Self { set, trees })
    }
}

impl SetSource for Folded {
    fn list(&self) -> Result<Vec<SourceFile>, SourceError> {
        let mut listed = self.set.list()?;
        let mut folded: Vec<&str> =
            self.trees.values().flat_map(|tree| &tree.files).map(|(_, content)| content.path.as_str()).collect();
        folded.sort_unstable();
        listed.retain(|file| folded.binary_search(&file.path.as_str()).is_err());
        listed.extend(self.trees.values().map(|tree| SourceFile {
            path: tree.payload.to_string(),
            kind: SourceKind::File,
            size: tree.size,
            identity: None,
        }));
        listed.sort();
        Ok(listed)
    }

    fn open(&self, path: &RelPath) -> Result<Box<dyn Read + Send>, SourceError> {
        self.open_at(path, 0)
    }

    fn open_at(&self, path: &RelPath, offset: u64) -> Result<Box<dyn Read + Send>, SourceError> {
        match self.trees.get(path.as_str()) {
            None if offset == 0 => self.set.open(path),
            None => self.set.open_at(path, offset),
            Some(tree) => {
                let next = tree.files.partition_point(|(begin, content)| begin + content.pins.size <= offset);
                let payload = Payload { set: Arc::clone(&self.set), tree: Arc::clone(tree), next, offset, file: None };
                Ok(Box::new(payload))
            }
        }
    }

    fn describe(&self) -> String {
        self.set.describe()
    }

    fn revision(&self) -> Option<String> {
        self.set.revision()
    }

    fn warnings(&self) -> Vec<String> {
        self.set.warnings()
    }
}

/// Reads the files of a tree one after the other.
struct Payload {
    set: Arc<dyn SetSource>,
    tree: Arc<Tree>,
    /// Which file is opened next.
    next: usize,
    /// Where it goes on.
    offset: u64,
    /// What is read, and how much of it is left.
    file: Option<(Box<dyn Read + Send>, u64)>,
}

impl Payload {
    /// Opens the next file that has bytes; `false` at the end.
    fn advance(&mut self) -> io::Result<bool> {
        while let Some((begin, content)) = self.tree.files.get(self.next) {
            self.next += 1;
            let from = self.offset - begin;
            let left = content.pins.size - from;
            if left > 0 {
                let file = self.set.open_at(&content.path, from).map_err(|error| read_refused(error.to_reason()))?;
                self.file = Some((file, left));
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Read for Payload {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let Some((file, left)) = &mut self.file else {
                if self.advance()? {
                    continue;
                }
                return Ok(0);
            };
            let read = file.take(*left).read(buffer)?;
            if read == 0 && *left > 0 {
                // A file that is shorter than its index says would shift all that comes after it.
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            *left -= read as u64;
            self.offset += read as u64;
            if *left == 0 {
                self.file = None;
            }
            return Ok(read);
        }
    }
}

/// A set in its OCI form as the set of files that it is.
pub struct Unfolded {
    set: Box<dyn SetSource>,
    /// Found when files are first asked for: an index may be large, and nobody has verified it.
    trees: OnceLock<Trees>,
}

#[derive(Default)]
struct Trees {
    /// The payloads.
    payloads: BTreeMap<String, Arc<Stream>>,
    /// Of every file of a tree: its payload, its place there and its size.
    files: BTreeMap<String, (RelPath, u64, u64)>,
}

/// What was read last of a payload. Files of a tree are read in its order, mostly: the stream goes on.
#[derive(Default)]
struct Stream(Mutex<Option<(u64, Box<dyn Read + Send>)>>);

impl Unfolded {
    /// The files of a set. Where an index is damaged or absent, the set stays as it is: whoever verifies it tells.
    pub fn new(set: Box<dyn SetSource>) -> Self {
        Self { set, trees: OnceLock::new() }
    }

    fn trees(&self) -> &Trees {
        self.trees.get_or_init(|| {
            let found = unverified(&*self.set).and_then(|(manifest, _)| trees(&*self.set, &manifest).ok());
            let found = found.unwrap_or_default();
            let mut unfolded = Trees::default();
            let listed = if found.is_empty() { Vec::new() } else { self.set.list().unwrap_or_default() };
            let listed: BTreeSet<String> = listed.into_iter().map(|file| file.path).collect();
            for tree in found {
                // Where it is not there, either the files are, or whoever verifies the set tells. Where both are, neither
                // form is right: the payload stays, which no manifest names.
                let both = || tree.files.iter().any(|(_, content)| listed.contains(content.path.as_str()));
                if !listed.contains(tree.payload.as_str()) || both() {
                    continue;
                }
                unfolded.payloads.insert(tree.payload.to_string(), Arc::new(Stream::default()));
                unfolded.files.extend(tree.files.into_iter().map(|(begin, content)| {
                    (content.path.to_string(), (tree.payload.clone(), begin, content.pins.size))
                }));
            }
            unfolded
        })
    }
}

impl SetSource for Unfolded {
    fn list(&self) -> Result<Vec<SourceFile>, SourceError> {
        let mut listed = self.set.list()?;
        // A payload of another size gives files of another content: its digests tell.
        let trees = self.trees();
        listed.retain(|file| !trees.payloads.contains_key(&file.path));
        listed.extend(trees.files.iter().map(|(path, (_, _, size))| SourceFile {
            path: path.clone(),
            kind: SourceKind::File,
            size: *size,
            identity: None,
        }));
        listed.sort();
        Ok(listed)
    }

    fn open(&self, path: &RelPath) -> Result<Box<dyn Read + Send>, SourceError> {
        // The documents are read before anybody knows what trees there are.
        if !path.as_str().starts_with(set::ARTIFACTS) {
            return self.set.open(path);
        }
        let trees = self.trees();
        let Some((payload, begin, size)) = trees.files.get(path.as_str()) else { return self.set.open(path) };
        let stream = trees.payloads.get(payload.as_str()).cloned().unwrap_or_default();
        if *size == 0 {
            return Ok(Box::new(io::empty()));
        }
        let last = stream.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let reader = match last {
            Some((at, mut reader)) if at <= *begin && begin - at <= MAX_GAP => {
                skip(&mut reader, begin - at).map_err(|source| SourceError::Io { path: path.to_string(), source })?;
                reader
            }
            Some(_) | None => self.set.open_at(payload, *begin)?,
        };
        Ok(Box::new(Part { stream, reader: Some(reader), at: *begin, end: begin + size }))
    }

    fn describe(&self) -> String {
        self.set.describe()
    }

    fn revision(&self) -> Option<String> {
        self.set.revision()
    }

    fn warnings(&self) -> Vec<String> {
        self.set.warnings()
    }
}

/// One file of a payload.
struct Part {
    stream: Arc<Stream>,
    reader: Option<Box<dyn Read + Send>>,
    at: u64,
    end: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(reader) = &mut self.reader else { return Ok(0) };
        let read = reader.take(self.end - self.at).read(buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take().filter(|_| self.at == self.end) {
            *self.stream.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((self.at, reader));
        }
    }
}
