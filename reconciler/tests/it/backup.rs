//! Backup and restore on the simulated disk: the same node on an empty disk, what was lost on a damaged one, never an older
//! one. `crash.rs` cuts the power.

mod crash;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use autonomy_apply::Silent;
use autonomy_reconciler::{Approval, Archive, Keeper, Made, Restored};
use autonomy_schema::floors::Floors;
use autonomy_schema::{Blake3, Code, Mode, Name, Reasons, RelPath};
use autonomy_stateroot::hold::Suspension;
use autonomy_stateroot::sim::Seen;
use autonomy_stateroot::{Disk as _, Image, Query as _, SimDisk, StateRoot, durable, layout};
use autonomy_telemetry::Audit;

use crate::crash::{Old, check_whole};
use crate::fixture::{Fleet, Recorder, Release, actor, apply, options, state_root, time};

const GOOD: &str =
    "  services: [ { command: [bin/good] } ]\n  relay: { peers: [ { id: node-b, address: \"10.0.0.2:7443\" } ] }";
const BAD: &str = "  services: [ { command: [bin/bad] } ]";

/// Does harm to a path.
type Damage = fn(&SimDisk, &str);

/// A fleet, a folder for files, and a node.
struct Yard {
    folder: tempfile::TempDir,
    fleet: Fleet,
    disk: SimDisk,
}

impl Yard {
    fn bare() -> Self {
        let fleet = Fleet::new();
        Self { folder: tempfile::tempdir().expect("folder"), disk: fleet.node(), fleet }
    }

    fn running() -> Self {
        let yard = Self::bare();
        yard.apply(1, GOOD).expect("release 1");
        yard
    }

    fn apply(&self, serial: u64, extra: &str) -> Result<(), Reasons> {
        self.apply_on(&self.disk, serial, extra)
    }

    fn apply_on(&self, disk: &SimDisk, serial: u64, extra: &str) -> Result<(), Reasons> {
        let files: &[(&str, &str)] = if serial == 1 {
            &[("agent", "one"), ("etc/same", "same")]
        } else {
            &[("agent", "two"), ("etc/same", "same")]
        };
        let folder = self.folder.path().join(format!("set-{serial}"));
        let source = self.fleet.release(&folder, &Release { serial, files, extra, channel: "stable" });
        apply(&state_root(disk), &source, &Recorder::default()).map(drop).map_err(|failure| failure.reasons)
    }

