//! The power is cut at every counted verb, and every order in which a disk may have kept things is looked at.

use std::sync::Arc;

use autonomy_schema::Mode;
use autonomy_stateroot::sim::Seen;
use autonomy_stateroot::trust::RootBytes;
use autonomy_stateroot::{
    Disk as _, Image, Link, Query as _, SimDisk, StateRoot, SyncTarget, durable, init_on, layout, read_capped,
};

use crate::fixture::{ATTEST, SIGNATURES, node, rel, sim_root, trust_root};

const ENOSPC: i32 = 28;
const EIO: i32 = 5;

pub(crate) fn content(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
    read_capped(disk, &rel(path), 1 << 20).expect("readable")
}

/// Runs `step` on copies of a disk that `start` makes, cut at each verb, and hands every survivor to `check`, with
/// whether the step had come to its end.
pub(crate) fn at_every_verb(
    start: impl Fn() -> SimDisk,
    step: impl Fn(&SimDisk) -> bool,
    check: impl Fn(&SimDisk, bool),
) {
    let whole = start();
    let before = whole.verbs();
    assert!(step(&whole), "the step must work when nobody stops it");
    let after = whole.verbs();
    assert!(after > before, "the step must have verbs to stop at");
    for stop in before + 1..=after + 1 {
        for image in Image::EACH {
            let disk = start();
            disk.stop_at(stop);
            let done = step(&disk);
            assert_eq!(done, stop > after, "stopped at {stop} of {after}");
            check(&disk.crash(image), done);
        }
    }
}

#[test]
fn a_replaced_file_is_the_old_or_the_new_one_whole() {
    let start = || {
        let disk = SimDisk::new();
        durable::ensure_dir(&disk, &rel("a/b")).expect("folder");
        durable::replace(&disk, &rel("a/b/f"), b"old", Mode::PRIVATE).expect("old");
        disk
    };
    let step = |disk: &SimDisk| durable::replace(disk, &rel("a/b/f"), b"the new one", Mode::FILE).is_ok();
    at_every_verb(start, step, |disk, done| {
        let mode = disk.stat(&rel("a/b/f")).expect("stat").expect("there").mode;
        match content(disk, "a/b/f").as_deref() {
            Some(b"old") => assert!(!done && mode == Mode::PRIVATE),
            Some(b"the new one") => assert_eq!(mode, Mode::FILE),
            other => panic!("{other:?} is neither old nor new"),
        }
    });
}

#[test]
fn a_link_points_to_the_old_or_the_new_target() {
    let start = || {
        let disk = SimDisk::new();
        durable::point(&disk, &rel("current"), "generations/1").expect("old");
        disk
    };
    let step = |disk: &SimDisk| durable::point(disk, &rel("current"), "generations/2").is_ok();
    at_every_verb(start, step, |disk, done| {
        let target = disk.read_link(&rel("current")).expect("readable").expect("there");
        assert!(target == "generations/2" || (!done && target == "generations/1"), "{target}");
        assert!(step(disk), "a link that was left beside it does not stand in the way");
    });
}

#[test]
fn folders_that_were_made_are_there() {
    let step = |disk: &SimDisk| durable::ensure_dir(disk, &rel("a/b/c")).is_ok();
    at_every_verb(SimDisk::new, step, |disk, done| {
        assert!(!done || disk.stat(&rel("a/b/c")).expect("stat").is_some());
        assert!(step(disk));
    });
}

#[test]
fn a_state_root_is_whole_or_not_initialized() {
    let init = |disk: &SimDisk| init_on(Arc::new(disk.clone()), &node(), &trust_root(), SIGNATURES, &ATTEST);
    at_every_verb(
        SimDisk::new,
        |disk| init(disk).is_ok(),
        |disk, done| {
            let root = StateRoot::on(Arc::new(disk.clone()));
            if !root.is_initialized().expect("readable") {
                assert!(!done);
                init(disk).expect("init can be run again");
            }
            assert_eq!(root.node().expect("node"), node());
            assert_eq!(root.floors().expect("floors").expect("floors").root_version, 1);
            let pinned = vec![RootBytes { bytes: trust_root(), signatures: SIGNATURES.to_vec() }];
            assert_eq!(root.trust_root_bytes().expect("root"), pinned);
            assert_eq!(content(disk, "identity/attest.key").as_deref(), Some(&b"private"[..]));
            assert_eq!(content(disk, "identity/attest.pub").as_deref(), Some(&b"public"[..]));
            for folder in layout::folders() {
                assert!(disk.stat(&folder).expect("stat").is_some(), "{folder}");
            }
            assert!(disk.stat(&layout::store_lock()).expect("stat").is_some());
        },
    );
}

