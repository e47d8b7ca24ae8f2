//! What lies outside the state root: steps, places that are refused, forecast.

use autonomy_plan::{Desired, Plan};
use autonomy_schema::Blake3;
use autonomy_schema::facts::{Drift, DriftKind, Facts};
use autonomy_schema::plan_doc::{Rebuilding, Step};
use autonomy_schema::reason::Code;
use serde_json::{Value, json};

use crate::fixture::{after, every_step, fresh, lines, parse, planned, release_1, release_2, with_steps};

/// The lines of what is done outside the state root, and where they stand among the others.
fn rebuilt(plan: &Plan) -> Vec<String> {
    lines(plan).into_iter().filter(|line| line.contains(" reconstruction.")).collect()
}

fn step<'a>(plan: &'a Plan, address: &str) -> &'a Step {
    plan.doc().steps.iter().find(|step| step.address == address).unwrap()
}

fn os(path: &str, kind: DriftKind, expected: &str, actual: &str) -> Drift {
    Drift::os(path.parse().unwrap(), kind, expected, actual)
}

const CHECK: &str = "~ reconstruction./usr/local/bin/agent#2 rebuild_check";

#[test]
fn a_first_activation_puts_everything_there_between_switch_and_services() {
    let plan = planned(&with_steps(&release_1(), &every_step()), &fresh());
    assert_eq!(
        lines(&plan)[5..],
        [
            "+ generation first_activation",
            "+ reconstruction./opt/harbor rebuild_added",
            "+ reconstruction./usr/local/bin/agent rebuild_added",
            CHECK,
            "+ reconstruction./etc/autonomy/agent.env rebuild_added",
            "+ reconstruction./usr/local/bin/harbor rebuild_added",
            "+ reconstruction./etc/systemd/system/agent.service rebuild_added",
            "~ service.agent.service after_switch",
            "> relay.node-b not_in_outbox",
        ]
    );
    assert_eq!(plan.rebuilds(), 6);
    let counts = Rebuilding { files: 2, directories: 1, links: 1, units: 1, checks: 1, left: Vec::new() };
    assert_eq!(plan.doc().forecast.reconstruction, counts);
    // Facts and plans hold no content of files: a digest stands for the text.
    let env = step(&plan, "reconstruction./etc/autonomy/agent.env");
    assert_eq!(env.after["state"], format!("{} 0644", Blake3::of(b"LEVEL=1\n")));
    assert_eq!(
        step(&plan, "reconstruction./usr/local/bin/agent#2").after["command"],
        "/usr/local/bin/agent --selfcheck"
    );
}

#[test]
fn an_update_lists_what_changes_and_the_checks_and_leaves_what_it_no_longer_names() {
    let facts = after(&with_steps(&release_1(), &every_step()), &fresh());
    let same = with_steps(&release_1(), &every_step());
    let mut next = same.clone();
    next["metadata"]["serial"] = json!(42);
    let plan = planned(&next, &facts);
    assert_eq!(rebuilt(&plan), [CHECK], "what is there as it shall be is no step");
    assert_eq!(plan.rebuilds(), 6, "and yet every step is carried out");

    // The agent's bytes, the mode of a file, the kind of a place, whether a unit is enabled; one goes and one comes.
    let mut steps = every_step();
    steps[3]["writeFile"]["mode"] = json!("0600");
    steps[4] = json!({ "directory": { "path": "/usr/local/bin/harbor", "mode": "0755" } });
    steps[5]["systemdUnit"]["enable"] = json!(false);
    steps[0] = json!({ "writeFile": { "to": "/opt/new", "content": "", "mode": "0644" } });
    let mut next = release_2();
    next["spec"]["artifacts"][1] = release_1()["spec"]["artifacts"][1].clone();
    let plan = planned(&with_steps(&next, &steps), &facts);
    assert_eq!(
        rebuilt(&plan),
        [
            "+ reconstruction./opt/new rebuild_added",
            "~ reconstruction./usr/local/bin/agent rebuild_changed",
            CHECK,
            "~ reconstruction./etc/autonomy/agent.env rebuild_changed",
            "~ reconstruction./usr/local/bin/harbor rebuild_changed",
            "~ reconstruction./etc/systemd/system/agent.service rebuild_changed",
        ]
    );
    let harbor = step(&plan, "reconstruction./usr/local/bin/harbor");
    assert_eq!((harbor.before["step"].as_str(), harbor.before["state"].as_str()), ("symlink", "-> agent"));
    assert_eq!((harbor.after["step"].as_str(), harbor.after["state"].as_str()), ("directory", "directory 0755"));
    assert_eq!(plan.doc().forecast.reconstruction.left, ["/opt/harbor"]);

    // Without any step nothing is carried out, and everything is left; a check leaves nothing.
    let plan = planned(&next, &facts);
    assert_eq!((plan.rebuilds(), rebuilt(&plan)), (0, vec![]));
    assert_eq!(plan.doc().forecast.reconstruction.left.len(), 5);
}

/// A node on which every step was carried out, with these differences since.
fn drifted(drift: Vec<Drift>) -> (Value, Facts) {
    let manifest = with_steps(&release_1(), &every_step());
    let mut facts = after(&manifest, &fresh());
    facts.bound.drift = drift;
    (manifest, facts)
}

