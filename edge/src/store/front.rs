//! Hashing a payload while it is received, so that its last segment is not followed by a reading of all of it.

use std::collections::BTreeMap;

use autonomy_schema::{Blake3, RelPath, Sha256};
use autonomy_stateroot::{DiskError, Front, StateRoot};

/// Runs of bytes that may lie ahead of what was hashed: some packs come at once. With more gaps, all is hashed at the end.
const MAX_AHEAD: usize = 16;

/// How far a payload is hashed.
#[derive(Debug, Default)]
pub(super) struct Hashing {
    /// Boxed, as there are as many payloads as a set has artifacts.
    front: Option<Box<Front>>,
    /// Runs that are written and not hashed: where each begins, and where it ends.
    ahead: BTreeMap<u64, u64>,
    gave_up: bool,
}

impl Hashing {
    /// These bytes are written now.
    pub(super) fn wrote(&mut self, offset: u64, length: u64) {
        if self.gave_up {
            return;
        }
        let (mut begin, mut end) = (offset, offset + length);
        if let Some((before, its_end)) = self.ahead.range(..=offset).next_back().map(|(at, end)| (*at, *end))
            && its_end >= offset
        {
            (begin, end) = (before, end.max(its_end));
        }
        while let Some((after, its_end)) = self.ahead.range(begin..=end).next().map(|(at, end)| (*at, *end)) {
            self.ahead.remove(&after);
            end = end.max(its_end);
        }
        self.ahead.insert(begin, end);
        if self.ahead.len() > MAX_AHEAD {
            *self = Self { gave_up: true, ..Self::default() };
        }
    }

    /// Hashes at most `budget` bytes of what was written.
    pub(super) fn go_on(&mut self, root: &StateRoot, file: &RelPath, budget: u64) -> Result<(), DiskError> {
        let at = self.front.as_ref().map_or(0, |front| front.length());
        let Some((begin, end)) = self.ahead.first_key_value().map(|(begin, end)| (*begin, *end)) else { return Ok(()) };
        if begin > at {
            return Ok(());
        }
        let until = end.min(at.saturating_add(budget));
        self.front.get_or_insert_default().advance(root.disk(), file, until)?;
        if until == end {
            self.ahead.remove(&begin);
        }
        Ok(())
    }

    /// The digests of the whole file: what was not hashed yet is read now.
    pub(super) fn finish(
        &mut self,
        root: &StateRoot,
        file: &RelPath,
        size: u64,
    ) -> Result<Option<(Blake3, Sha256)>, DiskError> {
        let front = std::mem::take(self).front.unwrap_or_default();
        front.finish(root.disk(), file, size)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use autonomy_schema::Mode;
    use autonomy_stateroot::{SimDisk, durable};

    use super::*;

    #[test]
    fn in_whatever_order_it_is_written_the_digests_are_those_of_the_file() {
        let root = StateRoot::on(Arc::new(SimDisk::new()));
        let (file, bytes) = (RelPath::fixed("payload"), (0..200_u8).collect::<Vec<_>>());
        durable::write_new(root.disk(), &file, &bytes, Mode::FILE).expect("writes");
        let wanted = Some((Blake3::of(&bytes), Sha256::of(&bytes)));
        let orders: [&[u64]; 5] = [&[0, 1, 2, 3], &[1, 0, 3, 2], &[3, 2, 1, 0], &[2, 2, 0], &[1, 3]];
        for order in orders {
            for budget in [7, 50, 1000] {
                let mut hashing = Hashing::default();
                for at in order {
                    hashing.wrote(at * 50, 50);
                    hashing.go_on(&root, &file, budget).expect("reads");
                }
                assert_eq!(hashing.finish(&root, &file, 200).expect("reads"), wanted, "{order:?}");
            }
        }
    }

    #[test]
    fn what_comes_in_order_is_hashed_as_it_comes_and_gaps_take_no_memory() {
        let root = StateRoot::on(Arc::new(SimDisk::new()));
        let file = RelPath::fixed("payload");
        durable::write_new(root.disk(), &file, &[7; 100], Mode::FILE).expect("writes");
        let mut hashing = Hashing::default();
        for at in 0..10 {
            hashing.wrote(at * 10, 10);
            hashing.go_on(&root, &file, 10).expect("reads");
        }
        assert_eq!(hashing.front.as_ref().map(|front| front.length()), Some(100));
        let mut hashing = Hashing::default();
        for at in 1..1000 {
            hashing.wrote(at * 20, 10);
        }
        assert!(hashing.gave_up && hashing.ahead.is_empty());
    }
}
