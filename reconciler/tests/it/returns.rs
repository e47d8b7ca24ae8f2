//! Where the way back leads, case by case.

use autonomy_apply::Silent;
use autonomy_reconciler::{expire, fsck};
use autonomy_schema::journal::{Boots, Journal, Phase};
use autonomy_schema::{Code, Name, RelPath};
use autonomy_stateroot::disk::Disk as _;
use autonomy_stateroot::{DirSet, SimDisk, StateRoot, SyncTarget, layout};

use crate::fixture::{Fleet, Recorder, Release, apply, options, roll_back, state_root};

const GOOD: &str = "  services: [ { command: [bin/good] } ]";
const BAD: &str = "  services: [ { command: [bin/bad] } ]";
const WAITS: &str = "  services: [ { command: [bin/good] } ]\n  confirm: { within: 5m }\n  relay: { peers: [ { id: node-b, address: \
                     \"10.0.0.2:7443\" } ] }";

struct Bench {
    _folder: tempfile::TempDir,
    disk: SimDisk,
    sets: Vec<DirSet>,
}

/// A fresh node, and a set for each of these.
fn bench(extras: &[&str]) -> Bench {
    let folder = tempfile::tempdir().expect("folder");
    let fleet = Fleet::new();
    let sets = extras.iter().zip(1..).map(|(extra, serial)| {
        let files: &[(&str, &str)] = &[("agent", "agent"), ("etc/same", "same")];
        let release = Release { serial, files, extra, channel: "stable" };
        fleet.release(&folder.path().join(serial.to_string()), &release)
    });
    let sets = sets.collect();
    Bench { disk: fleet.node(), _folder: folder, sets }
}

impl Bench {
    fn root(&self) -> StateRoot {
        state_root(&self.disk)
    }

    fn applies(&self, serial: usize) {
        apply(&self.root(), &self.sets[serial - 1], &Recorder::default()).expect("applies");
    }

    fn current(&self) -> Option<Name> {
        self.root().current().expect("current")
    }

    fn serial(&self) -> Option<String> {
        self.current().map(|name| name.as_str().split('-').next().expect("serial").to_owned())
    }

    /// Time runs out.
    fn expires(&self) {
        let late = Recorder::at("first", 1000 + 300_000);
        expire(&self.root(), &crate::fixture::actor(), &late, &mut Silent).expect("looks");
    }

    /// Something happens to a file of the active generation.
    fn drifts(&self) {
        let path = layout::in_generation(&self.current().expect("active"), &RelPath::fixed("edge.toml"));
        self.disk.remove(&path).expect("removed");
        self.disk.sync(SyncTarget::Fs).expect("synced");
    }

    fn repairs(&self) {
        let done = fsck::repair(&self.root(), None, &crate::fixture::actor(), &Recorder::default(), &options());
        done.expect("repairs").report.reasons().expect("sound");
    }

    fn confirms(&self) {
        let runner = Recorder::default();
        autonomy_reconciler::confirm(&self.root(), None, &crate::fixture::actor(), &runner, &mut Silent)
            .expect("confirms");
    }
}

#[test]
fn a_repair_does_not_make_good_what_nobody_confirmed() {
    for by_apply in [true, false] {
        let bench = bench(&[WAITS]);
        bench.applies(1);
        bench.drifts();
        if by_apply {
            bench.applies(1);
        } else {
            bench.repairs();
        }
        assert!(bench.current().expect("active").as_str().ends_with("-2"));
        bench.expires();
        assert_eq!(bench.current(), None, "by apply: {by_apply}");
        assert_eq!(bench.root().lkg().expect("lkg"), None);
        assert!(!bench.root().floors().expect("floors").expect("present").promoted);
    }
}

#[test]
fn a_repaired_release_that_is_confirmed_goes_on_to_peers() {
    let bench = bench(&[GOOD, WAITS]);
    bench.applies(1);
    bench.applies(2);
    bench.drifts();
    bench.repairs();
    assert_eq!(bench.root().outbox().expect("outbox").len(), 0);
    bench.confirms();
    assert_eq!(bench.root().outbox().expect("outbox").len(), 1);
    assert_eq!(bench.serial().as_deref(), Some("2"));
}

#[test]
fn where_nothing_was_ever_good_an_unproven_one_counts_only_while_it_waits() {
    // 2 takes over from 1, which waits, and fails: 1 waits again.
    let bench = bench(&[WAITS, BAD, WAITS]);
    bench.applies(1);
    apply(&bench.root(), &bench.sets[1], &Recorder::default()).expect_err("fails");
    let journal = bench.root().journal().expect("journal").expect("present");
    assert_eq!((journal.phase, journal.serial), (Phase::Waiting, 1));
    // 3 takes over from 1, and nobody confirms it: what it took over from was not confirmed either, and its wait is over.
    bench.applies(3);
    bench.expires();
    assert!(bench.serial().is_none_or(|serial| serial == "1"));
    bench.expires();
    assert_eq!(bench.current(), None);
}

