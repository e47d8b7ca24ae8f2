//! Power loss at every counted verb of an apply, and at every counted verb of the recovery after it, in every image
//! that the loss may leave: the old generation or the new one is active, whole; floors are never lower; the apply can
//! be repeated and then has nothing left to do. Exhaustive, not sampled.

use std::collections::BTreeSet;

use autonomy_schema::floors::Floors;
use autonomy_schema::{Blake3, Code, Name, Reasons};
use autonomy_stateroot::{DirSet, FactOptions, Image, SimDisk, StatCache, StateRoot, collect};
use autonomy_telemetry::Audit;

use crate::fixture::{Fleet, Recorder, Release, apply, prepare, roll_back, state_root, time};

const GOOD: &str =
    "  services: [ { command: [bin/good] } ]\n  relay: { peers: [ { id: node-b, address: \"10.0.0.2:7443\" } ] }";
const SICK: &str = "  services: [ { command: [bin/good] } ]\n  health: { command: [bin/bad], timeout: 5s }";
const WAITS: &str = "  services: [ { command: [bin/good] } ]\n  health: { command: [bin/well], timeout: 5s }\n  confirm: { within: \
                     5m }\n  relay: { peers: [ { id: node-b, address: \"10.0.0.2:7443\" } ] }";
const BAD: &str = "  services: [ { command: [bin/good] }, { command: [bin/bad] } ]";

/// What is done, and how it is judged to have gone on.
type Act<'a> = &'a dyn Fn(&StateRoot) -> Result<(), Reasons>;
type GoesOn<'a> = &'a dyn Fn(&StateRoot, &str);

/// A change whose every verb is cut.
struct Story<'a> {
    /// The node before it.
    before: SimDisk,
    /// The change.
    act: Act<'a>,
    /// Whether it ends with an error: a return to the old generation.
    returns: bool,
    /// The machine that recovers.
    machine: fn() -> Recorder,
    /// Through which door it recovers.
    door: Door,
    /// Whether an older generation may be active in the end.
    goes_back: bool,
    /// After a recovery, the change is done again and ends as it would have.
    goes_on: GoesOn<'a>,
}

/// What looks at the node after a power loss.
#[derive(Clone, Copy)]
enum Door {
    /// The next verb that takes the lock.
    Verb,
    /// Timer and boot unit, and nobody else.
    Timer,
}

/// The side before the change.
pub(crate) struct Old {
    pub(crate) current: Option<Name>,
    pub(crate) floors: Floors,
    pub(crate) goes_back: bool,
}

