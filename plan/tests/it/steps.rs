//! Which steps a plan has, case by case.

use autonomy_plan::Desired;
use autonomy_schema::RelPath;
use autonomy_schema::facts::{Drift, DriftKind, Facts};
use autonomy_schema::manifest::ServiceAction;
use autonomy_schema::reason::Code;
use serde_json::{Value, json};

use crate::fixture::{after, artifact, drift, fresh, lines, parse, planned, release_1, release_2};

fn check(manifest: &Value, facts: &Facts, expected: &[&str]) {
    assert_eq!(lines(&planned(manifest, facts)), expected);
}

#[test]
fn first_activation() {
    check(
        &release_1(),
        &fresh(),
        &[
            "+ artifact.bin/agent added",
            "+ artifact.etc/agent.toml added",
            "+ lock added",
            "+ policy added",
            "+ edge.toml added",
            "+ generation first_activation",
            "~ service.agent.service after_switch",
            "> relay.node-b not_in_outbox",
        ],
    );
}

#[test]
fn update() {
    let facts = after(&release_1(), &fresh());
    let plan = planned(&release_2(), &facts);
    assert_eq!(
        lines(&plan),
        [
            "~ artifact.bin/agent content_changed",
            "- artifact.etc/agent.toml removed",
            "+ artifact.share/map added",
            "~ lock lock_changed",
            "~ policy policy_changed",
            "~ edge.toml relay_changed",
            "~ generation manifest_changed",
            "~ service.agent.service after_switch",
            "> relay.node-b not_in_outbox",
            "> relay.node-c not_in_outbox",
        ]
    );
    assert!(plan.switches() && plan.relays() && plan.has_changes());
    assert_eq!(plan.services().len(), 1);
    let forecast = &plan.doc().forecast;
    assert_eq!((forecast.restarts, forecast.policy.as_str()), (1, "changed"));
}

#[test]
fn unchanged_bytes_are_reused_and_only_what_moved_is_a_step() {
    let mut next = release_1();
    next["metadata"]["serial"] = json!(42);
    next["spec"]["artifacts"][1]["mode"] = json!("0600");
    let facts = after(&release_1(), &fresh());
    let plan = planned(&next, &facts);
    assert_eq!(
        lines(&plan),
        [
            "~ artifact.etc/agent.toml mode_changed",
            "~ generation manifest_changed",
            "~ service.agent.service after_switch",
            "> relay.node-b not_in_outbox",
        ]
    );
    assert_eq!(plan.doc().forecast.disk_reused_bytes, "agent 1".len() as u64);
    assert_eq!(plan.doc().forecast.policy, "unchanged");
}

#[test]
fn one_content_at_two_paths_is_written_once() {
    let mut twice = release_1();
    let first = planned(&twice, &fresh()).doc().forecast.clone();
    twice["spec"]["artifacts"].as_array_mut().unwrap().push(artifact("bin/same", "agent 1", "0755"));
    let second = planned(&twice, &fresh()).doc().forecast.clone();
    assert_eq!((first.disk_reused_bytes, second.disk_reused_bytes), (0, 7));
}

#[test]
fn nothing_to_do() {
    let facts = after(&release_1(), &fresh());
    let plan = planned(&release_1(), &facts);
    assert!(lines(&plan).is_empty() && !plan.has_changes() && !plan.switches() && !plan.relays());
    assert!(plan.services().is_empty());
    assert_eq!(plan.doc().forecast.disk_new_bytes, 0);
}

#[test]
fn an_active_manifest_that_left_the_outbox_is_only_relayed() {
    let mut facts = after(&release_1(), &fresh());
    facts.bound.outbox.clear();
    let plan = planned(&release_1(), &facts);
    assert_eq!(lines(&plan), ["> relay.node-b not_in_outbox"]);
    assert!(!plan.switches() && plan.relays() && plan.services().is_empty());
}

#[test]
fn a_node_does_not_relay_to_itself() {
    let mut alone = release_1();
    alone["spec"]["relay"]["peers"] = json!([{ "id": "node-a", "address": "10.0.0.1:7443" }]);
    assert!(!planned(&alone, &fresh()).relays());
}

