//! The ledger on a real disk, and on one that loses its power.

use std::path::Path;
use std::sync::Arc;

use autonomy_relay::{Change, Part, Row, RowKey, RowState};
use autonomy_schema::{Blake3, Code};
use autonomy_stateroot::{Image, RealDisk, SimDisk, StateRoot};
use proptest::prelude::*;

use super::{Filter, LEDGER, Ledger, LedgerError, OpenError, Sent};

fn root(folder: &Path) -> StateRoot {
    StateRoot::on(Arc::new(RealDisk::open(folder).expect("folder")))
}

fn key(manifest: &str, part: Option<&str>, peer: &str) -> RowKey {
    let part = part.map_or(Part::Manifest, |segment| Part::Segment(Blake3::of(segment.as_bytes())));
    RowKey { manifest: Blake3::of(manifest.as_bytes()), part, peer: peer.parse().expect("name") }
}

fn change(key: &RowKey, state: RowState, attempts: u64) -> Change {
    let last_error = (state == RowState::Failed).then(|| "no answer".to_owned());
    Change { key: key.clone(), row: Row { state, attempts, last_error } }
}

fn all(ledger: &mut Ledger) -> Vec<(RowKey, Row)> {
    ledger.rows(&Filter::default(), 10_000).expect("reads").rows
}

#[test]
fn what_was_recorded_is_there_after_the_ledger_was_closed_the_set_before_its_segments() {
    let folder = tempfile::tempdir().expect("folder");
    let root = root(folder.path());
    let (set, segment) = (key("m", None, "node-b"), key("m", Some("s"), "node-b"));
    let mut ledger = Ledger::open(&root).expect("opens");
    let changes = [change(&segment, RowState::Failed, 2), change(&set, RowState::Acked, 1)];
    ledger.record(&changes, Some(Sent { day: 7, bytes: 10 })).expect("records");
    ledger.record(&[], Some(Sent { day: 7, bytes: 5 })).expect("records");
    drop(ledger);
    let mut ledger = Ledger::open(&root).expect("opens again");
    let failed = Row { state: RowState::Failed, attempts: 2, last_error: Some("no answer".to_owned()) };
    let acked = Row { state: RowState::Acked, attempts: 1, last_error: None };
    assert_eq!(all(&mut ledger), [(set, acked), (segment, failed)]);
    assert_eq!(ledger.sent().expect("reads"), Sent { day: 7, bytes: 15 });
    // Another day begins at nothing.
    ledger.record(&[], Some(Sent { day: 8, bytes: 3 })).expect("records");
    assert_eq!(ledger.sent().expect("reads"), Sent { day: 8, bytes: 3 });
}

#[test]
fn attempts_never_go_down_and_a_dead_letter_stays_dead_and_nothing_of_a_refused_transaction_is_there() {
    let folder = tempfile::tempdir().expect("folder");
    let mut ledger = Ledger::open(&root(folder.path())).expect("opens");
    let (one, two) = (key("m", Some("1"), "node-b"), key("m", Some("2"), "node-b"));
    ledger.record(&[change(&one, RowState::Failed, 3)], None).expect("records");
    let lowered = ledger.record(&[change(&two, RowState::Inflight, 1), change(&one, RowState::Scheduled, 2)], None);
    assert!(matches!(lowered, Err(LedgerError::TakesBack { known: 3, .. })), "{lowered:?}");
    assert_eq!(all(&mut ledger).len(), 1, "the first change of the transaction is not there either");
    ledger.record(&[change(&one, RowState::Deadletter, 3)], None).expect("records");
    let revived = ledger.record(&[change(&one, RowState::Scheduled, 4)], None);
    assert!(matches!(revived, Err(LedgerError::TakesBack { .. })), "{revived:?}");
}

