//! Facts, drift of every kind, and that looking changes nothing.

use std::path::Path;
use std::sync::Arc;

use autonomy_schema::facts::{Drift, DriftKind, Facts};
use autonomy_schema::{Blake3, Code, Mode, Name, Reasons, Time, set};
use autonomy_stateroot::{
    Disk as _, FactOptions, Link, RealDisk, SimDisk, StatCache, StateRoot, collect, durable, init, layout, learn,
};

use crate::fixture::{ATTEST, Release, SIGNATURES, Watched, node, picture, rel, sim_root, trust_root};

fn facts_with(root: &StateRoot, cache: &StatCache, verify_content: bool) -> Result<Facts, Reasons> {
    let clock = Time::from_unix(1_800_000_000);
    collect(root, &FactOptions { clock, verify_content, os_root: Path::new("/"), cache, units: &|_| None })
}

fn facts(root: &StateRoot) -> Facts {
    facts_with(root, &StatCache::default(), false).expect("collected")
}

fn drift(path: &str, kind: DriftKind, expected: &str, actual: &str) -> Drift {
    Drift::generation(rel(path), kind, expected, actual)
}

/// A node with a small release; `damage` is done to its generation.
fn drift_after(damage: impl FnOnce(&SimDisk, &dyn Fn(&str) -> autonomy_schema::RelPath)) -> Vec<Drift> {
    let (disk, root) = sim_root();
    let generation = Release::small(3).activate(&root);
    damage(&disk, &|path| layout::in_generation(&generation, &rel(path)));
    facts(&root).bound.drift
}

#[test]
fn a_node_without_a_generation_has_facts() {
    let (_, root) = sim_root();
    let facts = facts(&root);
    assert_eq!(facts.bound.node.id.as_str(), "node-a");
    assert_eq!(facts.bound.node.labels, node().labels);
    assert_eq!(facts.bound.trust.root, Blake3::of(&trust_root()));
    assert_eq!((facts.bound.trust.root_version, facts.bound.current, facts.bound.unfinished), (1, None, false));
    assert!(!facts.bound.os.kernel.is_empty() && !facts.bound.os.machine.is_empty());
    assert!(facts.observed.free_bytes > 0 && facts.observed.used_bytes > 0);
}

#[test]
fn an_undisturbed_generation_has_no_drift() {
    let (_, root) = sim_root();
    let release = Release::small(3);
    let generation = release.activate(&root);
    let facts = facts(&root);
    assert_eq!(facts.bound.drift, []);
    let current = facts.bound.current.expect("active");
    assert_eq!((current.generation, current.serial, current.release.as_str()), (generation, 3, "1.0.0"));
    assert_eq!(current.artifacts.len(), 2);
    assert_eq!(current.artifacts[0].path, rel("bin/agent"));
    assert_eq!(current.artifacts[0].blake3, Blake3::of(b"agent"));
    assert_eq!(current.edge, Blake3::of(release.manifest().spec.relay.edge_toml().as_bytes()));
}

#[test]
fn content_of_the_same_size_is_drift_by_digest_and_of_another_by_size() {
    let agent = Blake3::of(b"agent").to_string();
    let found = drift_after(|disk, at| disk.write_at(&at("artifacts/bin/agent"), 0, b"AGENT").expect("damaged"));
    let other = Blake3::of(b"AGENT").to_string();
    assert_eq!(found, [drift("artifacts/bin/agent", DriftKind::Content, &agent, &other)]);
    let found = drift_after(|disk, at| disk.set_len(&at("artifacts/bin/agent"), 6).expect("damaged"));
    assert_eq!(found, [drift("artifacts/bin/agent", DriftKind::Content, &agent, "6 bytes")]);
}

#[test]
fn every_file_of_the_generation_is_compared() {
    for path in [set::LOCK, set::POLICY, "edge.toml", "segments/artifact-1.idx"] {
        let found = drift_after(|disk, at| disk.write_at(&at(path), 0, b"!").expect("damaged"));
        let found: Vec<_> = found.iter().map(|drift| (drift.path.as_str(), drift.kind)).collect();
        assert_eq!(found, [(path, DriftKind::Content)]);
    }
}

