//! Frames: a length, then one line. Writing them, and telling a torn tail from damage.

use std::io::{self, BufReader, Read};

use autonomy_schema::{Blake3, RelPath};
use autonomy_stateroot::disk::{DiskError, StateDisk};

use super::{Damage, Head, WalError};
use crate::line::{self, Cause, MAX_LINE_BYTES};
use crate::record::{Record, Stored};

/// What a scan found.
pub(super) struct Scan {
    /// The end of the good records.
    pub(super) head: Head,
    /// Bytes behind it.
    pub(super) torn_bytes: u64,
}

/// The frames of `records` behind `head`, and the head behind them.
pub(super) fn encode(head: Head, records: Vec<Record>) -> Result<(Vec<u8>, Head), WalError> {
    let mut bytes = Vec::new();
    let mut at = head;
    for record in records {
        let Record { kind, priority, time, body } = record;
        let stored = Stored { seq: at.seq + 1, kind, priority, time, prev: at.prev, body };
        let unwritable = || WalError::Unwritable { kind: stored.kind.chars().take(80).collect() };
        let line = line::encode(&stored).ok_or_else(unwritable)?;
        let length = u32::try_from(line.len() + 1).map_err(|_too_long| unwritable())?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&line);
        bytes.push(b'\n');
        at = Head { seq: stored.seq, prev: Some(Blake3::of(&line)), len: at.len + 4 + u64::from(length) };
    }
    Ok((bytes, at))
}

/// Reads `log` from its beginning, one frame in memory at a time. The first bad frame is damage when the checkpoint
/// `safe` covers its number, and else the beginning of the torn tail.
pub(super) fn scan(
    disk: &dyn StateDisk,
    log: &RelPath,
    safe: u64,
    visit: &mut dyn FnMut(&Stored),
) -> Result<Scan, WalError> {
    let mut head = Head::default();
    let size = disk.stat(log)?.map_or(0, |stat| stat.size);
    let damage = |head: Head, cause| Damage { file: log.to_string(), seq: head.seq + 1, offset: head.len, cause };
    if size > 0 {
        let mut file = BufReader::new(disk.open(log)?);
        loop {
            let frame = next(&mut file, head).map_err(|source| DiskError::new("read", log, source))?;
            match frame {
                None => break,
                Some(Ok((record, next))) => {
                    visit(&record);
                    head = next;
                }
                Some(Err(cause)) if head.seq < safe => return Err(damage(head, cause).into()),
                Some(Err(_)) => return Ok(Scan { head, torn_bytes: size.saturating_sub(head.len) }),
            }
        }
    }
    if head.seq < safe {
        return Err(damage(head, Cause::MissingRecords).into());
    }
    Ok(Scan { head, torn_bytes: 0 })
}

/// The next frame, if it is good; `None` at the very end of the file.
fn next(file: &mut impl Read, head: Head) -> io::Result<Option<Result<(Stored, Head), Cause>>> {
    let mut length = Vec::with_capacity(4);
    file.by_ref().take(4).read_to_end(&mut length)?;
    if length.is_empty() {
        return Ok(None);
    }
    let Ok(length) = <[u8; 4]>::try_from(length).map(u32::from_be_bytes) else {
        return Ok(Some(Err(Cause::CutShort)));
    };
    if length == 0 || length as usize > MAX_LINE_BYTES {
        return Ok(Some(Err(Cause::BadLength)));
    }
    let mut line = Vec::with_capacity(length as usize);
    file.by_ref().take(u64::from(length)).read_to_end(&mut line)?;
    Ok(Some(judge(&line, length, head)))
}

fn judge(line: &[u8], length: u32, head: Head) -> Result<(Stored, Head), Cause> {
    if line.len() < length as usize {
        return Err(Cause::CutShort);
    }
    let line = line.strip_suffix(b"\n").ok_or(Cause::BadLine)?;
    let record: Stored = line::decode(line)?;
    if record.seq != head.seq + 1 {
        return Err(Cause::BadSequence);
    }
    if record.prev != head.prev {
        return Err(Cause::BrokenChain);
    }
    let next = Head { seq: record.seq, prev: Some(Blake3::of(line)), len: head.len + 4 + u64::from(length) };
    Ok((record, next))
}
