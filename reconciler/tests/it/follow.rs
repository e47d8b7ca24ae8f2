//! The loop's memory, and stopping before the switch.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use autonomy_apply::{Event, Observer, Silent};
use autonomy_reconciler::follow::{Follow, Follower, Outcome, Stop};
use autonomy_reconciler::{Reach, Source};
use autonomy_schema::{Code, Time};
use autonomy_stateroot::{StateRoot, layout};

use crate::fixture::{Fleet, Recorder, Release, state_root, time};

const FILES: &[(&str, &str)] = &[("agent", "agent"), ("a", "a"), ("b", "b"), ("c", "c")];

fn clock() -> Time {
    time("2026-11-25T09:00:00Z")
}

struct Site {
    folder: tempfile::TempDir,
    fleet: Fleet,
}

impl Site {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("folder"), fleet: Fleet::new() }
    }

    /// Makes a release that stands at `name`.
    fn release(&self, name: &str, serial: u64) {
        self.fleet.release(&self.path(name), &Release { serial, files: FILES, extra: "", channel: "stable" });
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where the loop looks.
    fn source(&self) -> Source {
        Source::parse(self.path("source").to_str().expect("UTF-8"), Reach::default()).expect("source")
    }

    /// Puts a release where the loop looks.
    fn point(&self, name: &str) {
        let (next, source) = (self.path("next"), self.path("source"));
        std::os::unix::fs::symlink(self.path(name), &next).expect("link");
        std::fs::rename(next, source).expect("renames");
    }
}

fn follow<'a>(root: &'a StateRoot, source: &'a Source, runner: &'a Recorder, stop: &'a Stop) -> Follower<'a> {
    follow_at(root, source, runner, stop, &clock)
}

fn follow_at<'a>(
    root: &'a StateRoot,
    source: &'a Source,
    runner: &'a Recorder,
    stop: &'a Stop,
    clock: &'a dyn Fn() -> Time,
) -> Follower<'a> {
    Follower::new(Follow {
        root,
        source,
        workspace: Path::new("/nonexistent"),
        who: "test".to_owned(),
        runner,
        os_root: Path::new("/nonexistent"),
        units: &|_| None,
        clock,
        interval: Duration::from_millis(20),
        stop,
    })
}

/// Does something once, when the first artifact is staged, and gives the loop's watcher time to see it.
struct AtFirstArtifact<F: Fn()> {
    act: F,
    done: Cell<bool>,
}

impl<F: Fn()> Observer for AtFirstArtifact<F> {
    fn event(&mut self, event: &Event<'_>) {
        if matches!(event, Event::Staged { .. }) && !self.done.replace(true) {
            (self.act)();
        }
    }
}

fn staged_leftovers(root: &StateRoot) -> usize {
    root.disk().list(Some(&layout::generations())).expect("lists").len()
}

#[test]
fn rounds_are_idle_until_something_moves() {
    let site = Site::new();
    site.release("one", 1);
    site.release("two", 2);
    site.point("one");
    let disk = site.fleet.node();
    let root = state_root(&disk);
    let source = site.source();
    let (runner, stop) = (Recorder::default(), Stop::default());
    let mut follower = follow(&root, &source, &runner, &stop);
    let mut round = || follower.round(&mut Silent);
    assert!(matches!(round().outcome, Outcome::Applied(_)));
    assert_eq!(round().outcome, Outcome::Idle);
    site.point("two");
    assert!(matches!(round().outcome, Outcome::Applied(_)));
    assert_eq!(round().outcome, Outcome::Idle);
    site.point("one");
    let refused = round();
    assert!(refused.outcome.reasons().is_some_and(|reasons| reasons.has(Code::SerialTooLow)), "{refused:?}");
    assert_eq!(round().outcome, Outcome::Idle, "not tried again at once");
    std::fs::remove_file(site.path("source")).expect("removes");
    let waits: Vec<u128> = (0..4).map(|_| round().wait.as_millis()).collect();
    assert_eq!(waits, [40, 80, 160, 320], "a source that fails is looked at less and less often");
}

#[test]
fn a_closed_window_holds_and_an_open_one_lets_pass() {
    let site = Site::new();
    let window = "  window: { days: [wed], from: \"10:00\", to: \"11:00\", zone: UTC }";
    site.fleet.release(&site.path("one"), &Release { serial: 1, files: FILES, extra: window, channel: "stable" });
    site.point("one");
    let disk = site.fleet.node();
    let root = state_root(&disk);
    let source = site.source();
    let (runner, stop) = (Recorder::default(), Stop::default());
    // A Wednesday.
    let now = Cell::new(time("2026-11-25T09:00:00Z"));
    let clock = || now.get();
    let mut follower = follow_at(&root, &source, &runner, &stop, &clock);
    let held = follower.round(&mut Silent).outcome;
    assert!(matches!(&held, Outcome::Held(reasons) if reasons.has(Code::OutsideWindow)), "{held:?}");
    now.set(time("2026-11-25T09:59:59Z"));
    assert_eq!(follower.round(&mut Silent).outcome, Outcome::Idle);
    now.set(time("2026-11-25T10:00:00Z"));
    assert!(matches!(follower.round(&mut Silent).outcome, Outcome::Applied(_)));
}

#[test]
fn a_newer_revision_supersedes_an_apply_before_its_switch() {
    let site = Site::new();
    for (name, serial) in [("one", 1), ("two", 2), ("three", 3)] {
        site.release(name, serial);
    }
    site.point("one");
    let disk = site.fleet.node();
    let root = state_root(&disk);
    let source = site.source();
    let (runner, stop) = (Recorder::default(), Stop::default());
    let mut follower = follow(&root, &source, &runner, &stop);
    assert!(matches!(follower.round(&mut Silent).outcome, Outcome::Applied(_)));
    site.point("two");
    let (before, floors) = (root.current().expect("current"), root.floors().expect("floors"));
    let act = || {
        site.point("three");
        // Far more than the interval at which the watcher looks.
        std::thread::sleep(Duration::from_millis(500));
    };
    let round = follower.round(&mut AtFirstArtifact { act, done: Cell::new(false) });
    assert!(matches!(round.outcome, Outcome::Superseded(_)), "{round:?}");
    assert_eq!(root.current().expect("current"), before, "the old generation is active");
    assert_eq!(root.floors().expect("floors"), floors, "nothing was raised");
    assert_eq!(staged_leftovers(&root), 1, "what was staged is removed");
    assert!(root.journal().expect("journal").is_some_and(|journal| journal.phase.is_final()));
    let next = follower.round(&mut Silent);
    let Outcome::Applied(generation) = next.outcome else { panic!("{next:?}") };
    assert!(generation.as_str().starts_with("3-"), "{generation}");
}

#[test]
fn a_loop_that_is_ended_stops_before_the_switch_and_can_go_on_later() {
    let site = Site::new();
    site.release("one", 1);
    site.point("one");
    let disk = site.fleet.node();
    let root = state_root(&disk);
    let source = site.source();
    let (runner, stop) = (Recorder::default(), Stop::default());
    let act = || stop.request("the test ends it");
    let mut observer = AtFirstArtifact { act, done: Cell::new(false) };
    let round = follow(&root, &source, &runner, &stop).round(&mut observer);
    assert!(matches!(round.outcome, Outcome::Superseded(_)), "{round:?}");
    assert_eq!(root.current().expect("current"), None);
    assert_eq!(staged_leftovers(&root), 0);
    let fresh = Stop::default();
    let round = follow(&root, &source, &runner, &fresh).round(&mut Silent);
    assert!(matches!(round.outcome, Outcome::Applied(_)), "{round:?}");
}
