//! Revocation by itself, role `offline`, and the override of a policy that denies everything.

use serde_json::{Value, json};

use crate::node::Site;

impl Site {
    /// A document at `path`, made by `make` and signed by these keys.
    fn signed(&self, make: &str, path: &str, keys: &[&str]) {
        self.world.run(make).exits(0);
        for key in keys {
            self.world.run(&format!("sign {path} --key {key}.key")).exits(0);
        }
    }

    /// A site whose pinned root has role `offline`, with key `d`.
    fn with_offline() -> Self {
        let site = Self::running();
        site.world.keys(&["d"]);
        std::fs::create_dir(site.world.path("roots")).expect("folder");
        let add = "--role offline=d.pub:1 --expires 2y --sign a.key --sign b.key --out roots/2.root.json";
        site.world.run(&format!("trust rotate --from root.json {add}")).exits(0);
        site.node("trust import .").exits(0);
        site
    }

    /// Replaces the signatures of a set's manifest by one of this key.
    fn by_one(&self, set: &str, key: &str) {
        std::fs::remove_file(self.world.path(&format!("{set}/manifest.json.sigstore.jsonl"))).expect("removes");
        self.world.run(&format!("sign {set}/manifest.json --key {key}.key")).exits(0);
    }

    fn json(&self, arguments: &str) -> Value {
        serde_json::from_str(&self.node(arguments).stdout()).expect("JSON")
    }
}

const WARNING: &str = "warning: the active manifest is on revocation list 1";

#[test]
fn a_revoked_manifest_runs_on_and_everybody_is_told() {
    let site = Site::running();
    std::fs::create_dir(site.world.path("stick")).expect("folder");
    let make = "trust revoke --number 1 --manifest one --reason recalled --out stick/revocation.json";
    site.signed(make, "stick/revocation.json", &["a"]);
    let before = site.snapshot();
    site.node("trust import stick").exits(3).warns("below_threshold: ");
    assert_eq!(site.snapshot(), before);
    site.world.run("sign stick/revocation.json --key c.key").exits(0);
    let said = site.node("trust import stick").exits(0).warns(WARNING).stdout();
    assert!(said.contains("Revocation list 1 counts from now on."), "{said}");
    site.is_whole(&[1]);
    let status = site.node("status").exits(0).warns(WARNING).stdout();
    assert!(status.contains("REVOKED"), "{status}");
    assert_eq!(site.json("status --output json")["active"]["revoked"], json!({ "number": 1, "what": "manifest" }));
    // It is refused as a change, as a repair and as a return.
    site.refuses("one", 3, "revoked");
    // A newer one passes, and its policy is told what it leaves.
    let leaves = "\n\ndeny contains \"leaves a revoked one\" if input.facts.bound.current.revoked.number == 1\n";
    let rego = String::from_utf8(site.world.read("manifests/base/policy/update.rego")).expect("UTF-8");
    site.world.write("manifests/base/policy/update.rego", rego + leaves);
    site.set("two", 2);
    site.doctor("two", |manifest| manifest["spec"]["revoked"]["number"] = json!(1));
    let plan = site.node("plan two").exits(0).warns(WARNING).stdout();
    assert!(plan.contains("revoked"), "{plan}");
    site.node("apply two --auto-approve").exits(0);
    site.set("three", 3);
    let back = site.json("generations --output json");
    let first = back.to_string().split('"').find(|text| text.starts_with("1-")).expect("a name").to_owned();
    site.node(&format!("rollback {first} --auto-approve")).exits(3).warns("revoked: ");
    // The list does not come down again.
    site.refuses("three", 3, "revocation_number_lowered");
}

#[test]
fn the_policy_is_told_that_what_runs_is_revoked() {
    let site = Site::bare();
    let stays = "\n\ndeny contains \"call the shore first\" if input.facts.bound.current.revoked.number == 7\n";
    let rego = String::from_utf8(site.world.read("manifests/base/policy/update.rego")).expect("UTF-8");
    site.world.write("manifests/base/policy/update.rego", rego + stays);
    site.set("one", 1);
    site.node("apply one --auto-approve").exits(0);
    std::fs::create_dir(site.world.path("stick")).expect("folder");
    // The root keys may as well: here all of them sign, and one of them is revoked, which binds no root key.
    let make = "trust revoke --number 7 --key a.pub --out stick/revocation.json";
    site.signed(make, "stick/revocation.json", &["a", "b"]);
    let said = site.node("trust import stick").exits(0).stderr();
    assert!(
        said.contains("warning: keys that the active manifest or its lock needs are on revocation list 7"),
        "{said}"
    );
    site.set("two", 2);
    site.doctor("two", |manifest| manifest["spec"]["revoked"]["number"] = json!(7));
    // `a` and `b` signed it, and `a` counts no more.
    site.refuses("two", 3, "revoked");
    std::fs::remove_file(site.world.path("two/manifest.json.sigstore.jsonl")).expect("removes");
    for (file, keys) in [("manifest.json", ["b", "c"]), ("autonomy.lock.json", ["b", "c"])] {
        for key in keys {
            site.world.run(&format!("sign two/{file} --key {key}.key")).exits(0);
        }
    }
    site.refuses("two", 4, "policy_denied");
    site.node("plan two").exits(4).warns("policy_denied: call the shore first");
}