#[test]
fn a_purged_dead_letter_is_shown_no_more_and_its_count_stands() {
    let folder = tempfile::tempdir().expect("folder");
    let root = root(folder.path());
    let mut ledger = Ledger::open(&root).expect("opens");
    let (dead, waits) = (key("m", Some("1"), "node-b"), key("m", Some("2"), "node-c"));
    ledger
        .record(&[change(&dead, RowState::Deadletter, 5), change(&waits, RowState::Failed, 1)], None)
        .expect("records");
    assert_eq!(
        ledger.purge(&Filter { peer: Some("node-c".parse().expect("name")), ..Filter::default() }).expect("purges"),
        0
    );
    assert_eq!(ledger.purge(&Filter::default()).expect("purges"), 1);
    drop(ledger);
    let mut ledger = Ledger::open(&root).expect("opens again");
    assert_eq!(all(&mut ledger).len(), 1);
    let restored = ledger.restore(dead.manifest).expect("restores");
    assert!(restored.iter().any(|(key, row)| *key == dead && row.attempts == 5 && row.state == RowState::Deadletter));
    assert!(ledger.record(&[change(&dead, RowState::Inflight, 1)], None).is_err(), "it is not sent again from nothing");
    let counts = ledger.overview(1).expect("counts").counts;
    assert_eq!((counts.purged, counts.deadletter, counts.failed), (1, 0, 1));
}

#[test]
fn of_a_withdrawn_set_what_arrived_and_what_was_never_tried_goes() {
    let folder = tempfile::tempdir().expect("folder");
    let mut ledger = Ledger::open(&root(folder.path())).expect("opens");
    let of = |part: &str| key("old", Some(part), "node-b");
    let other = key("new", None, "node-b");
    let changes = [
        change(&of("acked"), RowState::Acked, 1),
        change(&of("never"), RowState::Scheduled, 0),
        change(&of("failed"), RowState::Failed, 2),
        change(&of("dead"), RowState::Deadletter, 5),
        change(&other, RowState::Acked, 1),
    ];
    ledger.record(&changes, None).expect("records");
    ledger.withdraw(of("").manifest).expect("withdraws");
    let mut left: Vec<RowKey> = all(&mut ledger).into_iter().map(|(key, _)| key).collect();
    left.sort();
    let mut wanted = [of("failed"), of("dead"), other.clone()];
    wanted.sort();
    assert_eq!(left, wanted);
    // Failed attempts of the newest 64 are remembered; of older ones the dead letters alone, and it is counted.
    for at in 0..64 {
        ledger.withdraw(Blake3::of(format!("{at}").as_bytes())).expect("withdraws");
    }
    let mut wanted = [of("dead"), other];
    wanted.sort();
    assert_eq!(all(&mut ledger).into_iter().map(|(key, _)| key).collect::<Vec<_>>(), wanted);
    assert_eq!(ledger.overview(1).expect("counts").counts.dropped, 1);
}

#[test]
fn a_set_that_is_sent_loses_no_dead_letter_and_of_withdrawn_ones_the_oldest_of_too_many_go() {
    let folder = tempfile::tempdir().expect("folder");
    let root = root(folder.path());
    let mut ledger = Ledger::open(&root).expect("opens");
    // Two peers, and as many segments as one answer may name: more than go of withdrawn sets.
    let die = |ledger: &mut Ledger, of: &str| {
        let mut dead = Vec::new();
        for peer in ["node-b", "node-c"] {
            dead.push(change(&key(of, None, peer), RowState::Deadletter, 5));
            dead.extend((0..16_384).map(|at| change(&key(of, Some(&format!("{at}")), peer), RowState::Deadletter, 5)));
        }
        ledger.record(&dead, None).expect("records");
        dead.len()
    };
    let count = die(&mut ledger, "m");
    let manifest = Blake3::of(b"m");
    drop(ledger);
    let mut ledger = Ledger::open(&root).expect("opens again");
    assert_eq!(ledger.restore(manifest).expect("restores").len(), count);
    let counts = ledger.overview(1).expect("counts").counts;
    assert_eq!((counts.deadletter, counts.dropped), (count as u64, 0));
    let few = ledger.rows(&Filter::default(), 10).expect("reads");
    assert_eq!((few.rows.len(), few.truncated), (10, count as u64 - 10));
    // Withdrawn, those above the limit go, and the set itself last: it is still known not to be sent.
    ledger.withdraw(manifest).expect("withdraws");
    let kept = ledger.restore(manifest).expect("restores");
    assert_eq!(kept.len() as u64, super::retain::MAX_DEAD);
    assert_eq!(kept.iter().filter(|(key, _)| key.part == Part::Manifest).count(), 2);
    assert_eq!(ledger.overview(1).expect("counts").counts.dropped, 2);
    // Once it is sent again, it loses nothing to another one.
    ledger.begin(manifest).expect("begins");
    die(&mut ledger, "other");
    ledger.withdraw(Blake3::of(b"other")).expect("withdraws");
    assert_eq!(ledger.restore(manifest).expect("restores"), kept);
}

