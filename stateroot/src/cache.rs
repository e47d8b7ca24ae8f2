//! The stat cache (`cache/files`): which content a file had when its identity and size were these.
//!
//! It may be lost or damaged at any time, and is then empty. It is no trust anchor: who can set `ctime` back is root.
//! `docs/formats/cache.md` draws it.

use std::collections::BTreeMap;
use std::time::Duration;

use autonomy_schema::{Blake3, Mode, Sha256};

use crate::disk::{DiskError, Identity, read_capped};
use crate::root::StateRoot;
use crate::{durable, layout};

/// The first bytes of the file.
const MAGIC: &[u8; 16] = b"autonomy-stat-1\n";
/// Bytes of an entry: dev, ino, mtime, ctime, size, BLAKE3, SHA-256.
const ENTRY_BYTES: usize = 5 * 8 + 2 * 32;
/// Bytes of the digest at the end.
const TRAILER_BYTES: usize = 32;
/// Most entries that are kept: two of the largest trees. The longest unchanged go first.
const MAX_ENTRIES: usize = 2 * autonomy_schema::tree::MAX_FILES;
/// Two changes of a file within one tick of the kernel's clock have the same `ctime`. A tick is at most 10 ms.
const TICK_NS: i64 = 10_000_000;
/// How often `store` waits for the tick to pass.
const MAX_WAITS: u32 = 3;

/// The stat cache, in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatCache {
    entries: BTreeMap<(Identity, u64), (Blake3, Sha256)>,
}

impl StatCache {
    /// Reads the cache of `root`; empty when it is absent, damaged or unreadable. Entries of files that changed in
    /// the tick in which the cache was written, or later, are left out: they could have changed again unseen.
    pub fn load(root: &StateRoot) -> Self {
        let cap = MAGIC.len() + MAX_ENTRIES * ENTRY_BYTES + TRAILER_BYTES;
        let path = layout::cache_files();
        let Ok(Some(stat)) = root.disk().stat(&path) else { return Self::default() };
        let Ok(Some(bytes)) = read_capped(root.disk(), &path, cap as u64) else { return Self::default() };
        let mut cache = Self::decode(&bytes).unwrap_or_default();
        cache.entries.retain(|(identity, _), _| settled(identity, stat.identity.mtime_ns));
        cache
    }

    /// The digests of the file with this identity and size.
    pub fn get(&self, identity: &Identity, size: u64) -> Option<(Blake3, Sha256)> {
        self.entries.get(&(*identity, size)).copied()
    }

    /// Remembers the digests of a file; `identity` must have been read after the last change that we made to it
    /// (a new link is one: it sets `ctime`).
    pub fn put(&mut self, identity: Identity, size: u64, blake3: Blake3, sha256: Sha256) {
        self.entries.insert((identity, size), (blake3, sha256));
    }

    /// How many files it knows.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Writes the cache, whole or not at all, but not durably: a lost cache costs one reading. If a file changed just
    /// now, waits some milliseconds, so that [`StatCache::load`] believes it.
    pub fn store(&self, root: &StateRoot) -> Result<(), DiskError> {
        durable::ensure_dir(root.disk(), &layout::cache())?;
        let bytes = self.encode();
        let path = layout::cache_files();
        let tmp = durable::beside(&path)?;
        for _ in 0..=MAX_WAITS {
            durable::write_new(root.disk(), &tmp, &bytes, Mode::PRIVATE)?;
            root.disk().rename(&tmp, &path)?;
            let written = root.disk().stat(&path)?.map_or(i64::MAX, |stat| stat.identity.mtime_ns);
            if self.entries.keys().all(|(identity, _)| settled(identity, written)) {
                break;
            }
            std::thread::sleep(Duration::from_nanos(TICK_NS.unsigned_abs()));
        }
        Ok(())
    }

    fn encode(&self) -> Vec<u8> {
        let mut newest: Vec<_> = self.entries.iter().collect();
        newest.sort_by_key(|((identity, _), _)| std::cmp::Reverse(identity.ctime_ns));
        newest.truncate(MAX_ENTRIES);
        newest.sort();
        let mut bytes = Vec::with_capacity(MAGIC.len() + newest.len() * ENTRY_BYTES + TRAILER_BYTES);
        bytes.extend_from_slice(MAGIC);
        for ((identity, size), (blake3, sha256)) in newest {
            bytes.extend_from_slice(&identity.dev.to_le_bytes());
            bytes.extend_from_slice(&identity.ino.to_le_bytes());
            bytes.extend_from_slice(&identity.mtime_ns.to_le_bytes());
            bytes.extend_from_slice(&identity.ctime_ns.to_le_bytes());
            bytes.extend_from_slice(&size.to_le_bytes());
            bytes.extend_from_slice(blake3.as_bytes());
            bytes.extend_from_slice(sha256.as_bytes());
        }
        let trailer = Blake3::of(&bytes);
        bytes.extend_from_slice(trailer.as_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, trailer) = bytes.split_last_chunk::<TRAILER_BYTES>()?;
        let (entries, rest) = body.strip_prefix(MAGIC)?.as_chunks::<ENTRY_BYTES>();
        if !rest.is_empty() || Blake3::of(body).as_bytes() != trailer {
            return None;
        }
        Some(Self { entries: entries.iter().filter_map(decode_entry).collect() })
    }
}

/// Whether a file last changed so long before the cache was written that a second change would show.
fn settled(identity: &Identity, written_ns: i64) -> bool {
    identity.ctime_ns.saturating_add(TICK_NS) < written_ns
}

type Cached = ((Identity, u64), (Blake3, Sha256));

fn decode_entry(entry: &[u8; ENTRY_BYTES]) -> Option<Cached> {
    let (numbers, digests) = entry.split_at(5 * 8);
    let (numbers, _) = numbers.as_chunks::<8>();
    let (digests, _) = digests.as_chunks::<32>();
    let [dev, ino, mtime, ctime, size] = numbers else { return None };
    let [blake3, sha256] = digests else { return None };
    let identity = Identity {
        dev: u64::from_le_bytes(*dev),
        ino: u64::from_le_bytes(*ino),
        mtime_ns: i64::from_le_bytes(*mtime),
        ctime_ns: i64::from_le_bytes(*ctime),
    };
    let digests = (Blake3::from_bytes(*blake3), Sha256::from_bytes(*sha256));
    Some(((identity, u64::from_le_bytes(*size)), digests))
}
