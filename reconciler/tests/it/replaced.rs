//! The operating system is replaced below a state root: seen, rebuilt, counted once. Here on simulated disks; through the
//! real binary in `cli/tests/it/edged.rs`.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use autonomy_precheck::epoch::{self, Verdict};
use autonomy_precheck::{Ask, Report, evidence, precheck};
use autonomy_reconciler::{Approval, Options};
use autonomy_schema::finding::Severity;
use autonomy_schema::os::OsFacts;
use autonomy_schema::{Code, Mode, Reasons, RelPath};
use autonomy_stateroot::{Image, SimDisk, StateRoot, durable};

use crate::crash::{digest, is_rebuilt};
use crate::fixture::{Fleet, Recorder, Release, SameDisk, apply, options, state_root, time};

const STEPS: &str = "  reconstruction: { steps: [ { copyBinary: { artifact: agent, to: /opt/fleet/agent, mode: \"0755\" } }, { writeFile: { \
                     to: /etc/autonomy/agent.conf, content: \"of this release\", mode: \"0640\" } }, { symlink: { at: \
                     /usr/local/bin/agent, target: /opt/fleet/agent } }, { directory: { path: /opt/fleet/state, mode: \
                     \"0750\" } }, { systemdUnit: { name: agent.service, artifact: unit, enable: true } } ] }";
const UNIT: &str = "[Service]\nExecStart=/usr/local/bin/agent\n[Install]\nWantedBy=multi-user.target\n";

fn kernel(release: &str) -> OsFacts {
    OsFacts { kernel: release.to_owned(), machine: "x86_64".to_owned(), ..OsFacts::default() }
}

/// One precheck of a machine with this operating system. The cgroup root of the test machine plays no part.
pub(crate) fn look(root: &StateRoot, os: &OsFacts) -> Report {
    look_as(root, os, false, Path::new("/nonexistent"))
}

fn look_as(root: &StateRoot, os: &OsFacts, dry_run: bool, cgroup_root: &Path) -> Report {
    let platform = SameDisk(root.clone());
    let ask = Ask {
        os: os.clone(),
        platform: &platform,
        cgroup_root,
        clock: time("2026-11-25T09:00:00Z"),
        dry_run,
        actor: "uid:0",
        each_step: &|_| {},
    };
    precheck(root, &ask)
}

fn epoch(root: &StateRoot) -> u64 {
    root.os_fingerprint().expect("record").expect("present").boot_epoch
}

/// A node that runs a release with reconstruction steps, and was looked at once under kernel 1.
fn node(extra: &'static str) -> SimDisk {
    let folder = tempfile::tempdir().expect("folder");
    let fleet = Fleet::new();
    let files: &'static [(&'static str, &'static str)] = &[("agent", "one"), ("unit", UNIT)];
    let source = fleet.release(folder.path(), &Release { serial: 1, files, extra, channel: "stable" });
    let disk = fleet.node();
    let root = state_root(&disk);
    apply(&root, &source, &Recorder::default()).expect("applies");
    let report = look(&root, &kernel("6.1.0-1"));
    assert_eq!((report.exit, report.boot_epoch), (0, Some(1)), "{report:?}");
    disk
}

/// What a new operating system leaves of the old one: nothing.
fn wipe(disk: &SimDisk) {
    for folder in ["opt", "etc", "usr"] {
        durable::remove_tree(disk, &RelPath::fixed(folder)).expect("removes");
    }
    autonomy_stateroot::Disk::sync(disk, autonomy_stateroot::SyncTarget::Fs).expect("syncs");
}

fn codes(report: &Report) -> Vec<Code> {
    let errors = report.findings.iter().filter(|finding| finding.severity == Severity::Error);
    errors.map(|finding| finding.code).collect()
}

