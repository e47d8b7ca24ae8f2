//! A payload that is being received: a file artifact, or the files of a tree one after the other.

use std::io::{BufReader, Read};
use std::sync::Arc;

use autonomy_schema::manifest::{Artifact, ArtifactType, Payload as Pinned};
use autonomy_schema::segments::Entries;
use autonomy_schema::{Blake3, RelPath};
use autonomy_stateroot::{DiskError, StateRoot, SyncTarget, durable, layout};

use super::front::Hashing;

/// Which payload: its bytes, and how they are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) payload: Blake3,
    pub(super) index: Blake3,
    pub(super) kind: ArtifactType,
}

impl Key {
    /// That of an artifact, with its pins; `None` for one that has none, which no signed manifest holds.
    pub(super) fn of(artifact: &Artifact) -> Option<(Self, Pinned)> {
        let pins = artifact.payload()?;
        Some((Self { payload: pins.blake3, index: pins.segments.index, kind: artifact.kind }, pins))
    }

    pub(super) fn partial(&self) -> RelPath {
        layout::partial(self.payload, self.index, self.kind)
    }
}

/// Where a payload lies whole, when that is not the partial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whole {
    /// In an object, of whatever mode.
    Object(RelPath),
    /// In the objects that are the files of a tree.
    Files,
}

/// What is here of a payload.
#[derive(Debug)]
pub(super) struct Payload {
    pub(super) key: Key,
    pub(super) pins: Pinned,
    /// Which segments are here, a bit for each.
    present: Vec<u64>,
    /// How many are not.
    pub(super) lacking: u64,
    /// Where it lies whole, when that is not the partial.
    pub(super) whole: Option<Whole>,
    /// Something was written since the last sync began.
    pub(super) is_dirty: bool,
    /// Its digests, as far as they are known.
    pub(super) hashing: Hashing,
    /// Bytes that the partial took on the disk when it was last asked.
    pub(super) allocated: u64,
    /// The partial's entry in its folder is durable.
    pub(super) is_linked: bool,
    /// This partial, not one of the same name that came after it. Whoever syncs it holds a copy.
    life: Arc<()>,
}

/// A partial that is synced elsewhere while the store goes on.
#[derive(Debug)]
pub(super) struct Syncing {
    pub(super) key: Key,
    is_linked: bool,
    life: Arc<()>,
}

impl Syncing {
    pub(super) fn sync(&self, root: &StateRoot) -> Result<(), DiskError> {
        root.disk().sync(SyncTarget::File(&self.key.partial()))?;
        if !self.is_linked {
            root.disk().sync(SyncTarget::Dir(Some(&layout::segments())))?;
        }
        Ok(())
    }
}

