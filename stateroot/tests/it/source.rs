//! Sets in folders.

use std::ffi::OsStr;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use autonomy_schema::Code;
use autonomy_stateroot::{DirSet, Query as _, RealDisk, SetSource, SimDisk, SourceKind, StateDisk};

use crate::fixture::rel;

fn code(path: &Path) -> Code {
    DirSet::open(path).expect_err("refused").to_reason().code
}

#[test]
fn a_set_is_listed_whole_and_sorted() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |path: &str| folder.path().join(path);
    std::fs::create_dir_all(at("artifacts/bin")).expect("made");
    std::fs::create_dir_all(at("empty/folder")).expect("made");
    for (path, data) in [("manifest.json", "{}"), ("artifacts/bin/agent", "agent"), ("artifacts/b", "")] {
        std::fs::write(at(path), data).expect("written");
    }
    symlink("/etc/passwd", at("artifacts/link")).expect("linked");
    symlink("/etc", at("roots")).expect("linked");
    rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), rustix::fs::Mode::from_raw_mode(0o600)).expect("made");
    std::fs::write(folder.path().join(OsStr::from_bytes(b"bad\xff")), "x").expect("written");
    std::fs::create_dir(at("bad\nfolder")).expect("made");
    std::fs::write(at("bad\nfolder/below"), "x").expect("written");
    let set = DirSet::open(folder.path()).expect("opened");
    let listed: Vec<_> = set.list().expect("listed").into_iter().map(|f| (f.path, f.kind, f.size)).collect();
    let expected = [
        ("artifacts/b", SourceKind::File, 0),
        ("artifacts/bin/agent", SourceKind::File, 5),
        ("artifacts/link", SourceKind::Symlink, 11),
        ("bad\\\\xff", SourceKind::BadName, 1),
        ("bad\\nfolder", SourceKind::BadName, 4096),
        ("manifest.json", SourceKind::File, 2),
        ("pipe", SourceKind::Other, 0),
        ("roots", SourceKind::Symlink, 4),
    ];
    assert_eq!(listed, expected.map(|(path, kind, size)| (path.to_owned(), kind, size)));
    let identities = set.list().expect("listed");
    assert!(identities.iter().all(|file| file.identity.is_some()));
}

#[test]
fn only_regular_files_within_the_set_are_opened() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("d")).expect("made");
    std::fs::write(folder.path().join("f"), "data").expect("written");
    symlink("/etc", folder.path().join("out")).expect("linked");
    symlink("f", folder.path().join("l")).expect("linked");
    let set = DirSet::open(folder.path()).expect("opened");
    let open = |path: &str| set.open(&rel(path)).map(drop).map_err(|error| error.to_reason().code);
    let mut text = String::new();
    set.open(&rel("f")).expect("opened").read_to_string(&mut text).expect("read");
    assert_eq!(text, "data");
    assert_eq!(open("none"), Err(Code::MissingFile));
    for strange in ["l", "d", "out/passwd", "f/below"] {
        assert_eq!(open(strange), Err(Code::SymlinkRefused), "{strange}");
    }
}

#[test]
fn a_source_that_is_none_is_told_as_such() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("f"), "x").expect("written");
    assert_eq!(code(&folder.path().join("none")), Code::SourceNotFound);
    assert_eq!(code(&folder.path().join("f")), Code::SourceNotFound);
    symlink(folder.path(), folder.path().join("l")).expect("linked");
    let set = DirSet::open(&folder.path().join("l")).expect("a person may name a set by a link");
    assert!(set.describe().ends_with("/l"));
}

#[test]
fn a_set_without_end_is_cut_off() {
    let folder = tempfile::tempdir().expect("a folder");
    for at in 0..151 {
        let below = folder.path().join(format!("{at}"));
        std::fs::create_dir(&below).expect("made");
        // Hard links of one file are quick to make.
        std::fs::write(below.join("0"), "x").expect("written");
        for name in 1..2000 {
            std::fs::hard_link(below.join("0"), below.join(format!("{name}"))).expect("linked");
        }
    }
    let error = DirSet::open(folder.path()).expect("opened").list().expect_err("too many");
    assert_eq!(error.to_reason().code, Code::LimitExceeded);
}

#[test]
fn a_file_is_read_from_an_offset_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let set = DirSet::open(folder.path()).expect("opened");
    let real = RealDisk::open(folder.path()).expect("opened");
    let sim = SimDisk::new();
    let disks: [&dyn StateDisk; 2] = [&real, &sim];
    for disk in disks {
        disk.set_len(&rel("f"), 0).expect("made");
        disk.write_at(&rel("f"), 0, b"0123456789").expect("written");
    }
    for (offset, wanted) in [(0, "0123456789"), (3, "3456789"), (10, ""), (11, ""), (u64::from(u32::MAX) * 2, "")] {
        let text_of = |mut file: Box<dyn std::io::Read + Send>| {
            let mut text = String::new();
            file.read_to_string(&mut text).expect("read");
            text
        };
        assert_eq!(text_of(set.open_at(&rel("f"), offset).expect("opened")), wanted);
        for disk in disks {
            assert_eq!(text_of(disk.open_at(&rel("f"), offset).expect("opened")), wanted);
        }
    }
    assert!(set.open_at(&rel("g"), 1).is_err() && real.open_at(&rel("g"), 1).is_err());
}
