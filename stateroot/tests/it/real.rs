//! The real disk on a temporary folder.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use autonomy_schema::Mode;
use autonomy_stateroot::{
    Disk as _, DiskError, FileKind, Link, LockMode, Query as _, ReadError, RealDisk, SyncTarget, read_capped,
};

use crate::fixture::rel;

const ELOOP: i32 = 40;

fn disk() -> (tempfile::TempDir, RealDisk) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("root")).expect("made");
    std::fs::create_dir(folder.path().join("outside")).expect("made");
    std::fs::write(folder.path().join("outside/secret"), "secret").expect("written");
    let disk = RealDisk::open(&folder.path().join("root")).expect("opened");
    (folder, disk)
}

fn errno<T>(result: Result<T, DiskError>) -> Option<i32> {
    result.err().expect("refused").source.raw_os_error()
}

#[test]
fn no_verb_and_no_question_goes_through_a_link() {
    let (folder, disk) = disk();
    symlink("../outside", folder.path().join("root/out")).expect("linked");
    symlink("../outside/secret", folder.path().join("root/file")).expect("linked");
    std::fs::write(folder.path().join("root/ours"), "ours").expect("written");
    let (below, file, ours) = (rel("out/secret"), rel("file"), rel("ours"));
    for path in [&below, &file] {
        assert_eq!(errno(disk.write_at(path, 0, b"x")), Some(ELOOP));
        assert_eq!(errno(disk.set_len(path, 0)), Some(ELOOP));
        assert_eq!(errno(disk.sync(SyncTarget::File(path))), Some(ELOOP));
        assert_eq!(errno(disk.set_meta(path, Mode::FILE)), Some(ELOOP));
        assert_eq!(errno(disk.open(path).map(drop)), Some(ELOOP));
        assert_eq!(errno(disk.try_lock(path, LockMode::Shared)), Some(ELOOP));
    }
    assert_eq!(errno(disk.rename(&below, &rel("stolen"))), Some(ELOOP));
    assert_eq!(errno(disk.rename(&ours, &below)), Some(ELOOP));
    assert_eq!(errno(disk.link(Link::Hard { from: &below, to: &rel("stolen") })), Some(ELOOP));
    assert_eq!(errno(disk.link(Link::Hard { from: &ours, to: &rel("out/new") })), Some(ELOOP));
    assert_eq!(errno(disk.link(Link::Symbolic { target: "x", at: &rel("out/new") })), Some(ELOOP));
    assert_eq!(errno(disk.mkdir(&rel("out/new"))), Some(ELOOP));
    assert_eq!(errno(disk.remove(&below)), Some(ELOOP));
    assert_eq!(errno(disk.stat(&below)), Some(ELOOP));
    assert_eq!(errno(disk.read_link(&below)), Some(ELOOP));
    assert!(disk.list(Some(&rel("out"))).is_err());
    assert!(disk.list_stat(Some(&rel("out"))).is_err());
    assert_eq!(disk.stat(&file).expect("stat").expect("there").kind, FileKind::Symlink);
    assert_eq!(disk.read_link(&file).expect("read").as_deref(), Some("../outside/secret"));
    let left: Vec<_> = std::fs::read_dir(folder.path().join("outside")).expect("listed").collect();
    assert_eq!(left.len(), 1);
    assert_eq!(std::fs::read(folder.path().join("outside/secret")).expect("read"), b"secret");
}