#[test]
fn modes_and_missing_files_are_drift() {
    let found = drift_after(|disk, at| disk.set_meta(&at("artifacts/bin/agent"), Mode::FILE).expect("damaged"));
    assert_eq!(found, [drift("artifacts/bin/agent", DriftKind::Mode, "0755", "0644")]);
    let found = drift_after(|disk, at| durable::remove_tree(disk, &at("artifacts/etc")).expect("damaged"));
    let conf = Blake3::of(b"conf").to_string();
    assert_eq!(found, [drift("artifacts/etc/deep/conf", DriftKind::Missing, &conf, "")]);
    for path in [set::MANIFEST_SIGNATURES, set::LOCK_SIGNATURES] {
        let found = drift_after(|disk, at| disk.remove(&at(path)).expect("damaged"));
        assert_eq!(found, [drift(path, DriftKind::Missing, "", "")]);
    }
}

#[test]
fn extra_files_and_folders_are_drift_and_told_once() {
    let found = drift_after(|disk, at| {
        durable::ensure_dir(disk, &at("artifacts/new/deep")).expect("made");
        disk.set_len(&at("artifacts/new/deep/f"), 1).expect("made");
        disk.set_len(&at("artifacts/bin/helper"), 1).expect("made");
        disk.set_len(&at("roots/x"), 1).expect("made");
        disk.set_len(&at("roots/2.root.json"), 1).expect("a root is allowed");
        disk.link(Link::Symbolic { target: "/", at: &at("slash") }).expect("linked");
    });
    let expected = [
        drift("artifacts/bin/helper", DriftKind::Extra, "", "file"),
        drift("artifacts/new", DriftKind::Extra, "", "folder"),
        drift("roots/x", DriftKind::Extra, "", "file"),
        drift("slash", DriftKind::Extra, "", "symbolic link"),
    ];
    assert_eq!(found, expected);
}

#[test]
fn other_kinds_of_things_are_drift() {
    let found = drift_after(|disk, at| {
        disk.remove(&at("artifacts/bin/agent")).expect("removed");
        disk.link(Link::Symbolic { target: "/bin/sh", at: &at("artifacts/bin/agent") }).expect("linked");
    });
    assert_eq!(found, [drift("artifacts/bin/agent", DriftKind::Type, "file", "symbolic link")]);
    let found = drift_after(|disk, at| {
        disk.remove(&at("artifacts/bin/agent")).expect("removed");
        durable::ensure_dir(disk, &at("artifacts/bin/agent/below")).expect("made");
    });
    assert_eq!(found, [drift("artifacts/bin/agent", DriftKind::Type, "file", "folder")]);
    let found = drift_after(|disk, at| {
        disk.rename(&at("artifacts/bin"), &rel("cache/moved")).expect("moved");
        disk.link(Link::Symbolic { target: "../../../cache/moved", at: &at("artifacts/bin") }).expect("linked");
    });
    let agent = Blake3::of(b"agent").to_string();
    let expected = [
        drift("artifacts/bin", DriftKind::Type, "folder", "symbolic link"),
        drift("artifacts/bin/agent", DriftKind::Missing, &agent, ""),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_generation_that_cannot_be_read_is_corrupt_state() {
    for damage in [None, Some(&b"{}"[..]), Some(b"garbage")] {
        let (disk, root) = sim_root();
        let generation = Release::small(3).activate(&root);
        let manifest = layout::generation_manifest(&generation);
        match damage {
            None => disk.remove(&manifest).expect("removed"),
            Some(bytes) => durable::replace(&disk, &manifest, bytes, Mode::FILE).expect("damaged"),
        }
        let reasons = facts_with(&root, &StatCache::default(), false).expect_err("refused");
        assert!(reasons.has(Code::CorruptState) && reasons.exit() == 11, "{reasons}");
    }
}

/// A real state root with a release of `files` artifacts, and a cache that knows it.
fn real_root(folder: &Path, files: usize) -> (Watched<RealDisk>, StateRoot, Name) {
    init(folder, &node(), &trust_root(), SIGNATURES, &ATTEST).expect("initialized");
    let disk = Watched::new(RealDisk::open(folder).expect("opened"));
    let root = StateRoot::on(Arc::new(disk.handle()));
    let artifacts = (0..files).map(|at| (format!("d{}/f{at}", at % 10), Mode::FILE, format!("file {at}").into_bytes()));
    let generation = Release { serial: 1, artifacts: artifacts.collect() }.activate(&root);
    let mut cache = StatCache::load(&root);
    learn(&root, &generation, &mut cache).expect("learned");
    cache.store(&root).expect("stored");
    disk.take();
    (disk, root, generation)
}

#[test]
fn looking_changes_nothing_and_reads_no_content_that_is_known() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s");
    let (disk, root, generation) = real_root(&path, 50);
    let manifest = layout::generation_manifest(&generation).to_string();
    let before = picture(&path);
    let cache = StatCache::load(&root);
    disk.take();
    let known = facts_with(&root, &cache, false).expect("collected");
    assert_eq!(known.bound.drift, []);
    let opened = disk.take();
    let in_generation: Vec<_> = opened.iter().filter(|path| path.starts_with("generations/")).collect();
    assert_eq!(in_generation, [&manifest], "only the manifest itself is read");
    let verified = facts_with(&root, &cache, true).expect("collected");
    assert_eq!(verified.bound, known.bound);
    let opened = disk.take();
    assert_eq!(opened.iter().filter(|path| path.contains("/artifacts/")).count(), 50, "--verify-content reads");
    assert_eq!(picture(&path), before);
}

#[test]
fn a_change_that_keeps_size_and_mtime_is_seen_through_the_cache() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s");
    let (_, root, generation) = real_root(&path, 3);
    let cache = StatCache::load(&root);
    let victim = path.join("generations").join(generation.as_str()).join("artifacts/d1/f1");
    let modified = victim.metadata().and_then(|meta| meta.modified()).expect("a time");
    std::fs::write(&victim, "FILE 1").expect("damaged");
    std::fs::File::options().write(true).open(&victim).and_then(|file| file.set_modified(modified)).expect("hidden");
    let found = facts_with(&root, &cache, false).expect("collected").bound.drift;
    let found: Vec<_> = found.iter().map(|drift| (drift.path.as_str(), drift.kind)).collect();
    assert_eq!(found, [("artifacts/d1/f1", DriftKind::Content)]);
}

