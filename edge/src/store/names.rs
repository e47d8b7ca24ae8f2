//! Which segments the accepted manifests name, and where each belongs.

use std::io::BufReader;

use autonomy_schema::segments::Entries;
use autonomy_schema::{Blake3, RelPath};
use autonomy_stateroot::{DiskError, StateRoot};

/// One place of a segment. What is kept for each is 32 bytes, whatever it names: 16 bytes of a BLAKE3 cannot be met by other
/// bytes whose whole BLAKE3 the caller computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    key: u128,
    /// Which payload, by its number.
    pub(super) payload: u16,
    length_less_one: u16,
    /// Which segment of it.
    pub(super) number: u32,
    /// Where it begins.
    pub(super) offset: u64,
}

impl Place {
    pub(super) fn length(&self) -> u64 {
        u64::from(self.length_less_one) + 1
    }
}

/// Every place, by segment.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<Place>);

fn key(id: &Blake3) -> u128 {
    let mut first = [0; 16];
    first.copy_from_slice(&id.as_bytes()[..16]);
    u128::from_be_bytes(first)
}

impl Names {
    /// Adds the segments of an index, until there are `limit` names.
    pub(super) fn add(
        &mut self,
        root: &StateRoot,
        index: &RelPath,
        payload: u16,
        limit: usize,
    ) -> Result<(), DiskError> {
        let failed = |source| DiskError::new("read", index, source);
        let mut offset = 0;
        for (number, segment) in (0..).zip(Entries::of(BufReader::new(root.disk().open(index)?))) {
            if self.0.len() >= limit {
                break;
            }
            let segment = segment.map_err(failed)?;
            // The entry of an index is 1 to 65536 bytes long.
            let length_less_one = u16::try_from(segment.length.saturating_sub(1)).unwrap_or(u16::MAX);
            self.0.push(Place { key: key(&segment.id), payload, length_less_one, number, offset });
            offset += segment.length;
        }
        Ok(())
    }

    /// To be called when all are added.
    pub(super) fn sort(&mut self) {
        self.0.sort_unstable();
        self.0.shrink_to_fit();
    }

    /// Every place of a segment.
    pub(super) fn find(&self, id: &Blake3) -> &[Place] {
        let key = key(id);
        let begin = self.0.partition_point(|place| place.key < key);
        let end = begin + self.0[begin..].partition_point(|place| place.key == key);
        &self.0[begin..end]
    }
}