/// A machine on which release 1 does not come up any more.
struct Sick(Recorder);
impl autonomy_apply::ServiceRunner for Sick {
    fn run(&self, service: &autonomy_schema::manifest::Service) -> Result<(), String> {
        self.0.run(service)?;
        if self.0.0.borrow().len() == 1 { Err("it does not come up".to_owned()) } else { Ok(()) }
    }

    fn check(&self, health: &autonomy_schema::manifest::Health) -> Result<(), String> {
        self.0.check(health)
    }

    fn moment(&self) -> autonomy_schema::journal::Moment {
        self.0.moment()
    }

    fn platform(&self) -> Result<Box<dyn autonomy_precheck::Platform + '_>, autonomy_schema::Reason> {
        self.0.platform()
    }
}

#[test]
fn a_return_that_fails_pins_what_failed_and_not_what_runs() {
    let bench = bench(&[GOOD, GOOD]);
    bench.applies(1);
    bench.applies(2);
    let one = bench.root().generations().expect("list")[0].clone();
    let (root, actor, mut silent) = (bench.root(), crate::fixture::actor(), Silent);
    let sick = Sick(Recorder::default());
    let prepared = autonomy_reconciler::prepare_return(&root, Some(&one), &options()).expect("plan");
    let hands = (&sick as &dyn autonomy_apply::ServiceRunner, &mut silent as &mut dyn autonomy_apply::Observer);
    let failure = autonomy_reconciler::roll_back(&root, &prepared, false, &actor, hands, &options());
    assert!(failure.expect_err("fails").reasons.has(Code::ServiceFailed));
    assert_eq!(bench.serial().as_deref(), Some("2"));
    let pinned = root.pinned().expect("pins");
    assert_eq!(pinned.len(), 1, "{pinned:?}");
    bench.drifts();
    bench.applies(2);
}

#[test]
fn a_return_that_nobody_confirms_gives_nothing_up_that_runs() {
    let bench = bench(&[WAITS, GOOD]);
    bench.applies(1);
    bench.confirms();
    bench.applies(2);
    let one = bench.root().generations().expect("list")[0].clone();
    roll_back(&bench.root(), &one, &Recorder::default()).expect("returns");
    assert_eq!(bench.root().pinned().expect("pins").len(), 1, "what is left is pinned");
    bench.expires();
    assert_eq!(bench.serial().as_deref(), Some("2"));
    let pins = bench.root().pinned().expect("pins");
    let two = autonomy_schema::Blake3::of(&manifest(&bench));
    assert!(!pins.contains(&two), "what runs is not pinned");
}

fn manifest(bench: &Bench) -> Vec<u8> {
    let path = layout::generation_manifest(&bench.current().expect("active"));
    autonomy_stateroot::read_capped(bench.root().disk(), &path, 1 << 20).expect("read").expect("present")
}

#[test]
fn a_release_that_brings_the_machine_down_is_given_up() {
    for (boots, boot, ends) in [(0, "second", "2"), (1, "second", "2"), (1, "third", "1")] {
        let bench = bench(&[GOOD, WAITS]);
        bench.applies(1);
        bench.applies(2);
        // As the journal stands when the machine went down while its services ran, this often already.
        let root = bench.root();
        let journal = root.journal().expect("journal").expect("present");
        let seen = if boots == 0 { "first" } else { "second" };
        let boots = Some(Boots { boot_id: seen.to_owned(), reboots: boots });
        let journal = Journal { phase: Phase::Switched, services_done: 0, waiting: None, boots, ..journal };
        root.write_journal(&journal).expect("journal");
        expire(&root, &crate::fixture::actor(), &Recorder::at(boot, 10), &mut Silent).expect("looks");
        assert_eq!(bench.serial().as_deref(), Some(ends), "{seen} to {boot}");
    }
}

#[test]
fn links_that_are_lost_while_something_waits_are_mended_and_the_wait_goes_on() {
    for (link, damaged) in [(layout::current(), false), (layout::lkg(), false), (layout::current(), true)] {
        let bench = bench(&[GOOD, WAITS]);
        bench.applies(1);
        bench.applies(2);
        let two = bench.current();
        if damaged {
            bench.drifts();
        }
        bench.disk.remove(&link).expect("removed");
        bench.disk.sync(SyncTarget::Fs).expect("synced");
        bench.repairs();
        let journal = bench.root().journal().expect("journal").expect("present");
        assert_eq!((journal.phase, journal.serial), (Phase::Waiting, 2), "{link}");
        assert_eq!(bench.serial().as_deref(), Some("2"), "{link}");
        if !damaged {
            assert_eq!(bench.current(), two, "{link}");
        }
        let lkg = bench.root().lkg().expect("lkg").expect("good");
        assert!(lkg.as_str().starts_with("1-"), "{link}: {lkg} was never confirmed");
        bench.expires();
        assert_eq!(bench.serial().as_deref(), Some("1"), "{link}");
    }
}
