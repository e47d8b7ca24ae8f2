//! What the state root takes, against its ceiling (INV-04).

use autonomy_schema::{Code, Reason};
use autonomy_stateroot::{DiskError, StateRoot, used_bytes};

use super::{Limits, StoreError};

/// Bytes of a block of a file system; a write takes whole ones.
pub(super) const BLOCK: u64 = 4096;
/// This much below the ceiling (or a sixteenth of it, if that is less), nothing is estimated: the state root is walked.
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
}

/// The bytes that `length` at `offset` take at most.
pub(super) fn blocks(offset: u64, length: u64) -> u64 {
    (offset + length).next_multiple_of(BLOCK) - offset / BLOCK * BLOCK
}

impl Account {
    pub(super) fn open(root: &StateRoot) -> Result<Self, DiskError> {
        let mut account = Self { used: 0, pending: 0, free: 0 };
        account.walk(root)?;
        Ok(account)
    }

    /// Measures everything.
    pub(super) fn walk(&mut self, root: &StateRoot) -> Result<(), DiskError> {
        self.used = used_bytes(root)?;
        self.free = root.disk().space()?.free;
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

    /// Brings the account up to date where an estimate will not do: near the ceiling, and when the file system lost more than
    /// we took, as other processes write here too.
    pub(super) fn refresh(&mut self, root: &StateRoot, limits: &Limits, need: u64) -> Result<(), DiskError> {
        if limits.ceiling_bytes == 0 {
            return Ok(());
        }
        let slack = SLACK.min(limits.ceiling_bytes / 16);
        let free = root.disk().space()?.free;
        let is_near = self.used() + need + slack > limits.ceiling_bytes;
        if is_near || free.saturating_add(self.pending + slack / 2) < self.free {
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
