//! Time, serials, revocation numbers, versions, and what each purpose lets through.

use autonomy_schema::floors::StreamFloor;
use autonomy_schema::{Blake3, Code, Duration};
use autonomy_trust::Purpose;
use serde_json::json;

use crate::support::{World, manifest_keys, time};

#[test]
fn an_expired_manifest_is_refused() {
    let mut world = World::new();
    world.clock = time("2027-02-20T08:59:59Z");
    assert!(world.verify().is_ok());
    world.clock = time("2027-02-20T09:00:00Z");
    assert_eq!(world.codes(), [Code::Expired]);
}

#[test]
fn an_expired_root_verifies_no_change() {
    let mut world = World::new();
    world.root.expires_at = time("2026-11-21T00:00:00Z");
    assert_eq!(world.codes(), [Code::Expired]);
    world.clock = time("2028-01-01T00:00:00Z");
    assert_eq!(world.codes(), [Code::Expired, Code::Expired]);
}

#[test]
fn a_clock_set_back_does_not_revive_an_expired_manifest() {
    let mut world = World::new();
    world.clock = time("2001-01-01T00:00:00Z");
    assert!(world.verify().is_ok(), "a lost clock alone is no reason");
    world.floors.time_mark = Some(time("2027-03-01T00:00:00Z"));
    assert_eq!(world.codes(), [Code::Expired]);
}

#[test]
fn a_clock_set_ahead_refuses_but_leaves_no_mark() {
    let mut world = World::new();
    world.clock = time("2040-01-01T00:00:00Z");
    assert_eq!(world.codes(), [Code::Expired, Code::Expired]);
    world.clock = time("2026-11-21T00:00:00Z");
    let verified = world.verify().expect("the clock is right again");
    let floors = world.floors.raised_by(verified.document(), verified.fingerprint());
    assert_eq!(floors.time_mark, Some(time("2026-11-20T09:00:00Z")), "issuedAt, not the clock");
}

#[test]
fn a_manifest_from_the_future_cannot_poison_the_mark() {
    let mut world = World::new();
    world.root.max_time_step = Duration::from_millis(86_400_000);
    world.clock = time("2001-01-01T00:00:00Z");
    world.floors.time_mark = Some(time("2026-11-01T12:00:00Z"));
    world.manifest["metadata"]["issuedAt"] = json!("2026-11-02T12:00:00Z");
    assert!(world.verify().is_ok(), "one step after the mark");
    world.manifest["metadata"]["issuedAt"] = json!("2026-11-02T12:00:01Z");
    assert_eq!(world.codes(), [Code::IssuedInFuture]);
    // The build time counts where clock and mark know less, and so does a clock that knows more.
    world.floors.time_mark = None;
    assert_eq!(world.codes(), [Code::IssuedInFuture]);
    world.manifest["metadata"]["issuedAt"] = json!("2026-11-02T00:00:00Z");
    assert!(world.verify().is_ok(), "one step after the build time");
    world.manifest["metadata"]["issuedAt"] = json!("2026-11-20T09:00:00Z");
    world.clock = time("2026-11-20T00:00:00Z");
    assert!(world.verify().is_ok(), "one step after the clock");
}

#[test]
fn a_lower_serial_is_refused() {
    let mut world = World::new();
    world.manifest["metadata"]["serial"] = json!(40);
    assert_eq!(world.codes(), [Code::SerialTooLow]);
}

#[test]
fn the_same_serial_with_other_bytes_is_an_alarm() {
    let mut world = World::new();
    world.manifest["metadata"]["serial"] = json!(41);
    assert_eq!(world.codes(), [Code::SerialConflict]);
    // The very bytes that were seen pass again.
    let floor = StreamFloor { serial: 41, manifest: Blake3::of(&world.bytes()) };
    world.floors.streams.insert("harbor-gateways".parse().expect("a name"), floor);
    assert!(world.verify().is_ok());
}

#[test]
fn a_serial_too_far_ahead_is_refused() {
    let mut world = World::new();
    world.manifest["metadata"]["serial"] = json!(1041);
    assert!(world.verify().is_ok(), "exactly the step");
    world.manifest["metadata"]["serial"] = json!(1042);
    assert_eq!(world.codes(), [Code::SerialStep]);
    world.manifest["metadata"]["serial"] = json!(9_007_199_254_740_991_u64);
    assert_eq!(world.codes(), [Code::SerialStep]);
    world.floors.streams.clear();
    world.floors.stream = None;
    assert!(world.verify().is_ok(), "a fresh node may start anywhere");
}

#[test]
fn a_lowered_revocation_number_is_refused() {
    let mut world = World::new();
    world.manifest["spec"]["revoked"] = json!({"number": 3});
    assert_eq!(world.codes(), [Code::RevocationNumberLowered]);
    // Empty means absent, and absent is number 0.
    world.manifest["spec"].as_object_mut().expect("an object").remove("revoked");
    assert_eq!(world.codes(), [Code::RevocationNumberLowered]);
}

#[test]
fn a_revoked_manifest_is_refused() {
    let mut world = World::new();
    world.floors.revoked.manifests = vec![Blake3::of(b"another"), Blake3::of(&world.bytes())];
    for purpose in [Purpose::Change, Purpose::Repair, Purpose::Relay, Purpose::Rollback] {
        world.purpose = purpose;
        assert_eq!(world.codes(), [Code::Revoked], "{purpose:?}");
    }
}

