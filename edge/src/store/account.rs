//! What the state root takes, against its ceiling (INV-04).

use autonomy_schema::{Code, Reason};
use autonomy_stateroot::{DiskError, StateRoot, used_bytes};

use super::{Limits, StoreError};

/// Bytes of a block of a file system; a write takes whole ones.
pub(super) const BLOCK: u64 = 4096;
/// What others may write unnoticed: half of this, of a sixteenth of the ceiling, or of what is left below it.
const SLACK: u64 = 64 << 20;

/// What the state root takes.
#[derive(Debug)]
pub(super) struct Account {
    /// As of the last walk, with what was made durable since.
    used: u64,
    /// Reserved, and not measured yet.
    pending: u64,
    /// What the file system had free at the last walk, less what was made durable since.
    free: u64,
    /// What was in use, and free, at the last walk.
    walked: (u64, u64),
}

/// The bytes that `length` at `offset` take at most.
pub(super) fn blocks(offset: u64, length: u64) -> u64 {
    (offset + length).next_multiple_of(BLOCK) - offset / BLOCK * BLOCK
}

impl Account {
    pub(super) fn open(root: &StateRoot) -> Result<Self, DiskError> {
        let mut account = Self { used: 0, pending: 0, free: 0, walked: (0, 0) };
        account.walk(root)?;
        Ok(account)
    }

    /// Measures everything.
    pub(super) fn walk(&mut self, root: &StateRoot) -> Result<(), DiskError> {
        self.used = used_bytes(root)?;
        self.free = root.disk().space()?.free;
        self.walked = (self.used(), self.free);
        Ok(())
    }

    pub(super) fn used(&self) -> u64 {
        self.used + self.pending
    }

    /// Whether eviction should begin before `need` more bytes are written.
    pub(super) fn is_high(&self, limits: &Limits, need: u64) -> bool {
        let line = u128::from(limits.ceiling_bytes) * u128::from(limits.eviction_percent) / 100;
        limits.ceiling_bytes > 0 && u128::from(self.used() + need) > line
    }

    pub(super) fn is_over(&self, limits: &Limits, need: u64) -> bool {
        limits.ceiling_bytes > 0 && self.used() + need > limits.ceiling_bytes
    }

    /// Brings the account up to date where an estimate will not do: when the file system lost more than we took, as other
    /// processes write here too, and the less room there is, the less of that is tolerated; and before anything is refused,
    /// unless nothing has changed since that was done.
    pub(super) fn refresh(&mut self, root: &StateRoot, limits: &Limits, need: u64) -> Result<(), DiskError> {
        if limits.ceiling_bytes == 0 {
            return Ok(());
        }
        let slack = SLACK.min(limits.ceiling_bytes / 16);
        let free = root.disk().space()?.free;
        let left = limits.ceiling_bytes.saturating_sub(self.used() + need);
        let lost = self.free.saturating_sub(free.saturating_add(self.pending));
        let is_unsure = self.is_over(limits, need) && self.walked != (self.used(), free);
        if is_unsure || lost > slack.min(left) / 2 {
            self.walk(root)?;
        }
        Ok(())
    }

    /// Whether `need` more bytes fit below the ceiling and on the file system.
    pub(super) fn check(&self, root: &StateRoot, limits: &Limits, need: u64) -> Result<(), StoreError> {
        if self.is_over(limits, need) {
            let (used, ceiling) = (self.used(), limits.ceiling_bytes);
            let message = format!("{need} more bytes would lift the state root from {used} above its {ceiling}");
            return Err(StoreError::Ceiling(Reason::new(Code::CeilingExceeded, message)));
        }
        let free = root.disk().space()?.free;
        if need > free {
            let message = format!("{need} more bytes do not fit: the file system has {free} free");
            return Err(StoreError::NoSpace(Reason::new(Code::DiskFull, message)));
        }
        Ok(())
    }

    pub(super) fn reserve(&mut self, bytes: u64) {
        self.pending += bytes;
    }

    /// Others write these bytes now; the next walk measures them.
    pub(super) fn spend(&mut self, bytes: u64) {
        self.used += bytes;
        self.free = self.free.saturating_sub(bytes);
    }

    /// What was reserved is written, or came to nothing: the walk that the caller sees to measures what there is.
    pub(super) fn release(&mut self, bytes: u64) {
        self.pending = self.pending.saturating_sub(bytes);
    }

    /// Whether something is reserved and not measured.
    pub(super) fn is_owing(&self) -> bool {
        self.pending > 0
    }

    /// What was reserved is written, synced and measured.
    pub(super) fn measured(&mut self, reserved: u64, taken: u64) {
        self.pending = self.pending.saturating_sub(reserved);
        self.used += taken;
        self.free = self.free.saturating_sub(taken);
    }

    /// Measures everything, with nothing under way.
    pub(super) fn settle(&mut self, root: &StateRoot) -> Result<(), DiskError> {
        self.pending = 0;
        self.walk(root)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use autonomy_schema::{Mode, RelPath};
    use autonomy_stateroot::{SimDisk, durable};

    use super::*;

    #[test]
    fn near_the_ceiling_the_state_root_is_walked_when_others_wrote_and_not_for_each_write_of_our_own() {
        let root = StateRoot::on(Arc::new(SimDisk::new()));
        let write = |name, bytes: usize| {
            durable::write_new(root.disk(), &RelPath::fixed(name), &vec![1; bytes], Mode::FILE).expect("writes");
        };
        write("before", 1 << 20);
        let mut account = Account::open(&root).expect("opens");
        let limits = Limits { ceiling_bytes: account.used() + (64 << 10), eviction_percent: 90 };
        // What we say we wrote is believed, whatever is there.
        account.measured(0, BLOCK);
        let believed = account.used();
        account.refresh(&root, &limits, BLOCK).expect("refreshes");
        assert_eq!(account.used(), believed);
        write("others", 48 << 10);
        account.refresh(&root, &limits, BLOCK).expect("refreshes");
        assert_eq!(account.used(), used_bytes(&root).expect("walks"));
        // A refusal rests on a walk, and on one alone while nothing changes.
        account.spend(BLOCK);
        account.refresh(&root, &limits, 32 << 10).expect("refreshes");
        assert_eq!(account.used(), used_bytes(&root).expect("walks"));
    }
}