impl Story<'_> {
    fn run(&self) {
        let root = state_root(&self.before);
        let floors = root.floors().expect("floors").expect("present");
        let old = Old { current: root.current().expect("current"), floors, goes_back: self.goes_back };
        let verbs = self.verbs_of_whole_run();
        assert!(verbs > 10, "a change of {verbs} verbs tests nothing");
        // Many cuts leave the same bytes; each distinct state is looked at once.
        let mut seen = BTreeSet::new();
        for cut in 1..=verbs {
            for image in Image::EACH {
                let disk = self.before.crash(Image::All);
                let start = disk.verbs();
                disk.stop_at(start + cut);
                // The result is not looked at: a warning about the last records is a success.
                (self.act)(&state_root(&disk)).ok();
                let broken = disk.crash(image);
                if !seen.insert(digest(&broken)) {
                    continue;
                }
                let place = format!("cut at verb {cut} of {verbs}, image {image:?}");
                self.check_recovery(&broken, &old, &place);
                self.cut_recovery(&broken, &old, &place, image);
            }
        }
    }

    /// A disk that is full, or fails, at one verb and goes on: the same demands.
    fn run_on_a_full_disk(&self) {
        const ENOSPC: i32 = 28;
        let root = state_root(&self.before);
        let floors = root.floors().expect("floors").expect("present");
        let old = Old { current: root.current().expect("current"), floors, goes_back: self.goes_back };
        let mut seen = BTreeSet::new();
        for verb in 1..=self.verbs_of_whole_run() {
            let disk = self.before.crash(Image::All);
            disk.fail_at(disk.verbs() + verb, ENOSPC);
            (self.act)(&state_root(&disk)).ok();
            let left = disk.crash(Image::All);
            if seen.insert(digest(&left)) {
                self.check_recovery(&left, &old, &format!("no space at verb {verb}"));
            }
        }
    }

    fn verbs_of_whole_run(&self) -> u64 {
        let disk = self.before.crash(Image::All);
        let start = disk.verbs();
        let result = (self.act)(&state_root(&disk));
        assert_eq!(result.is_err(), self.returns, "{result:?}");
        disk.verbs() - start
    }

    fn recover(&self, root: &StateRoot) -> Result<(), Reasons> {
        let actor = crate::fixture::actor();
        let runner = (self.machine)();
        runner.2.replace(Some(root.clone()));
        let mut silent = autonomy_apply::Silent;
        match self.door {
            Door::Verb => autonomy_reconciler::recover_unfinished(root, &actor, &runner, &mut silent).map(|_| ()),
            Door::Timer => autonomy_reconciler::expire(root, &actor, &runner, &mut silent).map(|_| ()),
        }
    }

    /// Recovers what a crash left; the node is whole, and goes on.
    fn check_recovery(&self, broken: &SimDisk, old: &Old, place: &str) {
        let disk = broken.crash(Image::All);
        let root = state_root(&disk);
        self.recover(&root).unwrap_or_else(|reasons| panic!("{place}: recovery: {reasons}"));
        check_whole(&root, old, place);
        (self.goes_on)(&root, place);
        Audit::verify(&root).unwrap_or_else(|error| panic!("{place}: {error}"));
    }

    /// Cuts the recovery itself at every verb. `make soak` does it in every image; `make test` where only what was synced is
    /// left, both times.
    fn cut_recovery(&self, broken: &SimDisk, old: &Old, place: &str, first: Image) {
        let all = std::env::var_os("AUTONOMY_SOAK").is_some();
        if !all && first != Image::Synced {
            return;
        }
        let images: &[Image] = if all { &Image::EACH } else { &[Image::Synced] };
        let mut seen = BTreeSet::new();
        for cut in 1.. {
            let disk = broken.crash(Image::All);
            let start = disk.verbs();
            disk.stop_at(start + cut);
            self.recover(&state_root(&disk)).ok();
            if disk.verbs() < start + cut {
                break;
            }
            for image in images {
                let place = format!("{place}; recovery cut at verb {cut}, image {image:?}");
                let again = disk.crash(*image);
                if !seen.insert(digest(&again)) {
                    continue;
                }
                let root = state_root(&again);
                self.recover(&root).unwrap_or_else(|reasons| panic!("{place}: second recovery: {reasons}"));
                check_whole(&root, old, &place);
            }
        }
    }
}

/// What lies on a disk, as one digest.
pub(crate) fn digest(disk: &SimDisk) -> Blake3 {
    Blake3::of(format!("{:?}", disk.snapshot()).as_bytes())
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
            let right = current.serial == serial(&floors) || (old.goes_back && current.serial < serial(&floors));
            assert!(right, "{place}: serial {} with {floors:?}", current.serial);
        }
        Some(_) => {}
        None => assert!(old.goes_back || old.current.is_none(), "{place}: nothing is active any more"),
    }
}

fn release(serial: u64, agent: &'static str, extra: &'static str) -> Release<'static> {
    let files: &'static [(&'static str, &'static str)] = match agent {
        "one" => &[("agent", "one"), ("etc/same", "same")],
        _ => &[("agent", "two"), ("etc/same", "same")],
    };
    Release { serial, files, extra, channel: "stable" }
}