#[test]
fn a_withdrawn_set_that_begins_again_keeps_its_counts_however_many_are_withdrawn_after_it() {
    let folder = tempfile::tempdir().expect("folder");
    let mut ledger = Ledger::open(&root(folder.path())).expect("opens");
    let (failed, dead) = (key("m", Some("1"), "node-b"), key("m", Some("2"), "node-b"));
    ledger
        .record(&[change(&failed, RowState::Failed, 3), change(&dead, RowState::Deadletter, 5)], None)
        .expect("records");
    ledger.withdraw(failed.manifest).expect("withdraws");
    ledger.begin(failed.manifest).expect("begins");
    let before = ledger.restore(failed.manifest).expect("restores");
    for at in 0..65 {
        ledger.withdraw(Blake3::of(format!("{at}").as_bytes())).expect("withdraws");
    }
    assert_eq!(ledger.restore(failed.manifest).expect("restores"), before);
    assert_eq!(before.len(), 2);
}

#[test]
fn what_the_machine_gets_and_people_see_does_not_grow_with_what_arrived_and_the_counts_stay_right() {
    let folder = tempfile::tempdir().expect("folder");
    let root = root(folder.path());
    let mut ledger = Ledger::open(&root).expect("opens");
    let of = |part: &str| key("m", Some(part), "node-b");
    let mut changes: Vec<Change> = (0..300).map(|at| change(&of(&format!("{at}")), RowState::Inflight, 1)).collect();
    changes.push(change(&key("m", None, "node-b"), RowState::Acked, 1));
    ledger.record(&changes, None).expect("records");
    let arrived: Vec<Change> = (0..290).map(|at| change(&of(&format!("{at}")), RowState::Acked, 1)).collect();
    ledger.record(&arrived, None).expect("records");
    ledger
        .record(&[change(&of("290"), RowState::Failed, 1), change(&of("291"), RowState::Deadletter, 1)], None)
        .expect("records");
    drop(ledger);
    let mut ledger = Ledger::open(&root).expect("opens again");
    // The set itself, and the ten segments that did not arrive.
    let restored = ledger.restore(of("").manifest).expect("restores");
    assert_eq!(restored.len(), 11);
    assert!(
        restored.iter().all(|(key, row)| key.part == Part::Manifest || row.state != RowState::Acked),
        "{restored:?}"
    );
    let overview = ledger.overview(12).expect("counts");
    let counts = overview.counts;
    assert_eq!((counts.inflight, counts.acked, counts.failed, counts.deadletter), (8, 291, 1, 1));
    assert_eq!((overview.rows.len(), overview.truncated), (12, 289));
    assert!(overview.rows[..10].iter().all(|(_, row)| row.state != RowState::Acked), "{:?}", overview.rows);
    ledger.withdraw(of("").manifest).expect("withdraws");
    let counts = ledger.overview(0).expect("counts").counts;
    assert_eq!((counts.inflight, counts.acked, counts.failed, counts.deadletter), (8, 0, 1, 1));
}