#[test]
fn names_that_no_manifest_can_have_are_extra() {
    use std::os::unix::ffi::OsStrExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s");
    let (_, root, generation) = real_root(&path, 1);
    let below = path.join("generations").join(generation.as_str());
    std::fs::write(below.join(std::ffi::OsStr::from_bytes(b"x\xff")), "").expect("made");
    std::fs::create_dir(below.join("new\nline")).expect("made");
    std::fs::write(below.join("new\nline/f"), "").expect("made");
    let found = facts(&root).bound.drift;
    let expected = [drift("new?line", DriftKind::Extra, "", "folder"), drift("x?xff", DriftKind::Extra, "", "file")];
    assert_eq!(found, expected);
}

#[test]
fn hard_links_are_counted_once() {
    let (disk, root) = sim_root();
    let used = || facts(&root).observed.used_bytes;
    let before = used();
    durable::write_new(&disk, &rel("objects/x"), &[1; 10_000], Mode::FILE).expect("written");
    assert_eq!(used(), before + 12_288);
    disk.link(Link::Hard { from: &rel("objects/x"), to: &rel("cache/y") }).expect("linked");
    assert_eq!(used(), before + 12_288);
}

#[test]
fn another_root_of_the_system_is_read_within_itself() {
    let (_, root) = sim_root();
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(folder.path().join("etc")).expect("made");
    std::fs::create_dir_all(folder.path().join("usr/lib")).expect("made");
    std::fs::create_dir_all(folder.path().join("proc/sys/kernel")).expect("made");
    std::fs::write(folder.path().join("usr/lib/os-release"), "ID=field-os\nVERSION_ID=\"7.1\"\n").expect("written");
    // Absolute, as many distributions have it: it must not lead to the file of this machine.
    std::os::unix::fs::symlink("/usr/lib/os-release", folder.path().join("etc/os-release")).expect("linked");
    std::fs::write(folder.path().join("proc/sys/kernel/osrelease"), "6.1.0-9\n").expect("written");
    std::fs::write(folder.path().join("proc/sys/kernel/arch"), "riscv64\n").expect("written");
    let cache = StatCache::default();
    let options = FactOptions {
        clock: Time::EPOCH,
        verify_content: false,
        os_root: folder.path(),
        cache: &cache,
        units: &|_| None,
    };
    let os = collect(&root, &options).expect("collected").bound.os;
    let seen = [os.kernel, os.machine, os.id, os.version_id];
    assert_eq!(seen, ["6.1.0-9", "riscv64", "field-os", "7.1"].map(str::to_owned));
}
