//! Saved plans and facts files: what was approved is what runs, once.

use autonomy_schema::{canonical, document};
use serde_json::{Value, json};

use crate::node::Site;
use crate::world::PASSWORD;

fn plan_of(site: &Site, file: &str) -> Value {
    serde_json::from_slice(&site.world.read(file)).expect("JSON")
}

/// Writes an edited copy of a saved plan.
fn edited(site: &Site, from: &str, to: &str, edit: impl FnOnce(&mut Value)) {
    let mut plan = plan_of(site, from);
    edit(&mut plan);
    site.world.write(to, canonical::to_bytes(&plan).expect("canonical"));
}

/// Changes `node.yaml` on the node.
fn relabel(site: &Site, from: &str, to: &str) {
    site.world.edit("node/node.yaml", from, to);
}

#[test]
fn a_saved_plan_is_what_runs_and_it_runs_once() {
    let site = Site::running();
    site.set("two", 2);
    let before = site.snapshot_all();
    site.node("plan two --out plan.json").exits(0);
    assert!(before == site.snapshot_all(), "planning wrote to the state root");
    let plan = plan_of(&site, "plan.json");
    let shown = site.world.run("show plan.json").exits(0).stdout();
    assert!(shown.contains("Plan: ") && shown.contains("generation"), "{shown}");
    let again = site.world.run("show plan.json --output json").exits(0).stdout();
    assert_eq!(serde_json::from_str::<Value>(&again).expect("JSON"), plan);
    assert!(site.world.run("show plan.json --output markdown").exits(0).stdout().starts_with("## Plan: "));
    // Without a terminal and without --auto-approve: it was approved when it was saved.
    site.node("apply plan.json").exits(0);
    site.is_whole(&[2]);
    let made = std::fs::read_link(site.world.path("node/current")).expect("link");
    let made = plan_of(&site, &format!("node/{}/plan.json", made.display()));
    assert_eq!(made["plan_id"], plan["plan_id"]);
    let before = site.snapshot();
    site.node("apply plan.json").exits(7).warns("plan_consumed: ");
    assert!(before == site.snapshot(), "a refusal changed the state root");
}

#[test]
fn staging_does_not_consume_a_plan() {
    let site = Site::running();
    site.set("two", 2);
    site.node("plan two --out plan.json").exits(0);
    site.node("apply plan.json --stage-only").exits(0);
    site.node("apply plan.json").exits(0);
    site.is_whole(&[2]);
    site.node("apply plan.json").exits(7).warns("plan_consumed: ");
}

#[test]
fn a_stale_plan_names_what_moved_and_the_step_that_it_touches() {
    let site = Site::running();
    site.set("two", 2);
    site.node("plan two --out two.json").exits(0);
    site.set("three", 3);
    site.node("apply three --auto-approve").exits(0);
    let before = site.snapshot();
    let ran = site.node("apply two.json").exits(7);
    assert!(before == site.snapshot(), "a refusal changed the state root");
    let told = ran.stderr();
    assert!(told.contains("stale_plan: fact `current.serial` moved: `1` → `3`"), "{told}");
    assert!(told.contains("it touches generation") || told.contains(", generation"), "{told}");
    site.set("four", 4);
    site.node("plan four --out four.json").exits(0);
    relabel(&site, "pier-7", "pier-8");
    site.node("apply four.json").exits(7).warns("stale_plan: fact `node.label.site` moved: `pier-7` → `pier-8`");
    relabel(&site, "pier-8", "pier-7");
    // Another set than the one that was planned.
    site.set("five", 5);
    site.node("apply four.json --source five").exits(7).warns("stale_plan: the plan is for manifest ");
    site.node("apply four.json").exits(0);
}

