//! Power loss at every counted verb of `gc` and of `fsck --repair`, in `make soak` again at every verb of the next run after
//! it: the node is as it was or mended, what is right is untouched, and the next run ends the work.

use std::collections::{BTreeMap, BTreeSet};

use autonomy_reconciler::fsck;
use autonomy_schema::{Blake3, Name, Reasons, RelPath, set};
use autonomy_stateroot::disk::Disk as _;
use autonomy_stateroot::sim::Seen;
use autonomy_stateroot::{DirSet, Image, SimDisk, StateRoot, layout};

use crate::crash::digest;
use crate::fixture::{Fleet, Recorder, Release, apply, options, state_root};

type Act<'a> = &'a dyn Fn(&StateRoot) -> Result<(), Reasons>;
type Check<'a> = &'a dyn Fn(&SimDisk, &str);

/// Work that may be cut off anywhere and is then done again.
struct Work<'a> {
    before: SimDisk,
    act: Act<'a>,
    /// Holds after any crash, before the work is done again.
    always: Check<'a>,
    /// Holds when the work came to its end.
    done: Check<'a>,
}

impl Work<'_> {
    fn run(&self) {
        let whole = self.before.crash(Image::All);
        let start = whole.verbs();
        (self.act)(&state_root(&whole)).expect("the work is done");
        (self.done)(&whole, "uncut");
        let verbs = whole.verbs() - start;
        assert!(verbs > 10, "{verbs} verbs test nothing");
        let mut seen = BTreeSet::new();
        for cut in 1..=verbs {
            for image in Image::EACH {
                let place = format!("cut at verb {cut} of {verbs}, image {image:?}");
                let broken = self.cut(&self.before, cut, image);
                if !seen.insert(digest(&broken)) {
                    continue;
                }
                (self.always)(&broken, &place);
                self.again(&broken, &place);
                // Many minutes: `make soak` does it.
                if std::env::var_os("AUTONOMY_SOAK").is_some() {
                    self.cut_again(&broken, &place);
                }
            }
        }
    }

    fn cut(&self, disk: &SimDisk, cut: u64, image: Image) -> SimDisk {
        let disk = disk.crash(Image::All);
        disk.stop_at(disk.verbs() + cut);
        (self.act)(&state_root(&disk)).ok();
        disk.crash(image)
    }

    /// The work done again comes to the same end.
    fn again(&self, broken: &SimDisk, place: &str) {
        let disk = broken.crash(Image::All);
        (self.act)(&state_root(&disk)).unwrap_or_else(|reasons| panic!("{place}: again: {reasons}"));
        (self.done)(&disk, place);
    }

    fn cut_again(&self, broken: &SimDisk, place: &str) {
        let mut seen = BTreeSet::new();
        for cut in 1.. {
            let disk = broken.crash(Image::All);
            let start = disk.verbs();
            disk.stop_at(start + cut);
            (self.act)(&state_root(&disk)).ok();
            if disk.verbs() < start + cut {
                break;
            }
            let place = format!("{place}; cut again at verb {cut}");
            let broken = disk.crash(Image::Synced);
            if seen.insert(digest(&broken)) {
                (self.always)(&broken, &place);
                self.again(&broken, &place);
            }
        }
    }
}

const FILES: [&[(&str, &str)]; 3] = [
    &[("agent", "one"), ("etc/same", "same")],
    &[("agent", "two"), ("etc/same", "same")],
    &[("agent", "three"), ("etc/same", "same")],
];

/// A node that ran releases 1 and 2 and runs 3; with their sets.
fn node(folder: &std::path::Path) -> (SimDisk, Vec<DirSet>) {
    node_with(folder, "")
}

