//! The power cut at every verb, in every crash image; single verbs failing; two writers of one role.

use autonomy_stateroot::disk::{Disk as _, LockMode, Query as _};
use autonomy_stateroot::{Image, SimDisk};
use autonomy_telemetry::{WalError, inspect, roles};

use crate::{LOCK, LOG, SAFE, bytes, disk_with, log, numbers, open, record, role, root};

/// Opens, appends, checkpoints, opens again, appends. Gives the numbers of the acknowledged records.
fn story(disk: &SimDisk, from: u64) -> (Vec<u64>, Result<(), WalError>) {
    let mut acknowledged = Vec::new();
    let mut tell = || {
        let (mut wal, _) = open(disk)?;
        wal.append(record(from))?;
        acknowledged.push(from);
        wal.append_all(vec![record(from + 1), record(from + 2)])?;
        acknowledged.extend([from + 1, from + 2]);
        wal.checkpoint()?;
        wal.append(record(from + 3))?;
        acknowledged.push(from + 3);
        drop(wal);
        let (mut wal, recovery) = open(disk)?;
        assert_eq!(recovery.torn_bytes, 0);
        wal.append(record(from + 4))?;
        acknowledged.push(from + 4);
        wal.checkpoint()?;
        Ok(())
    };
    let told = tell();
    (acknowledged, told)
}

/// What is read begins with `acknowledged`; at most the records of one unacknowledged append follow.
fn holds(disk: &SimDisk, acknowledged: &[u64], what: &str) {
    let found = numbers(disk);
    assert!(found.starts_with(acknowledged), "{what}: acknowledged {acknowledged:?}, found {found:?}");
    assert!(found.len() <= acknowledged.len() + 2, "{what}: acknowledged {acknowledged:?}, found {found:?}");
}

#[test]
fn a_crash_at_every_verb_loses_no_acknowledged_record() {
    let calm = SimDisk::new();
    let (all, told) = story(&calm, 1);
    told.expect("the story without a crash");
    assert_eq!(all, [1, 2, 3, 4, 5]);
    let verbs = calm.verbs();
    assert!(verbs > 20, "only {verbs} verbs");
    for stop in 1..=verbs {
        let disk = SimDisk::new();
        disk.stop_at(stop);
        let (acknowledged, told) = story(&disk, 1);
        assert!(told.is_err(), "verb {stop} was not reached");
        for image in Image::EACH {
            let what = format!("stopped at verb {stop}, {image:?}");
            crash_again(&disk.crash(image), &acknowledged, &what);
        }
    }
}

/// The recovery is cut at every verb too; then it is left alone and must end well.
fn crash_again(crashed: &SimDisk, acknowledged: &[u64], what: &str) {
    for stop in 1.. {
        let again = crashed.crash(Image::All);
        again.stop_at(stop);
        let (more, told) = story(&again, 100);
        if told.is_ok() {
            let found = numbers(&again);
            assert!(found.starts_with(acknowledged), "{what}: {found:?}");
            assert!(found.ends_with(&[100, 101, 102, 103, 104]), "{what}: {found:?}");
            assert_eq!(bytes(&again, SAFE), (found.len() as u64).to_le_bytes(), "{what}");
            return;
        }
        for image in Image::EACH {
            let last = again.crash(image);
            let what = format!("{what}, then at verb {stop}, {image:?}");
            let (_, recovery) = open(&last).unwrap_or_else(|error| panic!("{what}: {error:?}"));
            let found = numbers(&last);
            assert_eq!(recovery.last_seq, found.len() as u64, "{what}");
            assert!(found.starts_with(acknowledged), "{what}: {found:?}");
            let fresh: Vec<u64> = found.iter().copied().filter(|number| *number >= 100).collect();
            assert!(fresh.starts_with(&more), "{what}: acknowledged {more:?}, found {found:?}");
        }
    }
}

#[test]
fn a_single_failing_verb_loses_no_acknowledged_record_and_is_not_fatal_for_ever() {
    let calm = SimDisk::new();
    let (_, told) = story(&calm, 1);
    told.expect("the story without a failure");
    for errno in [28, 5] {
        for failing in 1..=calm.verbs() {
            let disk = SimDisk::new();
            disk.fail_at(failing, errno);
            let (acknowledged, told) = story(&disk, 1);
            let what = format!("errno {errno} at verb {failing}");
            assert!(told.is_err(), "{what}: not reached");
            holds(&disk, &acknowledged, &what);
            // A new start of the machine: what was synced is there, and the log works.
            let restarted = disk.crash(Image::Synced);
            holds(&restarted, &acknowledged, &what);
            let (_, told) = story(&restarted, 100);
            told.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        }
    }
}

