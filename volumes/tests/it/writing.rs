//! What a writer leaves: all volumes or none, the same bytes, none too large.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs;
use std::io;

use autonomy_schema::{Blake3, RelPath};
use autonomy_volumes::{IndexError, Member, VolumeOptions, WriteError};

use super::{files, names, noise, vol, volume_of, write};

const OPTIONS: VolumeOptions = VolumeOptions { volume_bytes: 300_000, parity: 2, replace: false };

fn member<'a>(path: &'static str, size: u64, bytes: &'a [u8]) -> Member<'a> {
    Member { path: RelPath::fixed(path), size, open: Box::new(move || Ok(Box::new(bytes))) }
}

#[test]
fn the_same_files_in_any_order_give_the_same_pinned_bytes() {
    let mut files = files(&[100_000, 0, 70_000, 65_536, 300_000, 12]);
    let (a, b) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    write(a.path(), &files, 140_000, 2).expect("writes");
    files.reverse();
    write(b.path(), &files, 140_000, 2).expect("writes");
    assert_eq!(names(a.path()), names(b.path()));
    let mut told = String::new();
    for name in names(a.path()) {
        let bytes = fs::read(a.path().join(&name)).expect("reads");
        assert!(bytes == fs::read(b.path().join(&name)).expect("reads"));
        writeln!(told, "{name} {} {}", bytes.len(), Blake3::of(&bytes)).expect("writes");
    }
    assert_eq!(told, include_str!("pinned.txt"));
}

#[test]
fn no_volume_is_larger_than_asked_for() {
    for cap in [volume_of(1), volume_of(2) - 1, volume_of(2), 500_000, u64::MAX] {
        let dir = tempfile::tempdir().expect("a folder");
        let written = write(dir.path(), &files(&[900_000]), cap, 2).expect("writes");
        let sizes: Vec<u64> =
            names(dir.path()).iter().map(|name| fs::metadata(dir.path().join(name)).expect("is there").len()).collect();
        assert_eq!(sizes.len(), usize::from(written.data) + 2);
        assert_eq!(sizes.iter().sum::<u64>(), written.bytes);
        assert!(sizes.iter().all(|size| *size <= cap));
    }
    let dir = tempfile::tempdir().expect("a folder");
    let error = write(dir.path(), &files(&[10]), volume_of(1) - 1, 0).expect_err("no room");
    assert!(matches!(error, WriteError::TooSmall(73759)), "{error}");
    let error = write(dir.path(), &files(&[999 << 16]), volume_of(1), 1).expect_err("too many");
    assert!(matches!(error, WriteError::TooManyVolumes { data: 1000, parity: 1 }), "{error}");
    // Nothing is opened before the sizes are known to fit.
    let vast = [member("a", 1 << 50, b"")];
    let error = autonomy_volumes::write(dir.path(), &vast, OPTIONS, &|_, _| {}).expect_err("too many");
    assert!(matches!(error, WriteError::TooManyVolumes { .. }), "{error}");
    assert!(names(dir.path()).is_empty());
}

#[test]
fn older_volumes_give_way_once_the_new_ones_are_whole_and_not_before() {
    let dir = tempfile::tempdir().expect("a folder");
    let old = files(&[900_000]);
    write(dir.path(), &old, 200_000, 2).expect("writes");
    let before = contents(dir.path());
    let replace = VolumeOptions { replace: true, ..OPTIONS };
    // The new ones do not come to their end.
    let short = [member("a", 100, b"too short")];
    let error = autonomy_volumes::write(dir.path(), &short, replace, &|_, _| {}).expect_err("too short");
    assert!(matches!(error, WriteError::Changed { .. }), "{error}");
    assert_eq!(contents(dir.path()), before);
    let error = autonomy_volumes::write(dir.path(), &[member("a", 3, b"new")], OPTIONS, &|_, _| {}).expect_err("taken");
    assert!(matches!(error, WriteError::Occupied(_)), "{error}");
    let written = autonomy_volumes::write(dir.path(), &[member("a", 3, b"new")], replace, &|_, _| {}).expect("writes");
    assert_eq!(names(dir.path()), ["vol-000", "vol-001", "vol-002"]);
    let set = autonomy_volumes::VolumeSet::open(dir.path()).expect("opens");
    assert_eq!(set.id(), written.set);
}

fn contents(dir: &std::path::Path) -> Vec<Vec<u8>> {
    names(dir).iter().map(|name| fs::read(dir.join(name)).expect("reads")).collect()
}

struct Failing(usize);

impl io::Read for Failing {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::Error::other("the disk is gone"));
        }
        let count = into.len().min(self.0);
        self.0 -= count;
        Ok(count)
    }
}