#[test]
fn a_plan_file_that_is_none_is_refused() {
    let site = Site::running();
    site.set("two", 2);
    site.node("plan two --out plan.json").exits(0);
    edited(&site, "plan.json", "edited.json", |plan| plan["steps"].as_array_mut().expect("steps").truncate(1));
    edited(&site, "plan.json", "tool.json", |plan| plan["tool_version"] = json!("0.0.9"));
    edited(&site, "plan.json", "format.json", |plan| plan["format_version"] = json!("2.0"));
    edited(&site, "plan.json", "extra.json", |plan| plan["extra"] = json!(1));
    site.world.write("garbage.json", "{]");
    site.world.write("empty.json", "");
    site.world.write("large.json", vec![b' '; (document::MAX_DERIVED_BYTES) + 1]);
    site.world.write("pretty.json", serde_json::to_vec_pretty(&plan_of(&site, "plan.json")).expect("JSON"));
    let before = site.snapshot();
    for (file, exit, code) in [
        ("edited.json", 3, "digest_mismatch: the saved plan was edited"),
        // A foreign version stands in the plan's own identity, so an edit of it is one.
        ("tool.json", 3, "stale_plan: the plan was made by version 0.0.9"),
        ("format.json", 3, "unknown_version: "),
        ("extra.json", 3, "unknown_field: "),
        ("garbage.json", 3, "syntax: "),
        ("empty.json", 3, "syntax: "),
        ("large.json", 3, "document_too_large: "),
        ("pretty.json", 3, "not_canonical: "),
        ("two/manifest.json", 3, "role_mismatch: "),
    ] {
        site.node(&format!("apply {file}")).exits(exit).warns(code);
    }
    site.world.run("show garbage.json").exits(3).warns("syntax: ");
    site.world.run("show nowhere.json").exits(1).warns("source_not_found: ");
    site.node("apply two --source two --auto-approve").exits(64);
    assert!(before == site.snapshot(), "a refusal changed the state root");
}

#[test]
fn an_absolute_source_is_left_out_and_asked_for() {
    let site = Site::running();
    site.set("two", 2);
    let absolute = site.world.path("two");
    site.node(&format!("plan {} --out plan.json", absolute.display())).exits(0);
    assert_eq!(plan_of(&site, "plan.json").get("source"), None);
    site.node("apply plan.json").exits(64).warns("--source SET");
    site.node("apply plan.json --source two").exits(0);
}

#[test]
fn a_plan_expires_with_its_manifest_and_one_that_is_refused_is_not_saved() {
    let site = Site::running();
    site.set("two", 2);
    site.doctor("two", |m| m["metadata"]["expiresAt"] = json!("2026-11-25T06:00:00Z"));
    site.node("plan two --now 2026-11-25T01:00:00Z --out plan.json").exits(0);
    site.node("apply plan.json").exits(3).warns("expired: ");
    site.set("three", 3);
    site.doctor("three", |m| m["spec"]["preconditions"] = json!([{"fact": "os.kernel", "atLeast": "999"}]));
    site.node("plan three --out refused.json").exits(5).warns("was not written");
    assert!(!site.world.has("refused.json"));
}

#[test]
fn plans_and_facts_hold_no_secret() {
    const SECRET: &str = "hunter2-planted";
    let site = Site::bare();
    site.world.write("build/agent", format!("#!/bin/sh\n# {SECRET}\nexit 0\n"));
    site.set("one", 1);
    site.node("apply one --auto-approve").exits(0);
    std::fs::create_dir(site.world.path("node/edge")).expect("folder");
    site.world.write(
        "node/edge/local.toml",
        format!("listen = \"127.0.0.1:1\" # {SECRET}\n[bandwidth]\nbytes_per_second = 1 # {SECRET}\n"),
    );
    let key = String::from_utf8(site.world.read("node/identity/attest.key")).expect("PEM");
    let key = key.lines().nth(1).expect("a line of the key").to_owned();
    std::fs::write(site.world.path("node/current/artifacts/etc/tools.json"), SECRET).expect("drift");
    site.set("two", 2);
    site.node("plan two --out plan.json").exits(0);
    site.node("facts --out facts.json").exits(0);
    let shown = site.node("plan two").exits(0).stdout();
    let texts = [
        String::from_utf8(site.world.read("plan.json")).expect("UTF-8"),
        String::from_utf8(site.world.read("facts.json")).expect("UTF-8"),
        site.world.run("show plan.json").exits(0).stdout(),
        site.world.run("show plan.json --output markdown").exits(0).stdout(),
        shown,
    ];
    for text in &texts {
        assert!(!text.contains(SECRET) && !text.contains(&key), "{text}");
        // Every verb here runs with the password of the keys in its environment.
        assert!(!text.contains(PASSWORD), "{text}");
        assert!(!text.contains(&*site.world.path("").to_string_lossy()), "an absolute path: {text}");
    }
    assert!(texts[0].contains("edge/local.toml") && texts[0].contains("sets bandwidth, listen"), "{}", texts[0]);
}

