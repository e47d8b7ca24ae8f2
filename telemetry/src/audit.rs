//! The audit trail: who did what with which outcome, one chained line each.
//!
//! Every process of the node writes the same file, so the lock is held for one append.

use std::io::{self, BufRead, BufReader, Read};

use autonomy_schema::{Blake3, Code, Reason, RelPath, Time};
use autonomy_stateroot::disk::{DiskError, LockGuard, StateDisk, SyncTarget};
use autonomy_stateroot::{StateRoot, layout};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::hold::{hold, make_file, make_folder};
use crate::line::{self, Cause, MAX_LINE_BYTES};

/// The trail, open for appending.
pub struct Audit {
    root: StateRoot,
    /// Where the next line goes; `None` after a failed write.
    head: Option<Head>,
    torn_bytes: u64,
    distrusted: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Head {
    seq: u64,
    prev: Option<Blake3>,
    len: u64,
}

/// One act. It holds no secret.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// When the verb began.
    pub time: Time,
    /// The verb, such as `apply`.
    pub verb: String,
    /// Who asked, such as `uid:0`.
    pub actor: String,
    /// The fingerprint of the manifest that it was about.
    pub correlation: Option<Blake3>,
    /// `started`, `done`, `refused` …
    pub outcome: String,
    /// The details.
    pub detail: Value,
}

/// An entry as it lies on the disk (`docs/formats/audit.md`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    /// From 1, without gaps.
    pub seq: u64,
    /// As in [`Entry`].
    pub time: Time,
    /// As in [`Entry`].
    pub verb: String,
    /// As in [`Entry`].
    pub actor: String,
    /// As in [`Entry`].
    pub correlation: Option<Blake3>,
    /// As in [`Entry`].
    pub outcome: String,
    /// As in [`Entry`].
    pub detail: Value,
    /// BLAKE3 of the line before, without its newline; `null` at 1.
    pub prev: Option<Blake3>,
    /// BLAKE3 of this line as it would be without this field. The chain protects a line only once another follows;
    /// this protects the last one too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Blake3>,
}

/// The trail could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The disk refused.
    #[error("cannot use the audit trail")]
    Disk(#[from] DiskError),
    /// A line was edited, removed or damaged; nothing was touched.
    #[error("`{file}` is damaged at line {line} (byte {offset}): {cause}")]
    Damaged {
        /// The file.
        file: RelPath,
        /// The line, from 1.
        line: u64,
        /// Where it begins.
        offset: u64,
        /// What is wrong.
        cause: Cause,
    },
    /// Another process kept the lock for two seconds.
    #[error("another process keeps the lock `{0}`")]
    Busy(RelPath),
    /// A sync failed before, so nothing more is written through this handle.
    #[error("an earlier sync of `{0}` failed, so it is not trusted again; start the process anew")]
    Distrusted(RelPath),
    /// The entry is longer than 1 MiB, nested too deep, or has no canonical form.
    #[error("an audit entry of `{verb}` cannot be kept: longer than 1 MiB, nested too deep, or without canonical form")]
    Unwritable {
        /// The verb.
        verb: String,
    },
}

impl AuditError {
    /// The error as a reason with its exit code.
    pub fn to_reason(&self) -> Reason {
        match self {
            Self::Disk(error) => error.to_reason(),
            Self::Damaged { .. } => Reason::new(Code::CorruptState, self.to_string())
                .with_remedy("find out who changed it; keep a copy, then move the file away to begin a new trail"),
            Self::Busy(_) => Reason::new(Code::Locked, self.to_string()),
            Self::Distrusted(_) => Reason::new(Code::IoError, self.to_string()),
            Self::Unwritable { .. } => Reason::new(Code::LimitExceeded, self.to_string()),
        }
    }
}

impl Audit {
    /// Opens the trail, and makes it when it is absent. The whole chain is checked; a line that a power loss cut is
    /// removed and counted.
    pub fn open(root: &StateRoot) -> Result<Self, AuditError> {
        make_folder(root.disk(), &layout::audit())?;
        let mut audit = Self { root: root.clone(), head: None, torn_bytes: 0, distrusted: false };
        let _held = audit.hold()?;
        audit.recover()?;
        Ok(audit)
    }

    /// Bytes of half lines that this handle removed.
    pub fn torn_bytes(&self) -> u64 {
        self.torn_bytes
    }

    /// Appends one entry; it is durable when this returns.
    pub fn append(&mut self, entry: &Entry) -> Result<(), AuditError> {
        let _held = self.hold()?;
        let head = self.refreshed()?;
        let line = encode(head, entry)?;
        let next = Head { seq: head.seq + 1, prev: Some(Blake3::of(&line)), len: head.len + line.len() as u64 + 1 };
        let bytes = [line.as_slice(), b"\n"].concat();
        // Until both calls return, only a scan of the file knows where it ends.
        self.head = None;
        self.disk().write_at(&layout::audit_log(), head.len, &bytes)?;
        self.sync_log()?;
        self.head = Some(next);
        Ok(())
    }

