//! Going back on demand, held changes, history, garbage: through the binary.

use std::os::unix::fs::MetadataExt as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::node::Site;

/// A node that ran release 1 and runs release 2; the sets are `one` and `two`.
pub(crate) fn second() -> Site {
    let site = Site::running();
    site.world.write("build/agent", "#!/bin/sh\nexit 0 # two\n");
    site.set("two", 2);
    site.node("apply two --auto-approve").exits(0);
    site
}

fn generation(site: &Site, set: &str, serial: u64, number: u64) -> String {
    format!("{serial}-{}-{number}", site.fingerprint(set).short())
}

fn runs(site: &Site) -> String {
    let link = std::fs::read_link(site.world.path("node/current")).expect("current");
    link.file_name().expect("name").to_string_lossy().into_owned()
}

#[test]
fn back_and_forward_again_with_floors_that_stay() {
    let site = second();
    let floors = site.world.read("node/trust/floors.json");
    let before = site.snapshot();
    site.node("rollback").exits(64).warns("consent_missing: ");
    assert!(before == site.snapshot(), "without consent nothing changes");
    let shown = site.node("rollback --auto-approve").exits(0).stdout();
    assert!(shown.contains("rollback_asked") && shown.contains("what it leaves is pinned"), "{shown}");
    assert_eq!(runs(&site), generation(&site, "one", 1, 1));
    site.is_whole(&[1]);
    assert_eq!(site.world.read("node/trust/floors.json"), floors, "floors stay");
    // Nothing brings the other one back by itself; somebody may.
    site.refuses("two", 5, "pinned");
    site.node("rollback").exits(1).warns("unknown_generation: ");
    site.node(&format!("unpin {}", site.fingerprint("two"))).exits(0);
    site.node(&format!("rollback {} --auto-approve", generation(&site, "two", 2, 1))).exits(0);
    assert_eq!(runs(&site), generation(&site, "two", 2, 1));
    site.node(&format!("rollback {}", generation(&site, "two", 2, 1))).exits(0);
    site.is_whole(&[2]);
}

#[test]
fn a_return_that_was_due_is_the_one_that_was_asked_for() {
    // Release 1, then 2, then 3 that nobody confirmed: one return, not two.
    let site = second();
    site.set("three", 3);
    site.doctor("three", |m| m["spec"]["confirm"] = json!({ "within": "5m" }));
    site.node("apply three --auto-approve").exits(0);
    crate::confirm::run_out(&site, "node");
    site.node("rollback --auto-approve").exits(8).warns("confirm_expired: ");
    assert_eq!(runs(&site), generation(&site, "two", 2, 1));
    // An apply that was approved while the old wait still ran finds the node changed, and says why.
    site.node(&format!("unpin {}", site.fingerprint("three"))).exits(0);
    site.node("apply three --auto-approve").exits(0);
    site.set("four", 4);
    site.node("plan four --out four.json").exits(0);
    crate::confirm::run_out(&site, "node");
    site.node("apply four.json").exits(7).warns("stale_plan: ").warns("Returned: confirm_expired");
    assert_eq!(runs(&site), generation(&site, "two", 2, 1));
}

#[test]
fn what_cannot_be_returned_to() {
    let site = second();
    site.node("rollback 9-000000000000-1")
        .exits(1)
        .warns("unknown_generation: ")
        .warns(&generation(&site, "one", 1, 1));
    site.node("rollback ../x").exits(64);
    site.set("three", 3);
    site.node("apply three --stage-only --auto-approve").exits(0);
    let staged = generation(&site, "three", 3, 1);
    site.node(&format!("rollback {staged} --auto-approve")).exits(1).warns("was never active");
    // One that failed here is pinned.
    site.set("bad", 4);
    site.doctor("bad", |m| m["spec"]["services"] = json!([{ "command": ["/bin/false"] }]));
    site.node("apply bad --auto-approve").exits(8);
    let bad = generation(&site, "bad", 4, 1);
    site.node(&format!("rollback {bad} --auto-approve")).exits(5).warns("pinned: ");
    // A damaged one is refused; a whole one is named.
    let one = generation(&site, "one", 1, 1);
    site.world.write(&format!("node/generations/{one}/edge.toml"), "edited by hand");
    let refused = site.node(&format!("rollback {one} --auto-approve")).exits(11).warns("corrupt_state: ");
    assert!(refused.stderr().contains("edge.toml") && refused.stderr().contains(&generation(&site, "two", 2, 1)));
    site.is_whole(&[2]);
    site.node("fsck").exits(11).warns(&one);
}

