//! The ledger's file below the seam of the disk.
//!
//! While the file is being opened, and nobody knows yet whether it is sound, writes are held in memory: a damaged ledger is
//! left as it was found. Once it is known to be sound they are done, in their order and with their syncs.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use autonomy_schema::{Mode, RelPath};
use autonomy_stateroot::{DiskError, StateRoot, SyncTarget};
use redb::StorageBackend;

/// The file, shared with who opens it.
#[derive(Debug, Clone)]
pub(super) struct Backend {
    root: StateRoot,
    path: RelPath,
    state: Arc<Mutex<State>>,
    /// A sync of the file failed: what the kernel holds of it is not trusted any more in this process.
    lost: Arc<AtomicBool>,
}

#[derive(Debug)]
struct State {
    len: u64,
    /// What was written while it was being opened; `None` once it is known to be sound.
    held: Option<Vec<Held>>,
}

#[derive(Debug)]
enum Held {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync,
}

impl Backend {
    /// The file at `path`, which is created when it is absent.
    pub(super) fn new(root: &StateRoot, path: &RelPath, lost: &Arc<AtomicBool>) -> Result<Self, DiskError> {
        let len = if let Some(stat) = root.disk().stat(path)? {
            stat.size
        } else {
            root.disk().set_len(path, 0)?;
            root.disk().set_meta(path, Mode::PRIVATE)?;
            0
        };
        let state = State { len, held: Some(Vec::new()) };
        Ok(Self { root: root.clone(), path: path.clone(), state: Arc::new(Mutex::new(state)), lost: Arc::clone(lost) })
    }

    /// The file is sound: does what was held back, and holds nothing back any more.
    pub(super) fn trust(&self) -> Result<(), DiskError> {
        let mut state = self.state();
        for held in state.held.take().unwrap_or_default() {
            match held {
                Held::Write(offset, data) => self.root.disk().write_at(&self.path, offset, &data)?,
                Held::SetLen(len) => self.root.disk().set_len(&self.path, len)?,
                Held::Sync => self.sync()?,
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), DiskError> {
        let synced = self.root.disk().sync(SyncTarget::File(&self.path));
        if synced.is_err() {
            self.lost.store(true, Ordering::Relaxed);
        }
        synced
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_disk(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut file = self.root.disk().open_at(&self.path, offset).map_err(|error| io(&error))?;
        let mut filled = 0;
        // What was only held back may end behind the file: the rest reads as zeros.
        while filled < out.len() {
            match file.read(&mut out[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        out[filled..].fill(0);
        Ok(())
    }
}

fn io(error: &DiskError) -> io::Error {
    io::Error::new(error.source.kind(), error.to_reason().message)
}

/// Lays `data` over what of `out` it covers.
fn lay(offset: u64, data: &[u8], at: u64, out: &mut [u8]) {
    let (start, end) = (offset.max(at), (offset + data.len() as u64).min(at + out.len() as u64));
    if start >= end {
        return;
    }
    let span = |base: u64| usize::try_from(start - base).unwrap_or(0)..usize::try_from(end - base).unwrap_or(0);
    out[span(at)].copy_from_slice(&data[span(offset)]);
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > state.len) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the ledger ends before what is read of it"));
        }
        self.read_disk(offset, out)?;
        for held in state.held.iter().flatten() {
            match held {
                Held::Write(at, data) => lay(*at, data, offset, out),
                Held::SetLen(len) => {
                    let gone = usize::try_from(len.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
                    out[gone..].fill(0);
                }
                Held::Sync => {}
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        match &mut state.held {
            Some(held) => held.push(Held::SetLen(len)),
            None => self.root.disk().set_len(&self.path, len).map_err(|error| io(&error))?,
        }
        state.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        match &mut self.state().held {
            Some(held) => held.push(Held::Sync),
            None => self.sync().map_err(|error| io(&error))?,
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        match &mut state.held {
            Some(held) => held.push(Held::Write(offset, data.to_vec())),
            None => self.root.disk().write_at(&self.path, offset, data).map_err(|error| io(&error))?,
        }
        state.len = state.len.max(offset + data.len() as u64);
        Ok(())
    }
}