#[test]
fn repair() {
    let mut facts = after(&release_1(), &fresh());
    facts.bound.drift = vec![
        drift("artifacts/bin/agent", DriftKind::Content, "blake3:aa", "blake3:bb"),
        drift("artifacts/etc/agent.toml", DriftKind::Mode, "0644", "0666"),
        drift("artifacts/etc/evil", DriftKind::Extra, "", "blake3:cc"),
        drift("edge.toml", DriftKind::Missing, "blake3:dd", ""),
        drift("policy.tar.gz", DriftKind::Type, "file", "symlink"),
        drift("segments/bin.agent.idx", DriftKind::Content, "blake3:ee", "blake3:ff"),
        drift("surprise", DriftKind::Extra, "", "blake3:11"),
    ];
    check(
        &release_1(),
        &facts,
        &[
            "~ artifact.bin/agent drift_content",
            "~ artifact.etc/agent.toml drift_mode",
            "- artifact.etc/evil drift_extra",
            "-/+ policy drift_type",
            "+ edge.toml drift_missing",
            "~ file.segments/bin.agent.idx drift_content",
            "- file.surprise drift_extra",
            "-/+ generation repair",
            "~ service.agent.service after_switch",
        ],
    );
    // A drifted file is not counted on.
    assert_eq!(planned(&release_1(), &facts).doc().forecast.disk_reused_bytes, 0);
}

#[test]
fn an_update_repairs_what_it_keeps_and_says_so() {
    let mut facts = after(&release_1(), &fresh());
    facts.bound.drift = vec![
        drift("artifacts/bin/agent", DriftKind::Mode, "0755", "0777"),
        drift("artifacts/etc/agent.toml", DriftKind::Missing, "blake3:aa", ""),
        drift("manifest.json", DriftKind::Content, "blake3:aa", "blake3:bb"),
    ];
    let mut next = release_2();
    next["spec"]["artifacts"].as_array_mut().unwrap().push(artifact("etc/agent.toml", "level = 1", "0644"));
    let plan = planned(&next, &facts);
    assert_eq!(
        lines(&plan)[..3],
        [
            "~ artifact.bin/agent content_changed",
            "+ artifact.etc/agent.toml drift_missing",
            "+ artifact.share/map added",
        ]
    );
    assert_eq!(plan.doc().drift.len(), 3);
}

#[test]
fn a_tree_is_one_step_and_its_index_is_part_of_what_it_is() {
    let digest = |digit: &str, algorithm: &str| format!("{algorithm}:{}", digit.repeat(64));
    let with = |manifest: &Value, index: &str| {
        let mut manifest = manifest.clone();
        let index = json!({ "blake3": digest("1", "blake3"), "digest": digest(index, "sha256"), "size": 10 });
        let segments = json!({ "index": digest("2", "blake3"), "count": 1, "size": 40 });
        let tree = json!({ "name": "models", "type": "tree", "path": "models", "index": index, "size": 5,
            "digest": digest("3", "sha256"), "blake3": digest("4", "blake3"), "segments": segments });
        manifest["spec"]["artifacts"].as_array_mut().unwrap().push(tree);
        manifest
    };
    let first = with(&release_1(), "5");
    let plan = planned(&first, &fresh());
    assert!(lines(&plan).contains(&"+ artifact.models added".to_owned()), "{:?}", lines(&plan));
    let facts = after(&first, &fresh());
    let same = planned(&with(&release_2(), "5"), &facts);
    assert!(!lines(&same).iter().any(|line| line.contains("models")), "{:?}", lines(&same));
    let changed = planned(&with(&release_2(), "6"), &facts);
    assert!(lines(&changed).contains(&"~ artifact.models content_changed".to_owned()), "{:?}", lines(&changed));
    let gone = planned(&release_2(), &facts);
    assert!(lines(&gone).contains(&"- artifact.models removed".to_owned()), "{:?}", lines(&gone));
}

#[test]
fn a_manifest_that_failed_here_is_blocked_first() {
    let mut facts = after(&release_1(), &fresh());
    let mut next = release_2();
    next["spec"]["reconstruction"] = json!({ "steps": [{ "directory": { "path": "/srv/x", "mode": "0755" } }] });
    facts.bound.pinned.insert(parse(&next).1);
    let plan = planned(&next, &facts);
    assert_eq!(lines(&plan)[..2], ["! manifest pinned", "! reconstruction./srv/x destination_refused"]);
    let codes: Vec<_> = plan.blocked().iter().map(|reason| reason.code).collect();
    assert_eq!(codes, [Code::DestinationRefused, Code::Pinned]);
}