#[test]
fn a_node_that_cannot_be_reached_is_planned_from_its_facts() {
    let site = Site::running();
    site.set("two", 2);
    site.node("facts --out node-a.json").exits(0);
    let here: Value = serde_json::from_str(&site.node("plan two --output json").exits(0).stdout()).expect("JSON");
    let now = "--now 2026-11-25T12:00:00Z";
    let there = site.world.run(&format!("plan two --facts node-a.json {now} --trust-root root.json --output json"));
    let there: Value = serde_json::from_str(&there.exits(0).stdout()).expect("JSON");
    assert_eq!(here["plan_id"], there["plan_id"], "the same plan, wherever it is made");
    // A draft is planned as well, and says that nobody signed it.
    site.copy("two", "draft");
    std::fs::remove_file(site.world.path("draft/manifest.json.sigstore.jsonl")).expect("removes");
    std::fs::remove_file(site.world.path("draft/autonomy.lock.json.sigstore.jsonl")).expect("removes");
    let draft = site.world.run(&format!("plan draft --facts node-a.json {now}")).exits(0).stdout();
    assert!(draft.contains("signatures were not checked"), "{draft}");
    site.world
        .run(&format!("plan draft --facts node-a.json {now} --trust-root root.json"))
        .exits(3)
        .warns("below_threshold: ");
    site.world.run(&format!("plan one --facts node-a.json {now} --detailed-exitcode")).exits(0);
    site.world.run(&format!("plan two --facts node-a.json {now} --detailed-exitcode")).exits(2);
    // The plan goes to the node, and is what runs there.
    site.world.run(&format!("plan two --facts node-a.json {now} --trust-root root.json --out plan.json")).exits(0);
    site.node("apply plan.json").exits(0);
    site.is_whole(&[2]);
    // What it was made for is past.
    site.node("facts --out node-a.json").exits(0);
    site.world.run(&format!("plan one --facts node-a.json {now}")).exits(3).warns("serial_too_low: ");
    site.world.run(&format!("plan two --facts nowhere.json {now}")).exits(1).warns("source_not_found: ");
    site.world.run(&format!("plan two --facts two/manifest.json {now}")).exits(3).warns("role_mismatch: ");
    site.world.run("plan two --trust-root root.json --state-root node").exits(64);
}

#[test]
fn a_policy_that_is_not_at_hand_is_not_asked_and_says_so() {
    let site = Site::running();
    site.node("facts --out node-a.json").exits(0);
    site.world.edit(
        "manifests/base/policy/update.rego",
        "package autonomy.update",
        "package autonomy.update\n# changed\n",
    );
    site.set("two", 2);
    let told = site.world.run("plan two --facts node-a.json").exits(0).stdout();
    assert!(told.contains("is not at hand here"), "{told}");
    let asked = site.world.run("plan two --facts node-a.json --policy one/policy.tar.gz").exits(0).stdout();
    assert!(asked.contains("the active policy, allows it"), "{asked}");
    site.world.run("plan two --facts node-a.json --policy one/manifest.json").exits(4).warns("policy_error: ");
}

#[test]
fn a_fleet_is_one_line_a_node_worst_first() {
    let site = Site::running();
    site.node("facts --out facts-a.json").exits(0);
    site.set("two", 2);
    let fact = |name: &str, edit: &dyn Fn(&mut Value)| {
        let mut facts: Value = serde_json::from_slice(&site.world.read("facts-a.json")).expect("JSON");
        facts["bound"]["node"]["id"] = json!(name);
        edit(&mut facts);
        site.world.write(&format!("facts-{name}.json"), canonical::to_bytes(&facts).expect("canonical"));
    };
    fact("elsewhere", &|facts| facts["bound"]["node"]["labels"]["site"] = json!("pier-9"));
    fact("full", &|facts| facts["observed"]["freeBytes"] = json!(1));
    fact("ahead", &|facts| facts["bound"]["floors"]["streams"]["harbor-gateways"]["serial"] = json!(9));
    let files = "facts-a.json facts-full.json facts-elsewhere.json facts-ahead.json";
    let ran = site.world.run(&format!("plan two --facts {files} --detailed-exitcode")).exits(3);
    let lines: Vec<String> = ran.stdout().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 5, "{lines:?}");
    for (line, (node, exit, told)) in lines.iter().skip(1).zip([
        ("ahead", "3", "serial_too_low: "),
        ("elsewhere", "3", "scope_mismatch: "),
        ("full", "5", "disk_full: "),
        ("node-a", "2", "Plan: "),
    ]) {
        let mut words = line.split_whitespace();
        assert_eq!((words.next(), words.next()), (Some(node), Some(exit)), "{line}");
        assert!(line.contains(told), "{line}");
    }
    let json = site.world.run(&format!("plan two --facts {files} --output json")).exits(3).stdout();
    let json: Value = serde_json::from_str(json.lines().next().expect("a line")).expect("JSON");
    assert_eq!(json["nodes"].as_array().map(Vec::len), Some(4));
    assert_eq!(json["nodes"][3]["exit"], 0);
    let table = site.world.run(&format!("plan two --facts {files} --output markdown")).exits(3).stdout();
    assert!(table.contains("| elsewhere | 3 | scope\\_mismatch: "), "{table}");
    site.world.run(&format!("plan two --facts {files} --out plan.json")).exits(64);
    // Verified for each of them: the forged one is refused for all, although its files were hashed for the first.
    site.world.run(&format!("plan two --facts {files} --trust-root root.json --detailed-exitcode")).exits(3);
    site.copy("two", "forged");
    site.world.write("forged/artifacts/bin/agent", "#!/bin/sh\nexit 1\n");
    let forged = site.world.run(&format!("plan forged --facts {files} --trust-root root.json")).exits(3).stdout();
    assert!(
        forged.lines().skip(1).all(|line| line.contains("_mismatch: ") || line.contains("serial_too_low: ")),
        "{forged}"
    );
    site.world.run("plan two --facts facts-a.json facts-a.json").exits(0);
}

