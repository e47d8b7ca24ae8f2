//! The log and the trail on a simulated disk whose power is cut everywhere, and on the real one.

#![expect(clippy::expect_used, clippy::panic, reason = "the helpers of tests may panic, as tests do")]

mod audit;
mod real;
mod wal_crash;
mod wal_cut;
mod wal_flip;

use std::collections::BTreeMap;
use std::sync::Arc;

use autonomy_schema::{Mode, Name, RelPath, Time};
use autonomy_stateroot::disk::{Disk as _, SyncTarget};
use autonomy_stateroot::sim::Seen;
use autonomy_stateroot::{SimDisk, StateRoot, durable};
use autonomy_telemetry::record::Stored;
use autonomy_telemetry::wal::{self, Recovery};
use autonomy_telemetry::{Priority, Record, Wal, WalError};
use serde_json::json;

const LOG: &str = "telemetry/edged/telemetry.wal";
const SAFE: &str = "telemetry/edged/telemetry.safe_seq";
const LOCK: &str = "telemetry/edged/telemetry.lock";

fn role() -> Name {
    "edged".parse().expect("a name")
}

fn root(disk: &SimDisk) -> StateRoot {
    StateRoot::on(Arc::new(disk.clone()))
}

fn open(disk: &SimDisk) -> Result<(Wal, Recovery), WalError> {
    Wal::open(&root(disk), &role())
}

/// A record that can be told from the others.
fn record(number: u64) -> Record {
    Record {
        kind: "test.record".to_owned(),
        priority: Priority::Rest,
        time: Time::from_unix(1_795_165_200),
        body: json!({ "number": number }),
    }
}

/// A disk with these files, all of them durable.
fn disk_with(files: &[(&str, &[u8])]) -> SimDisk {
    let disk = SimDisk::new();
    for (path, bytes) in files {
        let path: RelPath = path.parse().expect("a path");
        durable::ensure_dir(&disk, &path.parent().expect("a folder")).expect("mkdir");
        durable::write_new(&disk, &path, bytes, Mode::PRIVATE).expect("write");
    }
    disk.sync(SyncTarget::Fs).expect("sync");
    disk
}

fn bytes(disk: &SimDisk, path: &str) -> Vec<u8> {
    match disk.snapshot().remove(path) {
        Some(Seen::File { data, .. }) => data,
        Some(Seen::Dir { .. } | Seen::Symlink(_)) | None => Vec::new(),
    }
}

/// Every record that can be read, in order.
fn stored(disk: &SimDisk) -> Vec<Stored> {
    let mut records = Vec::new();
    wal::read(&root(disk), &role(), &mut |record| records.push(record.clone())).expect("reads");
    records
}

/// The `number` of every record that can be read; the chain and the order are checked by the reader.
fn numbers(disk: &SimDisk) -> Vec<u64> {
    stored(disk).iter().filter_map(|record| record.body["number"].as_u64()).collect()
}

/// Everything on the disk save the lock, which even a refusal may create.
fn tree(disk: &SimDisk) -> BTreeMap<String, Seen> {
    let mut tree = disk.snapshot();
    tree.remove(LOCK);
    tree
}

/// The bytes of a log with the records `1..=count`, and where each of its frames ends.
fn log(count: u64) -> (Vec<u8>, Vec<usize>) {
    let disk = SimDisk::new();
    let (mut wal, _) = open(&disk).expect("opens");
    let mut ends = Vec::new();
    for number in 1..=count {
        wal.append(record(number)).expect("appends");
        ends.push(bytes(&disk, LOG).len());
    }
    (bytes(&disk, LOG), ends)
}
