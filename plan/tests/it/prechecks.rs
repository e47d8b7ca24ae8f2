//! What the platform says.

use autonomy_plan::render::{self, Style, Texts};
use autonomy_plan::{Desired, prechecks, verdict_reasons};
use autonomy_schema::facts::Facts;
use autonomy_schema::finding::{Finding, Severity};
use autonomy_schema::manifest::Durability;
use autonomy_schema::plan_doc::{Verdict, Verdicts};
use autonomy_schema::reason::{Code, Reason};
use serde_json::{Value, json};

use crate::fixture::{after, fresh, parse, planned, release_1, release_2};

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
fn high_durability_is_refused_unless_the_platform_gives_it() {
    for (demanded, given, passes) in [
        ("standard", None, true),
        ("standard", Some(Durability::Standard), true),
        ("high", Some(Durability::High), true),
        ("high", Some(Durability::Standard), false),
        ("high", None, false),
    ] {
        let mut manifest = release_1();
        manifest["spec"]["precheck"] = json!({ "durability": demanded });
        let mut facts = fresh();
        facts.observed.durability = given;
        let expected = if passes { vec![] } else { vec![Code::AssuranceReduced] };
        assert_eq!(refusals(&manifest, &facts), expected, "{demanded} {given:?}");
        let told = verdicts(&manifest, &facts).iter().any(|verdict| verdict.message.contains("durability"));
        assert_eq!(told, demanded == "high", "{demanded} {given:?}");
        assert_eq!(planned(&manifest, &facts).doc().forecast.durability, given);
    }
    // On the way back it counts as well, and a node that only passes the set on is not asked.
    let mut one = release_1();
    one["spec"]["precheck"] = json!({ "durability": "high" });
    let mut facts = after(&one, &fresh());
    facts.bound.outbox.clear();
    assert!(planned(&one, &facts).relays());
    assert_eq!(refusals(&one, &facts), []);
    let to = facts.bound.current.clone().expect("current").generation;
    let facts = after(&release_2(), &facts);
    let (manifest, fingerprint) = parse(&one);
    let desired = Desired { returns_to: Some(&to), ..Desired::new(&manifest, fingerprint) };
    let plan = autonomy_plan::plan(&desired, &facts).expect("plan");
    assert!(
        prechecks(&manifest, &plan, &facts).iter().any(|verdict| verdict.code == "assurance_reduced" && !verdict.ok)
    );
}

fn finding(severity: Severity, code: Code, message: &str) -> Finding {
    Finding::new(severity, Reason::new(code, message).with_remedy("do it"))
}

#[test]
fn what_edged_precheck_would_find_is_noted_and_refuses_nothing() {
    let mut facts = fresh();
    facts.observed.findings = vec![
        finding(Severity::Error, Code::Expired, "the certificate has expired"),
        finding(Severity::Warning, Code::OsChanged, "`kernel` changed: 6.1 → 6.12"),
        finding(Severity::Info, Code::ClockBehind, "only for the report"),
    ];
    assert_eq!(refusals(&release_1(), &facts), []);
    let noted = |verdicts: Vec<Verdict>| -> Vec<(String, bool, String)> {
        let noted = verdicts.into_iter().filter(|verdict| verdict.code != "ok");
        noted.map(|verdict| (verdict.code, verdict.ok, verdict.remedy)).collect()
    };
    let told = |code: &str| (code.to_owned(), true, "do it".to_owned());
    assert_eq!(noted(verdicts(&release_1(), &facts)), [told("expired"), told("os_changed")]);
    // Also where there is nothing to do.
    assert_eq!(noted(verdicts(&release_1(), &after(&release_1(), &facts))), [told("expired"), told("os_changed")]);
    // What is refused already is not told twice; where it is not demanded, it is told.
    facts.observed.findings = vec![finding(Severity::Warning, Code::AssuranceReduced, "cgroup v1")];
    facts.observed.durability = Some(Durability::Standard);
    assert_eq!(noted(verdicts(&release_1(), &facts)), [told("assurance_reduced")]);
    let mut high = release_1();
    high["spec"]["precheck"] = json!({ "durability": "high" });
    assert_eq!(refusals(&high, &facts), [Code::AssuranceReduced]);
    assert!(verdicts(&high, &facts).iter().all(|verdict| verdict.message != "cgroup v1"));
}

#[test]
fn certificates_and_their_crl_are_forecast_in_days_of_the_facts_clock() {
    // The clock of the facts is 2026-11-25T09:00:00Z.
    for (at, days, soon, certificate, crl) in [
        ("2026-12-07T09:00:00Z", 12, false, "expires in 12 days (2026-12-07)", "next due in 12 days (2026-12-07)"),
        ("2026-12-02T09:00:01Z", 7, false, "expires in 7 days (2026-12-02)", "next due in 7 days (2026-12-02)"),
        (
            "2026-12-02T09:00:00Z",
            7,
            true,
            "expires in 7 days (2026-12-02), which is soon: renew it",
            "next due in 7 days (2026-12-02)",
        ),
        (
            "2026-11-26T08:59:59Z",
            0,
            true,
            "expires in less than a day (2026-11-26), which is soon: renew it",
            "next due in less than a day (2026-11-26)",
        ),
        (
            "2026-11-25T08:59:59Z",
            -1,
            true,
            "expired less than a day ago (2026-11-25)",
            "overdue by less than a day (2026-11-25)",
        ),
        ("2026-11-24T08:59:59Z", -2, true, "expired 1 day ago (2026-11-24)", "overdue by 1 day (2026-11-24)"),
    ] {
        let mut facts = fresh();
        facts.observed.certificate_expires = Some(at.parse().unwrap());
        facts.observed.crl_due = facts.observed.certificate_expires;
        let plan = planned(&release_1(), &facts);
        let forecast = plan.doc().forecast.clone();
        let certificate_due = forecast.certificate.expect("certificate");
        assert_eq!((certificate_due.days, certificate_due.soon), (days, soon), "{at}");
        assert_eq!(forecast.crl.map(|due| (due.days, due.soon)), Some((days, false)), "{at}");
        let text = render::text(plan.doc(), &Texts::default(), Style::default());
        for line in [format!("  certificate {certificate}\n"), format!("  CRL         {crl}\n")] {
            assert!(text.contains(&line), "{line} in {text}");
        }
    }
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