#[test]
fn rows_of_sets_that_went_while_nobody_ran_are_withdrawn_once() {
    let folder = tempfile::tempdir().expect("folder");
    let mut ledger = Ledger::open(&root(folder.path())).expect("opens");
    let (stays, goes) = (key("stays", None, "node-b"), key("goes", None, "node-b"));
    let dead = key("goes", Some("1"), "node-b");
    let changes =
        [change(&stays, RowState::Acked, 1), change(&goes, RowState::Acked, 1), change(&dead, RowState::Deadletter, 5)];
    ledger.record(&changes, None).expect("records");
    for _ in 0..2 {
        ledger.withdraw_others(&[stays.manifest].into()).expect("withdraws");
        let mut left: Vec<RowKey> = all(&mut ledger).into_iter().map(|(key, _)| key).collect();
        left.sort();
        let mut wanted = [stays.clone(), dead.clone()];
        wanted.sort();
        assert_eq!(left, wanted);
    }
}

#[test]
fn fi_disk_full_at_any_verb_of_a_record_the_ledger_goes_on_once_there_is_room() {
    const ENOSPC: i32 = 28;
    let segment = |at: u64| key("m", Some(&format!("{at}")), "node-b");
    let counted = |ledger: &mut Ledger| {
        for at in 0..3 {
            ledger.record(&[change(&segment(at), RowState::Inflight, 1)], None)?;
        }
        Ok::<_, LedgerError>(())
    };
    let fresh = || {
        let disk = SimDisk::new();
        let root = StateRoot::on(Arc::new(disk.clone()));
        (disk, Ledger::open(&root).expect("opens"))
    };
    let (disk, mut ledger) = fresh();
    let before = disk.verbs();
    counted(&mut ledger).expect("records");
    let verbs = disk.verbs() - before;
    assert!(verbs > 6, "{verbs}");
    let (mut failed, mut unsynced) = (0, 0);
    for k in 1..=verbs {
        let (disk, mut ledger) = fresh();
        disk.fail_at(disk.verbs() + k, ENOSPC);
        if let Err(error) = counted(&mut ledger) {
            failed += 1;
            // After a failed sync nothing of this process is trusted: the next one goes on.
            if let LedgerError::Unsynced(_) = error {
                unsynced += 1;
                drop(ledger);
                let disk = disk.crash(Image::All);
                ledger = Ledger::open(&StateRoot::on(Arc::new(disk))).expect("opens in another process");
            } else {
                assert!(matches!(error, LedgerError::Disk(_)), "verb {k}: {error}");
            }
            // The same again, as the driver does it: nothing is lost, and nothing counted twice.
            counted(&mut ledger).unwrap_or_else(|error| panic!("verb {k}: {error}"));
        }
        let rows = all(&mut ledger);
        assert!(rows.len() == 3 && rows.iter().all(|(_, row)| row.attempts == 1), "verb {k}: {rows:?}");
        assert_eq!(ledger.overview(0).expect("counts").counts.inflight, 3, "verb {k}");
    }
    assert!(unsynced > 0 && failed > unsynced, "{failed} of {verbs} failed, {unsynced} of them syncs");
}

#[test]
fn a_second_owner_is_told_who_the_first_is() {
    let folder = tempfile::tempdir().expect("folder");
    let root = root(folder.path());
    let first = Ledger::open(&root).expect("opens");
    let Err(OpenError::Owned(reason)) = Ledger::open(&root) else { panic!("a second one opens it") };
    assert_eq!(reason.code, Code::Locked);
    assert!(reason.message.contains(&format!("pid {}", std::process::id())), "{reason}");
    drop(first);
    Ledger::open(&root).expect("it is free again");
}

