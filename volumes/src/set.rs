//! A folder with volumes, opened: which are there, what they hold, what of it is damaged.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use autonomy_schema::{Blake3, RelPath};

use crate::block::Block;
use crate::folder::{Folder, Found};
use crate::header::Label;
use crate::index::{self, Entry, IndexError};
use crate::read::{Incomplete, MemberReader, Stripes};
use crate::shape::{self, BLOCK_BYTES, MAX_VOLUMES, Shape};

/// A set of volumes.
pub struct VolumeSet {
    body: Arc<Body>,
    members: Vec<Entry>,
    /// Where each member begins in the stream.
    starts: Vec<u64>,
}

/// The volumes themselves, which what reads from them holds open too.
pub(crate) struct Body {
    label: Label,
    volumes: Vec<Volume>,
}

struct Volume {
    state: VolumeState,
    /// Only of one that is present.
    file: Option<File>,
    /// One bit for each block that was found damaged.
    damaged: Mutex<Vec<u64>>,
}

/// What is at the place of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeState {
    /// It is there, and says that it is this volume of this set.
    Present,
    /// Nothing is there.
    Missing,
    /// Something is there, but neither of its headers can be read or is that of this volume.
    BadHeader,
}

/// What is known of one volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeReport {
    /// Its file name.
    pub name: String,
    /// Whether it holds parity.
    pub parity: bool,
    /// What is at its place.
    pub state: VolumeState,
    /// Blocks that were found damaged so far, of those that were read.
    pub damaged: u64,
}

