//! The write-ahead log: numbered, chained records in one append-only file per process role.
//!
//! Every append is on the disk before it is acknowledged. The lock is held for one operation, not for the life of a
//! [`Wal`], so that two short-lived processes of one role take turns instead of failing.

mod frames;

use autonomy_schema::{Code, Mode, Name, Reason, RelPath};
use autonomy_stateroot::disk::{DiskError, FileKind, LockGuard, StateDisk, SyncTarget, read_capped};
use autonomy_stateroot::{ReadError, StateRoot, durable, layout};
use serde::Serialize;

use crate::hold::{hold, make_file, make_folder};
use crate::line::Cause;
use crate::record::{Record, Stored};
use frames::Scan;

/// The log of one role, open for appending.
pub struct Wal {
    root: StateRoot,
    place: Place,
    /// Where the next record goes; `None` after a failed write, when only the file itself can tell.
    head: Option<Head>,
    /// A sync failed: what the kernel shows may not be what the disk holds, so nothing is built on it.
    distrusted: bool,
}

/// The end of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Head {
    seq: u64,
    prev: Option<autonomy_schema::Blake3>,
    /// Bytes of the file up to here.
    len: u64,
}

/// The files of one role.
struct Place {
    folder: RelPath,
    log: RelPath,
    safe: RelPath,
    lock: RelPath,
}

impl Place {
    fn of(role: &Name) -> Self {
        let folder = layout::telemetry_role(role);
        let file = |name| folder.join(&RelPath::fixed(name));
        Self {
            log: file("telemetry.wal"),
            safe: file("telemetry.safe_seq"),
            lock: file("telemetry.lock"),
            folder: folder.clone(),
        }
    }
}

/// What was found when the log was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// The number of the last record; 0 when there is none.
    pub last_seq: u64,
    /// Bytes of a torn tail that were cut.
    pub torn_bytes: u64,
}

/// What `wal inspect` prints about one role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The role.
    pub role: Name,
    /// The number of the last good record.
    pub last_seq: u64,
    /// Bytes after it that the next writer will cut.
    pub torn_bytes: u64,
    /// Why the log is damaged; absent when it is not. A torn tail is not damage.
    pub cause: Option<String>,
}

/// A record up to the checkpoint is not intact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{file}` is damaged at record {seq} (byte {offset}): {cause}")]
pub struct Damage {
    /// The file, relative to the state root.
    pub file: String,
    /// The record that should stand there.
    pub seq: u64,
    /// Where.
    pub offset: u64,
    /// What is wrong.
    pub cause: Cause,
}

/// The log could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The disk refused.
    #[error("cannot use the write-ahead log")]
    Disk(#[from] DiskError),
    /// Records that were acknowledged and checkpointed are damaged; nothing was touched.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// Another process kept the lock of the log for two seconds.
    #[error("another process keeps the lock `{0}`")]
    Busy(RelPath),
    /// A sync failed before, so nothing more is written through this handle.
    #[error("an earlier sync of `{0}` failed, so it is not trusted again; start the process anew")]
    Distrusted(RelPath),
    /// The record is longer than 1 MiB, nested too deep, or has no canonical form.
    #[error("a record of kind `{kind}` cannot be kept: longer than 1 MiB, nested too deep, or without canonical form")]
    Unwritable {
        /// Its kind.
        kind: String,
    },
}

impl WalError {
    /// The error as a reason with its exit code.
    pub fn to_reason(&self) -> Reason {
        match self {
            Self::Disk(error) => error.to_reason(),
            Self::Damaged(damage) => Reason::new(Code::CorruptState, damage.to_string()).with_remedy(
                "keep a copy of the folder as evidence, then move the WAL aside; the next verb starts a new one",
            ),
            Self::Busy(_) => Reason::new(Code::Locked, self.to_string()),
            Self::Distrusted(_) => Reason::new(Code::IoError, self.to_string()),
            Self::Unwritable { .. } => Reason::new(Code::LimitExceeded, self.to_string()),
        }
    }
}

impl Wal {
    /// Opens the log of `role`, and makes it when it is absent. A torn tail is cut and counted; damage up to the
    /// checkpoint is an error that leaves everything as it is.
    pub fn open(root: &StateRoot, role: &Name) -> Result<(Self, Recovery), WalError> {
        let place = Place::of(role);
        make_folder(root.disk(), &place.folder)?;
        let mut wal = Self { root: root.clone(), place, head: None, distrusted: false };
        let _held = wal.hold()?;
        let scan = wal.recover()?;
        wal.head = Some(scan.head);
        Ok((wal, Recovery { last_seq: scan.head.seq, torn_bytes: scan.torn_bytes }))
    }

    /// Appends one record; it is durable when its number is returned.
    pub fn append(&mut self, record: Record) -> Result<u64, WalError> {
        self.append_all(vec![record])
    }