#[test]
fn a_file_that_fails_or_changed_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("other"), "stays").expect("writes");
    let bytes = noise(1, 400_000);
    for (size, content) in [(10, &b"nine byte"[..]), (8, b"nine byte"), (0, b"n"), (1, b"")] {
        let members = [member("a", 400_000, &bytes), member("b", size, content)];
        let error = autonomy_volumes::write(dir.path(), &members, OPTIONS, &|_, _| {}).expect_err("changed");
        assert!(matches!(error, WriteError::Changed { .. }), "{error}");
        assert_eq!(names(dir.path()), ["other"]);
    }
    for good in [0, 1, 150_000, 399_999] {
        let open = Box::new(move || Ok(Box::new(Failing(good)) as Box<dyn io::Read>));
        let members = [Member { path: RelPath::fixed("a"), size: 400_000, open }];
        let error = autonomy_volumes::write(dir.path(), &members, OPTIONS, &|_, _| {}).expect_err("fails");
        assert!(matches!(error, WriteError::Member { .. }), "{error}");
        assert_eq!(names(dir.path()), ["other"]);
    }
}

#[test]
fn volumes_that_are_there_are_kept_and_stale_temporaries_are_not() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join(".vol-000.tmp"), "stale").expect("writes");
    fs::write(dir.path().join(".vol-777.tmp"), "stale").expect("writes");
    write(dir.path(), &files(&[10]), 100_000, 1).expect("writes");
    assert_eq!(names(dir.path()), ["vol-000", "vol-001"]);
    let before = fs::read(vol(dir.path(), 1)).expect("reads");
    fs::remove_file(vol(dir.path(), 0)).expect("removes");
    let error = write(dir.path(), &files(&[20]), 100_000, 1).expect_err("occupied");
    assert!(matches!(&error, WriteError::Occupied(name) if name == "vol-001"), "{error}");
    assert_eq!(fs::read(vol(dir.path(), 1)).expect("reads"), before);
    // A dangling link is something too.
    fs::remove_file(vol(dir.path(), 1)).expect("removes");
    std::os::unix::fs::symlink("nowhere", vol(dir.path(), 40)).expect("links");
    let error = write(dir.path(), &files(&[20]), 100_000, 1).expect_err("occupied");
    assert!(matches!(&error, WriteError::Occupied(name) if name == "vol-040"), "{error}");
    let error = write(&dir.path().join("none"), &files(&[20]), 100_000, 1).expect_err("no folder");
    assert!(matches!(error, WriteError::Folder(_)), "{error}");
}

#[test]
fn a_second_writer_is_refused_meanwhile() {
    let dir = tempfile::tempdir().expect("a folder");
    let second = RefCell::new(None);
    let bytes = noise(1, 10);
    let members = [member("a", 10, &bytes)];
    let during = |_, _| {
        second.borrow_mut().get_or_insert_with(|| write(dir.path(), &files(&[1]), 100_000, 0));
    };
    autonomy_volumes::write(dir.path(), &members, OPTIONS, &during).expect("writes");
    assert!(matches!(second.into_inner(), Some(Err(WriteError::Busy))));
}

#[test]
fn names_that_cannot_all_be_given_are_taken_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let bytes = noise(1, 500_000);
    let members = [member("a", 500_000, &bytes)];
    // Somebody takes the last name while the volumes are written.
    let during = |done, all| {
        if done == all {
            fs::create_dir(vol(dir.path(), 0)).expect("makes");
        }
    };
    let error = autonomy_volumes::write(dir.path(), &members, OPTIONS, &during).expect_err("a folder is in the way");
    assert!(matches!(&error, WriteError::Volume { volume, .. } if volume == "vol-000"), "{error}");
    assert_eq!(names(dir.path()), ["vol-000"]);
}

#[test]
fn progress_grows_to_the_end() {
    let dir = tempfile::tempdir().expect("a folder");
    let told = RefCell::new(Vec::new());
    let bytes = noise(1, 500_000);
    let members = [member("a", 500_000, &bytes)];
    autonomy_volumes::write(dir.path(), &members, OPTIONS, &|done, all| told.borrow_mut().push((done, all)))
        .expect("writes");
    let told = told.into_inner();
    assert!(told.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 == pair[1].1));
    assert!(told.last().is_some_and(|(done, all)| done == all));
}

#[test]
fn lists_that_cannot_be_extracted_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    for (members, expected) in [
        ([member("a", 0, b""), member("a", 1, b"x")], IndexError::Order(RelPath::fixed("a"))),
        ([member("a/b/c", 0, b""), member("a", 1, b"x")], IndexError::BelowFile(RelPath::fixed("a/b/c"))),
        ([member("a", u64::MAX, b""), member("b", 1, b"x")], IndexError::TooLarge),
        ([member("a", 1 << 53, b""), member("b", 1, b"x")], IndexError::TooLarge),
    ] {
        match autonomy_volumes::write(dir.path(), &members, OPTIONS, &|_, _| {}) {
            Err(WriteError::Members(error)) => assert_eq!(error, expected),
            other => panic!("{other:?}"),
        }
        assert!(names(dir.path()).is_empty());
    }
}