/// The same, and this is asked of release 3.
fn node_with(folder: &std::path::Path, last: &str) -> (SimDisk, Vec<DirSet>) {
    let fleet = Fleet::new();
    let disk = fleet.node();
    let sets: Vec<DirSet> = (1..=3)
        .map(|serial: u64| {
            let files = FILES[usize::try_from(serial).expect("small") - 1];
            let extra = "  services: [ { command: [bin/good] } ]";
            let extra = if serial == 3 { format!("{extra}{last}") } else { extra.to_owned() };
            let release = Release { serial, files, extra: &extra, channel: "stable" };
            fleet.release(&folder.join(serial.to_string()), &release)
        })
        .collect();
    for source in &sets {
        apply(&state_root(&disk), source, &Recorder::default()).expect("applies");
    }
    (disk, sets)
}

fn names(root: &StateRoot) -> (Vec<Name>, Name, Name) {
    let current = root.current().expect("current").expect("active");
    (root.generations().expect("list"), current, root.lkg().expect("lkg").expect("good"))
}

/// Everything below a generation, by path.
fn below(disk: &SimDisk, generation: &Name) -> BTreeMap<String, Seen> {
    let prefix = format!("{}/", layout::generation(generation));
    disk.snapshot().into_iter().filter(|(path, _)| path.starts_with(&prefix)).collect()
}

fn sound(disk: &SimDisk, place: &str) {
    let report = fsck::check(&state_root(disk), &options()).unwrap_or_else(|reasons| panic!("{place}: {reasons}"));
    report.reasons().unwrap_or_else(|reasons| panic!("{place}: {reasons}"));
}

#[test]
fn garbage_collection_cut_at_every_verb() {
    let folder = tempfile::tempdir().expect("folder");
    let (before, _) = node(folder.path());
    let (_, current, _) = names(&state_root(&before));
    let kept = below(&before, &current);
    let act = |root: &StateRoot| {
        let actor = crate::fixture::actor();
        autonomy_reconciler::collect_garbage(root, 0, &actor, &Recorder::default(), &|_| {}).map(|_| ())
    };
    let always = |disk: &SimDisk, place: &str| {
        assert_eq!(below(disk, &current), kept, "{place}: the active generation is untouched");
        sound(disk, place);
    };
    let done = |disk: &SimDisk, place: &str| {
        always(disk, place);
        assert_eq!(names(&state_root(disk)).0, std::slice::from_ref(&current), "{place}");
        let objects = disk.snapshot().into_keys().filter(|path| path.starts_with("objects/")).count();
        assert_eq!(objects, 4, "{place}: two artifacts and their indices");
        assert!(disk.snapshot().into_keys().all(|path| !path.starts_with("generations/.")), "{place}");
    };
    Work { before, act: &act, always: &always, done: &done }.run();
}

/// Repairs with a set at hand.
fn repairs(from: Option<&DirSet>) -> impl Fn(&StateRoot) -> Result<(), Reasons> {
    move |root| {
        let from = from.map(|from| from as &dyn autonomy_stateroot::SetSource);
        let actor = crate::fixture::actor();
        fsck::repair(root, from, &actor, &Recorder::default(), &options())?.report.reasons()
    }
}

fn mend(before: &SimDisk, from: Option<&DirSet>, untouched: &[Name]) {
    let root = state_root(before);
    let floors = root.floors().expect("floors").expect("present");
    let manifest = |disk: &SimDisk| -> Option<Blake3> {
        let root = state_root(disk);
        let current = root.current().expect("current")?;
        let path = layout::generation_manifest(&current);
        autonomy_stateroot::read_capped(root.disk(), &path, 1 << 20).expect("read").map(|bytes| Blake3::of(&bytes))
    };
    let right: Vec<_> = untouched.iter().map(|name| (name.clone(), below(before, name))).collect();
    let was = manifest(before);
    let waits = |disk: &SimDisk| {
        state_root(disk).journal().expect("journal").is_some_and(|journal| journal.waiting().is_some())
    };
    let waited = waits(before);
    let act = repairs(from);
    let always = |disk: &SimDisk, place: &str| {
        for (name, content) in &right {
            assert_eq!(below(disk, name), *content, "{place}: {name} was right");
        }
        let now = state_root(disk).floors().expect("floors").expect("present");
        assert_eq!(now, floors, "{place}");
        if was.is_some() {
            assert!(manifest(disk).is_some(), "{place}: something is active");
        }
        assert_eq!(waits(disk), waited, "{place}: a wait is neither lost nor made");
    };
    let done = |disk: &SimDisk, place: &str| {
        always(disk, place);
        sound(disk, place);
    };
    Work { before: before.crash(Image::All), act: &act, always: &always, done: &done }.run();
}

