//! What people read, byte for byte. `UPDATE_SNAPSHOTS=1` writes the files anew; read the difference before you commit.

use autonomy_plan::render::{Style, TextPair, Texts};
use autonomy_plan::{Origin, prechecks, render, report};
use autonomy_schema::facts::{DriftKind, Facts};
use autonomy_schema::plan_doc::{PlanDoc, Verdict, Verdicts};
use serde_json::{Value, json};

use crate::fixture::{after, artifact, drift, fresh, parse, planned, release_1, release_2};

#[expect(clippy::disallowed_methods, reason = "the test reads and writes its own recorded files")]
fn check(name: &str, actual: &str) {
    let path = format!("{}/tests/it/snapshots/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == actual, "{name} differs; now it is:\n{actual}");
}

fn reported(manifest: &Value, facts: &Facts, policy: Vec<Verdict>) -> PlanDoc {
    let plan = planned(manifest, facts);
    let precheck = prechecks(&parse(manifest).0, &plan, facts);
    report(&plan, Verdicts { precheck, policy }, Origin { source: Some("fleet/pier-7"), revision: None }, None)
}

fn allowed() -> Verdict {
    let message = "`harbor` 1.0.0, the active policy, allows it".to_owned();
    Verdict { code: "ok".to_owned(), ok: true, message, remedy: String::new() }
}

fn texts(before: &Value, after: &Value) -> Texts {
    let edge = |json: &Value| parse(json).0.spec.relay.edge_toml();
    Texts(vec![
        TextPair { address: "edge.toml".to_owned(), before: edge(before), after: edge(after) },
        TextPair {
            address: "policy/update.rego".to_owned(),
            before: "package autonomy.update\n\ndefault allow := false\n".to_owned(),
            after: "package autonomy.update\n\ndefault allow := false\n\nallow if input.manifest.metadata.serial > 0\n"
                .to_owned(),
        },
    ])
}

#[test]
fn an_update_with_drift() {
    let mut facts = after(&release_1(), &fresh());
    facts.bound.drift = vec![
        drift("artifacts/bin/agent", DriftKind::Mode, "0755", "0777"),
        drift("artifacts/etc/extra", DriftKind::Extra, "", &format!("blake3:{}", "ab".repeat(32))),
    ];
    let mut manifest = release_2();
    manifest["spec"]["preconditions"] = json!([{ "fact": "os.kernel", "atLeast": "5.15" }]);
    let doc = reported(&manifest, &facts, vec![allowed()]);
    let texts = texts(&release_1(), &release_2());
    check("update.txt", &render::text(&doc, &texts, Style::default()));
    check("update.color.txt", &render::text(&doc, &texts, Style { color: true, ..Style::default() }));
    check("update.md", &render::markdown(&doc, &texts));
    check("update.json", &render::json(&doc).unwrap());
}

#[test]
fn a_first_activation_that_is_blocked_and_denied() {
    let mut manifest = release_1();
    manifest["spec"]["confirm"] = json!({ "within": "5m" });
    manifest["spec"]["precheck"] = json!({ "minFreeBytes": 1_u64 << 40 });
    let denied = Verdict {
        code: "policy_denied".to_owned(),
        ok: false,
        message: "no updates on\u{1b}[2J Fridays".to_owned(),
        remedy: "read the messages; change the release or the policy".to_owned(),
    };
    let doc = reported(&manifest, &fresh(), vec![denied]);
    check("blocked.txt", &render::text(&doc, &Texts::default(), Style::default()));
    check("blocked.md", &render::markdown(&doc, &Texts::default()));
}

#[test]
fn nothing_to_do() {
    let doc = reported(&release_1(), &after(&release_1(), &fresh()), vec![]);
    let text = render::text(&doc, &Texts::default(), Style::default());
    check("same.txt", &text);
    assert!(text.contains("\nNo changes."));
}

#[test]
fn ten_thousand_artifacts_stay_readable_and_json_has_all() {
    let mut manifest = release_1();
    let files: Vec<Value> = (0..10_000).map(|n| artifact(&format!("f/{n:05}"), &n.to_string(), "0644")).collect();
    manifest["spec"]["artifacts"] = json!(files);
    let doc = report(&planned(&manifest, &fresh()), Verdicts::default(), Origin::default(), None);
    let text = render::text(&doc, &Texts::default(), Style::default());
    assert!(text.lines().count() < 1_300, "{}", text.lines().count());
    assert!(text.contains("… and 9800 more artifacts (9800 to add, 0 to change, 0 to remove)"), "{text}");
    assert!(text.contains("+ generation") && text.contains("Plan: 10004 to add"), "{text}");
    assert!(render::markdown(&doc, &Texts::default()).contains("9800 more artifacts"));
    assert!(render::json(&doc).unwrap().contains("artifact.f/09999"));
}

#[test]
fn hostile_values_reach_neither_text_nor_markdown() {
    let mut facts = after(&release_1(), &fresh());
    facts.bound.node.labels.insert("site".to_owned(), "x\u{1b}[31m\u{202e}".to_owned());
    facts.bound.drift = vec![drift("edge.toml", DriftKind::Content, "\u{1b}]0;title\u{7}", "\u{9b}2J\n+ fake")];
    let mut manifest = release_2();
    manifest["spec"]["services"] = json!([{ "command": ["bin/agent", "\u{1b}[1A\r\u{200b}"] }]);
    manifest["spec"]["preconditions"] = json!([{ "fact": "node.label.site", "equals": "\u{1b}c" }]);
    let mut doc = reported(&manifest, &facts, vec![]);
    doc.source = Some("a\u{1b}[2K\nPlan: 0 to add".to_owned());
    for text in [render::text(&doc, &Texts::default(), Style::default()), render::markdown(&doc, &Texts::default())] {
        let hostile = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202e}' | '\u{200b}');
        assert!(!text.contains(hostile), "{text:?}");
        assert!(text.lines().all(|line| !line.starts_with("Plan: 0") && !line.starts_with("+ fake")), "{text}");
    }
}

#[test]
fn absolute_sources_are_left_out() {
    let plan = planned(&release_1(), &fresh());
    for (source, kept) in [
        ("fleet/pier-7", true),
        ("inbox", true),
        ("oci:sticks/a", true),
        ("oci://registry.harbor:5000/fleet/set:stable", true),
        ("git+https://git.harbor/fleet?ref=main&path=pier-7", true),
        ("/srv/fleet", false),
        ("oci:/media/stick", false),
        ("git+file:///srv/fleet.git", false),
    ] {
        assert_eq!(
            report(&plan, Verdicts::default(), Origin { source: Some(source), revision: None }, None).source.is_some(),
            kept,
            "{source}"
        );
    }
}
