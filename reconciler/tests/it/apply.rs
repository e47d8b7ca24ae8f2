//! The course of an apply without a crash: what becomes active, what is refused, what is written down.

use autonomy_apply::Applied;
use autonomy_schema::{Code, RelPath};
use autonomy_stateroot::{Disk as _, Query as _, layout};
use autonomy_telemetry::Audit;

use crate::fixture::{Fleet, Recorder, Release, apply, prepare, state_root};

const SERVICE: &str =
    "  services: [ { command: [bin/good] } ]\n  relay: { peers: [ { id: node-b, address: \"10.0.0.2:7443\" } ] }";

fn release(serial: u64, files: &'static [(&'static str, &'static str)]) -> Release<'static> {
    Release { serial, files, extra: SERVICE, channel: "stable" }
}

#[test]
fn first_update_repeat_and_records() {
    let folder = tempfile::tempdir().expect("folder");
    let fleet = Fleet::new();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let one = fleet.release(&one, &release(1, &[("agent", "one"), ("same", "same")]));
    let two = fleet.release(&two, &release(2, &[("agent", "two"), ("same", "same")]));
    let disk = fleet.node();
    let root = state_root(&disk);
    let runner = Recorder::default();
    let first = apply(&root, &one, &runner).expect("first");
    assert!(matches!(first.applied, Applied::Active(_)), "{first:?}");
    assert_eq!(first.warning, None);
    let floors = root.floors().expect("floors").expect("present");
    assert!(floors.promoted);
    assert_eq!(floors.stream.as_ref().map(autonomy_schema::Name::as_str), Some("harbor"));
    assert_eq!(root.lkg().expect("lkg"), root.current().expect("current"));
    assert_eq!(root.outbox().expect("outbox").len(), 1);
    let second = apply(&root, &two, &runner).expect("second");
    assert!(matches!(second.applied, Applied::Active(_)), "{second:?}");
    assert_eq!(*runner.0.borrow(), ["bin/good", "bin/good"]);
    let again = apply(&root, &two, &runner).expect("again");
    assert_eq!(again.applied, Applied::Nothing);
    let refused = apply(&root, &one, &runner).expect_err("a lower serial");
    assert!(refused.reasons.has(Code::SerialTooLow), "{:?}", refused.reasons);
    assert_eq!(Audit::verify(&root).expect("chain holds"), 4, "two applies, each started and ended");
}

#[test]
fn a_fact_that_moved_between_plan_and_apply_is_named() {
    let folder = tempfile::tempdir().expect("folder");
    let fleet = Fleet::new();
    let set =
        |name: &str, serial| fleet.release(&folder.path().join(name), &release(serial, &[("agent", "x"), ("b", "y")]));
    let (one, two) = (set("one", 1), set("two", 2));
    let disk = fleet.node();
    let root = state_root(&disk);
    let runner = Recorder::default();
    apply(&root, &one, &runner).expect("first");
    let prepared = prepare(&root, &two).expect("plan");
    let generation = layout::generation(&root.current().expect("current").expect("some"));
    let file = generation.join(&RelPath::fixed("artifacts/b"));
    disk.remove(&file).expect("drift");
    let actor = crate::fixture::actor();
    let mut silent = autonomy_apply::Silent;
    let approval = autonomy_reconciler::Approval {
        saved: None,
        prepared,
        stage_only: false,
        now_anyway: false,
        actor: &actor,
        runner: &runner,
        observer: &mut silent,
    };
    let stale = autonomy_reconciler::apply(&root, &two, approval, &crate::fixture::options()).expect_err("stale");
    assert!(stale.reasons.has(Code::StalePlan), "{:?}", stale.reasons);
    assert!(stale.reasons.to_string().contains("drift.artifacts/b"), "{}", stale.reasons);
    assert!(disk.stat(&file).expect("stat").is_none(), "nothing was repaired");
}

#[test]
fn drift_is_repaired_as_a_fresh_generation_and_a_damaged_object_is_not_linked_again() {
    let folder = tempfile::tempdir().expect("folder");
    let fleet = Fleet::new();
    let one = fleet.release(&folder.path().join("one"), &release(1, &[("agent", "first words"), ("b", "y")]));
    let disk = fleet.node();
    let root = state_root(&disk);
    let runner = Recorder::default();
    apply(&root, &one, &runner).expect("first");
    let before = root.current().expect("current").expect("some");
    // The object and its link are one inode: this damages both.
    disk.write_at(&layout::generation(&before).join(&RelPath::fixed("artifacts/agent")), 0, b"FIRST").expect("damage");
    let repaired = apply(&root, &one, &runner).expect("repair");
    let Applied::Active(after) = repaired.applied else { panic!("{repaired:?}") };
    assert_ne!(after, before);
    assert!(after.as_str().ends_with("-2"), "{after}");
    assert!(!prepare(&root, &one).expect("plan").plan.has_changes());
}

#[test]
fn a_failed_service_returns_and_its_manifest_is_not_tried_again() {
    let folder = tempfile::tempdir().expect("folder");
    let fleet = Fleet::new();
    let one = fleet.release(&folder.path().join("one"), &release(1, &[("agent", "one")]));
    let bad = Release { extra: "  services: [ { command: [bin/bad] } ]", ..release(2, &[("agent", "two")]) };
    let two = fleet.release(&folder.path().join("two"), &bad);
    let disk = fleet.node();
    let root = state_root(&disk);
    let runner = Recorder::default();
    let alone = apply(&root, &two, &runner).expect_err("a first activation that fails");
    assert_eq!(alone.returned_to, Some(None));
    assert_eq!(root.current().expect("current"), None);
    assert!(!root.floors().expect("floors").expect("present").promoted);
    let disk = fleet.node();
    let root = state_root(&disk);
    apply(&root, &one, &runner).expect("first");
    let good = root.current().expect("current");
    let failed = apply(&root, &two, &runner).expect_err("fails");
    assert_eq!(failed.reasons.exit(), 8);
    assert_eq!(failed.returned_to, Some(good.clone()));
    assert_eq!(root.current().expect("current"), good);
    assert_eq!(runner.0.borrow().last().map(String::as_str), Some("bin/good"), "the old services run again");
    let again = apply(&root, &two, &runner).expect_err("pinned");
    assert!(again.reasons.has(Code::Pinned), "{}", again.reasons);
}

#[test]
fn a_denied_update_is_refused_with_its_message() {
    let folder = tempfile::tempdir().expect("folder");
    let fleet = Fleet::new();
    let denied = Release { channel: "forbidden", ..release(1, &[("agent", "one")]) };
    let denied = fleet.release(&folder.path().join("one"), &denied);
    let disk = fleet.node();
    let root = state_root(&disk);
    let refused = apply(&root, &denied, &Recorder::default()).expect_err("denied");
    assert!(refused.reasons.has(Code::PolicyDenied));
    assert!(refused.reasons.to_string().contains("this channel is forbidden here"), "{}", refused.reasons);
    assert!(root.generations().expect("list").is_empty());
}