#[test]
fn only_regular_files_are_read_and_a_pipe_does_not_hang() {
    let (folder, disk) = disk();
    let pipe = folder.path().join("root/pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::from_raw_mode(0o600)).expect("made");
    disk.mkdir(&rel("folder")).expect("made");
    assert!(disk.open(&rel("pipe")).is_err());
    assert!(disk.open(&rel("folder")).is_err());
    assert!(disk.write_at(&rel("pipe"), 0, b"x").is_err());
    assert_eq!(disk.stat(&rel("pipe")).expect("stat").expect("there").kind, FileKind::Other);
}

#[test]
fn a_capped_read_takes_the_cap_and_not_a_byte_more() {
    let (folder, disk) = disk();
    std::fs::write(folder.path().join("root/f"), [7; 100]).expect("written");
    assert_eq!(read_capped(&disk, &rel("f"), 100).expect("read").map(|bytes| bytes.len()), Some(100));
    assert!(matches!(read_capped(&disk, &rel("f"), 99), Err(ReadError::TooLarge { cap: 99, .. })));
    assert_eq!(read_capped(&disk, &rel("none"), 99).expect("absent"), None);
    assert_eq!(read_capped(&disk, &rel("none/none"), 99).expect("absent"), None);
    std::fs::File::create(folder.path().join("root/huge")).and_then(|file| file.set_len(1 << 40)).expect("sparse");
    assert!(matches!(read_capped(&disk, &rel("huge"), 4 << 20), Err(ReadError::TooLarge { .. })));
}

#[test]
fn modes_are_private_until_they_are_set() {
    let (folder, disk) = disk();
    let mode = |path: &str| {
        let meta = Path::new(&folder.path().join("root").join(path)).metadata().expect("there");
        meta.permissions().mode() & 0o7777
    };
    disk.mkdir(&rel("d")).expect("made");
    disk.set_len(&rel("d/f"), 10).expect("made");
    assert_eq!((mode("d"), mode("d/f")), (0o700, 0o600));
    disk.set_meta(&rel("d/f"), Mode::from_bits(0o111)).expect("through the kept handle");
    assert_eq!(mode("d/f"), 0o111);
    disk.sync(SyncTarget::File(&rel("d/f"))).expect("synced");
    disk.set_meta(&rel("d/f"), Mode::from_bits(0o755)).expect("of a file that cannot be read");
    disk.set_meta(&rel("d"), Mode::from_bits(0o750)).expect("of a folder");
    assert_eq!((mode("d"), mode("d/f")), (0o750, 0o755));
}

#[test]
fn what_belongs_to_somebody_else_becomes_our_own_with_its_mode() {
    let (folder, disk) = disk();
    let at = |path: &str| folder.path().join("root").join(path);
    disk.mkdir(&rel("d")).expect("made");
    disk.set_len(&rel("d/f"), 10).expect("made");
    disk.sync(SyncTarget::File(&rel("d/f"))).expect("synced");
    if let Err(error) = std::os::unix::fs::chown(at("d/f"), Some(12345), Some(12345)) {
        eprintln!("NOT RUN: only root may give a file away: {error}");
        return;
    }
    std::os::unix::fs::chown(at("d"), None, Some(12345)).expect("another group");
    let owner = |path: &str| disk.stat(&rel(path)).expect("looks").map(|stat| (stat.is_own, stat.is_own_group));
    assert_eq!((owner("d"), owner("d/f")), (Some((true, false)), Some((false, false))));
    for path in ["d", "d/f"] {
        disk.set_meta(&rel(path), Mode::PROGRAM).expect("sets");
        assert_eq!(owner(path), Some((true, true)), "{path}");
    }
    // A folder that passes its group on: what is made in it is that group's until its mode is set.
    std::os::unix::fs::chown(at("d"), None, Some(12345)).expect("another group");
    std::fs::set_permissions(at("d"), std::fs::Permissions::from_mode(0o2755)).expect("setgid");
    disk.set_len(&rel("d/g"), 1).expect("made");
    assert_eq!(owner("d/g"), Some((true, false)));
    disk.set_meta(&rel("d/g"), Mode::FILE).expect("sets, through the kept handle");
    assert_eq!(owner("d/g"), Some((true, true)));
}

#[test]
fn a_reflink_is_a_copy_or_leaves_nothing() {
    let (folder, disk) = disk();
    std::fs::write(folder.path().join("root/f"), "data").expect("written");
    match disk.link(Link::Reflink { from: &rel("f"), to: &rel("g") }) {
        Ok(()) => assert_eq!(read_capped(&disk, &rel("g"), 9).expect("read").as_deref(), Some(&b"data"[..])),
        Err(_) => assert_eq!(disk.stat(&rel("g")).expect("stat"), None),
    }
}

#[test]
fn locks_bind_two_handles_and_end_with_the_guard() {
    let (folder, one) = disk();
    let two = RealDisk::open(&folder.path().join("root")).expect("opened");
    let lock = rel("LOCK");
    let shared = one.try_lock(&lock, LockMode::Shared).expect("asked").expect("free");
    let also = two.try_lock(&lock, LockMode::Shared).expect("asked").expect("shared");
    assert!(two.try_lock(&lock, LockMode::Exclusive).expect("asked").is_none());
    drop((shared, also));
    let alone = one.try_lock(&lock, LockMode::Exclusive).expect("asked").expect("free");
    assert!(one.try_lock(&lock, LockMode::Shared).expect("asked").is_none());
    assert!(two.try_lock(&lock, LockMode::Exclusive).expect("asked").is_none());
    drop(alone);
    assert!(two.try_lock(&lock, LockMode::Exclusive).expect("asked").is_some());
}

#[test]
fn what_is_asked_is_what_the_kernel_says() {
    let (folder, disk) = disk();
    std::fs::write(folder.path().join("root/f"), vec![1; 5000]).expect("written");
    disk.link(Link::Hard { from: &rel("f"), to: &rel("g") }).expect("linked");
    let meta = folder.path().join("root/f").metadata().expect("there");
    let stat = disk.stat(&rel("g")).expect("stat").expect("there");
    assert_eq!((stat.size, stat.nlink, stat.allocated), (5000, 2, meta.blocks() * 512));
    assert_eq!(stat.identity.ino, meta.ino());
    assert_eq!(stat.identity.ctime_ns, meta.ctime() * 1_000_000_000 + meta.ctime_nsec());
    assert_eq!(stat.identity.mtime_ns, meta.mtime() * 1_000_000_000 + meta.mtime_nsec());
    assert_eq!(disk.stat(&rel("none/none")).expect("stat"), None);
    let space = disk.space().expect("space");
    assert!(space.free <= space.total && space.total > 0 && space.fs_type > 0);
}

#[test]
fn names_that_are_not_text_are_shown_and_can_be_no_path() {
    use std::os::unix::ffi::OsStrExt as _;
    let (folder, disk) = disk();
    let bad = std::ffi::OsStr::from_bytes(b"bad-\xff");
    std::fs::write(folder.path().join("root").join(bad), "x").expect("written");
    let names: Vec<_> = disk.list(None).expect("listed").into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["bad-\\xff"]);
    assert!(names[0].parse::<autonomy_schema::RelPath>().is_err());
}
