//! The folder behind an artifact of type `tree`: its files, read one after the other as the payload that is measured.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use autonomy_schema::segments::{self, Measured};
use autonomy_schema::tree::{self, MAX_FILES, MAX_INDEX_BYTES, TreeEntry};
use autonomy_schema::{Blake3, Code, Mode, Reason, RelPath, set};

use super::measure::Unmeasured;
use super::source::SourcedArtifact;
use crate::commands::lock;
use crate::files;

/// A file of the folder.
#[derive(Debug)]
pub(super) struct TreeFile {
    /// Its path below the tree.
    pub(super) path: RelPath,
    /// Where it is read.
    pub(super) from: PathBuf,
    /// Its size, as it was when the folder was looked through.
    pub(super) size: u64,
    /// Its permission bits in the set.
    pub(super) mode: Mode,
}

/// What comes of a tree.
pub(crate) struct MeasuredTree {
    /// Its payload.
    pub(crate) payload: Measured,
    /// Its index.
    pub(crate) index: Vec<u8>,
}

/// The files of the folder, in the order of the index. Links and special files are refused: what they lead to would not
/// be on the node.
pub(super) fn look_through(artifact: &SourcedArtifact<'_>) -> Result<Vec<TreeFile>, Unmeasured> {
    let mut found = Vec::new();
    let mut todo = vec![(artifact.path.clone(), None::<RelPath>)];
    while let Some((folder, below)) = todo.pop() {
        for entry in fs::read_dir(&folder).map_err(|error| Unmeasured::Below(folder.clone(), error))? {
            let entry = entry.map_err(|error| Unmeasured::Below(folder.clone(), error))?;
            let from = entry.path();
            let name = entry.file_name().into_string().map_err(|_bytes| strange(&from, "is not UTF-8"))?;
            let name: RelPath =
                name.parse().map_err(|error: autonomy_schema::path::PathError| wrong(&error.to_reason()))?;
            let path = below.as_ref().map_or_else(|| name.clone(), |below| below.join(&name));
            let metadata = entry.metadata().map_err(|error| Unmeasured::Below(from.clone(), error))?;
            if metadata.is_dir() {
                todo.push((from, Some(path)));
                continue;
            }
            if !metadata.is_file() {
                return Err(strange(&from, "is a link or special file, which no tree can hold"));
            }
            // The whole path must be one that a set can hold.
            let whole = format!("{}/{path}", set::artifact(&artifact.authored.path));
            whole.parse::<RelPath>().map_err(|error| wrong(&error.to_reason()))?;
            let mode = if metadata.permissions().mode() & 0o100 == 0 { Mode::FILE } else { Mode::PROGRAM };
            found.push(TreeFile { path, from, size: metadata.len(), mode });
            if found.len() > MAX_FILES {
                let message = format!("{} holds more than {MAX_FILES} files", artifact.path.display());
                return Err(Unmeasured::Wrong(Code::LimitExceeded, message));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn strange(path: &Path, why: &str) -> Unmeasured {
    Unmeasured::Wrong(Code::SymlinkRefused, format!("{} {why}", path.display()))
}

fn wrong(reason: &Reason) -> Unmeasured {
    Unmeasured::Wrong(reason.code, reason.message.clone())
}

/// Reads the files of a tree once, for what they would be in a set.
pub(crate) fn measure_tree(artifact: &SourcedArtifact<'_>) -> Result<MeasuredTree, Unmeasured> {
    measure(look_through(artifact)?, &|_| Ok(None), &|_| {})
}

/// What takes the bytes of the files while they are read.
pub(super) type Sink<'a> = &'a dyn Fn(&TreeFile) -> Result<Option<File>, Unmeasured>;

/// Reads every file once. `sink` opens where the bytes go besides, if anywhere; `progress` is told of every read.
pub(super) fn measure(
    files: Vec<TreeFile>,
    sink: Sink<'_>,
    progress: &dyn Fn(u64),
) -> Result<MeasuredTree, Unmeasured> {
    let mut reading = Reading { files: files.into(), current: None, index: Vec::new(), failed: None, sink, progress };
    let payload = segments::measure(&mut reading, lock::MAX_ARTIFACT_BYTES);
    if let Some(failed) = reading.failed {
        return Err(failed);
    }
    if reading.index.len() as u64 > MAX_INDEX_BYTES {
        let message = format!("its index has {} bytes; at most {MAX_INDEX_BYTES} are allowed", reading.index.len());
        return Err(Unmeasured::Wrong(Code::LimitExceeded, message));
    }
    let (payload, index) = (payload?, reading.index);
    // What readers will refuse is refused here: paths that collide.
    let pinned = autonomy_schema::manifest::TreeIndexRef {
        blake3: Blake3::of(&index),
        digest: autonomy_schema::Sha256::of(&index),
        size: index.len() as u64,
    };
    tree::parse(&*index, pinned, payload.size)
        .map_err(|error| Unmeasured::Wrong(Code::CaseCollision, error.to_string()))?;
    Ok(MeasuredTree { payload, index })
}

/// The files of a tree as one reader.
struct Reading<'a> {
    files: VecDeque<TreeFile>,
    current: Option<Current>,
    index: Vec<u8>,
    failed: Option<Unmeasured>,
    sink: Sink<'a>,
    progress: &'a dyn Fn(u64),
}

struct Current {
    file: TreeFile,
    from: File,
    to: Option<File>,
    hash: blake3::Hasher,
    size: u64,
}

impl Reading<'_> {
    fn begin(&mut self, file: TreeFile) -> Result<(), Unmeasured> {
        let (from, _size) = files::open_regular(&file.from).map_err(|e| Unmeasured::Below(file.from.clone(), e))?;
        let to = (self.sink)(&file)?;
        self.current = Some(Current { file, from, to, hash: blake3::Hasher::new(), size: 0 });
        Ok(())
    }

    fn end(&mut self, done: Current) -> Result<(), Unmeasured> {
        let Current { file, hash, size, .. } = done;
        let blake3 = Blake3::from_bytes(*hash.finalize().as_bytes());
        let entry = TreeEntry { blake3, mode: file.mode, path: file.path, size };
        let line = tree::line(&entry).map_err(|error| Unmeasured::Wrong(Code::BadValue, error.to_string()))?;
        self.index.extend_from_slice(&line);
        Ok(())
    }

    fn step(&mut self, buffer: &mut [u8]) -> Result<usize, Unmeasured> {
        loop {
            let Some(mut current) = self.current.take() else {
                let Some(next) = self.files.pop_front() else { return Ok(0) };
                self.begin(next)?;
                continue;
            };
            let below = |error: io::Error| Unmeasured::Below(current.file.from.clone(), error);
            let count = current.from.read(buffer).map_err(below)?;
            if count == 0 {
                self.end(current)?;
                continue;
            }
            current.hash.update(&buffer[..count]);
            current.size += count as u64;
            if let Some(to) = &mut current.to {
                to.write_all(&buffer[..count]).map_err(Unmeasured::Sink)?;
            }
            (self.progress)(count as u64);
            self.current = Some(current);
            return Ok(count);
        }
    }
}

impl Read for Reading<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.step(buffer).map_err(|failed| {
            self.failed = Some(failed);
            io::Error::other("a file of the tree failed")
        })
    }
}
