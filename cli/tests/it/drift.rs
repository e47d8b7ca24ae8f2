//! What differs from the active manifest, wherever it lies: shown with reason and remedy, repaired where it is ours.

use autonomy_schema::canonical;
use serde_json::{Value, json};

use crate::node::Site;

fn document(site: &Site, path: &str) -> Value {
    serde_json::from_slice(&site.world.read(path)).expect("JSON")
}

/// Writes other floors, as somebody with a shell could.
fn tamper(site: &Site, edit: impl FnOnce(&mut Value)) {
    let mut floors = document(site, "node/trust/floors.json");
    edit(&mut floors);
    site.world.write("node/trust/floors.json", canonical::to_bytes(&floors).expect("canonical"));
}

fn local(site: &Site, text: &str) {
    std::fs::create_dir_all(site.world.path("node/edge")).expect("folder");
    site.world.write("node/edge/local.toml", text);
}

/// The drift of the node as (path, kind).
fn drift(site: &Site) -> Vec<(String, String)> {
    let plan = site.node("plan --refresh-only --output json").exits(0).stdout();
    let plan: Value = serde_json::from_str(&plan).expect("JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = plan["drift"].as_array().expect("a list");
    for entry in list {
        for field in ["code", "text", "fact", "remedy"] {
            assert!(!text(&entry["reason"][field]).is_empty(), "{field} of {entry}");
        }
        let code = text(&entry["reason"]["code"]);
        site.world.run(&format!("explain {code}")).exits(0);
    }
    list.iter().map(|entry| (text(&entry["path"]), text(&entry["kind"]))).collect()
}

fn pair(path: &str, kind: &str) -> (String, String) {
    (path.to_owned(), kind.to_owned())
}

#[test]
fn refresh_only_needs_no_set_and_writes_nothing() {
    let site = Site::running();
    let before = site.snapshot_all();
    assert_eq!(drift(&site), []);
    site.node("plan --refresh-only --detailed-exitcode").exits(0);
    std::fs::write(site.world.path("node/current/artifacts/more"), "x").expect("extra");
    assert_eq!(drift(&site), [pair("artifacts/more", "extra")]);
    site.node("plan --refresh-only --detailed-exitcode").exits(2);
    site.node("plan --refresh-only one").exits(64);
    site.node("plan").exits(64);
    let after = site.snapshot_all();
    let changed: Vec<_> = after.keys().filter(|path| before.get(*path) != after.get(*path)).collect();
    assert!(changed.iter().all(|path| path.contains("generations")), "{changed:?}");
    Site::bare().node("plan --refresh-only").exits(1).warns("unknown_generation: ");
}

#[test]
fn the_operators_own_settings_are_shown_and_left_alone() {
    let site = Site::running();
    local(&site, "# night shift\n[bandwidth]\nbytes_per_second = 5\n");
    assert_eq!(drift(&site), [pair("edge/local.toml", "override")]);
    let plan = site.node("plan one --detailed-exitcode").exits(0).stdout();
    assert!(plan.contains("edge/local.toml") && plan.contains("sets bandwidth"), "{plan}");
    site.node("apply one --auto-approve").exits(0);
    assert!(site.world.has("node/edge/local.toml"));
    // A plan is bound to it: another setting is another node.
    site.set("two", 2);
    site.node("plan two --out plan.json").exits(0);
    local(&site, "[bandwidth]\nbytes_per_second = 6\n");
    site.node("apply plan.json").exits(7).warns("stale_plan: fact `drift.node:edge/local.toml` moved");
    for wrong in ["peers = []\n", "bandwidth = [\n", "listen = \"a\"\ntrust = 1\n"] {
        local(&site, wrong);
        assert_eq!(drift(&site), [pair("edge/local.toml", "invalid")], "{wrong}");
    }
    std::fs::remove_file(site.world.path("node/edge/local.toml")).expect("removes");
    std::os::unix::fs::symlink("/etc/passwd", site.world.path("node/edge/local.toml")).expect("link");
    assert_eq!(drift(&site), [pair("edge/local.toml", "invalid")]);
}

#[test]
fn lowered_floors_are_seen_raised_again_and_admit_nothing_older() {
    let site = Site::running();
    site.set("two", 2);
    site.set("three", 3);
    site.node("apply three --auto-approve").exits(0);
    let honest = document(&site, "node/trust/floors.json");
    tamper(&site, |floors| {
        floors["streams"]["harbor-gateways"]["serial"] = json!(1);
        floors["promoted"] = json!(false);
    });
    assert_eq!(drift(&site), [pair("trust/floors.json", "lowered")]);
    let shown = site.node("plan --refresh-only").exits(0).stdout();
    assert!(shown.contains("serial 3") && shown.contains("serial 1") && shown.contains("promoted"), "{shown}");
    site.node("apply two --auto-approve").exits(3).warns("serial_too_low: ");
    let plan = site.node("plan three --detailed-exitcode").exits(2).stdout();
    assert!(plan.contains("floors"), "{plan}");
    site.node("apply three --auto-approve").exits(0);
    assert_eq!(document(&site, "node/trust/floors.json"), honest);
    assert_eq!(drift(&site), []);
    // Floors above what runs are no drift: a newer release may have failed here.
    tamper(&site, |floors| floors["streams"]["harbor-gateways"]["serial"] = json!(9));
    assert_eq!(drift(&site), []);
}

#[test]
fn diff_tells_same_from_different_from_failed() {
    let site = Site::running();
    site.set("two", 2);
    site.node("diff one").exits(0);
    site.node("diff").exits(0);
    let shown = site.node("diff two").exits(1).stdout();
    assert!(shown.contains("generation") && !shown.contains("Forecast"), "{shown}");
    let json: Value = serde_json::from_str(&site.node("diff two --output json").exits(1).stdout()).expect("JSON");
    assert!(json["steps"].as_array().is_some_and(|steps| !steps.is_empty()));
    site.node("diff nowhere").exits(70).warns("source_not_found: ");
    site.world.run("diff one --state-root nowhere").exits(70);
    site.world.run("diff one").exits(64);
    site.world.write("two/artifacts/more", "x");
    site.node("diff two").exits(3).warns("extraneous_file: ");
    std::fs::write(site.world.path("node/current/artifacts/more"), "x").expect("extra");
    site.node("diff").exits(1);
    site.node("diff one").exits(1);
    Site::bare().node("diff").exits(70).warns("unknown_generation: ");
}

#[test]
fn a_suspended_node_refuses_changes_and_shows_them() {
    let site = Site::running();
    site.set("two", 2);
    site.node("plan two --out plan.json").exits(0);
    site.node("suspend").exits(0);
    site.node("suspend").exits(0);
    assert!(site.node("status").exits(0).stdout().contains("Suspended  since 20"));
    assert!(site.node("plan two").exits(10).warns("suspended: ").stdout().contains("Plan: "));
    site.refuses("two", 10, "suspended");
    site.node("apply plan.json").exits(10).warns("suspended: ");
    site.node("apply one --auto-approve").exits(0);
    site.node("resume").exits(0);
    site.node("resume").exits(0);
    site.node("apply plan.json").exits(0);
    // A file that says nothing holds as well.
    site.world.write("node/suspended", "");
    site.set("three", 3);
    site.refuses("three", 10, "suspended");
    assert!(site.node("status").exits(0).stdout().contains("Suspended"));
}

#[test]
fn a_closed_window_refuses_and_says_when_it_opens() {
    let site = Site::running();
    site.set("two", 2);
    // Three days from now: neither today nor a night that began yesterday.
    let days = ["thu", "fri", "sat", "sun", "mon", "tue", "wed"];
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let day = days[usize::try_from((since.as_secs() / 86_400 + 3) % 7).expect("small")];
    site.doctor("two", |m| m["spec"]["window"] = json!({"days": [day], "from": "02:00", "to": "04:00", "zone": "UTC"}));
    let plan = site.node("plan two").exits(10).warns("outside_window: ").stdout();
    assert!(plan.contains("it opens at 20") && plan.contains("T02:00:00Z"), "{plan}");
    site.refuses("two", 10, "outside_window");
    let all = json!(["mon", "tue", "wed", "thu", "fri", "sat", "sun"]);
    site.doctor("two", |m| m["spec"]["window"] = json!({"days": all, "from": "00:00", "to": "00:00", "zone": "UTC"}));
    site.node("apply two --auto-approve").exits(0);
}