/// Another process of the role was killed (the machine went on) between its verbs and its syncs.
#[test]
fn what_a_killed_process_left_unsynced_is_synced_before_it_is_built_on() {
    let (whole, ends) = log(2);
    let disk = disk_with(&[(LOG, &whole[..ends[0]])]);
    disk.write_at(&LOG.parse().expect("a path"), ends[0] as u64, &whole[ends[0]..]).expect("writes");
    open(&disk).expect("opens").0.checkpoint().expect("checkpoint");
    let crashed = disk.crash(Image::Synced);
    assert_eq!(open(&crashed).expect("opens after the crash").1.last_seq, 2);

    let disk = SimDisk::new();
    for folder in ["telemetry", "telemetry/edged"] {
        disk.mkdir(&folder.parse().expect("a path")).expect("mkdir");
    }
    disk.set_len(&LOG.parse().expect("a path"), 0).expect("creates");
    open(&disk).expect("opens").0.append(record(1)).expect("appends");
    assert_eq!(numbers(&disk.crash(Image::Synced)), [1]);
}

#[test]
fn a_full_disk_is_an_error_and_the_same_handle_works_once_there_is_room() {
    let disk = SimDisk::new();
    let (mut wal, _) = open(&disk).expect("opens");
    wal.append(record(1)).expect("appends");
    disk.set_free(0);
    let mut large = record(2);
    large.body = serde_json::json!("x".repeat(100_000));
    let error = wal.append(large).expect_err("the disk is full");
    assert!(matches!(&error, WalError::Disk(disk) if disk.is_no_space()), "{error:?}");
    disk.set_free(1 << 20);
    assert_eq!(wal.append(record(2)).expect("appends"), 2);
    assert_eq!(numbers(&disk), [1, 2]);
}

#[test]
fn after_a_failed_sync_the_handle_writes_no_more() {
    let disk = SimDisk::new();
    let (mut wal, _) = open(&disk).expect("opens");
    wal.append(record(1)).expect("appends");
    // The next append is a write, then a sync.
    disk.fail_at(disk.verbs() + 2, 5);
    assert!(matches!(wal.append(record(2)), Err(WalError::Disk(_))));
    let verbs = disk.verbs();
    assert!(matches!(wal.append(record(3)), Err(WalError::Distrusted(_))));
    assert!(matches!(wal.checkpoint(), Err(WalError::Distrusted(_))));
    assert_eq!(disk.verbs(), verbs, "it must not touch the disk");
}

#[test]
fn a_group_is_one_write_and_one_sync() {
    let disk = SimDisk::new();
    let (mut wal, _) = open(&disk).expect("opens");
    let before = disk.verbs();
    assert_eq!(wal.append_all((1..=50).map(record).collect()).expect("appends"), 50);
    assert_eq!(disk.verbs() - before, 2);
    assert_eq!(wal.append_all(Vec::new()).expect("nothing to do"), 50);
    assert_eq!(disk.verbs() - before, 2);
}

#[test]
fn two_writers_of_one_role_take_turns() {
    let disk = SimDisk::new();
    let (mut one, _) = open(&disk).expect("opens");
    let (mut two, _) = open(&disk).expect("opens");
    assert_eq!(one.append(record(1)).expect("appends"), 1);
    assert_eq!(two.append(record(2)).expect("appends"), 2);
    assert_eq!(two.append(record(3)).expect("appends"), 3);
    assert_eq!(one.append(record(4)).expect("appends"), 4);
    two.checkpoint().expect("checkpoint");
    assert_eq!(bytes(&disk, SAFE), 4_u64.to_le_bytes());
    assert_eq!(numbers(&disk), [1, 2, 3, 4]);
    // A handle that saw less does not lower the checkpoint.
    one.checkpoint().expect("checkpoint");
    assert_eq!(bytes(&disk, SAFE), 4_u64.to_le_bytes());
}

#[test]
fn a_lock_that_is_kept_is_an_error_with_a_name() {
    let disk = SimDisk::new();
    let (mut wal, _) = open(&disk).expect("opens");
    let kept = disk.try_lock(&LOCK.parse().expect("a path"), LockMode::Exclusive).expect("locks").expect("free");
    let error = wal.append(record(1)).expect_err("locked");
    assert_eq!(error.to_string(), format!("another process keeps the lock `{LOCK}`"));
    assert_eq!(error.to_reason().code.exit(), 6);
    drop(kept);
    assert_eq!(wal.append(record(1)).expect("appends"), 1);
}

#[test]
fn roles_are_listed_and_a_log_that_is_absent_is_empty() {
    let disk = SimDisk::new();
    assert_eq!(roles(&root(&disk)).expect("lists"), []);
    let report = inspect(&root(&disk), &role()).expect("inspects");
    assert_eq!((report.last_seq, report.torn_bytes, report.cause), (0, 0, None));
    open(&disk).expect("opens");
    assert_eq!(roles(&root(&disk)).expect("lists"), [role()]);
    assert_eq!(bytes(&disk, LOG), Vec::<u8>::new());
}