    /// Appends records with one sync for all of them; gives the number of the last. After an error some of them may
    /// have been kept, from the first on, but none was acknowledged.
    pub fn append_all(&mut self, records: Vec<Record>) -> Result<u64, WalError> {
        let _held = self.hold()?;
        let head = self.refreshed()?;
        let (bytes, next) = frames::encode(head, records)?;
        if bytes.is_empty() {
            return Ok(head.seq);
        }
        // Until both calls return, only a scan of the file knows where it ends.
        self.head = None;
        self.disk().write_at(&self.place.log, head.len, &bytes)?;
        self.sync_log()?;
        self.head = Some(next);
        Ok(next.seq)
    }

    /// Declares every record so far to be beyond doubt: from now on a bad one among them is damage, not a torn tail.
    pub fn checkpoint(&mut self) -> Result<(), WalError> {
        let _held = self.hold()?;
        let head = self.refreshed()?;
        if head.seq > safe_seq(self.disk(), &self.place)? {
            durable::replace(self.disk(), &self.place.safe, &head.seq.to_le_bytes(), Mode::PRIVATE)?;
        }
        Ok(())
    }

    fn disk(&self) -> &dyn StateDisk {
        self.root.disk()
    }

    fn hold(&self) -> Result<Box<dyn LockGuard>, WalError> {
        if self.distrusted {
            return Err(WalError::Distrusted(self.place.log.clone()));
        }
        hold(self.disk(), &self.place.lock)?.ok_or_else(|| WalError::Busy(self.place.lock.clone()))
    }

    /// The head, read again when another process has written meanwhile.
    fn refreshed(&mut self) -> Result<Head, WalError> {
        let size = self.disk().stat(&self.place.log)?.map(|stat| stat.size);
        match self.head {
            Some(head) if size == Some(head.len) => Ok(head),
            Some(_) | None => {
                let head = self.recover()?.head;
                self.head = Some(head);
                Ok(head)
            }
        }
    }

    /// Scans the file, cuts a torn tail, and makes what is left durable: the process that wrote it may have been
    /// killed before its own sync, and a checkpoint must never name a record that a power loss can still take.
    fn recover(&mut self) -> Result<Scan, WalError> {
        let safe = safe_seq(self.disk(), &self.place)?;
        let scan = frames::scan(self.disk(), &self.place.log, safe, &mut |_| {})?;
        if scan.head.len + scan.torn_bytes == 0 {
            make_file(self.disk(), &self.place.log)?;
            return Ok(scan);
        }
        if scan.torn_bytes > 0 {
            self.disk().set_len(&self.place.log, scan.head.len)?;
        }
        if scan.torn_bytes > 0 || scan.head.seq > safe {
            self.sync_log()?;
        }
        Ok(scan)
    }

    fn sync_log(&mut self) -> Result<(), WalError> {
        let synced = self.disk().sync(SyncTarget::File(&self.place.log));
        self.distrusted |= synced.is_err();
        Ok(synced?)
    }
}

/// Looks at the log of `role` without changing or locking anything; a writer at work may show as a torn tail.
pub fn inspect(root: &StateRoot, role: &Name) -> Result<Report, WalError> {
    read(root, role, &mut |_| {})
}

/// As [`inspect`], and hands every good record to `visit`, in order.
pub fn read(root: &StateRoot, role: &Name, visit: &mut dyn FnMut(&Stored)) -> Result<Report, WalError> {
    let place = Place::of(role);
    let mut last_seq = 0;
    let scanned = safe_seq(root.disk(), &place).and_then(|safe| {
        frames::scan(root.disk(), &place.log, safe, &mut |record| {
            last_seq = record.seq;
            visit(record);
        })
    });
    match scanned {
        Ok(Scan { head, torn_bytes }) => Ok(Report { role: role.clone(), last_seq: head.seq, torn_bytes, cause: None }),
        Err(WalError::Damaged(damage)) => {
            Ok(Report { role: role.clone(), last_seq, torn_bytes: 0, cause: Some(damage.to_string()) })
        }
        Err(error) => Err(error),
    }
}

/// The roles that have a log, sorted.
pub fn roles(root: &StateRoot) -> Result<Vec<Name>, WalError> {
    let entries = match root.disk().list(Some(&layout::telemetry())) {
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        entries => entries?,
    };
    Ok(entries.iter().filter(|entry| entry.kind == FileKind::Dir).filter_map(|entry| entry.name.parse().ok()).collect())
}

/// The checkpoint: eight bytes, little endian; 0 when the file is absent.
fn safe_seq(disk: &dyn StateDisk, place: &Place) -> Result<u64, WalError> {
    let damaged = || Damage { file: place.safe.to_string(), seq: 0, offset: 0, cause: Cause::BadCheckpoint };
    match read_capped(disk, &place.safe, 8) {
        Ok(None) => Ok(0),
        Ok(Some(bytes)) => Ok(u64::from_le_bytes(bytes.try_into().map_err(|_other_length| damaged())?)),
        Err(ReadError::TooLarge { .. }) => Err(damaged().into()),
        Err(ReadError::Disk(error)) => Err(error.into()),
    }
}