#[test]
fn fingerprint_change_kernel_only_triggers_reconstruction() {
    let disk = node(STEPS);
    let root = state_root(&disk);
    let same = look(&root, &kernel("6.1.0-1"));
    assert!(same.reconstructed.is_empty() && same.boot_epoch == Some(1), "{same:?}");
    wipe(&disk);
    let dry = look_as(&root, &kernel("6.1.0-2"), true, Path::new("/nonexistent"));
    assert_eq!((dry.exit, dry.boot_epoch, dry.reconstructed.len()), (0, Some(1), 5), "{dry:?}");
    assert_eq!(epoch(&root), 1, "a dry run writes nothing");
    let report = look(&root, &kernel("6.1.0-2"));
    assert_eq!((report.exit, report.boot_epoch), (0, Some(2)), "{report:?}");
    let labels = ["copyBinary /opt/fleet/agent", "writeFile /etc/autonomy/agent.conf", "symlink /usr/local/bin/agent"];
    assert_eq!(report.reconstructed[..3], labels);
    let changed = &report.fingerprint.expect("fingerprint").changed;
    assert_eq!(changed.len(), 1, "{changed:?}");
    assert_eq!(
        (changed[0].component.as_str(), changed[0].old.as_str(), changed[0].new.as_str()),
        ("kernel", "6.1.0-1", "6.1.0-2")
    );
    is_rebuilt(&root, "after");
    let link = "etc/systemd/system/multi-user.target.wants/agent.service";
    let link = autonomy_stateroot::Query::read_link(&disk, &RelPath::fixed(link)).expect("reads");
    assert_eq!(link.as_deref(), Some("/etc/systemd/system/agent.service"));
    let chain = evidence::verify(&root).expect("verifies").expect("present");
    let current = &chain.current;
    assert_eq!((current.boot_epoch, current.files.len()), (2, 3), "{current:?}");
    let active = root.current().expect("current").expect("active");
    let manifest = autonomy_precheck::trusted::admitted(&root, &active).expect("verifies");
    assert_eq!(current.manifest, Some(manifest.fingerprint()));
    assert!(current.plan_id.is_some(), "it is tied to the plan that caused it");
    // The next one follows from it, and keeps it.
    assert_eq!(look(&root, &kernel("6.1.0-3")).boot_epoch, Some(3));
    let chain = evidence::verify(&root).expect("verifies").expect("present");
    assert_eq!(chain.previous.map(|previous| previous.boot_epoch), Some(2));
    assert_eq!(root.floors().expect("floors").expect("present").boot_epoch, 3);
}

/// Cuts the power at every verb of the second look, in every image; the next look ends as it would have.
fn cut_everywhere(before: &SimDisk, os: &OsFacts, wanted: u64) {
    let whole = before.crash(Image::All);
    let start = whole.verbs();
    assert_eq!(look(&state_root(&whole), os).boot_epoch, Some(wanted));
    let verbs = whole.verbs() - start;
    assert!(verbs > 60, "a reconstruction of {verbs} verbs tests nothing");
    let mut seen = BTreeSet::new();
    for cut in 1..=verbs {
        for image in Image::EACH {
            let disk = before.crash(Image::All);
            disk.stop_at(disk.verbs() + cut);
            look(&state_root(&disk), os);
            let broken = disk.crash(image);
            if !seen.insert(digest(&broken)) {
                continue;
            }
            let place = format!("cut at verb {cut} of {verbs}, image {image:?}");
            is_made_good(&broken.crash(Image::All), os, wanted, &place);
            cut_again(&broken, os, wanted, &place, image);
        }
    }
}

/// Cuts the look after a cut as well. `make soak` does it in every image.
fn cut_again(broken: &SimDisk, os: &OsFacts, wanted: u64, place: &str, first: Image) {
    let all = std::env::var_os("AUTONOMY_SOAK").is_some();
    if !all && first != Image::Synced {
        return;
    }
    let images: &[Image] = if all { &Image::EACH } else { &[Image::Synced] };
    let mut seen = BTreeSet::new();
    for cut in 1.. {
        let disk = broken.crash(Image::All);
        let end = disk.verbs() + cut;
        disk.stop_at(end);
        look(&state_root(&disk), os);
        if disk.verbs() < end {
            break;
        }
        for image in images {
            let again = disk.crash(*image);
            if seen.insert(digest(&again)) {
                is_made_good(&again, os, wanted, &format!("{place}; then at verb {cut}, image {image:?}"));
            }
        }
    }
}