    fn stage(&self, serial: u64) {
        let files: &[(&str, &str)] = &[("agent", "two"), ("etc/same", "same")];
        let folder = self.folder.path().join(format!("set-{serial}"));
        let source = self.fleet.release(&folder, &Release { serial, files, extra: GOOD, channel: "stable" });
        let (root, actor, runner) = (state_root(&self.disk), actor(), Recorder::default());
        let prepared = crate::fixture::prepare(&root, &source).expect("plan");
        let observer = &mut Silent;
        let approval = Approval {
            prepared,
            saved: None,
            stage_only: true,
            now_anyway: false,
            actor: &actor,
            runner: &runner,
            observer,
        };
        autonomy_reconciler::apply(&root, &source, approval, &options())
            .map_err(|failure| failure.reasons)
            .expect("staged");
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn backup(&self, name: &str) -> Archive {
        make(&self.disk, &self.file(name)).expect("backup");
        Archive::open(&self.file(name), &|_, _| {}).expect("archive")
    }
}

fn make(disk: &SimDisk, to: &Path) -> Result<Made, Reasons> {
    let actor = autonomy_reconciler::Actor { verb: "backup".to_owned(), ..actor() };
    let keeper = Keeper { actor: &actor, runner: &Recorder::default(), observer: &mut Silent };
    autonomy_reconciler::backup(&state_root(disk), to, keeper, &|_, _| {})
}

fn restore(disk: &SimDisk, archive: &Archive) -> Result<Restored, Reasons> {
    let actor = autonomy_reconciler::Actor { verb: "restore".to_owned(), ..actor() };
    let keeper = Keeper { actor: &actor, runner: &Recorder::default(), observer: &mut Silent };
    autonomy_reconciler::restore(&state_root(disk), archive, keeper)
}

/// What must be the same: everything but locks, the cache, the logs, which grow, and what a cut-off write left beside a
/// file that is whole.
fn node(disk: &SimDisk) -> BTreeMap<String, Seen> {
    let grows = ["LOCK", "cache/", "audit/", "telemetry/", "receipts/LOCK"];
    let mut seen = disk.snapshot();
    seen.retain(|path, _| !grows.iter().any(|prefix| path.starts_with(prefix)));
    let leftover = |path: &str| path.rsplit('/').next().is_some_and(|name| name.starts_with('.'));
    seen.retain(|path, _| path.starts_with("quarantine/") || !leftover(path));
    seen
}

fn changed(before: &BTreeMap<String, Seen>, after: &BTreeMap<String, Seen>) -> Vec<String> {
    let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    paths.into_iter().filter(|path| before.get(*path) != after.get(*path)).cloned().collect()
}

#[track_caller]
fn same(before: &SimDisk, after: &SimDisk, place: &str) {
    assert_eq!(changed(&node(before), &node(after)), Vec::<String>::new(), "{place}");
}

fn serial(root: &StateRoot) -> u64 {
    let floors = root.floors().expect("floors").expect("present");
    floors.streams.values().map(|floor| floor.serial).max().unwrap_or(0)
}

fn current(root: &StateRoot) -> Name {
    root.current().expect("current").expect("some")
}

fn lose(disk: &SimDisk, path: &str) {
    durable::remove_tree(disk, &path.parse().expect("path")).expect("removes");
}

fn spoil(disk: &SimDisk, path: &str) {
    disk.write_at(&path.parse().expect("path"), 0, b"\xff").expect("spoils");
}

/// Whole, with floors that are not below `floors`, and nothing left to restore.
fn is_whole(disk: &SimDisk, archive: &Archive, floors: &Floors, place: &str) {
    let root = state_root(disk);
    check_whole(
        &root,
        &Old { current: root.current().expect("current"), floors: floors.clone(), goes_back: true },
        place,
    );
    Audit::verify(&root).unwrap_or_else(|error| panic!("{place}: {error}"));
    let before = disk.crash(Image::All);
    let again = restore(disk, archive).unwrap_or_else(|reasons| panic!("{place}: again: {reasons}"));
    assert_eq!(again.restored, Vec::<String>::new(), "{place}");
    same(&before, disk, place);
}

#[test]
fn backup_and_restore_make_the_same_node_on_an_empty_disk() {
    let yard = Yard::running();
    yard.apply(2, GOOD).expect("release 2");
    let root = state_root(&yard.disk);
    root.suspend(&Suspension { since: time("2026-11-25T09:00:00Z"), reason: None, owner: None }).expect("suspended");
    let note = layout::quarantine().join(&RelPath::fixed("folder/.x.tmp"));
    durable::ensure_dir(&yard.disk, &note.parent().expect("folder")).expect("folder");
    durable::replace(&yard.disk, &note, b"evidence", Mode::FILE).expect("file");
    let archive = yard.backup("node.backup");
    assert_eq!(archive.list().floors.values().copied().collect::<Vec<_>>(), [2]);
    let fresh = SimDisk::new();
    let restored = restore(&fresh, &archive).expect("restores");
    assert_eq!(restored.current, Some(current(&root)));
    assert_eq!(restored.notes, Vec::<String>::new());
    for image in Image::EACH {
        same(&yard.disk, &fresh.crash(image), &format!("restored, image {image:?}"));
    }
    is_whole(&fresh, &archive, &root.floors().expect("floors").expect("present"), "restored");
    // Hard links are hard links again.
    let agent = layout::in_generation(&current(&root), &RelPath::fixed("artifacts/agent"));
    let links = |disk: &SimDisk| disk.stat(&agent).expect("stat").expect("agent").nlink;
    assert_eq!(links(&fresh), links(&yard.disk));
    // The trail goes on where that of the backup ended, and the node goes on too.
    assert!(Audit::verify(&state_root(&fresh)).expect("chain") > 4);
    state_root(&fresh).resume().expect("resumed");
    yard.apply_on(&fresh, 3, GOOD).expect("release 3");
}

#[test]
fn backup_holds_no_byte_twice() {
    let yard = Yard::running();
    yard.backup("node.backup");
    // Read as any tar program would: what the store holds is there once, and linked.
    let file = std::fs::File::open(yard.file("node.backup")).expect("file");
    let mut entries = tar::Archive::new(file);
    let entries: Vec<_> = entries.entries().expect("tar").map(|entry| entry.expect("entry")).collect();
    let kind = |wanted| entries.iter().filter(|entry| entry.header().entry_type() == wanted).count();
    assert_eq!(kind(tar::EntryType::Link), 4, "two artifacts and their indices");
    let bytes: u64 = entries.iter().map(tar::Entry::size).sum();
    let file = yard.file("node.backup").metadata().expect("file");
    assert!(file.len() <= bytes + 1024 * entries.len() as u64 + 1024, "{} for {bytes} bytes", file.len());
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&file.permissions()) & 0o777, 0o600);
}

