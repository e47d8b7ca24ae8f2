//! Writing a set: data volumes from front to back, then parity stripe by stripe from what was written.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use autonomy_schema::{Blake3, RelPath};
use reed_solomon_simd::ReedSolomonEncoder;

use crate::block::Block;
use crate::folder::Folder;
use crate::header::{HEADER_BYTES, Label};
use crate::index::{self, Entry, IndexError};
use crate::shape::{self, BLOCK, BLOCK_BYTES, MAX_VOLUMES, Misfit, Shape};

/// A file to write.
pub struct Member<'a> {
    /// Where it belongs.
    pub path: RelPath,
    /// Its size in bytes.
    pub size: u64,
    /// Gives its content; called once.
    pub open: Box<dyn Fn() -> io::Result<Box<dyn Read + 'a>> + 'a>,
}

/// How to split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeOptions {
    /// Most bytes of a volume; never more than FAT32 keeps ([`shape::MAX_VOLUME_BYTES`]).
    pub volume_bytes: u64,
    /// Number of parity volumes: as many may be lost.
    pub parity: u8,
    /// Whether volumes that are there already give way, once the new ones are whole.
    pub replace: bool,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The name of the set.
    pub set: Blake3,
    /// Number of data volumes.
    pub data: u16,
    /// Number of parity volumes.
    pub parity: u8,
    /// Bytes of all volumes.
    pub bytes: u64,
}