/// What is read before the next look is never a half thing, and the next look makes all good, once.
fn is_made_good(disk: &SimDisk, os: &OsFacts, wanted: u64, place: &str) {
    let root = state_root(disk);
    evidence::verify(&root).unwrap_or_else(|reasons| panic!("{place}: before the next look: {reasons}"));
    let report = look(&root, os);
    assert_eq!((report.exit, report.boot_epoch), (0, Some(wanted)), "{place}: {report:?}");
    is_rebuilt(&root, place);
    let chain = evidence::verify(&root).unwrap_or_else(|reasons| panic!("{place}: {reasons}")).expect("evidence");
    assert_eq!(chain.current.boot_epoch, wanted, "{place}");
    assert_eq!(chain.previous.map_or(1, |previous| previous.boot_epoch), wanted - 1, "{place}");
    assert_eq!(root.floors().expect("floors").expect("present").boot_epoch, wanted, "{place}");
    let again = look(&root, os);
    assert_eq!((again.boot_epoch, again.reconstructed.len()), (Some(wanted), 0), "{place}: {again:?}");
}

#[test]
fn a_crash_at_every_verb_of_the_first_reconstruction() {
    let disk = node(STEPS);
    wipe(&disk);
    cut_everywhere(&disk, &kernel("6.1.0-2"), 2);
}

#[test]
fn a_crash_at_every_verb_of_a_later_reconstruction() {
    let disk = node(STEPS);
    let root = state_root(&disk);
    for (release, wanted) in [("6.1.0-2", 2), ("6.1.0-3", 3)] {
        assert_eq!(look(&root, &kernel(release)).boot_epoch, Some(wanted));
    }
    wipe(&disk);
    cut_everywhere(&disk, &kernel("6.1.0-4"), 4);
}

#[test]
fn no_space_at_any_verb_leaves_nothing_half() {
    const ENOSPC: i32 = 28;
    let before = node(STEPS);
    wipe(&before);
    let whole = before.crash(Image::All);
    let start = whole.verbs();
    look(&state_root(&whole), &kernel("6.1.0-2"));
    let mut failed = 0;
    for verb in 1..=whole.verbs() - start {
        let disk = before.crash(Image::All);
        disk.fail_at(disk.verbs() + verb, ENOSPC);
        let report = look(&state_root(&disk), &kernel("6.1.0-2"));
        failed += u32::from(report.exit != 0);
        assert!(report.exit == 0 || matches!(report.exit, 2 | 5), "verb {verb}: {report:?}");
        is_made_good(&disk.crash(Image::All), &kernel("6.1.0-2"), 2, &format!("no space at verb {verb}"));
    }
    assert!(failed > 40, "only {failed} of them were told");
}

#[test]
fn a_power_cut_between_two_replacements_counts_both() {
    // The evidence of the second system is there, its record is not; then the first one comes back.
    let before = node(STEPS);
    let whole = before.crash(Image::All);
    let start = whole.verbs();
    look(&state_root(&whole), &kernel("6.1.0-2"));
    let mut counted = BTreeSet::new();
    for cut in 1..=whole.verbs() - start {
        let disk = before.crash(Image::All);
        disk.stop_at(disk.verbs() + cut);
        look(&state_root(&disk), &kernel("6.1.0-2"));
        let broken = disk.crash(Image::Synced);
        let report = look(&state_root(&broken), &kernel("6.1.0-1"));
        assert_eq!(report.exit, 0, "{report:?}");
        counted.insert(report.boot_epoch.expect("epoch"));
    }
    assert_eq!(counted, BTreeSet::from([1, 3]), "the second system came into being, or it did not");
}