#[test]
fn a_list_of_the_same_number_with_other_entries_is_refused_and_the_same_again_is_nothing() {
    let site = Site::running();
    for (folder, what) in [("first", "--manifest one"), ("second", "--key c.pub"), ("none", "")] {
        std::fs::create_dir(site.world.path(folder)).expect("folder");
        let make = format!("trust revoke --number 4 {what} --out {folder}/revocation.json");
        site.signed(&make, &format!("{folder}/revocation.json"), &["a", "b"]);
    }
    site.node("trust import first").exits(0);
    assert!(site.node("trust import first").exits(0).stdout().contains("Nothing newer"));
    let before = site.snapshot();
    site.node("trust import second").exits(3).warns("revocation_number_lowered: ");
    site.node("trust import none").exits(3).warns("revocation_number_lowered: ");
    assert_eq!(site.snapshot(), before);
    // The next list keeps what the one before it said.
    std::fs::create_dir(site.world.path("third")).expect("folder");
    let make = "trust revoke --from first/revocation.json --key c.pub --out third/revocation.json";
    site.signed(make, "third/revocation.json", &["a", "b"]);
    site.node("trust import third").exits(0);
    let floors = &site.json("trust show --output json")["floors"]["revoked"];
    assert_eq!((floors["number"].as_u64(), floors["manifests"].as_array().map(Vec::len)), (Some(5), Some(1)));
    // A number so high that no list could follow is refused, by itself and in a manifest.
    std::fs::create_dir(site.world.path("far")).expect("folder");
    let make = "trust revoke --number 9007199254740991 --key c.pub --out far/revocation.json";
    site.signed(make, "far/revocation.json", &["a", "b"]);
    site.node("trust import far").exits(3).warns("serial_step: revocation list 9007199254740991 is more than 1000");
    site.set("two", 2);
    site.doctor("two", |manifest| manifest["spec"]["revoked"]["number"] = json!(1006));
    site.refuses("two", 3, "serial_step");
    site.doctor("two", |manifest| manifest["spec"]["revoked"]["number"] = json!(1005));
    site.node("plan two").exits(0);
    // Who signs a list does not revoke itself.
    std::fs::create_dir(site.world.path("own")).expect("folder");
    let rootless = "trust revoke --number 9 --key a.pub --key b.pub --out own/revocation.json";
    site.signed(rootless, "own/revocation.json", &["a"]);
    site.node("trust import own").exits(3).warns("below_threshold: ");
}

#[test]
fn role_offline_carries_a_node_forward_and_moves_nobodys_trust() {
    let site = Site::with_offline();
    site.set("two", 2);
    site.by_one("two", "d");
    let plan = site.json("plan two --output json");
    assert_eq!(plan["manifest"]["offline"], true);
    site.node("apply two --auto-approve").exits(0);
    // Not the floors: neither down nor, where others are locked out by it, up.
    site.set("back", 1);
    site.doctor("back", |manifest| manifest["metadata"]["issuedAt"] = "2026-11-26T00:00:00Z".into());
    site.by_one("back", "d");
    site.refuses("back", 3, "serial_too_low");
    site.set("three", 3);
    let key = site.json("trust show --output json")["root"]["roles"]["manifest"]["keys"][0].clone();
    site.doctor("three", |manifest| manifest["spec"]["revoked"] = json!({ "number": 1, "keys": [key] }));
    site.by_one("three", "d");
    site.refuses("three", 3, "role_mismatch");
    // Nor the root, not even one that lies beside its manifest.
    site.set("four", 4);
    site.by_one("four", "d");
    let next = "--expires 3y --sign a.key --sign b.key --out four/roots/3.root.json";
    std::fs::create_dir(site.world.path("four/roots")).expect("folder");
    site.world.run(&format!("trust rotate --from roots/2.root.json {next}")).exits(0);
    site.refuses("four", 3, "role_mismatch");
    site.node("trust import four").exits(0);
    site.node("apply four --auto-approve").exits(0);
    // It signs neither a lock, nor a list, nor an override.
    site.set("five", 5);
    std::fs::remove_file(site.world.path("five/autonomy.lock.json.sigstore.jsonl")).expect("removes");
    site.world.run("sign five/autonomy.lock.json --key d.key").exits(0);
    site.refuses("five", 3, "below_threshold");
    std::fs::create_dir(site.world.path("list")).expect("folder");
    site.signed("trust revoke --number 1 --manifest two --out list/revocation.json", "list/revocation.json", &["d"]);
    site.node("trust import list").exits(3).warns("below_threshold: ");
    // A policy can tell it apart.
    let rego = String::from_utf8(site.world.read("manifests/base/policy/update.rego")).expect("UTF-8");
    let shore = "\n\ndeny contains \"not from the field\" if input.plan.manifest.offline\n";
    site.world.write("manifests/base/policy/update.rego", rego + shore);
    site.set("six", 6);
    site.node("apply six --auto-approve").exits(0);
    site.set("seven", 7);
    site.by_one("seven", "d");
    site.refuses("seven", 4, "policy_denied");
}

