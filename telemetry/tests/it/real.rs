//! On the real file system: the bytes that the pages in `docs/formats/` draw, and the modes of the files.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use autonomy_schema::Time;
use autonomy_stateroot::{RealDisk, StateRoot};
use autonomy_telemetry::{Audit, Entry, Priority, Record, Wal};
use serde_json::json;

use crate::role;

#[test]
fn the_bytes_are_those_of_the_format_pages() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = StateRoot::on(Arc::new(RealDisk::open(folder.path()).expect("opens")));
    let (mut wal, _) = Wal::open(&root, &role()).expect("opens");
    let time = "2026-11-20T09:00:00Z".parse::<Time>().expect("a time");
    for phase in ["intent", "staged"] {
        let body = json!({ "phase": phase });
        let record = Record { kind: "apply.phase".to_owned(), priority: Priority::Lifecycle, time, body };
        wal.append(record).expect("appends");
    }
    wal.checkpoint().expect("checkpoint");
    let mut audit = Audit::open(&root).expect("opens");
    let entry = Entry {
        time,
        verb: "apply".to_owned(),
        actor: "uid:0".to_owned(),
        correlation: None,
        outcome: "started".to_owned(),
        detail: json!({}),
    };
    audit.append(&entry).expect("appends");
    audit.append(&Entry { outcome: "done".to_owned(), ..entry }).expect("appends");

    let file = |name: &str| std::fs::read(folder.path().join(name)).expect("reads");
    let log = file("telemetry/edged/telemetry.wal");
    let page = include_str!("../../../docs/formats/wal.md");
    let mut at = 0;
    let mut frames = 0;
    while at < log.len() {
        let length = u32::from_be_bytes(log[at..at + 4].try_into().expect("four bytes")) as usize;
        let line = std::str::from_utf8(&log[at + 4..at + 4 + length]).expect("UTF-8");
        let drawn = format!("{length:08x} {line}");
        assert!(page.contains(&drawn), "docs/formats/wal.md should draw\n{drawn}");
        at += 4 + length;
        frames += 1;
    }
    assert_eq!((at, frames), (log.len(), 2));
    assert_eq!(file("telemetry/edged/telemetry.safe_seq"), [2, 0, 0, 0, 0, 0, 0, 0]);
    let page = include_str!("../../../docs/formats/audit.md");
    let trail = String::from_utf8(file("audit/audit.jsonl")).expect("UTF-8");
    assert!(page.contains(&trail), "docs/formats/audit.md should draw\n{trail}");
    for name in ["telemetry/edged/telemetry.wal", "telemetry/edged/telemetry.safe_seq", "audit/audit.jsonl"] {
        let mode = std::fs::metadata(folder.path().join(name)).expect("exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}