/// Removes what is named.
fn lose(disk: &SimDisk, paths: &[&'static str]) {
    for path in paths {
        durable::remove_tree(disk, &RelPath::fixed(path)).expect("removes");
    }
}

#[test]
fn no_epoch_is_used_twice_whatever_is_deleted() {
    let before = node(STEPS);
    let root = state_root(&before);
    for (release, wanted) in [("6.1.0-2", 2), ("6.1.0-3", 3)] {
        assert_eq!(look(&root, &kernel(release)).boot_epoch, Some(wanted));
    }
    let record = "bootstrap/os_fingerprint.json";
    let cases: [(&[&'static str], u64); 4] =
        [(&[record], 3), (&["epoch"], 3), (&[record, "epoch"], 4), (&["bootstrap"], 3)];
    for (lost, same) in cases {
        let disk = before.crash(Image::All);
        lose(&disk, lost);
        let root = state_root(&disk);
        assert_eq!(look(&root, &kernel("6.1.0-3")).boot_epoch, Some(same), "{lost:?}, the same system");
        let disk = before.crash(Image::All);
        lose(&disk, lost);
        let root = state_root(&disk);
        let report = look(&root, &kernel("6.1.0-9"));
        assert_eq!((report.exit, report.boot_epoch), (0, Some(4)), "{lost:?}, another system: {report:?}");
    }
}

/// Writes over a file of the state root.
fn put(disk: &SimDisk, path: &'static str, bytes: &[u8]) {
    durable::replace(disk, &RelPath::fixed(path), bytes, Mode::PRIVATE).expect("writes");
}

fn file(disk: &SimDisk, path: &'static str) -> Vec<u8> {
    autonomy_stateroot::read_capped(disk, &RelPath::fixed(path), 1 << 20).expect("reads").expect("present")
}

#[test]
fn evidence_and_record_that_are_damaged_forged_or_of_the_future_are_told_and_count_for_nothing() {
    const EVIDENCE: &str = "epoch/current/evidence.json";
    const RECORD: &str = "bootstrap/os_fingerprint.json";
    let before = node(STEPS);
    for release in ["6.1.0-2", "6.1.0-3"] {
        look(&state_root(&before), &kernel(release));
    }
    let replaced = |bytes: &[u8], from: &str, to: &str| {
        let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
        assert!(text.contains(from), "{text}");
        text.replacen(from, to, 1).into_bytes()
    };
    let evidence = file(&before, EVIDENCE);
    let record = file(&before, RECORD);
    let cases: Vec<(&str, &'static str, Vec<u8>, Code)> = vec![
        ("evidence cut off", EVIDENCE, evidence[..evidence.len() / 2].to_vec(), Code::EvidenceForged),
        (
            "evidence of a higher epoch",
            EVIDENCE,
            replaced(&evidence, "\"bootEpoch\":3", "\"bootEpoch\":9"),
            Code::EvidenceForged,
        ),
        ("evidence without signature", "epoch/current/evidence.json.sigstore.jsonl", Vec::new(), Code::EvidenceForged),
        (
            "the one before it changed",
            "epoch/previous/evidence.json",
            replaced(&evidence, "3", "4"),
            Code::EvidenceForged,
        ),
        ("record cut off", RECORD, record[..record.len() / 2].to_vec(), Code::CorruptState),
        ("record of other components", RECORD, replaced(&record, "6.1.0-3", "6.1.0-7"), Code::CorruptState),
        (
            "record of a higher epoch",
            RECORD,
            replaced(&record, "\"bootEpoch\":3", "\"bootEpoch\":9"),
            Code::CorruptState,
        ),
    ];
    for (what, path, bytes, code) in cases {
        let disk = before.crash(Image::All);
        put(&disk, path, &bytes);
        let root = state_root(&disk);
        let snapshot = disk.snapshot();
        let report = look(&root, &kernel("6.1.0-9"));
        assert_eq!((report.exit, codes(&report)), (2, vec![code]), "{what}: {report:?}");
        let after = disk.snapshot();
        let touched = |folder: &str| after.iter().filter(|(path, _)| path.starts_with(folder)).count();
        assert_eq!(touched("epoch"), snapshot.iter().filter(|(path, _)| path.starts_with("epoch")).count(), "{what}");
        assert_eq!(root.floors().expect("floors").expect("present").boot_epoch, 3, "{what}");
    }
    // Consistent in itself, of the epoch that is proven, and another system than the evidence says.
    let disk = before.crash(Image::All);
    let mut forged = state_root(&disk).os_fingerprint().expect("record").expect("present");
    forged.components = kernel("6.1.0-9");
    forged.composite = forged.components.composite().expect("canonical");
    put(&disk, RECORD, &autonomy_schema::Document::to_canonical(&forged).expect("canonical"));
    let report = look(&state_root(&disk), &kernel("6.1.0-9"));
    assert_eq!((report.exit, codes(&report)), (2, vec![Code::CorruptState]), "{report:?}");
    // Of the future: told once, and written anew, so that a clock that was wrong once is not told for years.
    let disk = before.crash(Image::All);
    put(&disk, RECORD, &replaced(&record, "2026-11-25T09:00:00Z", "2031-01-01T00:00:00Z"));
    let report = look(&state_root(&disk), &kernel("6.1.0-3"));
    assert_eq!((report.exit, codes(&report)), (1, vec![Code::ClockBehind]), "{report:?}");
    assert_eq!(look(&state_root(&disk), &kernel("6.1.0-3")).exit, 0);
}

#[test]
fn a_node_that_runs_nothing_is_recorded_and_counted_all_the_same() {
    let disk = Fleet::new().node();
    let root = state_root(&disk);
    assert_eq!(look(&root, &kernel("6.1.0-1")).boot_epoch, Some(1));
    assert_eq!(look(&root, &kernel("6.1.0-2")).boot_epoch, Some(2));
    let chain = evidence::verify(&root).expect("verifies").expect("present");
    assert_eq!((chain.current.manifest, chain.current.files.len()), (None, 0));
}

#[test]
fn an_artifact_is_taken_from_wherever_it_is_whole_and_named_where_it_is_nowhere() {
    let before = node(STEPS);
    let current = state_root(&before).current().expect("current").expect("active");
    let in_generation = format!("generations/{current}/artifacts/agent").parse::<RelPath>().expect("path");
    wipe(&before);
    let disk = before.crash(Image::All);
    autonomy_stateroot::Disk::remove(&disk, &in_generation).expect("removes");
    let report = look(&state_root(&disk), &kernel("6.1.0-2"));
    assert_eq!((report.exit, report.boot_epoch), (0, Some(2)), "the object is whole: {report:?}");
    let disk = before.crash(Image::All);
    // One inode: generation and object are damaged together.
    autonomy_stateroot::Disk::write_at(&disk, &in_generation, 0, b"X").expect("writes");
    let report = look(&state_root(&disk), &kernel("6.1.0-2"));
    assert_eq!((report.exit, report.boot_epoch), (5, Some(1)), "{report:?}");
    let told = report.findings.iter().find(|finding| finding.code == Code::ReconstructionFailed).expect("told");
    assert!(told.message.contains("`agent`"), "{}", told.message);
    assert_eq!(epoch(&state_root(&disk)), 1);
}

#[test]
fn an_artifact_that_is_whole_nowhere_is_put_together_from_segments() {
    let mut noise = vec![0; 300_000];
    blake3::Hasher::new_derive_key("autonomy test noise").finalize_xof().fill(&mut noise);
    let common = noise.iter().map(|byte| char::from(b'a' + byte % 26)).collect::<String>();
    let (one, two) = (format!("{common} of release 1"), format!("{common} of release 2"));
    let folder = tempfile::tempdir().expect("folder");
    let fleet = Fleet::new();
    let disk = fleet.node();
    let root = state_root(&disk);
    let extra = "  reconstruction: { steps: [ { copyBinary: { artifact: agent, to: /opt/agent, mode: \"0755\" } } ] }";
    for (serial, agent) in [(1, &one), (2, &two)] {
        let files = [("agent", agent.as_str())];
        let release = Release { serial, files: &files, extra, channel: "stable" };
        let source = fleet.release(&folder.path().join(serial.to_string()), &release);
        apply(&root, &source, &Recorder::default()).expect("applies");
    }
    look(&root, &kernel("6.1.0-1"));
    wipe(&disk);
    let current = root.current().expect("current").expect("active");
    let damaged = format!("generations/{current}/artifacts/agent").parse::<RelPath>().expect("path");
    // The beginning is whole in release 1 alone, the end here alone.
    autonomy_stateroot::Disk::write_at(&disk, &damaged, 10, b"damage").expect("writes");
    let report = look(&root, &kernel("6.1.0-2"));
    assert_eq!((report.exit, report.boot_epoch), (0, Some(2)), "{report:?}");
    assert!(file(&disk, "opt/agent") == two.as_bytes());
}

/// Puts something in the way.
type Obstacle<'a> = &'a dyn Fn(&SimDisk);

#[test]
fn what_stands_in_the_way_is_told_and_not_followed() {
    let before = node(STEPS);
    wipe(&before);
    let link = |at: &'static str, target: &'static str| {
        move |disk: &SimDisk| {
            let at = RelPath::fixed(at);
            durable::make_dirs(disk, &at.parent().expect("parent")).expect("folders");
            let link = autonomy_stateroot::Link::Symbolic { target, at: &at };
            autonomy_stateroot::Disk::link(disk, link).expect("links");
        }
    };
    let folder =
        |at: &'static str| move |disk: &SimDisk| drop(durable::make_dirs(disk, &RelPath::fixed(at)).expect("folders"));
    let cases: [(&str, Obstacle<'_>, Code); 4] = [
        ("a link to where nothing may be written", &link("opt/fleet/agent", "/etc/shadow"), Code::DestinationRefused),
        ("a link above it", &link("opt/fleet", "/etc"), Code::ReconstructionFailed),
        ("a directory", &folder("opt/fleet/agent"), Code::ReconstructionFailed),
        (
            "a file where a folder goes",
            &|disk: &SimDisk| {
                durable::make_dirs(disk, &RelPath::fixed("opt")).expect("folder");
                put(disk, "opt/fleet", b"a file");
            },
            Code::ReconstructionFailed,
        ),
    ];
    for (what, obstacle, code) in cases {
        let disk = before.crash(Image::All);
        obstacle(&disk);
        let outside: Vec<_> = disk.snapshot().into_iter().filter(|(path, _)| path.starts_with("etc/shadow")).collect();
        let report = look(&state_root(&disk), &kernel("6.1.0-2"));
        assert_eq!((report.exit, codes(&report)), (5, vec![code]), "{what}: {report:?}");
        assert_eq!(epoch(&state_root(&disk)), 1, "{what}");
        let now: Vec<_> = disk.snapshot().into_iter().filter(|(path, _)| path.starts_with("etc/shadow")).collect();
        assert_eq!(outside, now, "{what}");
    }
    // A link that leads to where a step may write is replaced, not followed.
    let disk = before.crash(Image::All);
    link("opt/fleet/agent", "/opt/other")(&disk);
    assert_eq!(look(&state_root(&disk), &kernel("6.1.0-2")).exit, 0);
    assert!(!disk.snapshot().keys().any(|path| path.starts_with("opt/other")));
}

/// A folder that looks like cgroup v2 with these controllers, below the root of an operating system.
fn controllers(os_root: &Path, list: &str) {
    std::fs::create_dir_all(os_root.join("sys/fs/cgroup")).expect("folders");
    std::fs::write(os_root.join("sys/fs/cgroup/cgroup.controllers"), list).expect("writes");
}

#[test]
fn fi_assurance_high_durability_unavailable() {
    let (folder, os_root) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
    let fleet = Fleet::new();
    let files: &'static [(&'static str, &'static str)] = &[("agent", "one")];
    let release = Release { serial: 1, files, extra: "  precheck: { durability: high }", channel: "stable" };
    let source = fleet.release(folder.path(), &release);
    let disk = fleet.node();
    let root = state_root(&disk);
    let options = Options { os_root: os_root.path(), ..options() };
    let applies = || -> Result<(), Reasons> {
        let prepared = autonomy_reconciler::prepare(&root, &source, &options)?;
        let (actor, runner, mut silent) = (crate::fixture::actor(), Recorder::default(), autonomy_apply::Silent);
        let (actor, runner, observer) = (&actor, &runner, &mut silent);
        let approval =
            Approval { prepared, saved: None, stage_only: false, now_anyway: false, actor, runner, observer };
        autonomy_reconciler::apply(&root, &source, approval, &options).map(|_| ()).map_err(|failure| failure.reasons)
    };
    // cgroup v1 alone, then v2 without memory, then all of it.
    let refused = applies().expect_err("cgroup v1 alone");
    assert!(refused.has(Code::AssuranceReduced) && refused.exit() == 5, "{refused}");
    controllers(os_root.path(), "cpuset cpu io pids\n");
    assert!(applies().expect_err("no memory").has(Code::AssuranceReduced));
    assert_eq!(root.current().expect("current"), None);
    controllers(os_root.path(), "cpuset cpu io memory pids\n");
    applies().expect("high durability");
    // What runs already, and the platform gives it no more.
    let cgroup = os_root.path().join("sys/fs/cgroup");
    let look = || look_as(&root, &kernel("6.1.0-1"), false, &cgroup);
    assert_eq!(look().exit, 0);
    controllers(os_root.path(), "cpuset cpu io pids\n");
    let report = look();
    assert_eq!((report.exit, codes(&report)), (1, vec![Code::AssuranceReduced]));
    assert!(
        report.findings.iter().any(|finding| finding.message.contains("lacks the controllers memory")),
        "{report:?}"
    );
    std::fs::remove_file(cgroup.join("cgroup.controllers")).expect("removes");
    assert_eq!((look().exit, codes(&look())), (1, vec![Code::AssuranceReduced]));
}

#[test]
fn fi_assurance_reduced_envelope_logged() {
    let disk = node("");
    let root = state_root(&disk);
    let logged = |root: &StateRoot| {
        let kinds = RefCell::new(Vec::new());
        let role = "edged".parse().expect("role");
        autonomy_telemetry::wal::read(root, &role, &mut |stored| kinds.borrow_mut().push(stored.kind.clone()))
            .expect("reads");
        kinds.into_inner().iter().filter(|kind| *kind == "edge.assurance.reduced").count()
    };
    let before = logged(&root);
    let cgroup = tempfile::tempdir().expect("folder");
    let report = look_as(&root, &kernel("6.1.0-1"), false, cgroup.path());
    // Standard durability goes on, and says that it is no more than that.
    let told = report.findings.iter().find(|finding| finding.code == Code::AssuranceReduced).expect("told");
    assert_eq!((report.exit, told.severity), (0, Severity::Warning));
    assert_eq!(logged(&root), before + 1);
    std::fs::write(cgroup.path().join("cgroup.controllers"), "cpu memory\n").expect("writes");
    look_as(&root, &kernel("6.1.0-1"), false, cgroup.path());
    assert_eq!(logged(&root), before + 1, "nothing is reduced, nothing is logged");
}

#[test]
fn a_state_root_that_does_not_stay_is_told() {
    for (magic, told) in [(0x794C_7630, "overlay"), (0x0102_1994, "tmpfs")] {
        let disk = Fleet::new().node();
        disk.set_fs_type(magic);
        let report = look(&state_root(&disk), &kernel("6.1.0-1"));
        assert_eq!((report.exit, codes(&report)), (2, vec![Code::StateRootUnsafe]), "{report:?}");
        assert!(report.findings.iter().any(|finding| finding.message.contains(told)), "{report:?}");
    }
}

#[test]
fn a_ceiling_that_is_exceeded_is_told() {
    let extra = "  relay: { storage: { diskCeilingBytes: 1000000 } }\n  precheck: { minFreeBytes: 100000 }";
    let disk = node(extra);
    let root = state_root(&disk);
    assert_eq!(look(&root, &kernel("6.1.0-1")).exit, 0);
    disk.set_free(50_000);
    let report = look(&root, &kernel("6.1.0-1"));
    assert_eq!((report.exit, codes(&report)), (1, vec![Code::DiskFull]), "{report:?}");
    disk.set_free(1 << 30);
    let large = RelPath::fixed("quarantine/large");
    autonomy_stateroot::Disk::set_len(&disk, &large, 0).expect("makes");
    autonomy_stateroot::Disk::write_at(&disk, &large, 0, &vec![7; 1_200_000]).expect("writes");
    let report = look(&root, &kernel("6.1.0-1"));
    assert_eq!((report.exit, codes(&report)), (1, vec![Code::CeilingExceeded]), "{report:?}");
}

#[test]
fn a_precheck_that_was_cut_off_is_no_reason_why_something_runs() {
    let before = node(STEPS);
    let whole = before.crash(Image::All);
    let start = whole.verbs();
    look(&state_root(&whole), &kernel("6.1.0-2"));
    for cut in 1..=whole.verbs() - start {
        let disk = before.crash(Image::All);
        disk.stop_at(disk.verbs() + cut);
        look(&state_root(&disk), &kernel("6.1.0-2"));
        let root = state_root(&disk.crash(Image::All));
        let moment = autonomy_apply::ServiceRunner::moment(&Recorder::default());
        let status = autonomy_reconciler::status(&root, time("2026-11-25T09:00:00Z"), &moment);
        let why = status.why.expect("it was applied");
        assert_eq!((why.verb.as_str(), why.outcome.as_str()), ("apply", "applied"), "cut at verb {cut}");
    }
}

#[test]
fn the_verdict_names_what_changed() {
    let disk = node("");
    let root = state_root(&disk);
    let sight = epoch::look(&root, kernel("6.1.0-2")).expect("looks");
    let Verdict::Replaced { epoch, changed, .. } = sight.verdict else { panic!("{sight:?}") };
    assert_eq!((epoch, changed.len()), (2, 1));
}