#[test]
fn one_failing_verb_leaves_the_old_file_and_the_next_try_works() {
    for code in [ENOSPC, EIO] {
        for verb in 1..=6 {
            let disk = SimDisk::new();
            durable::replace(&disk, &rel("f"), b"old", Mode::PRIVATE).expect("old");
            let before = disk.verbs();
            disk.fail_at(before + verb, code);
            let error = durable::replace(&disk, &rel("f"), b"new", Mode::PRIVATE).expect_err("fails");
            assert_eq!(error.is_no_space(), code == ENOSPC);
            let read = content(&disk, "f");
            // The last verb is the sync of the folder: the new file is there, only not surely.
            assert_eq!(read.as_deref(), Some(if verb == 6 { &b"new"[..] } else { &b"old"[..] }), "verb {verb}");
            assert!(verb == 6 || disk.snapshot().len() == 1, "nothing is left beside it: {:?}", disk.snapshot());
            let again = durable::replace(&disk, &rel("f"), b"newer", Mode::PRIVATE);
            // A folder whose sync failed is not trusted again.
            assert_eq!(again.is_ok(), verb != 6, "verb {verb}");
        }
    }
}

#[test]
fn an_unsynced_rename_is_lost_or_leaves_an_empty_file() {
    let disk = SimDisk::new();
    durable::replace(&disk, &rel("f"), b"old", Mode::PRIVATE).expect("old");
    disk.set_len(&rel("g"), 0).expect("made");
    disk.write_at(&rel("g"), 0, b"new").expect("written");
    disk.rename(&rel("g"), &rel("f")).expect("renamed");
    let left = |image| content(&disk.crash(image), "f");
    assert_eq!(left(Image::Synced).as_deref(), Some(&b"old"[..]));
    assert_eq!(left(Image::MetadataFirst).as_deref(), Some(&b""[..]), "the zero-length file of ext4 without a sync");
    assert_eq!(left(Image::All).as_deref(), Some(&b"new"[..]));
    assert_eq!(left(Image::DataFirst).as_deref(), Some(&b"old"[..]));
    disk.sync(SyncTarget::File(&rel("f"))).expect("synced");
    assert_eq!(left(Image::Synced).as_deref(), Some(&b"old"[..]), "the folder still has the old entry");
    assert_eq!(left(Image::MetadataFirst).as_deref(), Some(&b"new"[..]));
    disk.sync(SyncTarget::Dir(None)).expect("synced");
    assert_eq!(left(Image::Synced).as_deref(), Some(&b"new"[..]));
}

#[test]
fn what_is_not_synced_by_itself_is_born_empty() {
    let disk = SimDisk::new();
    disk.mkdir(&rel("d")).expect("made");
    disk.set_len(&rel("d/f"), 3).expect("made");
    disk.set_meta(&rel("d/f"), Mode::FILE).expect("changed");
    disk.link(Link::Symbolic { target: "f", at: &rel("d/l") }).expect("linked");
    disk.sync(SyncTarget::Dir(None)).expect("synced");
    assert_eq!(disk.crash(Image::Synced).snapshot().len(), 1, "the folder is there, its entries are not");
    disk.sync(SyncTarget::Dir(Some(&rel("d")))).expect("synced");
    let survived = disk.crash(Image::Synced).snapshot();
    assert_eq!(survived.get("d/f"), Some(&Seen::File { mode: Mode::PRIVATE, data: Vec::new() }));
    assert_eq!(survived.get("d/l"), Some(&Seen::Symlink("f".to_owned())));
    disk.sync(SyncTarget::Fs).expect("synced");
    assert_eq!(disk.crash(Image::Synced).snapshot(), disk.snapshot());
}

#[test]
fn a_failed_sync_is_not_mended_by_the_next_one() {
    let disk = SimDisk::new();
    disk.set_len(&rel("f"), 1).expect("made");
    disk.fail_at(disk.verbs() + 1, EIO);
    disk.sync(SyncTarget::File(&rel("f"))).expect_err("fails");
    disk.sync(SyncTarget::File(&rel("f"))).expect_err("is not trusted again");
    disk.write_at(&rel("f"), 0, b"x").expect_err("is not trusted again");
    disk.rename(&rel("f"), &rel("g")).expect_err("is not trusted under another name either");
    disk.remove(&rel("f")).expect("removed");
    durable::replace(&disk, &rel("f"), b"x", Mode::PRIVATE).expect("a new file is trusted");
    disk.fail_at(disk.verbs() + 1, EIO);
    disk.sync(SyncTarget::Fs).expect_err("fails");
    disk.sync(SyncTarget::File(&rel("f"))).expect_err("nothing is trusted");
}

#[test]
fn a_full_disk_says_so() {
    let (disk, root) = sim_root();
    disk.set_free(8192);
    durable::write_new(root.disk(), &rel("cache/a"), &[0; 8192], Mode::PRIVATE).expect("fits");
    assert_eq!(disk.space().expect("space").free, 0);
    let error = durable::write_new(root.disk(), &rel("cache/b"), &[0; 1], Mode::PRIVATE).expect_err("does not fit");
    assert!(error.is_no_space(), "{error:?}");
    assert_eq!(error.to_reason().message, "cannot write `cache/b`: No space left on device (os error 28)");
    disk.remove(&rel("cache/a")).expect("removed");
    assert_eq!(disk.space().expect("space").free, 8192);
}
