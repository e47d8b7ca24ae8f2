//! `policy load | status | rollback`, through the binary: what gets in, what stays, and what the records say.

use autonomy_schema::Sha256;
use serde_json::Value;

use crate::node::Site;
use crate::policy::{TOOL, build, json};

/// A node without a release, and the folder `policy`.
fn bare() -> Site {
    let site = Site::bare();
    std::fs::create_dir_all(site.world.path("policy/tools")).expect("folder");
    site.world.write("policy/tool.rego", TOOL);
    site.world.write("policy/tools/data.json", r#"{"commands": ["ls"]}"#);
    site
}

/// Builds and signs a bundle.
fn signed(site: &Site, version: &str) -> String {
    let name = format!("p-{version}.tar.gz");
    build(&site.world, version, &name);
    site.world.run(&format!("sign {name} --key c.key")).exits(0);
    name
}

fn status(site: &Site) -> Value {
    json(&site.node("policy status --output json").exits(0))
}

#[test]
fn load_status_and_rollback() {
    let site = bare();
    let before = site.snapshot_all();
    assert!(site.node("policy status").exits(0).stdout().starts_with("No policy can be asked"));
    assert_eq!(status(&site)["active"], Value::Null);
    assert!(before == site.snapshot_all(), "looking writes nothing");

    let (one, two) = (signed(&site, "1.0.0"), signed(&site, "2.0.0"));
    let text = site.node(&format!("policy load {one}")).exits(0).stdout();
    assert!(text.contains("Loaded policy harbor 1.0.0.") && text.contains("before it none"), "{text}");
    let told = json(&site.node(&format!("policy load {two} --output json")).exits(0));
    let digest = |name: &str| Sha256::of(&site.world.read(name)).to_string();
    assert_eq!((&told["current"], &told["lkg"]), (&digest(&two).into(), &digest(&one).into()));
    let seen = status(&site);
    assert_eq!(
        (seen["active"]["origin"].as_str(), seen["active"]["version"].as_str()),
        (Some("current"), Some("2.0.0"))
    );
    assert_eq!(seen["slots"]["lkg"]["version"], "1.0.0");
    assert!(site.node(&format!("policy load {two}")).exits(0).stdout().contains("Loaded already"));

    assert!(site.node("policy rollback").exits(0).stdout().contains("Returned to policy harbor 1.0.0."));
    let seen = status(&site);
    assert_eq!(
        (seen["active"]["version"].as_str(), seen["slots"]["lkg"]["version"].as_str()),
        (Some("1.0.0"), Some("2.0.0"))
    );
    let text = site.node("policy status").exits(0).stdout();
    assert!(text.starts_with("Policy harbor 1.0.0, of this node (policy/current), decides."), "{text}");
    site.node("fsck").exits(0);
}

#[test]
fn a_bad_bundle_leaves_the_old_one_and_the_records_say_why() {
    let site = bare();
    let good = signed(&site, "1.0.0");
    site.node(&format!("policy load {good}")).exits(0);
    let before = site.snapshot();

    build(&site.world, "2.0.0", "unsigned.tar.gz");
    build(&site.world, "2.1.0", "other.tar.gz");
    site.world.run("sign other.tar.gz --key a.key").exits(0);
    let old = signed(&site, "2.2.0");
    let wants =
        "policy build --in policy --out new.tar.gz --name harbor --version 3.0.0 --required-runtime-version >=99.0.0";
    site.world.run(wants).exits(0);
    site.world.run("sign new.tar.gz --key c.key").exits(0);
    site.world.write("policy/tool_test.rego", "package t\n\ntest_no if false\n");
    let failing = signed(&site, "4.0.0");
    std::fs::remove_file(site.world.path("policy/tool_test.rego")).expect("removed");
    site.world.write("policy/tool.rego", "package autonomy.update\n\nallow := true\n");
    let update = signed(&site, "5.0.0");
    let mut spoilt = site.world.read(&old);
    spoilt[40] ^= 1;
    site.world.write(&old, spoilt);

    for (bundle, exit, code) in [
        ("unsigned.tar.gz", 3, "below_threshold"),
        ("other.tar.gz", 3, "below_threshold"),
        (&old, 3, "below_threshold"),
        ("new.tar.gz", 4, "policy_error"),
        (&failing, 1, "policy_test_failed"),
        (&update, 4, "policy_error"),
    ] {
        let ran = site.node(&format!("policy load {bundle} --output json")).exits(exit).warns(&format!("{code}: "));
        assert!(ran.stdout().contains(code), "{}", ran.stdout());
        assert!(before == site.snapshot(), "{bundle} changed something");
        let log = site.world.read("node/telemetry/autonomy/telemetry.wal");
        let log = String::from_utf8_lossy(&log);
        let last = log.lines().rfind(|line| line.contains("\"kind\"")).expect("a record");
        assert!(last.contains("policy.bundle.rejected") && last.contains(code), "{last}");
        let audit = String::from_utf8(site.world.read("node/audit/audit.jsonl")).expect("UTF-8");
        let last = audit.lines().last().expect("an entry");
        assert!(last.contains("\"refused\"") && last.contains(code) && last.contains("policy load"), "{last}");
    }
    assert_eq!(status(&site)["active"]["version"], "1.0.0");
    site.node("policy rollback").exits(4).warns("no_policy: ");
    site.node("policy load nowhere.tar.gz").exits(1).warns("source_not_found: ");
}

#[test]
fn a_managed_node_has_the_policy_of_its_generation() {
    let site = Site::running();
    std::fs::create_dir_all(site.world.path("policy")).expect("folder");
    site.world.write("policy/tool.rego", "package autonomy.tool\n\nallow := true\n");
    let bundle = signed(&site, "1.0.0");
    let before = site.snapshot();
    site.node(&format!("policy load {bundle}")).exits(4).warns("policy_managed: ");
    site.node("policy rollback").exits(4).warns("policy_managed: ");
    assert!(before == site.snapshot());
    let seen = status(&site);
    assert_eq!(seen["active"]["origin"], "generation");
    let pinned = Sha256::of(&site.world.read("node/current/policy.tar.gz")).to_string();
    assert_eq!(seen["active"]["digest"], pinned);
    assert!(site.node("policy status").exits(0).stdout().contains("of generation 1-"));

    // A damaged one is not replaced by anything else.
    site.world.write("node/current/policy.tar.gz", "x");
    site.node("policy status").exits(11).warns("corrupt_state: ");
}

#[test]
fn a_suspended_node_keeps_its_policy() {
    let site = bare();
    let bundle = signed(&site, "1.0.0");
    site.node("suspend --reason maintenance").exits(0);
    site.node(&format!("policy load {bundle}")).exits(10).warns("suspended: ");
    site.node("resume").exits(0);
    site.node(&format!("policy load {bundle}")).exits(0);
}

#[test]
fn damage_is_told_and_the_last_known_good_one_decides() {
    let site = bare();
    let (one, two) = (signed(&site, "1.0.0"), signed(&site, "2.0.0"));
    site.node(&format!("policy load {one}")).exits(0);
    site.node(&format!("policy load {two}")).exits(0);
    site.world.write("node/policy/current/policy.tar.gz", "x");
    let seen = status(&site);
    assert_eq!((seen["active"]["origin"].as_str(), seen["active"]["version"].as_str()), (Some("lkg"), Some("1.0.0")));
    assert_eq!(seen["active"]["fallback"][0]["code"], "corrupt_state");
    assert!(site.node("policy status").exits(0).stdout().contains("instead of policy/current"));
    site.node("fsck").exits(11).warns("`policy/current`");
    site.node(&format!("policy load {two}")).exits(0);
    site.node("fsck").exits(0);
    assert_eq!(status(&site)["active"]["version"], "2.0.0");
}

#[test]
fn gc_removes_bundles_that_no_slot_names_and_a_backup_brings_the_slots_back() {
    let site = bare();
    for version in ["1.0.0", "2.0.0", "3.0.0"] {
        let bundle = signed(&site, version);
        site.node(&format!("policy load {bundle}")).exits(0);
    }
    let bundles = || std::fs::read_dir(site.world.path("node/policy/bundles")).expect("list").count();
    assert_eq!(bundles(), 3);
    assert!(site.node("fsck").exits(0).stdout().contains("no slot names it"));
    site.node("gc").exits(0);
    assert_eq!(bundles(), 2);
    assert_eq!(status(&site)["slots"]["lkg"]["version"], "2.0.0");

    site.node("backup --out node.backup").exits(0);
    std::fs::remove_dir_all(site.world.path("node")).expect("lost");
    site.node("restore node.backup --auto-approve").exits(0);
    let seen = status(&site);
    assert_eq!(
        (seen["active"]["version"].as_str(), seen["slots"]["lkg"]["version"].as_str()),
        (Some("3.0.0"), Some("2.0.0"))
    );
    site.node("fsck").exits(0);
}