impl Payload {
    pub(super) fn new(key: Key, pins: Pinned) -> Self {
        let words = usize::try_from(pins.segments.count.div_ceil(64)).unwrap_or(usize::MAX);
        Self {
            key,
            pins,
            present: vec![0; words],
            lacking: pins.segments.count,
            whole: None,
            is_dirty: false,
            hashing: Hashing::new(pins.size),
            allocated: 0,
            is_linked: false,
            life: Arc::default(),
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.whole.is_some() || self.lacking == 0
    }

    /// It is whole, and no part of it waits for a sync.
    pub(super) fn is_durable(&self) -> bool {
        self.is_whole() && !self.is_dirty && !self.is_syncing()
    }

    pub(super) fn has(&self, number: u32) -> bool {
        let word = self.present.get(number as usize / 64).copied().unwrap_or_default();
        self.whole.is_some() || word >> (number % 64) & 1 == 1
    }

    pub(super) fn mark(&mut self, number: u32) {
        if let Some(word) = self.present.get_mut(number as usize / 64).filter(|word| **word >> (number % 64) & 1 == 0) {
            *word |= 1 << (number % 64);
            self.lacking -= 1;
        }
    }

    /// Nothing of it is here.
    pub(super) fn forget(&mut self) {
        self.present.fill(0);
        self.is_dirty = false;
        self.hashing = Hashing::new(self.pins.size);
        self.lacking = self.pins.segments.count;
        self.whole = None;
        self.allocated = 0;
        self.is_linked = false;
        self.life = Arc::default();
    }

    /// Segments that lack, as ranges, at most `limit` of them; and whether there are more.
    pub(super) fn missing(&self, limit: u64) -> (Vec<(u64, u64)>, bool) {
        let (mut ranges, mut left): (Vec<(u64, u64)>, _) = (Vec::new(), limit);
        if self.is_whole() {
            return (ranges, false);
        }
        for number in 0..u32::try_from(self.pins.segments.count).unwrap_or(u32::MAX) {
            if self.has(number) {
                continue;
            }
            if left == 0 {
                return (ranges, true);
            }
            left -= 1;
            let number = u64::from(number);
            match ranges.last_mut() {
                Some(last) if last.1 == number => last.1 += 1,
                Some(_) | None => ranges.push((number, number + 1)),
            }
        }
        (ranges, false)
    }

    /// Finds out what the partial holds, by its index, and makes that durable.
    pub(super) fn scan(&mut self, root: &StateRoot, index: &RelPath) -> Result<(), DiskError> {
        let partial = self.key.partial();
        let Some(stat) = root.disk().stat(&partial)? else { return Ok(()) };
        // What a process that was killed wrote may be in memory alone.
        root.disk().sync(SyncTarget::File(&partial))?;
        root.disk().sync(SyncTarget::Dir(Some(&layout::segments())))?;
        (self.is_linked, self.allocated) = (true, stat.allocated);
        let failed = |path: &RelPath, source| DiskError::new("read", path, source);
        let mut file = BufReader::with_capacity(1 << 20, root.disk().open(&partial)?);
        let mut bytes = Vec::new();
        for (number, segment) in (0..).zip(Entries::of(BufReader::new(root.disk().open(index)?))) {
            let segment = segment.map_err(|error| failed(index, error))?;
            bytes.clear();
            let read = (&mut file).take(segment.length).read_to_end(&mut bytes);
            if read.map_err(|error| failed(&partial, error))? == 0 {
                break;
            }
            if bytes.len() as u64 == segment.length && Blake3::of(&bytes) == segment.id {
                self.mark(number);
            }
        }
        Ok(())
    }

    /// Writes at an offset of the partial, which is made when it is absent; and hashes some of what was written.
    pub(super) fn write(&mut self, root: &StateRoot, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let partial = self.key.partial();
        if !self.is_linked && !durable::exists(root.disk(), &partial)? {
            durable::ensure_dir(root.disk(), &layout::segments())?;
            root.disk().set_len(&partial, 0)?;
        }
        root.disk().write_at(&partial, offset, bytes)?;
        self.is_dirty = true;
        let length = bytes.len() as u64;
        self.hashing.wrote(offset, length);
        // Somewhat more than comes, so that what lies ahead is caught up with.
        self.hashing.go_on(root, &partial, length.saturating_mul(2));
        Ok(())
    }

    /// What is to be synced now; nothing of it is durable before [`Payload::synced`].
    pub(super) fn begin_sync(&mut self) -> Syncing {
        self.is_dirty = false;
        Syncing { key: self.key, is_linked: self.is_linked, life: Arc::clone(&self.life) }
    }

    /// Whether that sync was of this partial.
    pub(super) fn is_of(&self, syncing: &Syncing) -> bool {
        Arc::ptr_eq(&self.life, &syncing.life)
    }

    /// Whether a sync is under way elsewhere.
    pub(super) fn is_syncing(&self) -> bool {
        Arc::strong_count(&self.life) > 1
    }

    /// It was synced; gives how many bytes more it takes.
    pub(super) fn synced(&mut self, root: &StateRoot) -> Result<u64, DiskError> {
        self.is_linked = true;
        let now = root.disk().stat(&self.key.partial())?.map_or(0, |stat| stat.allocated);
        let more = now.saturating_sub(self.allocated);
        self.allocated = now;
        Ok(more)
    }
}
