//! What was put becomes durable: at once, or on another thread while the store goes on.
//!
//! Between [`Store::unsynced`] and [`Store::commit`] more may be put, also into the same files; that is for the next sync. One
//! sync at a time: who finds nothing left to sync knows that the one before was his.

use autonomy_schema::{Blake3, Code, Reason, Time};
use autonomy_stateroot::{DiskError, StateRoot, durable};

use super::payload::Syncing;
use super::{Store, StoreError, Ticket};

/// Files to be synced, wherever that is done.
#[derive(Debug)]
pub struct Unsynced {
    root: StateRoot,
    files: Vec<Syncing>,
    /// What was reserved for them.
    reserved: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Synced {
    files: Vec<(Syncing, Result<(), DiskError>)>,
    reserved: u64,
}

impl Unsynced {
    /// Syncs them. Blocking, and as slow as the disk.
    pub fn sync(self) -> Synced {
        let Self { root, files, reserved } = self;
        let sync = |file: Syncing| {
            let result = file.sync(&root);
            (file, result)
        };
        Synced { files: files.into_iter().map(sync).collect(), reserved }
    }
}

impl Store {
    /// What was put and is not being synced yet.
    pub fn unsynced(&mut self) -> Unsynced {
        let dirty = self.payloads.values_mut().filter(|payload| payload.is_dirty);
        let files = dirty.map(super::payload::Payload::begin_sync).collect();
        let reserved = std::mem::take(&mut self.reserved);
        self.in_flight += reserved;
        Unsynced { root: self.root.clone(), files, reserved }
    }

    /// Takes note of what was synced, and completes the sets that became whole: gives their manifests. That one of them cannot
    /// be completed is logged, and told to whoever asks for it: what was put is durable nevertheless.
    pub fn commit(&mut self, synced: Synced, ticket: Ticket, clock: Time) -> Result<Vec<Blake3>, StoreError> {
        self.synced(synced)?;
        if Ticket(self.failures) != ticket {
            let message = "a sync failed since these segments were put, so they may not be durable";
            return Err(StoreError::Disk(Reason::new(Code::IoError, message).with_remedy("send them again")));
        }
        for set in self.sets.values_mut() {
            set.touched.get_or_insert(clock);
        }
        self.account.refresh(&self.root, &self.limits, 0)?;
        let completed = self.complete_all(None, clock)?;
        // Somebody else may have written meanwhile.
        self.make_room(0)?;
        Ok(completed)
    }

    /// Makes durable what was put, here and now.
    pub(super) fn sync_dirty(&mut self) -> Result<(), StoreError> {
        let synced = self.unsynced().sync();
        self.synced(synced)
    }

    /// What could not be made durable is not here.
    fn synced(&mut self, synced: Synced) -> Result<(), StoreError> {
        let (mut taken, mut failed) = (0, None);
        for (file, result) in synced.files {
            // One that was dropped meanwhile is nobody's.
            let Some(payload) = self.payloads.get_mut(&file.key) else { continue };
            let noted = match result {
                Ok(()) if payload.is_of(&file) => payload.synced(&self.root),
                // It went, or another one has its name: that one has its own sync, and a disk that fails fails both.
                Ok(()) => continue,
                Err(error) if error.is_not_found() && !payload.is_of(&file) => continue,
                Err(error) => Err(error),
            };
            match noted {
                Ok(more) => taken += more,
                Err(error) => {
                    // What the kernel holds of it may differ from what the disk holds: nothing of it is believed.
                    durable::remove_tree(self.root.disk(), &payload.key.partial()).ok();
                    payload.forget();
                    self.failures += 1;
                    failed = Some(error);
                }
            }
        }
        self.in_flight -= synced.reserved;
        self.account.measured(synced.reserved, taken);
        let is_quiet = self.reserved == 0 && self.in_flight == 0;
        if is_quiet && self.account.is_owing() && self.bodies.iter().all(|(_, alive)| alive.strong_count() == 0) {
            // What failed kept its reservation.
            self.account.settle(&self.root)?;
        }
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }
}
