//! Power loss at every counted verb of an apply, and at every counted verb of the recovery after it, in every image
//! that the loss may leave: the old generation or the new one is active, whole; floors are never lower; the apply can
//! be repeated and then has nothing left to do. Exhaustive, not sampled.

use std::collections::BTreeSet;

use autonomy_schema::floors::Floors;
use autonomy_schema::{Blake3, Code, Name};
use autonomy_stateroot::{DirSet, FactOptions, Image, SimDisk, StatCache, StateRoot, collect};
use autonomy_telemetry::Audit;

use crate::fixture::{Fleet, Recorder, Release, apply, prepare, state_root, time};

const GOOD: &str =
    "  services: [ { command: [bin/good] } ]\n  relay: { peers: [ { id: node-b, address: \"10.0.0.2:7443\" } ] }";
const BAD: &str = "  services: [ { command: [bin/good] }, { command: [bin/bad] } ]";

/// A change whose every verb is cut.
struct Story {
    /// The node before it.
    before: SimDisk,
    /// What is applied.
    source: DirSet,
    /// Whether it ends in a return to the old generation.
    returns: bool,
}

/// The side before the change.
pub(crate) struct Old {
    pub(crate) current: Option<Name>,
    pub(crate) floors: Floors,
}

impl Story {
    fn run(&self) {
        let root = state_root(&self.before);
        let old =
            Old { current: root.current().expect("current"), floors: root.floors().expect("floors").expect("present") };
        let verbs = self.verbs_of_whole_run();
        assert!(verbs > 20, "an apply of {verbs} verbs tests nothing");
        // Many cuts leave the same bytes; each distinct state is looked at once.
        let mut seen = BTreeSet::new();
        for cut in 1..=verbs {
            for image in Image::EACH {
                let disk = self.before.crash(Image::All);
                let start = disk.verbs();
                disk.stop_at(start + cut);
                // The result is not looked at: a warning about the last records is a success.
                apply(&state_root(&disk), &self.source, &Recorder::default()).ok();
                let broken = disk.crash(image);
                if !seen.insert(digest(&broken)) {
                    continue;
                }
                let place = format!("cut at verb {cut} of {verbs}, image {image:?}");
                self.check_recovery(&broken, &old, &place);
                cut_recovery(&broken, &old, &place);
            }
        }
    }

    fn verbs_of_whole_run(&self) -> u64 {
        let disk = self.before.crash(Image::All);
        let start = disk.verbs();
        let result = apply(&state_root(&disk), &self.source, &Recorder::default());
        assert_eq!(result.is_err(), self.returns, "{result:?}");
        disk.verbs() - start
    }

    /// Recovers what a crash left; the node is whole, and goes on.
    fn check_recovery(&self, broken: &SimDisk, old: &Old, place: &str) {
        let disk = broken.crash(Image::All);
        let root = state_root(&disk);
        recover(&root).unwrap_or_else(|reasons| panic!("{place}: recovery: {reasons}"));
        check_whole(&root, old, place);
        self.check_goes_on(&root, place);
    }

    /// The same apply again ends as it would have, and then there is nothing to do.
    fn check_goes_on(&self, root: &StateRoot, place: &str) {
        let result = apply(root, &self.source, &Recorder::default());
        if self.returns {
            let failure = result.expect_err("ends in a return");
            let right = failure.reasons.has(Code::ServiceFailed) || failure.reasons.has(Code::Pinned);
            assert!(right, "{place}: {}", failure.reasons);
            return;
        }
        result.unwrap_or_else(|failure| panic!("{place}: repeated apply: {}", failure.reasons));
        let plan = prepare(root, &self.source).expect("plan");
        assert!(!plan.plan.has_changes(), "{place}: {:?}", plan.doc.steps);
        assert_eq!(root.lkg().expect("lkg"), root.current().expect("current"), "{place}");
        Audit::verify(root).unwrap_or_else(|error| panic!("{place}: {error}"));
    }
}

