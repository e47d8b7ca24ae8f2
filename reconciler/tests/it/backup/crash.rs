//! The power cut at every counted verb of a restore, in every image that the loss may leave.

use std::collections::BTreeSet;

use autonomy_reconciler::Archive;
use autonomy_schema::floors::Floors;
use autonomy_schema::{Blake3, Code};
use autonomy_stateroot::{Image, SimDisk};
use autonomy_telemetry::Audit;

use super::{BAD, GOOD, Yard, changed, current, is_whole, lose, make, node, restore, same, serial, spoil};
use crate::crash::{Old, check_whole, digest};
use crate::fixture::state_root;

/// Cuts a restore at every verb of it, in every image, and runs it again.
fn cut_everywhere(before: &SimDisk, archive: &Archive, end: &SimDisk, floors: Option<&Floors>) {
    let whole = before.crash(Image::All);
    let start = whole.verbs();
    restore(&whole, archive).expect("restores");
    let verbs = whole.verbs() - start;
    assert!(verbs > 20, "a restore of {verbs} verbs tests nothing");
    let end_floors = state_root(end).floors().expect("floors").expect("present");
    let (mut seen, mut ends) = (BTreeSet::new(), BTreeSet::new());
    for cut in 1..=verbs {
        for image in Image::EACH {
            let disk = before.crash(Image::All);
            disk.stop_at(disk.verbs() + cut);
            restore(&disk, archive).ok();
            let broken = disk.crash(image);
            if !seen.insert(digest(&broken)) {
                continue;
            }
            let place = format!("cut at verb {cut} of {verbs}, image {image:?}");
            let root = state_root(&broken);
            if let Some(floors) = floors {
                let now = root.floors().unwrap_or_else(|reasons| panic!("{place}: {reasons}")).expect("floors");
                assert_eq!(now.merged(floors), now, "{place}: floors fell");
            }
            restore(&broken, archive).unwrap_or_else(|reasons| panic!("{place}: again: {reasons}"));
            // What was moved there may be there twice, when only one of two folders was synced.
            let set_aside = |path: &String| path.starts_with("quarantine/");
            let differences = changed(&node(end), &node(&broken)).into_iter().filter(|path| !set_aside(path));
            assert_eq!(differences.collect::<Vec<_>>(), Vec::<String>::new(), "{place}");
            // The ends differ in their logs alone; what is asked of the rest is asked once.
            Audit::verify(&root).unwrap_or_else(|error| panic!("{place}: {error}"));
            if ends.insert(Blake3::of(format!("{:?}", node(&broken)).as_bytes())) {
                is_whole(&broken, archive, &end_floors, &place);
            }
        }
    }
}

#[test]
fn restore_to_an_empty_disk_cut_at_every_verb_comes_to_the_same_end() {
    let yard = Yard::running();
    yard.apply(2, GOOD).expect("release 2");
    let archive = yard.backup("two");
    cut_everywhere(&SimDisk::new(), &archive, &yard.disk, None);
}

#[test]
fn restore_after_a_failed_release_cut_at_every_verb_comes_to_the_same_end() {
    let yard = Yard::running();
    yard.apply(2, BAD).expect_err("fails and returns");
    let archive = yard.backup("went-back");
    cut_everywhere(&SimDisk::new(), &archive, &yard.disk, None);
}

#[test]
fn restore_of_a_damaged_node_cut_at_every_verb_comes_to_the_same_end() {
    let yard = Yard::running();
    yard.apply(2, GOOD).expect("release 2");
    let archive = yard.backup("two");
    let broken = yard.disk.crash(Image::All);
    let active = current(&state_root(&broken));
    spoil(&broken, &format!("generations/{active}/artifacts/agent"));
    for path in ["lkg", "identity/attest.key", "trust/root.json", "journal/apply.json", "outbox"] {
        lose(&broken, path);
    }
    let floors = state_root(&broken).floors().expect("floors");
    let end = broken.crash(Image::All);
    restore(&end, &archive).expect("restores");
    cut_everywhere(&broken, &archive, &end, floors.as_ref());
}

#[test]
fn restore_without_floors_cut_at_every_verb_ends_with_the_highest() {
    let yard = Yard::running();
    let archive = yard.backup("one");
    yard.apply(2, GOOD).expect("release 2");
    let broken = yard.disk.crash(Image::All);
    lose(&broken, "trust/floors.json");
    lose(&broken, "identity");
    lose(&broken, "objects");
    let end = broken.crash(Image::All);
    restore(&end, &archive).expect("restores");
    assert_eq!(serial(&state_root(&end)), 2);
    cut_everywhere(&broken, &archive, &end, None);
}