/// A site whose active policy denies every update.
fn stuck() -> Site {
    let site = Site::bare();
    let rego = String::from_utf8(site.world.read("manifests/base/policy/update.rego")).expect("UTF-8");
    let never = "\n\ndeny contains \"never again\" if input.facts.bound.current\n";
    site.world.write("manifests/base/policy/update.rego", rego.clone() + never);
    site.set("one", 1);
    site.node("apply one --auto-approve").exits(0);
    site.world.write("manifests/base/policy/update.rego", rego);
    site.set("two", 2);
    site.refuses("two", 4, "policy_denied");
    site
}

#[test]
fn a_policy_that_denies_everything_is_overridden_by_the_root_keys_for_one_manifest() {
    let site = stuck();
    let make = "policy override two --reason wedged --expires 7d --out over.json";
    site.signed(make, "over.json", &[]);
    let before = site.snapshot();
    site.node("apply two --auto-approve --override over.json").exits(3).warns("below_threshold: ");
    site.world.run("sign over.json --key a.key").exits(0);
    site.node("apply two --auto-approve --override over.json").exits(3).warns("below_threshold: ");
    site.world.run("sign over.json --key b.key").exits(0);
    let plan = site.node("plan two --override over.json").exits(0).stdout();
    assert!(plan.contains("overridden by 2 root keys: wedged") && plan.contains("never again"), "{plan}");
    assert_eq!(site.snapshot(), before);
    // It lifts the policy's no, and nothing else.
    site.node("suspend --reason audit --owner ops").exits(0);
    site.node("apply two --auto-approve --override over.json").exits(10);
    site.node("resume").exits(0);
    site.set("three", 3);
    site.node("apply three --auto-approve --override over.json").exits(3).warns("scope_mismatch: the policy override");
    site.node("apply two --auto-approve --override over.json").exits(0);
    site.is_whole(&[2]);
    let history = site.node("history --output json").exits(0).stdout();
    for text in ["policyOverride", "wedged", "never again"] {
        assert!(history.contains(text), "no {text} in {history}");
    }
    let told = site.node("history").exits(0).stdout();
    assert!(told.contains("overridden  the policy, by ") && told.contains(": wedged"), "{told}");
    // The next one needs none.
    site.node("apply three --auto-approve").exits(0);
}

#[test]
fn an_override_ends_is_signed_by_root_keys_and_is_what_it_says() {
    let site = stuck();
    let make = "policy override two --reason wedged --expires 2027-01-01T00:00:00Z --issued-at 2026-11-26T00:00:00Z";
    site.signed(&format!("{make} --out over.json"), "over.json", &["a", "b"]);
    let mut value: Value = serde_json::from_slice(&site.world.read("over.json")).expect("JSON");
    value["expiresAt"] = "2026-11-26T00:00:01Z".into();
    site.world.write("late.json", autonomy_schema::canonical::to_bytes(&value).expect("canonical"));
    for key in ["a", "b"] {
        site.world.run(&format!("sign late.json --key {key}.key")).exits(0);
    }
    let before = site.snapshot();
    site.node("apply two --auto-approve --override late.json").exits(3).warns("expired: the policy override");
    // A lock, signed as it should be, is no override.
    site.node("apply two --auto-approve --override two/autonomy.lock.json").exits(3);
    site.node("apply two --auto-approve --override nothing.json").exits(1);
    site.world.run("policy override two --reason x --expires 1970-01-01T00:00:00Z --out o.json").exits(3);
    site.world.run("policy override nowhere --reason x --out o.json").exits(1);
    assert!(!site.world.has("o.json"));
    assert_eq!(site.snapshot(), before);
    // A saved plan may need it as well.
    site.node("plan two --override over.json --out plan.json").exits(0);
    site.node("apply plan.json --source two").exits(4).warns("policy_denied: ");
    site.node("apply plan.json --source two --override over.json").exits(0);
    site.is_whole(&[2]);
}