/// A folder cannot be read as a set.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be used.
    #[error("the folder of the volumes cannot be used")]
    Folder(#[source] io::Error),
    /// A volume is there and cannot be opened, for another reason than decay.
    #[error("`{volume}` cannot be opened")]
    Volume {
        /// Its name.
        volume: String,
        /// Why.
        source: io::Error,
    },
    /// A link, folder or special file in place of a volume.
    #[error("`{0}` is a link or no regular file")]
    NotAFile(String),
    /// No volume is there.
    #[error("the folder holds no volume")]
    NoVolumes,
    /// Volumes are there, but none has a header that can be read.
    #[error("no volume has a header that can be read: {}", .0.join(", "))]
    NoHeader(Vec<String>),
    /// Volumes of two sets.
    #[error("`{first}` and `{other}` are of different sets")]
    Mixture {
        /// The first volume.
        first: String,
        /// One that is not of its set.
        other: String,
    },
    /// Too much is lost to read the list of files.
    #[error("the list of files cannot be read")]
    Incomplete(#[source] Incomplete),
    /// The list of files cannot be read for another reason.
    #[error("the list of files cannot be read")]
    Read(#[source] io::Error),
    /// The list of files cannot be, or contradicts the headers.
    #[error("the list of files is not sound")]
    Index(#[from] IndexError),
}

impl VolumeSet {
    /// Opens the volumes directly below `dir`. That some are lost is no error as long as the list of files can be
    /// read: see [`VolumeSet::report`].
    pub fn open(dir: &Path) -> Result<VolumeSet, OpenError> {
        let (label, volumes) = find(&Folder::open(dir).map_err(OpenError::Folder)?)?;
        let body = Arc::new(Body { label, volumes });
        let (pinned, index_bytes) = (body.label.index, body.label.index_bytes);
        let mut bytes = Vec::new();
        MemberReader::new(Arc::clone(&body), 0, index_bytes).read_to_end(&mut bytes).map_err(|error| {
            match Incomplete::of(&error) {
                Some(incomplete) => OpenError::Incomplete(incomplete.clone()),
                None => OpenError::Read(error),
            }
        })?;
        if Blake3::of(&bytes) != pinned {
            return Err(IndexError::Digest.into());
        }
        let members = index::parse(&bytes, body.shape().stream_bytes())?;
        let mut end = index_bytes;
        let starts = members
            .iter()
            .map(|member| {
                let start = end;
                end += member.size;
                start
            })
            .collect();
        Ok(VolumeSet { body, members, starts })
    }

    /// The name of the set: a BLAKE3 over its list of files and the checksums of its data.
    pub fn id(&self) -> Blake3 {
        self.body.label.set
    }

    /// Number of parity volumes: as many may be lost.
    pub fn parity(&self) -> u8 {
        self.body.shape().parity()
    }

    /// The members, sorted by path.
    pub fn members(&self) -> &[Entry] {
        &self.members
    }

    /// Reads a member from an offset on; `None` if there is none of this path.
    pub fn open_member(&self, path: &RelPath, offset: u64) -> Option<MemberReader> {
        let at = index::find(&self.members, path)?;
        let (start, member) = (self.starts.get(at)?, self.members.get(at)?);
        Some(MemberReader::new(Arc::clone(&self.body), start + offset.min(member.size), start + member.size))
    }

    /// What is known of every volume, in their order. Damaged blocks are known once they were read;
    /// [`VolumeSet::scan`] reads all.
    pub fn report(&self) -> Vec<VolumeReport> {
        let volumes = (0..MAX_VOLUMES).zip(&self.body.volumes);
        volumes
            .map(|(number, volume)| VolumeReport {
                name: shape::name(number),
                parity: number >= self.body.shape().data(),
                state: volume.state,
                damaged: volume.count(),
            })
            .collect()
    }

    /// Reads every block of every volume, to its end. Fails with the first place that cannot be repaired.
    pub fn scan(&self, progress: &dyn Fn(u64, u64)) -> Result<(), Incomplete> {
        let shape = self.body.shape();
        let stripe_bytes = u64::from(shape.volumes()) * BLOCK_BYTES;
        let mut stripes = Stripes::new(Arc::clone(&self.body));
        let mut result = Ok(());
        for stripe in 0..shape.stripes() {
            result = result.and(stripes.check(stripe));
            progress((stripe + 1) * stripe_bytes, shape.stripes() * stripe_bytes);
        }
        result
    }
}

impl Body {
    pub(crate) fn shape(&self) -> &Shape {
        &self.label.shape
    }

    /// Reads a block, and marks it when it is damaged. `false` if it is lost.
    pub(crate) fn load(&self, block: &mut Block, number: u16, stripe: u64) -> bool {
        let Some(volume) = self.volumes.get(usize::from(number)) else { return false };
        let Some(file) = &volume.file else { return false };
        let good = block.load(file, number, stripe);
        if !good {
            volume.mark(stripe);
        }
        good
    }
}

impl Volume {
    fn mark(&self, stripe: u64) {
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(word) = usize::try_from(stripe / 64) else { return };
        if damaged.len() <= word {
            damaged.resize(word + 1, 0);
        }
        damaged[word] |= 1 << (stripe % 64);
    }

    fn count(&self) -> u64 {
        let damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        damaged.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

/// Looks at every name that a volume can have, so that nothing else in the folder is listed or read.
fn find(folder: &Folder) -> Result<(Label, Vec<Volume>), OpenError> {
    let mut label: Option<(u16, Label)> = None;
    let mut volumes = Vec::new();
    let mut bad = Vec::new();
    for number in 0..MAX_VOLUMES {
        let name = shape::name(number);
        let found = folder.find(number).map_err(|source| OpenError::Volume { volume: name.clone(), source })?;
        let (own, file) = match found {
            Found::File(file, size) => (Label::read(&file, number, size), Some(file)),
            Found::Unreadable => (None, None),
            Found::NotAFile => return Err(OpenError::NotAFile(name)),
            Found::Nothing => {
                volumes.push(Volume { state: VolumeState::Missing, file: None, damaged: Mutex::default() });
                continue;
            }
        };
        let state = if own.is_some() { VolumeState::Present } else { VolumeState::BadHeader };
        let Some(own) = own else {
            bad.push(name);
            volumes.push(Volume { state, file: None, damaged: Mutex::default() });
            continue;
        };
        volumes.push(Volume { state, file, damaged: Mutex::default() });
        match &label {
            Some((first, set)) if *set != own => {
                return Err(OpenError::Mixture { first: shape::name(*first), other: name });
            }
            Some(_) => {}
            None => label = Some((number, own)),
        }
    }
    let Some((_, label)) = label else {
        return Err(if bad.is_empty() { OpenError::NoVolumes } else { OpenError::NoHeader(bad) });
    };
    volumes.truncate(usize::from(label.shape.volumes()));
    Ok((label, volumes))
}