#[test]
fn services_keep_their_order_and_have_addresses_of_their_own() {
    let mut manifest = release_1();
    manifest["spec"]["services"] = json!([
        { "command": ["bin/agent", "--b"] },
        { "unit": "z.service", "action": "reload" },
        { "unit": "named.service", "action": "none" },
        { "command": ["bin/agent", "--a"] },
    ]);
    let plan = planned(&manifest, &fresh());
    let services: Vec<_> =
        plan.doc().steps.iter().map(|step| step.address.as_str()).filter(|a| a.starts_with("service.")).collect();
    assert_eq!(services, ["service.bin/agent", "service.z.service", "service.bin/agent#2"]);
    assert!(plan.services().iter().all(|service| service.action != Some(ServiceAction::None)));
}

#[test]
fn another_parent_and_a_step_back_are_told() {
    let facts = after(&release_1(), &fresh());
    let mut next = release_2();
    next["metadata"]["parent"] = json!(autonomy_schema::Blake3::of(b"somebody else"));
    next["metadata"]["rollbackOf"] = json!(parse(&release_1()).1);
    let plan = planned(&next, &facts);
    let generation = plan.doc().steps.iter().find(|step| step.address == "generation").unwrap();
    assert!(generation.reason.text.contains("is not the active one"), "{}", generation.reason.text);
    assert!(generation.reason.text.contains("steps back to"), "{}", generation.reason.text);
}

#[test]
fn the_forecast_of_new_bytes_is_what_staging_writes() {
    let (manifest, _) = parse(&release_1());
    let document = autonomy_schema::canonical::to_bytes(&manifest).unwrap().len();
    let edge = manifest.spec.relay.edge_toml().len();
    let contents = "agent 1".len() + "level = 1".len() + 2 * 40;
    let new = planned(&release_1(), &fresh()).doc().forecast.disk_new_bytes;
    assert_eq!(new, (document + edge + 812 + 2048 + contents) as u64);
}

#[test]
fn health_and_confirmation_are_steps_after_the_services() {
    let mut next = release_2();
    next["spec"]["health"] = json!({ "command": ["bin/agent", "--selfcheck"], "timeout": "30s" });
    next["spec"]["confirm"] = json!({ "within": "5m" });
    let mut facts = after(&release_1(), &fresh());
    let plan = planned(&next, &facts);
    let all = lines(&plan);
    let at = |line: &str| all.iter().position(|found| found == line).unwrap_or_else(|| panic!("{line} in {all:?}"));
    assert!(at("~ generation manifest_changed") < at("~ health health_check"));
    assert_eq!(at("~ health health_check") + 1, at("~ confirm after_health"));
    let lkg = facts.bound.lkg.clone().expect("last known good");
    assert!(plan.doc().steps.iter().any(|step| step.address == "confirm" && step.reason.text.contains(lkg.as_str())));
    // While it waits it does not go on to peers; once it was confirmed, a repair of it does not ask again.
    facts = after(&next, &facts);
    let current = facts.bound.current.clone().expect("current");
    facts.bound.outbox.clear();
    facts.bound.awaiting = Some(current.generation.clone());
    facts.bound.lkg = Some(lkg);
    assert_eq!(planned(&next, &facts).doc().steps, []);
    facts.bound.awaiting = None;
    facts.bound.lkg = Some(current.generation);
    assert!(planned(&next, &facts).relays());
    facts.bound.drift = vec![Drift::generation(RelPath::fixed("edge.toml"), DriftKind::Missing, "", "")];
    assert!(!planned(&next, &facts).doc().steps.iter().any(|step| step.address == "confirm"));
}

#[test]
fn a_return_writes_nothing_new_and_goes_to_no_peer() {
    let (one, two) = (release_1(), release_2());
    let first = after(&one, &fresh());
    let to = first.bound.current.clone().expect("current").generation;
    let facts = after(&two, &first);
    let (manifest, fingerprint) = parse(&one);
    let desired = Desired { returns_to: Some(&to), ..Desired::new(&manifest, fingerprint) };
    let plan = autonomy_plan::plan(&desired, &facts).expect("plan");
    assert!(plan.returns() && plan.switches() && !plan.relays());
    assert_eq!(plan.doc().forecast.disk_new_bytes, 0);
    let step = plan.doc().steps.iter().find(|step| step.address == "generation").expect("switch");
    assert_eq!(step.after["generation"], to.to_string());
    assert!(autonomy_plan::prechecks(&manifest, &plan, &facts).iter().all(|verdict| !verdict.message.contains("free")));
    // To the generation that is active there is nothing to do.
    let same = autonomy_plan::plan(&desired, &first).expect("plan");
    assert!(!same.has_changes());
}