#[test]
fn another_stream_is_refused() {
    let mut world = World::new();
    world.manifest["metadata"]["name"] = json!("inland-gateways");
    assert_eq!(world.codes(), [Code::WrongStream]);
    world.floors.stream = None;
    assert!(world.verify().is_ok(), "a node that follows none yet");
}

#[test]
fn a_newer_root_must_be_imported_first() {
    let mut world = World::new();
    world.manifest["metadata"]["rootVersion"] = json!(4);
    assert_eq!(world.codes(), [Code::RootGap]);
}

#[test]
fn a_root_older_than_one_seen_before_judges_nothing() {
    let mut world = World::new();
    world.floors.root_version = 4;
    assert_eq!(world.codes(), [Code::RootGap]);
}

#[test]
fn a_tool_that_is_too_old_refuses() {
    let mut world = World::new();
    world.manifest["metadata"]["minTool"] = json!("99.0.0");
    assert_eq!(world.codes(), [Code::ToolTooOld]);
}

#[test]
fn every_reason_is_told_at_once() {
    let mut world = World::new();
    world.clock = time("2027-12-01T00:00:00Z");
    world.manifest["metadata"]["name"] = json!("inland-gateways");
    world.manifest["metadata"]["minTool"] = json!("99.0.0");
    world.manifest["spec"]["revoked"] = json!({"number": 1});
    world.manifest["spec"]["scope"] = json!({"fleet": "inland", "nodes": ["node-z"]});
    assert_eq!(
        world.codes(),
        [
            Code::Expired,
            Code::RevocationNumberLowered,
            Code::ScopeMismatch,
            Code::ScopeMismatch,
            Code::ToolTooOld,
            Code::WrongStream
        ]
    );
}

/// A manifest revokes what it replaces and one key of those that signed both; power fails after the floors were
/// raised. The new one must verify to finish, the old one to undo.
#[test]
fn recovery_passes_its_own_raised_floor() {
    let mut old = World::new();
    old.manifest["metadata"]["serial"] = json!(41);
    old.floors.streams.clear();
    let old_verified = old.verify().expect("was admitted");

    let mut new = World::new();
    new.floors = old.floors.raised_by(old_verified.document(), old_verified.fingerprint());
    new.signers = manifest_keys();
    new.manifest["spec"]["revoked"] =
        json!({"number": 5, "manifests": [old_verified.fingerprint()], "keys": [manifest_keys()[0].id()]});
    let new_verified = new.verify().expect("is admitted");
    let raised = new.floors.raised_by(new_verified.document(), new_verified.fingerprint());

    for world in [&mut old, &mut new] {
        world.floors = raised.clone();
        world.purpose = Purpose::Recover;
        world.clock = time("2040-01-01T00:00:00Z");
        assert!(world.verify().is_ok());
    }
    // Asked for, instead of forced, the step back to what was revoked is refused.
    old.purpose = Purpose::Rollback;
    assert_eq!(old.codes(), [Code::Revoked]);
    // And recovery still demands signatures.
    new.signers.truncate(1);
    assert_eq!(new.codes(), [Code::BelowThreshold]);
}

#[test]
fn a_rollback_is_bound_by_neither_expiry_nor_serial() {
    let mut world = World::new();
    world.purpose = Purpose::Rollback;
    world.clock = time("2027-12-01T00:00:00Z");
    world.manifest["metadata"]["serial"] = json!(7);
    world.manifest["spec"]["revoked"] = json!({"number": 1});
    assert!(world.verify().is_ok());
    world.manifest["spec"]["scope"] = json!({"fleet": "harbor", "nodes": ["node-z"]});
    assert_eq!(world.codes(), [Code::ScopeMismatch]);
}

#[test]
fn a_repair_is_bound_by_expiry_and_not_by_the_serial_of_a_failed_successor() {
    let mut world = World::new();
    world.purpose = Purpose::Repair;
    world.manifest["metadata"]["serial"] = json!(7);
    world.manifest["spec"]["revoked"] = json!({"number": 1});
    assert!(world.verify().is_ok());
    world.clock = time("2027-12-01T00:00:00Z");
    assert_eq!(world.codes(), [Code::Expired]);
    world.manifest["spec"]["scope"] = json!({"fleet": "harbor", "nodes": ["node-z"]});
    assert_eq!(world.codes(), [Code::Expired, Code::ScopeMismatch]);
}

#[test]
fn a_relay_takes_what_is_fresh_for_the_fleet_and_passes_it_on() {
    let mut world = World::new();
    world.purpose = Purpose::Relay;
    world.manifest["metadata"]["name"] = json!("inland-gateways");
    world.manifest["metadata"]["minTool"] = json!("99.0.0");
    world.manifest["spec"]["scope"] =
        json!({"fleet": "harbor", "nodes": ["node-z"], "hardware": ["riscv64"], "matchLabels": {"site": "pier-9"}});
    assert!(world.verify().is_ok());
    let inland = "inland-gateways".parse().expect("a name");
    world.floors.streams.insert(inland, StreamFloor { serial: 43, manifest: Blake3::of(b"seen") });
    assert_eq!(world.codes(), [Code::SerialTooLow], "a replay");
    world.manifest["metadata"]["serial"] = json!(43);
    assert_eq!(world.codes(), [Code::SerialConflict]);
    world.manifest["metadata"]["serial"] = json!(100_000);
    assert!(world.verify().is_ok(), "raises no floor here");
    world.clock = time("2027-03-01T00:00:00Z");
    assert_eq!(world.codes(), [Code::Expired]);
}