#[test]
fn backup_leaves_out_what_could_not_be_restored_and_says_so() {
    let yard = Yard::running();
    let first = current(&state_root(&yard.disk));
    yard.apply(2, GOOD).expect("release 2");
    spoil(&yard.disk, &format!("generations/{first}/artifacts/agent"));
    let made = make(&yard.disk, &yard.file("a")).expect("backup");
    assert!(
        made.notes.iter().any(|note| note.contains(first.as_str()) && note.contains("damaged")),
        "{:?}",
        made.notes
    );
    let archive = Archive::open(&yard.file("a"), &|_, _| {}).expect("archive");
    let fresh = SimDisk::new();
    restore(&fresh, &archive).expect("restores");
    assert_eq!(state_root(&fresh).generations().expect("generations").len(), 1);
    // An active generation that is damaged is not backed up as if it were right.
    spoil(&yard.disk, &format!("generations/{}/artifacts/agent", current(&state_root(&yard.disk))));
    let refused = make(&yard.disk, &yard.file("b")).expect_err("damaged");
    assert!(refused.has(Code::CorruptState), "{refused}");
    assert!(!yard.file("b").exists());
    assert_eq!(
        std::fs::read_dir(yard.folder.path()).expect("folder").count(),
        3,
        "no half file stays: set-1, set-2, a"
    );
}

#[test]
fn an_older_backup_leaves_a_newer_node_as_it_is() {
    let yard = Yard::running();
    let archive = yard.backup("one");
    yard.apply(2, GOOD).expect("release 2");
    let before = yard.disk.crash(Image::All);
    let restored = restore(&yard.disk, &archive).expect("restores nothing");
    assert_eq!(restored.restored, Vec::<String>::new());
    same(&before, &yard.disk, "an older backup");
    assert_eq!(serial(&state_root(&yard.disk)), 2);
    let refused = yard.apply(1, GOOD).expect_err("a rollback");
    assert!(refused.has(Code::SerialTooLow), "{refused}");
}

#[test]
fn floors_that_are_lost_come_back_as_high_as_the_node_proves() {
    let yard = Yard::running();
    let archive = yard.backup("one");
    yard.apply(2, GOOD).expect("release 2");
    let floors = state_root(&yard.disk).floors().expect("floors");
    for damage in [lose as Damage, spoil] {
        let disk = yard.disk.crash(Image::All);
        damage(&disk, "trust/floors.json");
        assert!(state_root(&disk).floors().expect_err("unreadable").has(Code::FloorsUnreadable));
        restore(&disk, &archive).expect("restores");
        assert_eq!(state_root(&disk).floors().expect("floors"), floors, "those of release 2, not of the backup");
        same(&yard.disk, &disk, "floors");
    }
}

#[test]
fn a_newer_backup_raises_floors_and_changes_nothing_that_runs() {
    let yard = Yard::running();
    let older = yard.disk.crash(Image::All);
    yard.apply(2, GOOD).expect("release 2");
    let archive = yard.backup("two");
    let active = current(&state_root(&older));
    restore(&older, &archive).expect("restores");
    assert_eq!((current(&state_root(&older)), serial(&state_root(&older))), (active, 2));
    yard.apply_on(&older, 2, GOOD).expect("release 2 goes on");
}

#[test]
fn a_lost_link_never_leads_to_an_older_generation() {
    let yard = Yard::running();
    let archive = yard.backup("one");
    yard.apply(2, GOOD).expect("release 2");
    let newer = yard.backup("two");
    let lost = yard.disk.crash(Image::All);
    lose(&lost, "current");
    lose(&lost, "lkg");
    let before = node(&lost);
    let refused = restore(&lost, &archive).expect_err("would be older");
    assert!(refused.has(Code::SerialTooLow), "{refused}");
    assert_eq!(changed(&before, &node(&lost)), Vec::<String>::new(), "a refusal writes nothing");
    // Also without floors: the generation that lies there proves what the node has seen.
    lose(&lost, "trust/floors.json");
    assert!(restore(&lost, &archive).expect_err("would be older").has(Code::SerialTooLow));
    restore(&lost, &newer).expect("restores");
    same(&yard.disk, &lost, "links and floors");
}