#[test]
fn a_backup_raising_floors_on_a_healthy_node_cut_at_every_verb_leaves_it_whole() {
    let yard = Yard::running();
    let before = yard.disk.crash(Image::All);
    yard.apply(2, GOOD).expect("release 2");
    let archive = yard.backup("two");
    let root = state_root(&before);
    let old = Old {
        current: root.current().expect("current"),
        floors: root.floors().expect("floors").expect("present"),
        goes_back: true,
    };
    let whole = before.crash(Image::All);
    let start = whole.verbs();
    restore(&whole, &archive).expect("restores");
    for cut in 1..=whole.verbs() - start {
        for image in Image::EACH {
            let disk = before.crash(Image::All);
            disk.stop_at(disk.verbs() + cut);
            restore(&disk, &archive).ok();
            // Without a second run: whoever pulls the plug has a node that runs.
            check_whole(&state_root(&disk.crash(image)), &old, &format!("cut at verb {cut}, image {image:?}"));
        }
    }
}

#[test]
fn a_restore_that_was_cut_off_is_not_mixed_with_the_backup_of_another_node() {
    let (yard, other) = (Yard::running(), Yard::running());
    let (ours, theirs) = (yard.backup("ours"), other.backup("theirs"));
    let mut refused = 0;
    for cut in 1.. {
        let disk = SimDisk::new();
        disk.stop_at(cut);
        let ended = restore(&disk, &ours).is_ok();
        let broken = disk.crash(Image::All);
        match restore(&broken, &theirs) {
            Ok(_) => same(&other.disk, &broken, &format!("cut at verb {cut}")),
            Err(reasons) if ended => assert!(reasons.has(Code::RootForked), "{reasons}"),
            Err(reasons) => {
                let expected = reasons.has(Code::ScopeMismatch) || reasons.has(Code::RootForked);
                assert!(expected, "cut at verb {cut}: {reasons}");
                refused += 1;
            }
        }
        if ended {
            break;
        }
    }
    assert!(refused > 10, "{refused}");
}

#[test]
fn restore_after_an_init_that_was_cut_off_is_the_node_of_the_backup() {
    let yard = Yard::running();
    let archive = yard.backup("one");
    for cut in 1.. {
        let disk = SimDisk::new();
        disk.stop_at(cut);
        yard.fleet.init(&disk).ok();
        let broken = disk.crash(Image::All);
        if state_root(&broken).is_initialized().expect("looks") {
            // From here on it is a node, with an attest key of its own.
            assert!(cut > 10, "{cut}");
            break;
        }
        restore(&broken, &archive).unwrap_or_else(|reasons| panic!("cut at verb {cut}: {reasons}"));
        same(&yard.disk, &broken, &format!("init cut at verb {cut}"));
    }
}

/// Cuts the apply of release 2 at a verb; gives the node as the power loss left it.
fn cut_apply(yard: &Yard, cut: u64) -> (bool, SimDisk) {
    let disk = yard.disk.crash(Image::All);
    disk.stop_at(disk.verbs() + cut);
    let ended = yard.apply_on(&disk, 2, GOOD).is_ok();
    (ended, disk.crash(Image::All))
}

#[test]
fn an_apply_that_was_cut_off_is_finished_or_undone_before_backup_and_restore() {
    let yard = Yard::running();
    let one = yard.backup("one");
    for cut in (1..).step_by(3) {
        let (ended, broken) = cut_apply(&yard, cut);
        if ended {
            assert!(cut > 30, "{cut}");
            break;
        }
        let place = format!("apply cut at verb {cut}");
        let backed_up = broken.crash(Image::All);
        make(&backed_up, &yard.file("cut")).unwrap_or_else(|reasons| panic!("{place}: {reasons}"));
        let archive = Archive::open(&yard.file("cut"), &|_, _| {}).expect("archive");
        let fresh = SimDisk::new();
        restore(&fresh, &archive).unwrap_or_else(|reasons| panic!("{place}: {reasons}"));
        same(&backed_up, &fresh, &place);
        // Restored with floors lost in the same accident: what could not be finished without them is finished after.
        lose(&broken, "trust/floors.json");
        restore(&broken, &one).unwrap_or_else(|reasons| panic!("{place}: without floors: {reasons}"));
        let root = state_root(&broken);
        let journal = root.journal().expect("journal").expect("present");
        let waits = root.current().expect("current").as_ref() != Some(&journal.generation);
        assert!(journal.phase.is_final() || waits, "{place}: {:?}", journal.phase);
        yard.apply_on(&broken, 2, GOOD).unwrap_or_else(|reasons| panic!("{place}: goes on: {reasons}"));
        assert_eq!(serial(&root), 2, "{place}");
    }
}

#[test]
fn what_a_killed_restore_left_unsynced_is_durable_after_the_next() {
    for yard in [Yard::bare(), Yard::running()] {
        let archive = yard.backup("node");
        let mut ended = 0;
        for cut in 1.. {
            let disk = SimDisk::new();
            disk.stop_at(cut);
            if restore(&disk, &archive).is_ok() {
                break;
            }
            // The process died, the machine did not: what it wrote is there, and nobody knows whether it was synced.
            disk.stop_at(u64::MAX);
            // A sync that failed is not trusted by the same handle of the disk, so those cuts end here.
            if restore(&disk, &archive).is_err() {
                continue;
            }
            ended += 1;
            for image in Image::EACH {
                same(&yard.disk, &disk.crash(image), &format!("killed at verb {cut}, image {image:?}"));
            }
        }
        assert!(ended > 40, "{ended}");
    }
}