#[test]
fn a_return_whose_service_fails_goes_on_to_what_is_known_good() {
    let site = Site::running();
    // Release 2 was confirmed with a service that works while a file is there.
    site.set("two", 2);
    let flag = site.world.path("flag");
    site.world.write("flag", "");
    site.doctor("two", |m| m["spec"]["services"] = json!([{ "command": ["/usr/bin/test", "-e", flag] }]));
    site.node("apply two --auto-approve").exits(0);
    site.set("three", 3);
    site.node("apply three --auto-approve").exits(0);
    std::fs::remove_file(&flag).expect("removed");
    let two = generation(&site, "two", 2, 1);
    site.node(&format!("rollback {two} --auto-approve")).exits(8).warns("service_failed: ");
    assert_eq!(runs(&site), generation(&site, "three", 3, 1));
    site.is_whole(&[3]);
}

#[test]
fn a_manifest_that_steps_back_on_purpose_writes_nothing_again() {
    let site = second();
    site.world.write("build/agent", crate::node::AGENT);
    site.set("three", 3);
    let two = site.fingerprint("two").to_string();
    site.doctor("three", |m| m["metadata"]["rollbackOf"] = json!(two));
    let plan = site.node("plan three").exits(0).stdout();
    assert!(plan.contains("steps back to"), "{plan}");
    site.node("apply three --auto-approve").exits(0);
    let history = site.node("history --limit 1").exits(0).stdout();
    assert!(history.contains("steps back to"), "{history}");
    let file = |generation: &str| {
        std::fs::metadata(site.world.path(&format!("node/generations/{generation}/artifacts/bin/agent")))
            .expect("agent")
    };
    let (one, three) = (generation(&site, "one", 1, 1), generation(&site, "three", 3, 1));
    assert_eq!(file(&one).ino(), file(&three).ino(), "the same object, linked");
}

#[test]
fn held_changes_say_who_and_why_and_can_be_overridden_by_name() {
    let site = second();
    site.set("three", 3);
    site.world.run("suspend --state-root node --reason crane_inspection --owner berth-master").exits(0);
    let status = site.node("status").exits(0).stdout();
    assert!(status.contains("by berth-master: crane_inspection"), "{status}");
    let again = site.node("suspend --reason other").exits(0).stdout();
    assert!(again.contains("Suspended already") && again.contains("crane_inspection"), "{again}");
    site.refuses("three", 10, "suspended");
    site.node("rollback --auto-approve").exits(10).warns("suspended: ");
    // The flag asks, and without a terminal needs a yes beforehand; also for a plan that was approved before.
    site.node("apply three --now-anyway").exits(64).warns("consent_missing: ").warns("although it is held");
    site.node("plan three --out three.json").exits(10);
    site.node("apply three --now-anyway --auto-approve").exits(0);
    let history = site.node("history --limit 1").exits(0).stdout();
    assert!(history.contains("overridden  suspended (--now-anyway)"), "{history}");
    site.node("rollback --auto-approve --now-anyway").exits(0);
    let resumed = site.node("resume").exits(0).stdout();
    assert!(resumed.contains("berth-master"), "{resumed}");
    assert!(site.node("resume").exits(0).stdout().contains("Nothing held"));
    // A closed window is overridden the same way.
    site.set("four", 4);
    site.doctor("four", |m| {
        m["spec"]["window"] = json!({ "days": ["mon"], "from": "00:00", "to": "00:01", "zone": "UTC" });
    });
    if site.node("plan four").stdout().contains("outside_window") {
        site.refuses("four", 10, "outside_window");
        site.node("apply four --auto-approve --now-anyway").exits(0);
    }
    for flag in ["--reason", "--owner"] {
        let ran = std::process::Command::new(env!("CARGO_BIN_EXE_autonomy"))
            .args(["suspend", flag, " ", "--state-root", "node"])
            .current_dir(site.world.path(""))
            .stdin(Stdio::null())
            .output()
            .expect("runs");
        assert_eq!(ran.status.code(), Some(64));
    }
}

