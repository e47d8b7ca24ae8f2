//! What the platform says.

use autonomy_plan::{prechecks, verdict_reasons};
use autonomy_schema::facts::Facts;
use autonomy_schema::plan_doc::{Verdict, Verdicts};
use autonomy_schema::reason::Code;
use serde_json::{Value, json};

use crate::fixture::{after, fresh, parse, planned, release_1};

fn verdicts(manifest: &Value, facts: &Facts) -> Vec<Verdict> {
    prechecks(&parse(manifest).0, &planned(manifest, facts), facts)
}

fn refusals(manifest: &Value, facts: &Facts) -> Vec<Code> {
    let precheck = verdicts(manifest, facts);
    let reasons = verdict_reasons(&Verdicts { precheck, policy: Vec::new() });
    reasons.into_iter().map(|reason| reason.code).collect()
}

#[test]
fn preconditions_compare_as_their_authors_mean() {
    for (condition, holds) in [
        (json!({ "fact": "os.kernel", "atLeast": "5.15" }), true),
        (json!({ "fact": "os.kernel", "atLeast": "6.1" }), true),
        (json!({ "fact": "os.kernel", "atLeast": "6.1.0" }), true),
        (json!({ "fact": "os.kernel", "atLeast": "6.1.1" }), false),
        (json!({ "fact": "os.kernel", "atLeast": "6.10" }), false),
        (json!({ "fact": "os.kernel", "atMost": "6.1" }), true),
        (json!({ "fact": "os.kernel", "atMost": "6.0.99" }), false),
        (json!({ "fact": "os.kernel", "atLeast": "06.01" }), true),
        (json!({ "fact": "os.kernel", "atLeast": "99999999999999999999999999" }), false),
        (json!({ "fact": "os.kernel", "atLeast": "" }), false),
        (json!({ "fact": "os.kernel", "atLeast": "new" }), false),
        (json!({ "fact": "node.label.site", "equals": "pier-7" }), true),
        (json!({ "fact": "node.label.site", "equals": "pier-8" }), false),
        (json!({ "fact": "node.label.site", "atLeast": "1" }), false),
        (json!({ "fact": "node.label.berth", "equals": "" }), false),
        (json!({ "fact": "observed.freeBytes", "atLeast": "1073741824" }), true),
        (json!({ "fact": "observed.freeBytes", "atLeast": "1073741825" }), false),
    ] {
        let mut manifest = release_1();
        manifest["spec"]["preconditions"] = json!([condition]);
        let expected = if holds { vec![] } else { vec![Code::PreconditionFailed] };
        assert_eq!(refusals(&manifest, &fresh()), expected, "{condition}");
    }
}

#[test]
fn free_space_and_ceiling_are_forecast_to_the_byte() {
    let mut manifest = release_1();
    let new = planned(&manifest, &fresh()).doc().forecast.disk_new_bytes;
    // The numbers are longer than the ones that they replace, so the manifest grows by itself: measure again.
    manifest["spec"]["precheck"] = json!({ "minFreeBytes": 1000 });
    manifest["spec"]["relay"]["storage"] = json!({ "diskCeilingBytes": 1_000_000_000 });
    let grown = planned(&manifest, &fresh()).doc().forecast.disk_new_bytes;
    assert!(grown > new);
    let mut facts = fresh();
    facts.observed.free_bytes = grown + 1000;
    facts.observed.used_bytes = 1_000_000_000 - grown;
    assert_eq!(refusals(&manifest, &facts), []);
    facts.observed.free_bytes -= 1;
    assert_eq!(refusals(&manifest, &facts), [Code::DiskFull]);
    facts.observed.used_bytes += 1;
    assert_eq!(refusals(&manifest, &facts), [Code::CeilingExceeded, Code::DiskFull]);
    facts.observed.used_bytes = u64::MAX;
    assert!(refusals(&manifest, &facts).contains(&Code::CeilingExceeded));
}

#[test]
fn a_node_with_nothing_to_do_is_asked_nothing() {
    let mut manifest = release_1();
    manifest["spec"]["preconditions"] = json!([{ "fact": "os.kernel", "atLeast": "99" }]);
    assert_eq!(verdicts(&manifest, &after(&manifest, &fresh())), []);
}

#[test]
fn verdicts_are_sorted_and_without_repeats() {
    let bad = |code: &str, message: &str| Verdict {
        code: code.to_owned(),
        ok: false,
        message: message.to_owned(),
        remedy: String::new(),
    };
    let verdicts = Verdicts {
        precheck: vec![bad("disk_full", "b"), bad("disk_full", "b"), bad("who_knows", "c")],
        policy: vec![bad("policy_denied", "a"), bad("made_up", "z")],
    };
    let codes: Vec<_> = verdict_reasons(&verdicts).into_iter().map(|reason| reason.code).collect();
    assert_eq!(codes, [Code::DiskFull, Code::PolicyDenied, Code::PolicyError, Code::PreconditionFailed]);
}