#[test]
fn a_changed_policy_is_shown_as_widened_or_narrowed_where_recorded_decisions_prove_it() {
    let site = Site::running();
    let base = "manifests/base/manifest.yaml";
    let rego = "manifests/base/policy/update.rego";
    // The active policy forbids release 1.6.0, and is asked about it.
    site.world.edit(base, "version: 1.4.2", "version: 1.6.0");
    site.set("forbidden", 2);
    site.node("apply forbidden --auto-approve").exits(4).warns("policy_denied: release 1.6.0");
    site.world.edit(base, "version: 1.6.0", "version: 1.5.0");
    let policy_of = |name: &str| {
        let plan = site.node(&format!("plan {name} --output json")).exits(0).stdout();
        let plan: Value = serde_json::from_str(&plan).expect("JSON");
        let text = site.node(&format!("plan {name}")).exits(0).stdout();
        (plan["forecast"]["policy"].as_str().map(str::to_owned), text)
    };
    let data = site.world.read("manifests/base/policy/data.json");
    site.world.write("manifests/base/policy/data.json", "{\"forbidden\": {\"releases\": {}}}");
    site.set("widened", 3);
    let (policy, text) = policy_of("widened");
    assert_eq!(policy.as_deref(), Some("widened"), "{text}");
    assert!(text.contains("1 refused before would pass and 0 that passed would be refused"), "{text}");
    // As strict as before about that one, and stricter about what passed: release 1 of this node.
    site.world.write("manifests/base/policy/data.json", data);
    let whole = String::from_utf8(site.world.read(rego)).expect("UTF-8");
    site.world.write(rego, format!("{whole}\ndeny contains \"nothing passes on Fridays\"\n"));
    site.set("narrowed", 4);
    let (policy, text) = policy_of("narrowed");
    assert_eq!(policy.as_deref(), Some("narrowed"), "{text}");
    assert!(text.contains("+deny contains \"nothing passes on Fridays\""), "the difference is shown: {text}");
    // Another text with the same answers proves nothing, and is called changed.
    site.world.write(rego, format!("{whole}\n# a remark\n"));
    site.set("remark", 5);
    let (policy, text) = policy_of("remark");
    assert_eq!(policy.as_deref(), Some("changed"), "{text}");
    assert!(text.contains("both bundles answer 2 recorded decisions alike"), "{text}");
}

#[test]
fn a_narrow_terminal_a_plain_locale_and_a_quiet_plan() {
    let site = Site::running();
    site.set("two", 2);
    let plan = |arguments: &[&str], envs: &[(&str, &str)]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_autonomy"))
            .args(["plan", "two", "--state-root", "node"])
            .args(arguments)
            .current_dir(site.world.path(""))
            .env_clear()
            .envs(envs.iter().copied())
            .output()
            .expect("runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let whole = plan(&[], &[]);
    assert!(whole.contains('\u{2192}') && !whole.contains('\u{1b}'), "{whole}");
    let narrow = plan(&[], &[("COLUMNS", "60")]);
    let prose = narrow.lines().filter(|line| !line.contains("blake3:"));
    assert!(prose.clone().count() > 20 && prose.clone().all(|line| line.chars().count() <= 60), "{narrow}");
    assert!(plan(&[], &[("LC_ALL", "C")]).is_ascii());
    assert!(plan(&["--ascii"], &[("LC_ALL", "C.UTF-8")]).is_ascii());
    assert!(plan(&[], &[("LC_ALL", "C.UTF-8")]).contains('\u{2192}'));
    assert!(plan(&[], &[("CLICOLOR_FORCE", "1")]).contains('\u{1b}'));
    assert!(!plan(&[], &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]).contains('\u{1b}'));
    let quiet = plan(&["--quiet"], &[]);
    assert!(quiet.starts_with("Plan: ") && quiet.lines().count() == 1, "{quiet}");
}