/// A file of a generation gets an inode of its own with other bytes.
fn tamper(disk: &SimDisk, generation: &Name, file: &'static str) {
    let path = layout::in_generation(generation, &RelPath::fixed(file));
    disk.remove(&path).expect("removed");
    disk.set_len(&path, 0).expect("made");
    disk.write_at(&path, 0, b"tampered").expect("written");
    disk.sync(autonomy_stateroot::SyncTarget::Fs).expect("synced");
}

#[test]
fn repair_of_the_active_generation_cut_at_every_verb() {
    let folder = tempfile::tempdir().expect("folder");
    let (before, _) = node(folder.path());
    let (all, current, _) = names(&state_root(&before));
    tamper(&before, &current, "artifacts/agent");
    let untouched: Vec<Name> = all.into_iter().filter(|name| *name != current).collect();
    mend(&before, None, &untouched);
}

#[test]
fn repair_of_a_known_good_and_an_old_generation_cut_at_every_verb() {
    let folder = tempfile::tempdir().expect("folder");
    // Release 3 waits to be confirmed, so the last known good one is another than the active one. Both it and the oldest
    // are damaged: the one in a file, the other in a document that lies nowhere else. The wait goes on.
    let (before, sets) = node_with(folder.path(), "\n  confirm: { within: 5m }");
    let (all, current, lkg) = names(&state_root(&before));
    assert_eq!((&all[1], &all[2]), (&lkg, &current));
    tamper(&before, &all[1], "edge.toml");
    tamper(&before, &all[0], set::MANIFEST_SIGNATURES);
    mend(&before, Some(&sets[0]), std::slice::from_ref(&current));
}

#[test]
fn repair_of_a_journal_cut_at_every_verb() {
    let folder = tempfile::tempdir().expect("folder");
    let (before, _) = node_with(folder.path(), "\n  confirm: { within: 5m }");
    let (all, current, lkg) = names(&state_root(&before));
    before.set_len(&layout::journal(), 40).expect("cut");
    before.sync(autonomy_stateroot::SyncTarget::Fs).expect("synced");
    let act = repairs(None);
    let always = |disk: &SimDisk, place: &str| {
        let root = state_root(disk);
        assert_eq!(root.current().expect("current").as_ref(), Some(&current), "{place}");
        assert_eq!(root.lkg().expect("lkg").as_ref(), Some(&lkg), "{place}: nobody confirmed it");
    };
    let done = |disk: &SimDisk, place: &str| {
        always(disk, place);
        sound(disk, place);
        let journal = state_root(disk).journal().expect("journal").expect("present");
        assert_eq!(journal.waiting().map(|waits| &waits.generation), Some(&current), "{place}: it waits again");
    };
    assert_eq!(all.len(), 3);
    Work { before, act: &act, always: &always, done: &done }.run();
}

#[test]
fn repair_of_an_object_and_its_links_cut_at_every_verb() {
    let folder = tempfile::tempdir().expect("folder");
    let (before, sets) = node(folder.path());
    let (all, _, _) = names(&state_root(&before));
    // The bytes of one object, and so of every generation that links it.
    let path = layout::in_generation(&all[2], &RelPath::fixed("artifacts/etc/same"));
    before.write_at(&path, 0, b"EMAS").expect("written");
    before.remove(&layout::lkg()).expect("removed");
    before.sync(autonomy_stateroot::SyncTarget::Fs).expect("synced");
    mend(&before, Some(&sets[2]), &[]);
}
