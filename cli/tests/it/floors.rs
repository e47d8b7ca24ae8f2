//! What a node will not go below: written before the switch, and never lowered, whatever clock, rollback or backup says.

use std::process::Command;

use serde_json::{Value, json};

use crate::node::Site;
use crate::world::PASSWORD;

impl Site {
    /// Runs a verb on the node whose clock stands elsewhere.
    fn at(&self, time: &str, verb: &str) -> (Option<i32>, String) {
        let ran = Command::new("faketime")
            .args(["-f", time, env!("CARGO_BIN_EXE_autonomy")])
            .args(verb.split_whitespace())
            .args(["--state-root", "node"])
            .current_dir(self.world.path(""))
            .env("COSIGN_PASSWORD", PASSWORD)
            .output()
            .expect("faketime (ci/setup-tests installs it)");
        (ran.status.code(), String::from_utf8_lossy(&ran.stderr).into_owned())
    }

    fn floors(&self) -> Value {
        serde_json::from_slice(&self.world.read("node/trust/floors.json")).expect("floors")
    }

    fn serial(&self) -> u64 {
        self.floors()["streams"]["harbor-gateways"]["serial"].as_u64().expect("a serial")
    }
}

const EPOCH: &str = "1970-01-01 00:00:00";
const FAR: &str = "2099-06-01 00:00:00";

#[test]
fn a_clock_at_1970_or_2099_moves_no_floor_and_admits_nothing_expired() {
    let site = Site::running();
    let mark = site.floors()["timeMark"].clone();
    assert_eq!(mark, "2026-11-25T00:00:00Z", "the manifest's issuedAt");
    site.set("two", 2);
    site.doctor("two", |manifest| manifest["metadata"]["issuedAt"] = json!("2026-11-26T00:00:00Z"));
    // Ten years on paper, and the clock says 2099: expired, and nothing of that clock is kept.
    let before = site.snapshot();
    let (code, said) = site.at(FAR, "apply two --auto-approve");
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("expired: "), "{said}");
    assert_eq!(site.snapshot(), before);
    // A dead battery is no reason to refuse, and no reason to forget.
    let (code, said) = site.at(EPOCH, "apply two --auto-approve");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(site.floors()["timeMark"], "2026-11-26T00:00:00Z");
    // What is expired by the mark stays so, wherever the clock stands.
    site.set("three", 3);
    site.doctor("three", |manifest| {
        manifest["metadata"]["issuedAt"] = json!("2026-11-01T00:00:00Z");
        manifest["metadata"]["expiresAt"] = json!("2026-11-25T12:00:00Z");
    });
    let (code, said) = site.at(EPOCH, "apply three --auto-approve");
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("expired: "), "{said}");
    // A far future that is signed is refused by a clock that is right and by one that is lost; nothing is poisoned.
    site.set("four", 4);
    site.doctor("four", |manifest| {
        manifest["metadata"]["issuedAt"] = json!("2090-01-01T00:00:00Z");
        manifest["metadata"]["expiresAt"] = json!("2099-01-01T00:00:00Z");
    });
    site.refuses("four", 3, "issued_in_future");
    let (code, said) = site.at(EPOCH, "apply four --auto-approve");
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("issued_in_future: "), "{said}");
    assert_eq!(site.floors()["timeMark"], "2026-11-26T00:00:00Z");
    // The age of the intent is told by every clock, without alarm.
    for time in [EPOCH, FAR] {
        assert_eq!(site.at(time, "status").0, Some(0));
    }
}

#[test]
fn a_rollback_and_a_restore_lower_no_floor() {
    let site = Site::running();
    site.node("backup --out old.tar").exits(0);
    site.set("two", 2);
    site.doctor("two", |manifest| {
        manifest["metadata"]["issuedAt"] = json!("2026-11-26T00:00:00Z");
        manifest["spec"]["revoked"] = json!({ "number": 3 });
    });
    site.node("apply two --auto-approve").exits(0);
    let high = site.floors();
    let first = std::fs::read_dir(site.world.path("node/generations"))
        .expect("generations")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find(|name| name.starts_with("1-"))
        .expect("the first");
    site.node(&format!("rollback {first} --auto-approve")).exits(0);
    assert_eq!(site.floors(), high);
    // Nothing that is older than what was left passes, though what runs is older.
    site.copy("one", "again");
    site.doctor("again", |manifest| manifest["metadata"]["issuedAt"] = json!("2026-11-25T00:00:01Z"));
    site.refuses("again", 3, "serial_too_low");
    site.node("restore old.tar --auto-approve").exits(0);
    assert_eq!(site.floors(), high);
    site.node("fsck --repair").exits(0);
    assert_eq!(site.floors(), high);
}

#[test]
fn a_step_back_has_a_higher_serial_and_says_what_it_steps_back_to() {
    let site = Site::running();
    site.set("two", 2);
    site.node("apply two --auto-approve").exits(0);
    let (one, two) = (site.fingerprint("one"), site.fingerprint("two"));
    site.set("three", 3);
    site.doctor("three", |manifest| {
        manifest["metadata"]["rollbackOf"] = json!(one);
        manifest["metadata"]["parent"] = json!(one);
    });
    let plan = site.node("plan three").exits(0).stdout().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(plan.contains(&format!("it steps back to {} on purpose", one.short())), "{plan}");
    assert!(plan.contains(&format!("its parent {} is not the active one", one.short())), "{plan}");
    site.doctor("three", |manifest| manifest["metadata"]["parent"] = json!(two));
    let plan = site.node("plan three").exits(0).stdout();
    assert!(!plan.contains("is not the active one"), "{plan}");
    site.node("apply three --auto-approve").exits(0);
    assert_eq!(site.serial(), 3);
    // The same step back, with a serial that was seen: a rollback attack with a reason is one all the same.
    site.set("low", 2);
    site.doctor("low", |manifest| manifest["metadata"]["rollbackOf"] = json!(one));
    site.refuses("low", 3, "serial_too_low");
    // Too far ahead would block every later release.
    site.set("far", 2000);
    site.refuses("far", 3, "serial_step");
    assert_eq!(site.serial(), 3);
}

/// The system calls that rename a file, in order, by what they name.
#[test]
fn floors_are_durable_before_the_switch() {
    let site = Site::running();
    site.set("two", 2);
    let ran = Command::new("strace")
        .args(["-f", "-qq", "-y", "-e", "trace=rename,renameat,renameat2,fsync", "-o", "renames.txt"])
        .args([env!("CARGO_BIN_EXE_autonomy"), "apply", "two", "--auto-approve", "--state-root", "node"])
        .current_dir(site.world.path(""))
        .output()
        .expect("strace (ci/setup-tests installs it)");
    assert!(ran.status.success());
    let trace = String::from_utf8_lossy(&site.world.read("renames.txt")).into_owned();
    let calls: Vec<&str> = trace.lines().collect();
    let at =
        |what: &str| calls.iter().position(|call| call.contains("rename") && call.contains(what)).expect("a rename");
    let (floors, switch) = (at("\"floors.json\""), at("\"current\""));
    assert!(floors < switch, "{trace}");
    // The folder of the floors is synced between the two: rename is atomic, not durable.
    assert!(
        calls[floors..switch].iter().any(|call| call.contains("fsync") && call.contains("/node/trust>")),
        "{trace}"
    );
}
