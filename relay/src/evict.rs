//! What goes first when the disk ceiling is near: the same order on every node that holds the same things.

use autonomy_schema::Blake3;

/// Why something is not to be evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protection {
    /// The active generation has it.
    Active,
    /// The last known good generation has it.
    LastKnownGood,
    /// An operator, or a plan, pinned it.
    Pinned,
    /// Not every peer that is to get it has it.
    Unrelayed,
}

/// What something is, in the order in which it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// No set names it.
    Orphaned,
    /// A newer serial of its stream is here.
    Superseded,
    /// It is whole and was handed on to whoever was to get it.
    Relayed,
    /// It is still being received.
    Receiving,
}

/// Something that takes room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evictable {
    /// Its name: of the set, or of the payload.
    pub id: Blake3,
    /// Bytes that are free once it is gone.
    pub bytes: u64,
    /// What it is.
    pub standing: Standing,
    /// Serial of the newest set that names it; 0 when none does.
    pub serial: u64,
    /// Why it must stay, if it must.
    pub protected: Option<Protection>,
}

/// What may go, first to last: by standing, then the lower serial, then the name. What is protected is not among it.
pub fn order(candidates: Vec<Evictable>) -> Vec<Evictable> {
    let mut free: Vec<Evictable> = candidates.into_iter().filter(|one| one.protected.is_none()).collect();
    free.sort_by_key(|one| (one.standing, one.serial, one.id));
    free
}