/// Cuts the recovery itself at every verb.
fn cut_recovery(broken: &SimDisk, old: &Old, place: &str) {
    let mut seen = BTreeSet::new();
    for cut in 1.. {
        let disk = broken.crash(Image::All);
        let start = disk.verbs();
        disk.stop_at(start + cut);
        recover(&state_root(&disk)).ok();
        if disk.verbs() < start + cut {
            break;
        }
        for image in [Image::Synced, Image::MetadataFirst] {
            let place = format!("{place}; recovery cut at verb {cut}, image {image:?}");
            let again = disk.crash(image);
            if !seen.insert(digest(&again)) {
                continue;
            }
            let root = state_root(&again);
            recover(&root).unwrap_or_else(|reasons| panic!("{place}: second recovery: {reasons}"));
            check_whole(&root, old, &place);
        }
    }
}

/// What lies on a disk, as one digest.
pub(crate) fn digest(disk: &SimDisk) -> Blake3 {
    Blake3::of(format!("{:?}", disk.snapshot()).as_bytes())
}

fn recover(root: &StateRoot) -> Result<(), autonomy_schema::Reasons> {
    let actor = crate::fixture::actor();
    let runner = Recorder::default();
    autonomy_reconciler::recover_unfinished(root, &actor, &runner, &mut autonomy_apply::Silent).map(|_| ())
}

/// Old or new, whole, floors not lower.
pub(crate) fn check_whole(root: &StateRoot, old: &Old, place: &str) {
    let facts = collect(
        root,
        &FactOptions {
            clock: time("2026-11-25T09:00:00Z"),
            verify_content: true,
            os_root: std::path::Path::new("/nonexistent"),
            cache: &StatCache::default(),
            units: &|_| None,
        },
    );
    let facts = facts.unwrap_or_else(|reasons| panic!("{place}: facts: {reasons}"));
    assert_eq!(facts.bound.drift, [], "{place}");
    assert!(!facts.bound.unfinished, "{place}");
    let floors = root.floors().expect("floors").unwrap_or_else(|| panic!("{place}: floors are gone"));
    let serial = |floors: &Floors| floors.streams.values().map(|floor| floor.serial).max().unwrap_or(0);
    assert!(serial(&floors) >= serial(&old.floors), "{place}: floors fell");
    assert!(floors.promoted >= old.floors.promoted, "{place}");
    match &facts.bound.current {
        Some(current) if Some(&current.generation) != old.current.as_ref() => {
            assert_eq!(current.serial, serial(&floors), "{place}: active above its floor");
        }
        Some(_) => {}
        None => assert_eq!(old.current, None, "{place}: nothing is active any more"),
    }
}

fn release(serial: u64, agent: &'static str, extra: &'static str) -> Release<'static> {
    let files: &'static [(&'static str, &'static str)] = match agent {
        "one" => &[("agent", "one"), ("etc/same", "same")],
        _ => &[("agent", "two"), ("etc/same", "same")],
    };
    Release { serial, files, extra, channel: "stable" }
}

#[test]
fn first_activation() {
    let folder = tempfile::tempdir().expect("folder");
    let fleet = Fleet::new();
    let source = fleet.release(folder.path(), &release(1, "one", GOOD));
    Story { before: fleet.node(), source, returns: false }.run();
}

#[test]
fn first_activation_that_fails() {
    let folder = tempfile::tempdir().expect("folder");
    let fleet = Fleet::new();
    let source = fleet.release(folder.path(), &release(1, "one", BAD));
    Story { before: fleet.node(), source, returns: true }.run();
}

fn updated(extra: &'static str, returns: bool) {
    let folder = tempfile::tempdir().expect("folder");
    let fleet = Fleet::new();
    let one = fleet.release(&folder.path().join("one"), &release(1, "one", GOOD));
    let source = fleet.release(&folder.path().join("two"), &release(2, "two", extra));
    let before = fleet.node();
    apply(&state_root(&before), &one, &Recorder::default()).expect("first");
    Story { before, source, returns }.run();
}

#[test]
fn update() {
    updated(GOOD, false);
}

#[test]
fn update_that_fails_and_returns() {
    updated(BAD, true);
}
