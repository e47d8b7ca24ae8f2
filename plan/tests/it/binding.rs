//! Saved plans.

use autonomy_plan::{Origin, check_binding, report};
use autonomy_schema::facts::DriftKind;
use autonomy_schema::plan_doc::{PlanDoc, Verdicts};
use autonomy_schema::reason::Code;

use crate::fixture::{after, drift, fresh, parse, planned, release_1, release_2};

fn saved() -> PlanDoc {
    report(&planned(&release_2(), &after(&release_1(), &fresh())), Verdicts::default(), Origin::default(), None)
}

#[test]
fn it_holds_while_nothing_moves_and_what_is_observed_may_move() {
    let mut facts = after(&release_1(), &fresh());
    facts.observed.free_bytes = 1;
    facts.observed.clock = "2027-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(check_binding(&saved(), parse(&release_2()).1, &facts), Ok(()));
}

#[test]
fn the_fact_that_moved_is_named_with_the_steps_that_it_touches() {
    let mut facts = after(&release_1(), &fresh());
    facts.bound.outbox.insert(parse(&release_2()).1);
    facts.bound.node.labels.insert("site".to_owned(), "pier-8".to_owned());
    facts.bound.drift = vec![drift("artifacts/bin/agent", DriftKind::Content, "blake3:aa", "blake3:bb")];
    let reasons = check_binding(&saved(), parse(&release_2()).1, &facts).unwrap_err();
    let short = parse(&release_2()).1.short();
    assert_eq!(
        reasons.to_string(),
        format!(
            "stale_plan: fact `drift.artifacts/bin/agent` moved: absent → `content blake3:bb`\n\
             stale_plan: fact `node.label.site` moved: `pier-7` → `pier-8`\n\
             stale_plan: fact `outbox.{short}` moved: absent → `waiting`; it touches relay.node-b, relay.node-c"
        )
    );
    assert_eq!(reasons.exit(), 7);
}

#[test]
fn another_generation_touches_all_that_was_compared_with_it() {
    let facts = after(&release_2(), &fresh());
    let reasons = check_binding(&saved(), parse(&release_2()).1, &facts).unwrap_err();
    let text = reasons.to_string();
    assert!(
        text.contains(
            "fact `current.serial` moved: `41` → `42`; it touches artifact.bin/agent, artifact.etc/agent.toml"
        ),
        "{text}"
    );
}

#[test]
fn another_manifest_another_tool_and_an_edited_plan_are_refused() {
    let facts = after(&release_1(), &fresh());
    let has = |doc: &PlanDoc, manifest, code| check_binding(doc, manifest, &facts).unwrap_err().has(code);
    assert!(has(&saved(), parse(&release_1()).1, Code::StalePlan));
    let newer = PlanDoc { tool_version: "99.0.0".to_owned(), ..saved() };
    assert!(has(&newer, parse(&release_2()).1, Code::StalePlan));
    let mut edited = saved();
    edited.steps.remove(0);
    assert!(has(&edited, parse(&release_2()).1, Code::DigestMismatch));
}

#[test]
fn a_refusal_stays_readable_when_thousands_of_facts_moved() {
    let mut facts = after(&release_1(), &fresh());
    facts.bound.drift =
        (0..10_000).map(|n| drift(&format!("artifacts/f{n}"), DriftKind::Extra, "", "blake3:aa")).collect();
    let reasons = check_binding(&saved(), parse(&release_2()).1, &facts).unwrap_err();
    assert!(reasons.as_slice().len() <= 52, "{}", reasons.as_slice().len());
    assert!(reasons.to_string().contains("9950 more facts moved"));
}
