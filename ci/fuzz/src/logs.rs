//! The files of a state root that are no documents: write-ahead log, audit trail, stat cache, lists.

use std::sync::Arc;

use autonomy_schema::{Mode, Name, RelPath, Time};
use autonomy_stateroot::disk::{Disk as _, SyncTarget};
use autonomy_stateroot::sim::Seen;
use autonomy_stateroot::{SimDisk, StatCache, StateRoot, durable, layout};
use autonomy_telemetry::{Audit, Entry, Priority, Record, Wal, inspect, wal};

const LOG: &str = "telemetry/edged/telemetry.wal";
const SAFE: &str = "telemetry/edged/telemetry.safe_seq";
const TRAIL: &str = "audit/audit.jsonl";

/// The first byte says what the rest is.
pub(crate) fn logs(bytes: &[u8]) -> bool {
    match bytes.split_first() {
        Some((b'w', rest)) => write_ahead(rest),
        Some((b'a', rest)) => trail(rest),
        Some((b'c', rest)) => cache(rest),
        Some((b'p', rest)) => pins(rest),
        Some(_) | None => false,
    }
}

fn disk_with(files: &[(&str, &[u8])]) -> SimDisk {
    let disk = SimDisk::new();
    for (path, bytes) in files {
        let path: RelPath = path.parse().expect("a path");
        if let Some(folder) = path.parent() {
            durable::ensure_dir(&disk, &folder).expect("mkdir");
        }
        durable::write_new(&disk, &path, bytes, Mode::PRIVATE).expect("write");
    }
    disk.sync(SyncTarget::Fs).expect("sync");
    disk
}

fn content(disk: &SimDisk, path: &str) -> Vec<u8> {
    match disk.snapshot().remove(path) {
        Some(Seen::File { data, .. }) => data,
        Some(Seen::Dir { .. } | Seen::Symlink(_)) | None => Vec::new(),
    }
}

fn root(disk: &SimDisk) -> StateRoot {
    StateRoot::on(Arc::new(disk.clone()))
}

/// The checkpoint, one byte, then the log. Looking writes nothing; a log that opens goes on from its last good record.
fn write_ahead(bytes: &[u8]) -> bool {
    let Some((safe, log)) = bytes.split_first() else { return false };
    let disk = disk_with(&[(LOG, log), (SAFE, &u64::from(*safe).to_le_bytes())]);
    let role: Name = "edged".parse().expect("a name");
    let report = inspect(&root(&disk), &role).expect("looks");
    assert_eq!(content(&disk, LOG), log, "a look wrote");
    match Wal::open(&root(&disk), &role) {
        Ok((mut log, recovery)) => {
            assert!(recovery.last_seq >= u64::from(*safe), "records were lost unseen");
            assert_eq!((report.last_seq, report.torn_bytes), (recovery.last_seq, recovery.torn_bytes));
            let record = Record {
                kind: "fuzz".to_owned(),
                priority: Priority::Rest,
                time: Time::EPOCH,
                body: serde_json::Value::Null,
            };
            assert_eq!(log.append(record).expect("goes on"), recovery.last_seq + 1);
            let mut read = 0;
            wal::read(&root(&disk), &role, &mut |_| read += 1).expect("reads");
            assert_eq!(read, recovery.last_seq + 1);
            recovery.last_seq > 0
        }
        Err(_damaged) => {
            assert_eq!(content(&disk, LOG), log, "a damaged log was touched");
            assert!(report.cause.is_some(), "{report:?}");
            false
        }
    }
}

/// A trail that opens goes on from its last good line; a damaged one is not touched.
fn trail(bytes: &[u8]) -> bool {
    let disk = disk_with(&[(TRAIL, bytes)]);
    let verified = Audit::verify(&root(&disk));
    assert_eq!(content(&disk, TRAIL), bytes, "a look wrote");
    match Audit::open(&root(&disk)) {
        Ok(mut audit) => {
            let lines = verified.unwrap_or_else(|error| panic!("opened, and not verified: {error}"));
            let entry = Entry {
                time: Time::EPOCH,
                verb: "fuzz".to_owned(),
                actor: "uid:0".to_owned(),
                correlation: None,
                outcome: "done".to_owned(),
                detail: serde_json::Value::Null,
            };
            audit.append(&entry).expect("goes on");
            assert_eq!(Audit::verify(&root(&disk)).expect("a good trail"), lines + 1);
            lines > 0
        }
        Err(_damaged) => {
            assert_eq!(content(&disk, TRAIL), bytes, "a damaged trail was touched");
            assert!(verified.is_err());
            false
        }
    }
}

fn cache(bytes: &[u8]) -> bool {
    let disk = disk_with(&[(layout::cache_files().as_str(), bytes)]);
    !StatCache::load(&root(&disk)).is_empty()
}

/// The list of manifests that failed here: what is read is written as the same bytes.
fn pins(bytes: &[u8]) -> bool {
    let disk = disk_with(&[(layout::pins().as_str(), bytes)]);
    let Ok(pinned) = root(&disk).pinned() else { return false };
    root(&disk).write_pinned(&pinned).expect("writes");
    assert_eq!(content(&disk, layout::pins().as_str()), bytes);
    true
}