#[test]
fn what_differs_outside_the_state_root_alone_is_a_repair() {
    let link = "etc/systemd/system/multi-user.target.wants/agent.service";
    let (manifest, facts) = drifted(vec![
        os("usr/local/bin/agent", DriftKind::Content, "blake3:aa 0755", "blake3:bb"),
        os("etc/autonomy/agent.env", DriftKind::Mode, "blake3:aa 0644", "0666"),
        os("usr/local/bin/harbor", DriftKind::Type, "-> agent", "a file"),
        os("opt/harbor", DriftKind::Missing, "directory 0755", ""),
        os(link, DriftKind::Missing, "-> /etc/systemd/system/agent.service", ""),
    ]);
    let plan = planned(&manifest, &facts);
    assert_eq!(
        lines(&plan),
        [
            "-/+ generation repair",
            "+ reconstruction./opt/harbor drift_missing",
            "~ reconstruction./usr/local/bin/agent drift_content",
            CHECK,
            "~ reconstruction./etc/autonomy/agent.env drift_mode",
            "-/+ reconstruction./usr/local/bin/harbor drift_type",
            "~ reconstruction./etc/systemd/system/agent.service drift_missing",
            "~ service.agent.service after_switch",
        ]
    );
    assert_eq!(plan.rebuilds(), 6);
    let unit = step(&plan, "reconstruction./etc/systemd/system/agent.service");
    assert_eq!(unit.reason.fact.as_deref(), Some(&*format!("drift.os:/{link}")));
    assert_eq!(unit.after[&format!("/{link}")], "-> /etc/systemd/system/agent.service");
    let agent = step(&plan, "reconstruction./usr/local/bin/agent");
    assert_eq!((agent.before["state"].as_str(), agent.after["state"].as_str()), ("blake3:bb", "blake3:aa 0755"));
}

#[test]
fn a_return_carries_out_the_steps_of_what_it_goes_back_to() {
    let (one, two) = (with_steps(&release_1(), &every_step()), release_2());
    let first = after(&one, &fresh());
    let to = first.bound.current.clone().expect("current").generation;
    let (manifest, fingerprint) = parse(&one);
    let desired = Desired { returns_to: Some(&to), ..Desired::new(&manifest, fingerprint) };
    let plan = autonomy_plan::plan(&desired, &after(&two, &first)).expect("plan");
    assert!(plan.returns());
    assert_eq!((plan.rebuilds(), rebuilt(&plan).len()), (6, 6));

    // What both have and somebody changed since is put right on the way.
    let mut facts = after(&with_steps(&two, &json!([every_step()[3]])), &first);
    facts.bound.drift = vec![os("etc/autonomy/agent.env", DriftKind::Missing, "blake3:aa 0644", "")];
    let plan = autonomy_plan::plan(&desired, &facts).expect("plan");
    assert!(rebuilt(&plan).contains(&"+ reconstruction./etc/autonomy/agent.env drift_missing".to_owned()));
    let same = autonomy_plan::plan(&desired, &first).expect("plan");
    assert_eq!((same.rebuilds(), same.has_changes()), (0, false));
}

#[test]
fn a_place_that_the_node_does_not_allow_blocks() {
    for (path, destinations, allowed) in [
        ("/etc/passwd", vec![], false),
        ("/opt", vec![], false),
        ("/optional/x", vec![], false),
        ("/usr/local/../../etc/passwd", vec![], false),
        ("/srv/agent/x", vec![], false),
        ("/srv/agent/x", vec!["/srv/agent/"], true),
        ("/srv/agent/x", vec!["/srv/agent"], true),
        ("/opt/x", vec![], true),
    ] {
        let steps = json!([{ "writeFile": { "to": path, "content": "", "mode": "0644" } }]);
        let manifest: autonomy_schema::StateManifest =
            serde_json::from_value(with_steps(&release_1(), &steps)).expect("manifest");
        let mut facts = fresh();
        facts.bound.node.destinations = destinations.into_iter().map(str::to_owned).collect();
        let plan = autonomy_plan::plan(&Desired::new(&manifest, Blake3::of(b"x")), &facts).expect("plan");
        let codes: Vec<Code> = plan.blocked().iter().map(|reason| reason.code).collect();
        let expected = if allowed { vec![] } else { vec![Code::DestinationRefused] };
        assert_eq!(codes, expected, "{path}");
        if !allowed {
            let blocked = &plan.doc().steps[0];
            assert_eq!(lines(&plan)[0].split(' ').next(), Some("!"));
            assert_eq!(blocked.reason.fact.as_deref(), Some("node.destinations"));
            assert!(blocked.reason.text.contains("/usr/local/, /etc/systemd/system/"), "{}", blocked.reason.text);
            let same = plan.doc().steps.iter().filter(|step| step.address == blocked.address);
            assert_eq!(same.count(), 1, "it is not shown as work too");
        }
    }
}

#[test]
fn places_do_not_block_a_node_that_only_passes_the_set_on() {
    let steps = json!([{ "directory": { "path": "/srv/x", "mode": "0755" } }]);
    let manifest = with_steps(&release_1(), &steps);
    let mut facts = after(&manifest, &fresh());
    facts.bound.outbox.clear();
    let plan = planned(&manifest, &facts);
    assert_eq!(lines(&plan), ["> relay.node-b not_in_outbox"]);
    assert_eq!(plan.rebuilds(), 0);
}