/// The same apply again ends as it would have, and then there is nothing to do.
fn applies_again(source: &DirSet) -> impl Fn(&StateRoot, &str) {
    move |root, place| {
        apply(root, source, &Recorder::default())
            .unwrap_or_else(|failure| panic!("{place}: repeated apply: {}", failure.reasons));
        let plan = prepare(root, source).expect("plan");
        assert!(!plan.plan.has_changes(), "{place}: {:?}", plan.doc.steps);
        assert_eq!(root.lkg().expect("lkg"), root.current().expect("current"), "{place}");
    }
}

/// The same apply again fails again, or is refused for that.
fn fails_again(source: &DirSet) -> impl Fn(&StateRoot, &str) {
    move |root, place| {
        let failure = apply(root, source, &Recorder::default()).expect_err("ends in a return");
        let failed = [Code::ServiceFailed, Code::HealthFailed, Code::Pinned];
        assert!(failed.iter().any(|code| failure.reasons.has(*code)), "{place}: {}", failure.reasons);
    }
}

fn applies(source: &DirSet) -> impl Fn(&StateRoot) -> Result<(), Reasons> {
    |root| apply(root, source, &Recorder::default()).map(|_| ()).map_err(|failure| failure.reasons)
}

fn run(before: SimDisk, source: &DirSet, returns: bool) {
    let (act, again, fails) = (applies(source), applies_again(source), fails_again(source));
    let goes_on: GoesOn<'_> = if returns { &fails } else { &again };
    Story { before, act: &act, returns, machine: Recorder::default, door: Door::Verb, goes_back: false, goes_on }.run();
}

#[test]
fn first_activation() {
    let folder = tempfile::tempdir().expect("folder");
    let fleet = Fleet::new();
    let source = fleet.release(folder.path(), &release(1, "one", GOOD));
    run(fleet.node(), &source, false);
}

#[test]
fn first_activation_that_fails() {
    let folder = tempfile::tempdir().expect("folder");
    let fleet = Fleet::new();
    let source = fleet.release(folder.path(), &release(1, "one", BAD));
    run(fleet.node(), &source, true);
}

/// A node that runs release 1, and the set of release 2.
fn between(folder: &std::path::Path, extra: &'static str) -> (SimDisk, DirSet) {
    let fleet = Fleet::new();
    let one = fleet.release(&folder.join("one"), &release(1, "one", GOOD));
    let source = fleet.release(&folder.join("two"), &release(2, "two", extra));
    let before = fleet.node();
    apply(&state_root(&before), &one, &Recorder::default()).expect("first");
    (before, source)
}

fn updated(extra: &'static str, returns: bool) {
    let folder = tempfile::tempdir().expect("folder");
    let (before, source) = between(folder.path(), extra);
    run(before, &source, returns);
}

#[test]
fn update() {
    updated(GOOD, false);
}

