//! The simulated disk and the real one do the same with the same verbs.

use std::collections::BTreeMap;
use std::io::Read as _;

use autonomy_schema::{Mode, RelPath};
use autonomy_stateroot::sim::Seen;
use autonomy_stateroot::{DiskError, FileKind, Link, RealDisk, SimDisk, StateDisk, SyncTarget};
use proptest::prelude::*;

use crate::fixture::rel;

/// Few names, so that they meet; some lie below what may be a file, a folder or a link.
const PATHS: [&str; 10] = ["a", "b", "c", "a/x", "a/y", "b/x", "a/x/p", "a/x/q", "c/x", "b/x/p"];

#[derive(Debug, Clone)]
enum Op {
    WriteAt(&'static str, u16, Vec<u8>),
    SetLen(&'static str, u16),
    SyncFile(&'static str),
    SyncDir(Option<&'static str>),
    Rename(&'static str, &'static str),
    Hard(&'static str, &'static str),
    Symbolic(&'static str, &'static str),
    Mkdir(&'static str),
    Remove(&'static str),
    SetMeta(&'static str, u32),
}

fn op() -> impl Strategy<Value = Op> {
    let path = || prop::sample::select(&PATHS[..]);
    let bytes = prop::collection::vec(any::<u8>(), 0..20);
    prop_oneof![
        4 => (path(), 0..9000u16, bytes).prop_map(|(path, at, data)| Op::WriteAt(path, at, data)),
        6 => (path(), 0..9000u16).prop_map(|(path, len)| Op::SetLen(path, len)),
        1 => path().prop_map(Op::SyncFile),
        1 => prop::option::of(path()).prop_map(Op::SyncDir),
        5 => (path(), path()).prop_map(|(from, to)| Op::Rename(from, to)),
        2 => (path(), path()).prop_map(|(from, to)| Op::Hard(from, to)),
        1 => (path(), path()).prop_map(|(target, at)| Op::Symbolic(target, at)),
        6 => path().prop_map(Op::Mkdir),
        3 => path().prop_map(Op::Remove),
        // Owner bits stay, so that a test run by anybody but root can still look.
        2 => (path(), prop::sample::select(vec![0o700, 0o744, 0o755, 0o600 | 0o100])).prop_map(|(p, m)| Op::SetMeta(p, m)),
    ]
}

fn run(disk: &dyn StateDisk, op: &Op) -> Result<(), DiskError> {
    match op {
        Op::WriteAt(path, at, data) => disk.write_at(&rel(path), u64::from(*at), data),
        Op::SetLen(path, len) => disk.set_len(&rel(path), u64::from(*len)),
        Op::SyncFile(path) => disk.sync(SyncTarget::File(&rel(path))),
        Op::SyncDir(path) => disk.sync(SyncTarget::Dir(path.map(rel).as_ref())),
        Op::Rename(from, to) => disk.rename(&rel(from), &rel(to)),
        Op::Hard(from, to) => disk.link(Link::Hard { from: &rel(from), to: &rel(to) }),
        Op::Symbolic(target, at) => disk.link(Link::Symbolic { target, at: &rel(at) }),
        Op::Mkdir(path) => disk.mkdir(&rel(path)),
        Op::Remove(path) => disk.remove(&rel(path)),
        Op::SetMeta(path, mode) => disk.set_meta(&rel(path), Mode::from_bits(*mode)),
    }
}

/// What the questions say of everything, in the form of a snapshot, and the number of names of each.
fn seen(disk: &dyn StateDisk) -> BTreeMap<String, (Seen, u64, u64)> {
    let mut seen = BTreeMap::new();
    let mut todo: Vec<Option<RelPath>> = vec![None];
    while let Some(folder) = todo.pop() {
        let entries = disk.list_stat(folder.as_ref()).expect("listed");
        let names: Vec<_> = disk.list(folder.as_ref()).expect("listed").into_iter().map(|e| (e.name, e.kind)).collect();
        assert_eq!(names, entries.iter().map(|(name, stat)| (name.clone(), stat.kind)).collect::<Vec<_>>());
        for (name, stat) in entries {
            let path = folder.as_ref().map_or_else(|| rel(&name), |folder| folder.join(&rel(&name)));
            assert_eq!(disk.stat(&path).expect("stat"), Some(stat), "{path}");
            let what = match stat.kind {
                FileKind::File => {
                    let mut data = Vec::new();
                    disk.open(&path).expect("opened").read_to_end(&mut data).expect("read");
                    assert_eq!(data.len() as u64, stat.size);
                    Seen::File { mode: stat.mode, data }
                }
                FileKind::Dir => {
                    todo.push(Some(path.clone()));
                    Seen::Dir { mode: stat.mode }
                }
                FileKind::Symlink => Seen::Symlink(disk.read_link(&path).expect("read").expect("there")),
                FileKind::Other => panic!("{path} is special"),
            };
            let size = if stat.kind == FileKind::Dir { 0 } else { stat.size };
            seen.insert(path.to_string(), (what, stat.nlink, size));
        }
    }
    seen
}

proptest! {
    #[test]
    fn the_simulated_disk_does_what_the_real_one_does(ops in prop::collection::vec(op(), 1..60)) {
        let folder = tempfile::tempdir().expect("a folder");
        let real = RealDisk::open(folder.path()).expect("opened");
        let sim = SimDisk::new();
        for (at, op) in ops.iter().enumerate() {
            let code = |result: Result<(), DiskError>| result.map_err(|error| error.source.raw_os_error());
            let (said, should) = (code(run(&sim, op)), code(run(&real, op)));
            prop_assert_eq!(said, should, "{}: {:?} of {:?}", at, op, ops);
            prop_assert_eq!(sim.verbs(), at as u64 + 1);
        }
        let snapshot: BTreeMap<_, _> = seen(&sim).into_iter().map(|(path, (what, _, _))| (path, what)).collect();
        prop_assert_eq!(seen(&sim), seen(&real));
        prop_assert_eq!(snapshot, sim.snapshot());
        prop_assert_eq!(sim.crash(autonomy_stateroot::Image::All).snapshot(), sim.snapshot());
    }
}