/// What was begun is removed, save where older volumes had already given way to whole new ones.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The folder cannot be used.
    #[error("the folder for the volumes cannot be used")]
    Folder(#[source] io::Error),
    /// The folder holds a volume already.
    #[error("the folder holds `{0}` already")]
    Occupied(String),
    /// Another process writes volumes there.
    #[error("another process writes volumes to this folder")]
    Busy,
    /// The cap on a volume leaves no room for a block.
    #[error("a volume of {0} bytes has no room for one block; at least 73760 are needed")]
    TooSmall(u64),
    /// More volumes than a set may have.
    #[error("{data} data and {parity} parity volumes are more than {MAX_VOLUMES}")]
    TooManyVolumes {
        /// Data volumes needed.
        data: u64,
        /// Parity volumes asked for.
        parity: u8,
    },
    /// The files cannot be listed.
    #[error("the files cannot be written as one set")]
    Members(#[from] IndexError),
    /// A file cannot be read.
    #[error("`{path}` cannot be read")]
    Member {
        /// Which one.
        path: RelPath,
        /// Why.
        source: io::Error,
    },
    /// A file has another size than was said.
    #[error("`{path}` has not {size} bytes any more")]
    Changed {
        /// Which one.
        path: RelPath,
        /// The size that was said.
        size: u64,
    },
    /// A volume cannot be written.
    #[error("`{volume}` cannot be written")]
    Volume {
        /// Its name.
        volume: String,
        /// Why.
        source: io::Error,
    },
    /// A volume is not what was written to it a moment ago.
    #[error("`{0}` does not read back as it was written")]
    ReadBack(String),
    /// The parity cannot be computed.
    #[error("the parity cannot be computed")]
    Parity(#[source] reed_solomon_simd::Error),
}

/// Writes `members`, in the order of their paths, to volumes directly below `out`. `progress` is told bytes that are
/// done and bytes in all.
///
/// Every volume is whole and synced under a temporary name before the first one gets its own. `vol-000` gets its name
/// last, so where it is, all were there. Volumes that give way are removed, durably, before the first name is given, so
/// that old and new ones never mix. A power cut between the names leaves some: they are not removed by the next try, which
/// refuses ([`WriteError::Occupied`]) unless it may replace; temporary files are.
pub fn write(
    out: &Path,
    members: &[Member<'_>],
    options: VolumeOptions,
    progress: &dyn Fn(u64, u64),
) -> Result<Written, WriteError> {
    let mut sorted: Vec<&Member<'_>> = members.iter().collect();
    sorted.sort_by(|a, b| a.path.cmp(&b.path));
    let entries: Vec<Entry> = sorted.iter().map(|m| Entry { path: m.path.clone(), size: m.size }).collect();
    let (index, stream_bytes) = index::seal(&entries)?;
    let shape = Shape::plan(stream_bytes, options.volume_bytes, options.parity).map_err(|misfit| match misfit {
        Misfit::Small => WriteError::TooSmall(options.volume_bytes),
        Misfit::Many(data) => WriteError::TooManyVolumes { data, parity: options.parity },
    })?;
    let mut stream = Stream::begin(Draft::begin(out, shape, options.replace)?, shape, progress);
    stream.set.update(&index);
    stream.push(&index)?;
    for member in sorted {
        stream.member(member)?;
    }
    stream.end()?;
    let parity = u64::from(shape.parity());
    if parity > 0 {
        write_parity(&stream.draft, shape, &|stripe| stream.tell(shape.blocks() + (stripe + 1) * parity))?;
    }
    let label = Label {
        set: Blake3::from_bytes(stream.set.finalize().into()),
        shape,
        index: Blake3::of(&index),
        index_bytes: index.len() as u64,
    };
    stream.draft.finish(&label)?;
    Ok(Written {
        set: label.set,
        data: shape.data(),
        parity: shape.parity(),
        bytes: (0..shape.volumes()).map(|volume| shape.file_bytes(volume)).sum(),
    })
}

fn temporary(volume: u16) -> String {
    format!(".{}.tmp", shape::name(volume))
}

fn at(volume: u16) -> impl Fn(io::Error) -> WriteError {
    move |source| WriteError::Volume { volume: shape::name(volume), source }
}

/// The volumes while they are written. Dropped before its end, it removes them.
struct Draft {
    folder: Folder,
    files: Vec<File>,
    /// Those that were there before, and give way.
    old: Vec<String>,
    /// Those that have their names already.
    named: Vec<u16>,
    kept: bool,
}

impl Draft {
    fn begin(out: &Path, shape: Shape, replace: bool) -> Result<Draft, WriteError> {
        let folder = Folder::open(out).map_err(WriteError::Folder)?;
        if !folder.lock() {
            return Err(WriteError::Busy);
        }
        let mut old = Vec::new();
        for name in (0..MAX_VOLUMES).map(shape::name) {
            if !folder.has(&name).map_err(WriteError::Folder)? {
                continue;
            }
            if !replace {
                return Err(WriteError::Occupied(name));
            }
            old.push(name);
        }
        for volume in 0..MAX_VOLUMES {
            folder.remove(&temporary(volume)).map_err(at(volume))?;
        }
        let mut draft = Draft { folder, files: Vec::new(), old, named: Vec::new(), kept: false };
        for volume in 0..shape.volumes() {
            let file = draft.folder.create(&temporary(volume)).map_err(at(volume))?;
            // No gap is left for the header: FAT has none, and not every driver of it fills them.
            file.write_all_at(&[0; HEADER_BYTES], 0).map_err(at(volume))?;
            draft.files.push(file);
        }
        Ok(draft)
    }

    fn file(&self, volume: u16) -> io::Result<&File> {
        self.files.get(usize::from(volume)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Headers, syncs, names.
    fn finish(&mut self, label: &Label) -> Result<(), WriteError> {
        for volume in 0..label.shape.volumes() {
            let file = self.file(volume).map_err(at(volume))?;
            label.write(file, volume).and_then(|()| file.sync_all()).map_err(at(volume))?;
        }
        // From here on the new volumes are what there is: an error must not take them away with the old ones.
        self.kept = !self.old.is_empty();
        for name in &self.old {
            let removed = self.folder.remove(name);
            removed.map_err(|source| WriteError::Volume { volume: name.clone(), source })?;
        }
        if !self.old.is_empty() {
            self.folder.sync().map_err(WriteError::Folder)?;
        }
        for volume in (0..label.shape.volumes()).rev() {
            self.folder.rename(&temporary(volume), &shape::name(volume)).map_err(at(volume))?;
            self.named.push(volume);
        }
        self.folder.sync().map_err(WriteError::Folder)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // The error that led here is told; what cannot be removed is found by the next try.
        for volume in (0..MAX_VOLUMES).take(self.files.len()) {
            let _ = self.folder.remove(&temporary(volume));
        }
        for volume in &self.named {
            let _ = self.folder.remove(&shape::name(*volume));
        }
    }
}

/// The stream on its way into the data volumes.
struct Stream<'a> {
    draft: Draft,
    shape: Shape,
    progress: &'a dyn Fn(u64, u64),
    set: blake3::Hasher,
    block: Block,
    filled: usize,
    done: u64,
}

impl<'a> Stream<'a> {
    fn begin(draft: Draft, shape: Shape, progress: &'a dyn Fn(u64, u64)) -> Self {
        let set = blake3::Hasher::new_derive_key("autonomy volumes set v1");
        Stream { draft, shape, progress, set, block: Block::zeros(), filled: 0, done: 0 }
    }

    fn tell(&self, blocks: u64) {
        let all = self.shape.blocks() + self.shape.stripes() * u64::from(self.shape.parity());
        (self.progress)(blocks * BLOCK_BYTES, all * BLOCK_BYTES);
    }

    fn member(&mut self, member: &Member<'_>) -> Result<(), WriteError> {
        let failed = |source| WriteError::Member { path: member.path.clone(), source };
        let changed = || WriteError::Changed { path: member.path.clone(), size: member.size };
        let mut content = (member.open)().map_err(failed)?.take(member.size.saturating_add(1));
        let mut left = member.size;
        loop {
            let room = &mut self.block.payload_mut()[self.filled..];
            let count = match content.read(room) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(error)),
            };
            if count == 0 {
                break;
            }
            left = left.checked_sub(count as u64).ok_or_else(changed)?;
            self.filled += count;
            self.flush_full()?;
        }
        if left == 0 { Ok(()) } else { Err(changed()) }
    }

    fn push(&mut self, mut bytes: &[u8]) -> Result<(), WriteError> {
        while !bytes.is_empty() {
            let count = bytes.len().min(BLOCK - self.filled);
            let (now, later) = bytes.split_at(count);
            self.block.payload_mut()[self.filled..self.filled + count].copy_from_slice(now);
            self.filled += count;
            bytes = later;
            self.flush_full()?;
        }
        Ok(())
    }

    fn flush_full(&mut self) -> Result<(), WriteError> {
        if self.filled == BLOCK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        let (volume, stripe) = self.shape.place(self.done);
        let file = self.draft.file(volume).map_err(at(volume))?;
        let sum = self.block.store(file, volume, stripe).map_err(at(volume))?;
        self.set.update(&sum);
        self.filled = 0;
        self.done += 1;
        self.tell(self.done);
        Ok(())
    }

    /// The last block is filled up with zeros.
    fn end(&mut self) -> Result<(), WriteError> {
        if self.filled > 0 {
            let from = self.filled;
            self.block.payload_mut()[from..].fill(0);
            self.flush()?;
        }
        Ok(())
    }
}

fn write_parity(draft: &Draft, shape: Shape, tell: &dyn Fn(u64)) -> Result<(), WriteError> {
    let counts = (usize::from(shape.data()), usize::from(shape.parity()));
    let mut encoder = ReedSolomonEncoder::new(counts.0, counts.1, BLOCK).map_err(WriteError::Parity)?;
    let mut block = Block::zeros();
    for stripe in 0..shape.stripes() {
        for volume in 0..shape.data() {
            if stripe >= shape.blocks_in(volume) {
                block.payload_mut().fill(0);
            } else if !block.load(draft.file(volume).map_err(at(volume))?, volume, stripe) {
                return Err(WriteError::ReadBack(shape::name(volume)));
            }
            encoder.add_original_shard(block.payload()).map_err(WriteError::Parity)?;
        }
        let parity = encoder.encode().map_err(WriteError::Parity)?;
        for (volume, shard) in (shape.data()..).zip(parity.recovery_iter()) {
            block.payload_mut().copy_from_slice(shard);
            block.store(draft.file(volume).map_err(at(volume))?, volume, stripe).map_err(at(volume))?;
        }
        tell(stripe);
    }
    Ok(())
}