#[test]
fn a_damaged_ledger_is_refused_with_11_and_not_touched() {
    let folder = tempfile::tempdir().expect("folder");
    let root = root(folder.path());
    let mut ledger = Ledger::open(&root).expect("opens");
    let changes: Vec<Change> =
        (0..500).map(|at| change(&key("m", Some(&format!("{at}")), "node-b"), RowState::Failed, 1)).collect();
    ledger.record(&changes, None).expect("records");
    drop(ledger);
    let file = folder.path().join(LEDGER);
    let sound = std::fs::read(&file).expect("reads");
    let used = sound.iter().rposition(|byte| *byte != 0).expect("not empty");
    let mut refused = 0;
    // A flipped byte in each page that is in use; and files that end too soon, or are something else.
    let flipped = (0..used).step_by(509).map(|at| {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x55;
        bytes
    });
    let others = [sound[..sound.len() / 2].to_vec(), sound[..100].to_vec(), b"no ledger".repeat(1_000), vec![0; 8192]];
    for bytes in flipped.chain(others) {
        std::fs::write(&file, &bytes).expect("writes");
        match Ledger::open(&root) {
            // A byte that belongs to nothing that is committed.
            Ok(mut ledger) => assert_eq!(all(&mut ledger).len(), 500),
            Err(OpenError::Damaged(reason)) => {
                refused += 1;
                assert_eq!(reason.code.exit(), 11, "{reason}");
                assert!(reason.message.contains(LEDGER) && reason.remedy.contains("move the file away"), "{reason}");
                assert!(std::fs::read(&file).expect("reads") == bytes, "it was touched: {reason}");
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 10, "only {refused} were found");
}

#[test]
fn a_ledger_of_version_1_is_migrated_with_its_counts_and_one_of_a_later_version_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let root = root(folder.path());
    std::fs::create_dir(folder.path().join("edge")).expect("folder");
    let file = folder.path().join(LEDGER);
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/ledger/version-1.redb");
    std::fs::copy(golden, &file).expect("copies");
    let mut ledger = Ledger::open(&root).expect("opens");
    let rows = all(&mut ledger);
    let counted: Vec<(String, RowState, u64)> =
        rows.iter().map(|(key, row)| (key.peer.to_string(), row.state, row.attempts)).collect();
    let wanted = [
        ("node-b".to_owned(), RowState::Acked, 1),
        ("node-c".to_owned(), RowState::Failed, 3),
        ("node-d".to_owned(), RowState::Deadletter, 5),
    ];
    assert_eq!(counted, wanted);
    assert_eq!(ledger.sent().expect("reads"), Sent { day: 20_786, bytes: 4096 });
    ledger.record(&[change(&key("m", Some("new"), "node-b"), RowState::Deadletter, 5)], None).expect("records");
    drop(ledger);
    assert_eq!(all(&mut Ledger::open(&root).expect("opens again")).len(), 4);
    let database = redb::Database::open(&file).expect("opens");
    let transaction = database.begin_write().expect("begins");
    transaction.open_table(super::META).expect("table").insert("version", 3).expect("inserts");
    transaction.commit().expect("commits");
    drop(database);
    let Err(OpenError::Damaged(reason)) = Ledger::open(&root) else { panic!("it opens") };
    assert_eq!(reason.code, Code::UnknownVersion);
}

proptest! {
    #[test]
    fn keys_and_rows_read_as_they_were_written_and_sort_as_they_do(
        parts in proptest::collection::vec((0_u8..3, 0_u8..4, "[a-z][a-z0-9-]{0,8}[a-z0-9]"), 1..20),
        attempts: u64,
        error in proptest::option::of("\\PC{1,300}"),
    ) {
        let mut keys: Vec<RowKey> = parts.iter().map(|(manifest, part, peer)| {
            let part = (*part > 0).then(|| part.to_string());
            key(&manifest.to_string(), part.as_deref(), peer)
        }).collect();
        let mut bytes: Vec<Vec<u8>> = keys.iter().map(super::codec::key).collect();
        keys.sort();
        bytes.sort();
        let read: Option<Vec<RowKey>> = bytes.iter().map(|key| super::codec::read_key(key)).collect();
        prop_assert_eq!(read, Some(keys));
        let row = Row { state: RowState::Failed, attempts, last_error: error };
        let kept = super::codec::read_row(&super::codec::row(&row, true)).expect("reads");
        prop_assert!(kept.purged && kept.row.attempts == attempts);
        let (read, told) = (kept.row.last_error.unwrap_or_default(), row.last_error.unwrap_or_default());
        prop_assert!(told.starts_with(&read) && (read.len() == told.len() || read.len() > 500), "{} of {}", read.len(), told.len());
    }
}