    /// Checks the whole chain without changing or locking anything, and gives the number of entries. A half line at
    /// the end is what a power loss leaves, and no error.
    pub fn verify(root: &StateRoot) -> Result<u64, AuditError> {
        Ok(scan(root.disk(), &mut |_| {})?.head.seq)
    }

    /// As [`Audit::verify`], and hands every entry to `visit`, in order.
    pub fn read(root: &StateRoot, visit: &mut dyn FnMut(&Stored)) -> Result<u64, AuditError> {
        Ok(scan(root.disk(), visit)?.head.seq)
    }

    fn disk(&self) -> &dyn StateDisk {
        self.root.disk()
    }

    fn hold(&self) -> Result<Box<dyn LockGuard>, AuditError> {
        if self.distrusted {
            return Err(AuditError::Distrusted(layout::audit_log()));
        }
        let lock = layout::audit().join(&RelPath::fixed("audit.lock"));
        hold(self.disk(), &lock)?.ok_or(AuditError::Busy(lock))
    }

    /// The head, read again when another process has written meanwhile.
    fn refreshed(&mut self) -> Result<Head, AuditError> {
        let size = self.disk().stat(&layout::audit_log())?.map(|stat| stat.size);
        match self.head {
            Some(head) if size == Some(head.len) => Ok(head),
            Some(_) | None => self.recover(),
        }
    }

    fn recover(&mut self) -> Result<Head, AuditError> {
        let Scan { head, torn_bytes } = scan(self.disk(), &mut |_| {})?;
        if head.len + torn_bytes == 0 {
            make_file(self.disk(), &layout::audit_log())?;
        }
        if torn_bytes > 0 {
            self.disk().set_len(&layout::audit_log(), head.len)?;
            self.sync_log()?;
        }
        self.torn_bytes += torn_bytes;
        self.head = Some(head);
        Ok(head)
    }

    fn sync_log(&mut self) -> Result<(), AuditError> {
        let synced = self.disk().sync(SyncTarget::File(&layout::audit_log()));
        self.distrusted |= synced.is_err();
        Ok(synced?)
    }
}

fn encode(head: Head, entry: &Entry) -> Result<Vec<u8>, AuditError> {
    let unwritable = || AuditError::Unwritable { verb: entry.verb.chars().take(80).collect() };
    let mut stored = Stored {
        seq: head.seq + 1,
        time: entry.time,
        verb: entry.verb.clone(),
        actor: entry.actor.clone(),
        correlation: entry.correlation,
        outcome: entry.outcome.clone(),
        detail: entry.detail.clone(),
        prev: head.prev,
        digest: None,
    };
    stored.digest = Some(Blake3::of(&line::encode(&stored).ok_or_else(unwritable)?));
    line::encode(&stored).ok_or_else(unwritable)
}

struct Scan {
    head: Head,
    torn_bytes: u64,
}

/// Reads the trail from its beginning, one line in memory at a time.
fn scan(disk: &dyn StateDisk, visit: &mut dyn FnMut(&Stored)) -> Result<Scan, AuditError> {
    let path = layout::audit_log();
    let mut head = Head::default();
    let size = disk.stat(&path)?.map_or(0, |stat| stat.size);
    if size == 0 {
        return Ok(Scan { head, torn_bytes: 0 });
    }
    let mut file = BufReader::new(disk.open(&path)?);
    let failed = |source: io::Error| DiskError::new("read", layout::audit_log(), source);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        file.by_ref().take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut bytes).map_err(failed)?;
        if bytes.is_empty() {
            return Ok(Scan { head, torn_bytes: 0 });
        }
        match judge(&bytes, head) {
            Ok(stored) => {
                visit(&stored);
                let line = &bytes[..bytes.len() - 1];
                head = Head { seq: stored.seq, prev: Some(Blake3::of(line)), len: head.len + bytes.len() as u64 };
            }
            // Half a line at the end is a power loss, and so are blocks of it that were never written and read as zeros.
            Err(_)
                if file.fill_buf().map_err(failed)?.is_empty() && (!bytes.ends_with(b"\n") || bytes.contains(&0)) =>
            {
                return Ok(Scan { head, torn_bytes: size.saturating_sub(head.len) });
            }
            Err(cause) => {
                return Err(AuditError::Damaged { file: path, line: head.seq + 1, offset: head.len, cause });
            }
        }
    }
}

fn judge(bytes: &[u8], head: Head) -> Result<Stored, Cause> {
    let line = bytes.strip_suffix(b"\n").ok_or(Cause::BadLine)?;
    let stored: Stored = line::decode(line)?;
    if stored.seq != head.seq + 1 {
        return Err(Cause::BadSequence);
    }
    if stored.prev != head.prev {
        return Err(Cause::BrokenChain);
    }
    let bare = line::encode(&Stored { digest: None, ..stored.clone() }).ok_or(Cause::BadRecord)?;
    if stored.digest != Some(Blake3::of(&bare)) {
        return Err(Cause::BadDigest);
    }
    Ok(stored)
}