#[test]
fn a_node_that_went_back_from_a_failed_release_can_be_restored() {
    let yard = Yard::running();
    let refused = yard.apply(2, BAD).expect_err("fails and returns");
    assert!(refused.has(Code::ServiceFailed), "{refused}");
    let archive = yard.backup("went-back");
    assert_eq!((serial(&state_root(&yard.disk)), archive.list().entries.is_empty()), (2, false));
    let fresh = SimDisk::new();
    restore(&fresh, &archive).expect("restores");
    same(&yard.disk, &fresh, "restored");
    // Its own link says which generation was active, so the raised floor is no reason against it.
    lose(&yard.disk, "current");
    restore(&yard.disk, &archive).expect("restores");
    same(&fresh, &yard.disk, "current is back");
    assert!(yard.apply(2, BAD).expect_err("pinned").has(Code::Pinned));
}

#[test]
fn everything_that_is_lost_or_damaged_comes_back() {
    let yard = Yard::running();
    yard.apply(2, GOOD).expect("release 2");
    let archive = yard.backup("two");
    let root = state_root(&yard.disk);
    let active = current(&root);
    let object = root.disk().list(Some(&layout::objects())).expect("objects").remove(0).name;
    let (generation, object) = (format!("generations/{active}"), format!("objects/{object}"));
    let manifest = format!("{generation}/manifest.json");
    let cases: [(&str, Damage); 17] = [
        ("identity/attest.key", lose),
        ("identity/attest.key", spoil),
        ("identity/attest.pub", lose),
        ("trust/root.json", lose),
        ("trust/root.json", spoil),
        ("trust/root.json.sigstore.jsonl", lose),
        ("trust", lose),
        (&generation, lose),
        ("generations", lose),
        (&object, lose),
        ("objects", lose),
        ("outbox", lose),
        ("current", lose),
        ("lkg", lose),
        ("journal", lose),
        ("node.yaml", lose),
        ("node.yaml", spoil),
    ];
    for (path, damage) in cases {
        let disk = yard.disk.crash(Image::All);
        damage(&disk, path);
        let restored = restore(&disk, &archive).unwrap_or_else(|reasons| panic!("{path}: {reasons}"));
        assert_ne!(restored.restored, Vec::<String>::new(), "{path}");
        // What is said to be done is durable, in whatever order the disk kept it.
        for image in Image::EACH {
            same(&yard.disk, &disk.crash(image), &format!("{path}, image {image:?}"));
        }
    }
    // What was damaged is kept for people to look at.
    for (path, kept) in [
        (format!("{generation}/artifacts/agent"), format!("quarantine/{active}/artifacts/agent")),
        (manifest, format!("quarantine/{active}/manifest.json")),
        ("journal/apply.json".to_owned(), "quarantine/apply.json".to_owned()),
    ] {
        let disk = yard.disk.crash(Image::All);
        spoil(&disk, &path);
        let damaged = disk.snapshot().remove(&path);
        restore(&disk, &archive).unwrap_or_else(|reasons| panic!("{path}: {reasons}"));
        let mut after = node(&disk);
        assert_eq!(after.get(&kept), damaged.as_ref(), "{path}");
        after.retain(|path, _| !path.starts_with("quarantine/"));
        assert_eq!(changed(&node(&yard.disk), &after), Vec::<String>::new(), "{path}");
    }
}

#[test]
fn backup_of_another_node_is_refused() {
    let yard = Yard::running();
    let other = Yard::running();
    let archive = other.backup("other");
    // The same id, but the trust roots differ.
    let before = node(&yard.disk);
    let refused = restore(&yard.disk, &archive).expect_err("signed by others");
    assert!(refused.has(Code::RootForked), "{refused}");
    // Without `node.yaml` the attest key tells them apart.
    lose(&yard.disk, "node.yaml");
    let refused = restore(&yard.disk, &archive).expect_err("of another");
    assert!(refused.has(Code::ScopeMismatch), "{refused}");
    let mut after = node(&yard.disk);
    after.extend(
        before.iter().filter(|(path, _)| *path == "node.yaml").map(|(path, seen)| (path.clone(), seen.clone())),
    );
    assert_eq!(changed(&before, &after), Vec::<String>::new());
    // A folder with something of somebody's is no place for a node.
    let strange = SimDisk::new();
    strange.set_len(&RelPath::fixed("letters"), 0).expect("file");
    assert!(restore(&strange, &archive).expect_err("not empty").has(Code::StateRootUnsafe));
    assert_eq!(strange.snapshot().len(), 1);
}