#[test]
fn history_and_generations_tell_who_what_and_why() {
    let site = second();
    site.set("bad", 3);
    site.doctor("bad", |m| m["spec"]["services"] = json!([{ "command": ["/bin/false"] }]));
    site.node("apply bad --auto-approve").exits(8);
    site.node("rollback --auto-approve").exits(0);
    let json = |verb: &str| -> Value { serde_json::from_str(&site.node(verb).exits(0).stdout()).expect("JSON") };
    let acts = json("history --output json");
    let told: Vec<(&str, &str)> = acts["acts"]
        .as_array()
        .expect("acts")
        .iter()
        .map(|act| (act["verb"].as_str().expect("verb"), act["outcome"].as_str().expect("outcome")))
        .collect();
    assert_eq!(told, [("rollback", "returned"), ("apply", "rolled_back"), ("apply", "applied"), ("apply", "applied")]);
    let second = &acts["acts"][2];
    assert_eq!(second["manifest"], site.fingerprint("two").to_string());
    assert_eq!(second["detail"]["signers"].as_array().map(Vec::len), Some(2));
    assert!(second["detail"]["plan"].as_str().is_some_and(|plan| plan.starts_with("blake3:")));
    assert_eq!(second["detail"]["generation"], generation(&site, "two", 2, 1));
    assert!(second["detail"]["changes"].as_array().is_some_and(|list| list.contains(&json!("~ artifact.bin/agent"))));
    assert_eq!(acts["acts"][1]["detail"]["reasons"][0]["code"], "service_failed");
    assert_eq!(json("history --output json --limit 1")["acts"].as_array().map(Vec::len), Some(1));
    let list = json("generations --output json");
    let roles: Vec<(String, String)> = list["generations"]
        .as_array()
        .expect("list")
        .iter()
        .map(|one| (one["generation"].as_str().expect("name").to_owned(), one["roles"].to_string()))
        .collect();
    assert!(
        roles[0].1.contains("active") && roles[1].1.contains("pinned") && roles[2].1.contains("pinned"),
        "{roles:?}"
    );
    site.node("history").exits(0);
    // An edited trail is told, not shown as if nothing were wrong.
    let mut trail = site.world.read("node/audit/audit.jsonl");
    trail[100] ^= 1;
    site.world.write("node/audit/audit.jsonl", trail);
    site.node("history").exits(11).warns("corrupt_state: ");
    let status = site.node("status").exits(11);
    assert!(status.stdout().contains("Runs "), "{}", status.stdout());
}

/// Writes the pins that the relay daemon would.
pub(crate) fn relay_pins(site: &Site, manifests: &[String]) {
    let pins = json!({ "generation": runs(site), "manifests": manifests, "objects": [] });
    edge_pins(site, &pins.to_string());
}

/// Writes `edge/pins.json`, with the modes that `edged` gives.
fn edge_pins(site: &Site, text: &str) {
    let private = |name: &str, mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(site.world.path(name), mode).expect("mode");
    };
    std::fs::create_dir_all(site.world.path("node/edge")).expect("edge");
    private("node/edge", 0o700);
    site.world.write("node/edge/pins.json", text);
    private("node/edge/pins.json", 0o600);
}

/// Empties the outbox, as the relay daemon does.
pub(crate) fn relayed(site: &Site) {
    for entry in std::fs::read_dir(site.world.path("node/outbox")).expect("outbox").flatten() {
        std::fs::remove_file(entry.path()).expect("removed");
    }
}

#[test]
fn garbage_goes_and_what_is_needed_stays() {
    let site = second();
    for serial in 3..=6 {
        site.world.write("build/agent", format!("#!/bin/sh\nexit 0 # {serial}\n"));
        site.set(&format!("s{serial}"), serial);
        site.node(&format!("apply s{serial} --auto-approve")).exits(0);
    }
    let count = |folder: &str| std::fs::read_dir(site.world.path(folder)).expect("folder").count();
    // The relay has not said what it needs.
    for spoil in ["", "{}", "{\"generation\":\"1-0-1\",\"manifests\":[],\"objects\":[]}"] {
        if !spoil.is_empty() {
            edge_pins(&site, spoil);
        }
        let before = site.snapshot();
        site.node("gc").exits(5).warns("relay_pins_stale: ");
        assert!(before == site.snapshot(), "{spoil}");
    }
    relay_pins(&site, &[site.fingerprint("two").to_string()]);
    // Everything waits in the outbox still.
    assert!(site.node("gc --keep 0").exits(0).stdout().contains("Nothing to remove."));
    relayed(&site);
    let before = site.snapshot_all();
    let shown = site.node("gc --dry-run --keep 1 --output json").exits(0).stdout();
    assert!(before == site.snapshot_all(), "a dry run writes nothing");
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["removed"]["generations"].as_array().map(Vec::len), Some(3), "{shown}");
    let objects = count("node/objects");
    site.node("gc --keep 1").exits(0);
    let left: Vec<String> = std::fs::read_dir(site.world.path("node/generations"))
        .expect("folder")
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(left.len(), 3, "active, the newest other, what the relay needs: {left:?}");
    assert!(left.contains(&generation(&site, "two", 2, 1)), "{left:?}");
    assert!(count("node/objects") < objects);
    site.node("fsck").exits(0);
    site.is_whole(&[6]);
    assert!(site.node("gc --keep 1").exits(0).stdout().contains("Nothing to remove."));
    // A generation that cannot be read may need anything.
    std::fs::remove_file(
        site.world.path(&format!("node/generations/{}/manifest.json", generation(&site, "two", 2, 1))),
    )
    .expect("removed");
    site.node("gc --keep 0").exits(11).warns("corrupt_state: ");
}
