//! Hashing a payload while it is received, so that its last segment is not followed by a reading of all of it.

use std::collections::BTreeMap;

use autonomy_schema::{Blake3, RelPath, Sha256};
use autonomy_stateroot::{DiskError, Front, StateRoot};

/// Payloads below this are read at the end, from memory as a rule. A state of two hashes takes 2 KiB, and a set may name
/// 20,000 payloads; those that large are few.
const MIN_BYTES: u64 = 16 << 20;
/// Runs of bytes that may lie ahead of what was hashed: some packs come at once. With more gaps, all is hashed at the end.
const MAX_AHEAD: usize = 16;

/// How far a payload is hashed.
#[derive(Debug)]
pub(super) struct Hashing {
    size: u64,
    state: State,
    /// Runs that are written and not hashed: where each begins, and where it ends.
    ahead: BTreeMap<u64, u64>,
}

#[derive(Debug)]
enum State {
    /// All of it is hashed at the end.
    Later,
    /// Its front is hashed.
    Front(Box<Front>),
    /// All of it is.
    Done(Blake3, Sha256),
}

impl Hashing {
    /// Of a payload of `size` bytes.
    pub(super) fn new(size: u64) -> Self {
        let state = if size < MIN_BYTES { State::Later } else { State::Front(Box::default()) };
        Self { size, state, ahead: BTreeMap::new() }
    }

    fn give_up(&mut self) {
        self.state = State::Later;
        self.ahead = BTreeMap::new();
    }

    /// These bytes are written now.
    pub(super) fn wrote(&mut self, offset: u64, length: u64) {
        if !matches!(self.state, State::Front(_)) {
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
            self.give_up();
        }
    }

    /// Hashes at most `budget` bytes of what was written. What cannot be read now is read at the end.
    pub(super) fn go_on(&mut self, root: &StateRoot, file: &RelPath, budget: u64) {
        let State::Front(front) = &mut self.state else { return };
        let at = front.length();
        let Some((begin, end)) = self.ahead.first_key_value().map(|(begin, end)| (*begin, *end)) else { return };
        if begin > at {
            return;
        }
        let until = end.min(at.saturating_add(budget));
        if front.advance(root.disk(), file, until).is_err() || front.length() != until {
            return self.give_up();
        }
        if until == end {
            self.ahead.remove(&begin);
        }
        if until == self.size {
            let (blake3, sha256) = std::mem::take(&mut **front).digests();
            self.state = State::Done(blake3, sha256);
        }
    }

    /// The digests of the whole file: what was not hashed yet is read now.
    pub(super) fn finish(&mut self, root: &StateRoot, file: &RelPath) -> Result<(Blake3, Sha256), DiskError> {
        let front = match std::mem::replace(&mut self.state, State::Later) {
            State::Done(blake3, sha256) if root.disk().stat(file)?.is_some_and(|stat| stat.size == self.size) => {
                return Ok((blake3, sha256));
            }
            State::Front(front) => *front,
            State::Done(..) | State::Later => Front::default(),
        };
        self.give_up();
        front.finish(root.disk(), file, self.size)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use autonomy_schema::Mode;
    use autonomy_stateroot::{SimDisk, durable};

    use super::*;

    fn hashing(size: u64) -> Hashing {
        Hashing { size, state: State::Front(Box::default()), ahead: BTreeMap::new() }
    }

    #[test]
    fn in_whatever_order_it_is_written_the_digests_are_those_of_the_file() {
        let root = StateRoot::on(Arc::new(SimDisk::new()));
        let (file, bytes) = (RelPath::fixed("payload"), (0..200_u8).collect::<Vec<_>>());
        durable::write_new(root.disk(), &file, &bytes, Mode::FILE).expect("writes");
        let wanted = (Blake3::of(&bytes), Sha256::of(&bytes));
        let orders: [&[u64]; 5] = [&[0, 1, 2, 3], &[1, 0, 3, 2], &[3, 2, 1, 0], &[2, 2, 0], &[1, 3]];
        for order in orders {
            for budget in [7, 50, 1000] {
                let mut hashing = hashing(200);
                for at in order {
                    hashing.wrote(at * 50, 50);
                    hashing.go_on(&root, &file, budget);
                }
                assert_eq!(hashing.finish(&root, &file).expect("reads"), wanted, "{order:?}");
            }
        }
    }

    #[test]
    fn a_file_that_is_longer_than_what_was_hashed_has_other_digests() {
        let root = StateRoot::on(Arc::new(SimDisk::new()));
        let file = RelPath::fixed("payload");
        durable::write_new(root.disk(), &file, &[7; 101], Mode::FILE).expect("writes");
        let mut hashing = hashing(100);
        hashing.wrote(0, 100);
        hashing.go_on(&root, &file, 100);
        assert!(matches!(hashing.state, State::Done(..)));
        assert_ne!(hashing.finish(&root, &file).expect("reads").0, Blake3::of(&[7; 100]));
    }

    #[test]
    fn what_comes_in_order_is_hashed_as_it_comes_and_gaps_take_no_memory() {
        let root = StateRoot::on(Arc::new(SimDisk::new()));
        let file = RelPath::fixed("payload");
        durable::write_new(root.disk(), &file, &[7; 100], Mode::FILE).expect("writes");
        let mut whole = hashing(100);
        for at in 0..10 {
            whole.wrote(at * 10, 10);
            whole.go_on(&root, &file, 10);
        }
        assert!(matches!(whole.state, State::Done(..)), "nothing is left to read");
        let mut gaps = hashing(20_000);
        for at in 1..1000 {
            gaps.wrote(at * 20, 10);
        }
        assert!(matches!(gaps.state, State::Later) && gaps.ahead.is_empty());
        assert!(matches!(Hashing::new(MIN_BYTES - 1).state, State::Later), "small ones hold nothing");
    }
}