#[test]
fn an_update_that_brings_newer_roots() {
    let folder = tempfile::tempdir().expect("folder");
    let fleet = Fleet::new();
    let one = fleet.release(&folder.path().join("one"), &release(1, "one", GOOD));
    let source = fleet.release(&folder.path().join("two"), &release(2, "two", GOOD));
    crate::trust::roots(&fleet, &folder.path().join("two/roots"));
    let before = fleet.node();
    apply(&state_root(&before), &one, &Recorder::default()).expect("first");
    let (act, again) = (applies(&source), applies_again(&source));
    let goes_on = |root: &StateRoot, place: &str| {
        // Nothing is active that the pinned root does not know.
        let switched = root.current().expect("current").is_some_and(|name| name.as_str().starts_with("2-"));
        let loaded = autonomy_reconciler::load(root).expect("loads");
        let version = loaded.root.document().version;
        assert!(!switched || version == 3, "{place}: root {version}");
        assert_eq!(root.floors().expect("floors").expect("there").root_version, version, "{place}");
        again(root, place);
        assert_eq!(autonomy_reconciler::load(root).expect("loads").root.document().version, 3, "{place}");
    };
    let (machine, goes_on): (fn() -> Recorder, GoesOn<'_>) = (Recorder::default, &goes_on);
    Story { before, act: &act, returns: false, machine, door: Door::Verb, goes_back: false, goes_on }.run();
}

#[test]
fn update_that_fails_and_returns() {
    updated(BAD, true);
}

/// What the active generation wants outside the state root is there, as it wants it.
pub(crate) fn is_rebuilt(root: &StateRoot, place: &str) {
    let Some(current) = root.current().expect("current") else { return };
    let manifest = autonomy_precheck::trusted::admitted(root, &current).expect("verifies");
    let spec = &manifest.document().spec;
    for step in &spec.reconstruction.steps {
        let (Some(Ok(at)), Some(effect)) = (step.place(), step.effect(&spec.artifacts)) else { continue };
        let drift = autonomy_stateroot::os_difference(root.disk(), &at, &effect);
        assert!(drift.is_none(), "{place}: {drift:?} under {current}");
        let mut above = at.parent();
        while let Some(folder) = above {
            let mode = root.disk().stat(&folder).expect("looks").expect("a folder").mode;
            assert_eq!(mode, autonomy_schema::Mode::PROGRAM, "{place}: {folder} is not for everybody to enter");
            above = folder.parent();
        }
    }
}

const REBUILDS: &str = "  reconstruction: { steps: [ { copyBinary: { artifact: agent, to: /opt/fleet/agent, mode: \"0755\" } }, { writeFile: { \
                        to: /etc/autonomy/agent.conf, content: \"of this release\", mode: \"0640\" } }, { symlink: { at: \
                        /usr/local/bin/agent, target: /opt/fleet/agent } }, { directory: { path: /opt/fleet/state, mode: \
                        \"0750\" } } ] }\n  services: [ { command: [bin/good] } ]";
const REBUILDS_BADLY: &str = "  reconstruction: { steps: [ { copyBinary: { artifact: agent, to: /opt/fleet/agent, mode: \"0700\" } }, { \
                              copyBinary: { artifact: agent, to: /opt/new/agent, mode: \"0755\" } }, { verifyConfig: { command: [bin/bad] } } ] }";

#[test]
fn an_update_that_rebuilds() {
    let folder = tempfile::tempdir().expect("folder");
    let (before, source) = between_rebuilding(folder.path(), REBUILDS);
    let (act, again) = (applies(&source), applies_again(&source));
    let goes_on = |root: &StateRoot, place: &str| {
        is_rebuilt(root, place);
        again(root, place);
        is_rebuilt(root, place);
    };
    let (machine, goes_on): (fn() -> Recorder, GoesOn<'_>) = (Recorder::default, &goes_on);
    let story = Story { before, act: &act, returns: false, machine, door: Door::Verb, goes_back: false, goes_on };
    story.run();
}

#[test]
fn an_update_whose_reconstruction_fails_and_returns() {
    let folder = tempfile::tempdir().expect("folder");
    let (before, source) = between_rebuilding(folder.path(), REBUILDS_BADLY);
    let act = applies(&source);
    let goes_on = |root: &StateRoot, place: &str| {
        is_rebuilt(root, place);
        let failure = apply(root, &source, &Recorder::default()).expect_err("ends in a return");
        let told = [Code::ReconstructionFailed, Code::Pinned].iter().any(|code| failure.reasons.has(*code));
        assert!(told, "{place}: {}", failure.reasons);
        is_rebuilt(root, place);
        let left = autonomy_stateroot::Query::stat(root.disk(), &autonomy_schema::RelPath::fixed("opt/new/agent"));
        assert!(left.expect("looks").is_none(), "{place}: what the failed release alone wanted is left");
    };
    let (machine, goes_on): (fn() -> Recorder, GoesOn<'_>) = (Recorder::default, &goes_on);
    Story { before, act: &act, returns: true, machine, door: Door::Verb, goes_back: false, goes_on }.run();
}

/// A node that runs release 1, whose steps wrote files, and the set of release 2.
fn between_rebuilding(folder: &std::path::Path, extra: &'static str) -> (SimDisk, DirSet) {
    let fleet = Fleet::new();
    let one = fleet.release(&folder.join("one"), &release(1, "one", REBUILDS));
    let source = fleet.release(&folder.join("two"), &release(2, "two", extra));
    let before = fleet.node();
    apply(&state_root(&before), &one, &Recorder::default()).expect("first");
    is_rebuilt(&state_root(&before), "before");
    (before, source)
}

#[test]
fn update_that_is_not_well_and_returns() {
    updated(SICK, true);
}

/// Confirms what waits, if anything does.
fn confirm(root: &StateRoot) -> Result<(), Reasons> {
    let runner = Recorder::default();
    let actor = crate::fixture::actor();
    autonomy_reconciler::confirm(root, None, &actor, &runner, &mut autonomy_apply::Silent)
        .map(|_| ())
        .map_err(|failure| failure.reasons)
}

#[test]
fn an_update_that_waits_to_be_confirmed() {
    let folder = tempfile::tempdir().expect("folder");
    let (before, source) = between(folder.path(), WAITS);
    let act = applies(&source);
    let goes_on = |root: &StateRoot, place: &str| {
        act(root).unwrap_or_else(|reasons| panic!("{place}: {reasons}"));
        assert!(!prepare(root, &source).expect("plan").plan.has_changes(), "{place}");
        assert_ne!(root.lkg().expect("lkg"), root.current().expect("current"), "{place}: nobody confirmed it");
        confirm(root).unwrap_or_else(|reasons| panic!("{place}: confirm: {reasons}"));
        assert_eq!(root.lkg().expect("lkg"), root.current().expect("current"), "{place}");
    };
    let machine = Recorder::default;
    Story { before, act: &act, returns: false, machine, door: Door::Timer, goes_back: false, goes_on: &goes_on }.run();
}

/// A node whose release 2 waits to be confirmed.
fn waiting(folder: &std::path::Path) -> (SimDisk, DirSet) {
    let (before, source) = between(folder, WAITS);
    apply(&state_root(&before), &source, &Recorder::default()).expect("second");
    (before, source)
}

#[test]
fn confirming() {
    let folder = tempfile::tempdir().expect("folder");
    let (before, _) = waiting(folder.path());
    let goes_on = |root: &StateRoot, place: &str| {
        let again = confirm(root);
        assert!(again.as_ref().err().is_none_or(|reasons| reasons.has(Code::NotWaiting)), "{place}: {again:?}");
        assert_eq!(root.lkg().expect("lkg"), root.current().expect("current"), "{place}");
        assert!(root.pinned().expect("pins").is_empty(), "{place}: what was confirmed is not given up");
    };
    let story = Story {
        before,
        act: &confirm,
        returns: false,
        machine: Recorder::default,
        door: Door::Verb,
        goes_back: false,
        goes_on: &goes_on,
    };
    story.run();
    story.run_on_a_full_disk();
}

/// Looks at the wait on a machine.
fn looks(machine: fn() -> Recorder) -> impl Fn(&StateRoot) -> Result<(), Reasons> {
    move |root| {
        let (actor, machine) = (crate::fixture::actor(), machine());
        machine.2.replace(Some(root.clone()));
        autonomy_reconciler::expire(root, &actor, &machine, &mut autonomy_apply::Silent).map(|_| ())
    }
}

#[test]
fn nobody_confirms_in_time() {
    let folder = tempfile::tempdir().expect("folder");
    let (before, source) = waiting(folder.path());
    let machine = || Recorder::at("first", 1000 + 300_000);
    let act = looks(machine);
    let goes_on = |root: &StateRoot, place: &str| {
        act(root).unwrap_or_else(|reasons| panic!("{place}: {reasons}"));
        assert_eq!(root.lkg().expect("lkg"), root.current().expect("current"), "{place}");
        let failure = apply(root, &source, &Recorder::default()).expect_err("it is pinned");
        assert!(failure.reasons.has(Code::Pinned), "{place}: {}", failure.reasons);
    };
    let story =
        Story { before, act: &act, returns: false, machine, door: Door::Timer, goes_back: true, goes_on: &goes_on };
    story.run();
    story.run_on_a_full_disk();
}

#[test]
fn a_first_activation_that_nobody_confirms() {
    let folder = tempfile::tempdir().expect("folder");
    let fleet = Fleet::new();
    let source = fleet.release(folder.path(), &release(1, "one", WAITS));
    let before = fleet.node();
    apply(&state_root(&before), &source, &Recorder::default()).expect("first");
    let machine = || Recorder::at("first", 1000 + 300_000);
    let act = looks(machine);
    // Nothing was ever known good, so nothing is active any more.
    let goes_on = |root: &StateRoot, place: &str| {
        act(root).unwrap_or_else(|reasons| panic!("{place}: {reasons}"));
        assert_eq!(root.current().expect("current"), None, "{place}");
        assert!(!root.floors().expect("floors").expect("present").promoted, "{place}");
    };
    Story { before, act: &act, returns: false, machine, door: Door::Timer, goes_back: true, goes_on: &goes_on }.run();
}

#[test]
fn a_newer_release_takes_over_from_one_that_waits() {
    let folder = tempfile::tempdir().expect("folder");
    let fleet = Fleet::new();
    let [one, two, three] = [(1, "one", GOOD), (2, "two", WAITS), (3, "one", WAITS)].map(|(serial, agent, extra)| {
        fleet.release(&folder.path().join(serial.to_string()), &release(serial, agent, extra))
    });
    let before = fleet.node();
    for source in [&one, &two] {
        apply(&state_root(&before), source, &Recorder::default()).expect("applies");
    }
    let act = applies(&three);
    let goes_on = |root: &StateRoot, place: &str| {
        act(root).unwrap_or_else(|reasons| panic!("{place}: {reasons}"));
        let journal = root.journal().expect("journal").expect("present");
        assert_eq!(journal.waiting().map(|waits| waits.serial), Some(3), "{place}");
        // What was taken over from neither failed nor was confirmed; without a confirmation the node is back at 1.
        looks(|| Recorder::at("first", 1000 + 300_000))(root).unwrap_or_else(|reasons| panic!("{place}: {reasons}"));
        let current = root.current().expect("current").expect("active");
        assert!(current.as_str().starts_with("1-"), "{place}: {current}");
    };
    // Cut before its switch, release 2 goes on waiting: nothing is lost of that.
    let machine = Recorder::default;
    Story { before, act: &act, returns: false, machine, door: Door::Timer, goes_back: false, goes_on: &goes_on }.run();
}

#[test]
fn a_return_on_demand() {
    let folder = tempfile::tempdir().expect("folder");
    let (before, two) = between(folder.path(), GOOD);
    let one = state_root(&before).current().expect("current").expect("active");
    apply(&state_root(&before), &two, &Recorder::default()).expect("second");
    let act = |root: &StateRoot| roll_back(root, &one, &Recorder::default()).map_err(|failure| failure.reasons);
    let goes_on = |root: &StateRoot, place: &str| {
        act(root).unwrap_or_else(|reasons| panic!("{place}: {reasons}"));
        assert_eq!(root.current().expect("current").as_ref(), Some(&one), "{place}");
        assert_eq!(root.lkg().expect("lkg").as_ref(), Some(&one), "{place}");
        let failure = apply(root, &two, &Recorder::default()).expect_err("what was left is pinned");
        assert!(failure.reasons.has(Code::Pinned), "{place}: {}", failure.reasons);
    };
    let story = Story {
        before,
        act: &act,
        returns: false,
        machine: Recorder::default,
        door: Door::Verb,
        goes_back: true,
        goes_on: &goes_on,
    };
    story.run();
    story.run_on_a_full_disk();
}