#[test]
fn a_full_disk_ends_a_restore_and_leaves_no_state_root() {
    let yard = Yard::running();
    let archive = yard.backup("one");
    for free in [0, 4096, 16_384, 40_960] {
        let disk = SimDisk::new();
        disk.set_free(free);
        let refused = restore(&disk, &archive).expect_err("full");
        assert!(refused.has(Code::IoError), "{refused}");
        assert!(!state_root(&disk).is_initialized().expect("looks"));
        disk.set_free(1 << 30);
        restore(&disk, &archive).expect("restores");
        same(&yard.disk, &disk, "after the disk was full");
    }
}

#[test]
fn backup_of_a_node_without_a_release_and_of_one_that_waits_staged() {
    let yard = Yard::bare();
    let bare = yard.backup("bare");
    let fresh = SimDisk::new();
    restore(&fresh, &bare).expect("restores");
    same(&yard.disk, &fresh, "bare");
    yard.apply_on(&fresh, 1, GOOD).expect("release 1");
    let held = state_root(&yard.disk).lock("apply").expect("lock");
    assert!(make(&yard.disk, &yard.file("held")).expect_err("held").has(Code::Locked));
    assert!(restore(&yard.disk, &bare).expect_err("held").has(Code::Locked));
    drop(held);
    yard.apply(1, GOOD).expect("release 1");
    yard.stage(2);
    let archive = yard.backup("staged");
    let fresh = SimDisk::new();
    restore(&fresh, &archive).expect("restores");
    same(&yard.disk, &fresh, "staged");
    yard.apply_on(&fresh, 2, GOOD).expect("goes on");
    assert_eq!(state_root(&fresh).generations().expect("generations").len(), 2, "from what was staged");
}

#[test]
fn backup_of_long_names_and_large_files() {
    let yard = Yard::bare();
    let long = ["a", "b", "c"].map(|part| part.repeat(30)).join("/");
    let large = "0123456789abcdef".repeat(200_000);
    let files = [("agent", large.as_str()), (long.as_str(), "long"), ("empty", "")];
    let set = yard.file("long");
    let source = yard.fleet.release(&set, &Release { serial: 1, files: &files, extra: GOOD, channel: "stable" });
    apply(&state_root(&yard.disk), &source, &Recorder::default()).map_err(|failure| failure.reasons).expect("applies");
    let archive = yard.backup("archive");
    assert!(archive.list().entries.iter().any(|entry| entry.path.as_str().len() > 100));
    let fresh = SimDisk::new();
    restore(&fresh, &archive).expect("restores");
    same(&yard.disk, &fresh, "restored");
}

#[test]
fn pins_are_joined_suspension_comes_back_and_a_damaged_trail_is_told() {
    let yard = Yard::running();
    let root = state_root(&yard.disk);
    let pin = |text: &[u8]| BTreeSet::from([Blake3::of(text)]);
    root.write_pinned(&pin(b"then")).expect("pins");
    root.suspend(&Suspension { since: time("2026-11-25T09:00:00Z"), reason: None, owner: None }).expect("suspended");
    let archive = yard.backup("one");
    root.resume().expect("resumed");
    root.write_pinned(&pin(b"now")).expect("pins");
    let trail = layout::audit_log();
    yard.disk.write_at(&trail, 0, b"\xff").expect("spoils");
    let restored = restore(&yard.disk, &archive).expect("restores");
    assert!(restored.notes.iter().any(|note| note.contains("not in the audit trail")), "{:?}", restored.notes);
    let both: BTreeSet<Blake3> = pin(b"then").union(&pin(b"now")).copied().collect();
    assert_eq!(root.pinned().expect("pins"), both);
    assert!(root.is_suspended().expect("looks"));
    // A damaged list is kept, and what the backup knows is known again.
    spoil(&yard.disk, "pins.json");
    restore(&yard.disk, &archive).expect("restores");
    assert_eq!(root.pinned().expect("pins"), pin(b"then"));
    assert!(yard.disk.snapshot().contains_key("quarantine/pins.json"));
}
