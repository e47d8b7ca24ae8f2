//! What people read, byte for byte. `UPDATE_SNAPSHOTS=1` writes the files anew; read the difference before you commit.

use autonomy_plan::render::{Detail, Style, TextPair, Texts};
use autonomy_plan::{Origin, PolicyProof, prechecks, refresh, render, report};
use autonomy_schema::facts::{Drift, DriftKind, Facts};
use autonomy_schema::finding::{Finding, Severity};
use autonomy_schema::manifest::Durability;
use autonomy_schema::plan_doc::{PlanDoc, Verdict, Verdicts};
use autonomy_schema::reason::{Code, Reason};
use serde_json::{Value, json};

use crate::fixture::{after, artifact, drift, every_step, fresh, parse, planned, release_1, release_2, with_steps};

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

/// A story as people meet it: in a wide terminal, in one of 80 columns, and in a review.
fn story(name: &str, doc: &PlanDoc, texts: &Texts) {
    check(&format!("{name}.txt"), &render::text(doc, texts, Style::default()));
    check(&format!("{name}.80.txt"), &render::text(doc, texts, Style { width: Some(80), ..Style::default() }));
    check(&format!("{name}.md"), &render::markdown(doc, texts));
}

#[test]
fn story_1_a_first_activation() {
    let allowed = Verdict { message: "`harbor` 1.0.0, the incoming policy, allows it".to_owned(), ..allowed() };
    let note = Verdict {
        code: "not_verified".to_owned(),
        message: "a draft: nobody has signed it yet".to_owned(),
        ..allowed.clone()
    };
    story("first", &reported(&release_1(), &fresh(), vec![note, allowed]), &Texts::default());
}

#[test]
fn story_2_an_update() {
    let facts = after(&release_1(), &fresh());
    let mut manifest = release_2();
    manifest["spec"]["preconditions"] = json!([{ "fact": "os.kernel", "atLeast": "5.15" }]);
    let plan = planned(&manifest, &facts);
    let precheck = prechecks(&parse(&manifest).0, &plan, &facts);
    let origin = Origin {
        source: Some("git+https://git.harbor/fleet.git?ref=main&path=dist/pier-7"),
        revision: Some("commit:0123456789abcdef0123456789abcdef01234567"),
    };
    let text = "of 3 recorded decisions, 1 refused before would pass and 0 that passed would be refused".to_owned();
    let proof = PolicyProof { verdict: Some("widened"), text };
    let doc = report(&plan, Verdicts { precheck, policy: vec![allowed()] }, origin, Some(proof));
    let texts = texts(&release_1(), &release_2());
    story("update", &doc, &texts);
    check("update.color.txt", &render::text(&doc, &texts, Style { color: true, ..Style::default() }));
    check("update.ascii.txt", &render::text(&doc, &texts, Style { ascii: true, ..Style::default() }));
    check("update.quiet.txt", &render::text(&doc, &texts, Style { detail: Detail::Summary, ..Style::default() }));
    check("update.json", &render::json(&doc).unwrap());
}

#[test]
fn story_3_no_change() {
    let doc = reported(&release_1(), &after(&release_1(), &fresh()), vec![]);
    story("same", &doc, &Texts::default());
    assert!(render::text(&doc, &Texts::default(), Style::default()).contains("\nNo changes."));
}

#[test]
fn story_4_blocked_and_denied() {
    let mut manifest = release_1();
    let shadow = json!({ "to": "/etc/shadow", "content": "root::0:0:99999:7:::\n", "mode": "0600" });
    manifest["spec"]["reconstruction"] = json!({ "steps": [{ "writeFile": shadow }] });
    manifest["spec"]["precheck"] = json!({ "minFreeBytes": 1_u64 << 40, "durability": "high" });
    let denied = Verdict {
        code: "policy_denied".to_owned(),
        ok: false,
        message: "no updates on\u{1b}[2J Fridays".to_owned(),
        remedy: "read the messages; change the release or the policy".to_owned(),
    };
    let doc = reported(&manifest, &fresh(), vec![denied]);
    story("blocked", &doc, &Texts::default());
    let quiet = Style { detail: Detail::Summary, ..Style::default() };
    check("blocked.quiet.txt", &render::text(&doc, &Texts::default(), quiet));
}

/// Everything that can differ, at once.
fn drifted() -> Facts {
    let mut facts = after(&release_1(), &fresh());
    let digest = |text: &str| format!("blake3:{}", text.repeat(32));
    let node =
        |path: &str, kind, expected: &str, actual: &str| Drift::node(path.parse().unwrap(), kind, expected, actual);
    facts.bound.drift = vec![
        drift("artifacts/bin/agent", DriftKind::Mode, "0755", "0777"),
        drift("artifacts/etc/extra", DriftKind::Extra, "", "file"),
        drift("edge.toml", DriftKind::Content, &digest("ab"), &digest("cd")),
        drift("segments/agent.idx", DriftKind::Missing, &digest("ef"), ""),
        node("edge/local.toml", DriftKind::Override, "", "sets bandwidth (0123456789ab)"),
        node("services/agent.service", DriftKind::Failed, "running", "failed"),
        node("trust/floors.json", DriftKind::Lowered, "serial 41", "serial 7"),
    ];
    facts
}

#[test]
fn story_5_drift() {
    let facts = drifted();
    let mut manifest = release_1();
    manifest["spec"]["services"] = json!([{ "unit": "agent.service", "action": "restart" }]);
    let (_, fingerprint) = parse(&manifest);
    let mut facts = facts;
    facts.bound.current.as_mut().unwrap().manifest = fingerprint;
    facts.bound.outbox.insert(fingerprint);
    story("drift", &reported(&manifest, &facts, vec![allowed()]), &Texts::default());
    let refreshed = refresh(&facts).unwrap().unwrap();
    let changes = Style { detail: Detail::Changes, ..Style::default() };
    check("refresh.txt", &render::text(&refreshed, &Texts::default(), changes));
}

#[test]
fn story_6_reconstruction_on_a_node_whose_certificate_ends_soon() {
    let mut facts = after(&with_steps(&release_1(), &every_step()), &fresh());
    facts.bound.drift = vec![Drift::os(
        "etc/autonomy/agent.env".parse().unwrap(),
        DriftKind::Mode,
        format!("blake3:{} 0644", "ab".repeat(32)),
        "0666",
    )];
    facts.observed.certificate_expires = Some("2026-11-27T12:00:00Z".parse().unwrap());
    facts.observed.crl_due = Some("2026-11-20T12:00:00Z".parse().unwrap());
    facts.observed.durability = Some(Durability::High);
    let os = Reason::new(Code::OsChanged, "`kernel` changed: 6.1.0-26-amd64 → 6.12.0-1-amd64");
    facts.observed.findings = vec![Finding::new(Severity::Warning, os)];
    let mut next = release_2();
    next["spec"]["artifacts"][1] = release_1()["spec"]["artifacts"][1].clone();
    next["spec"]["precheck"] = json!({ "durability": "high" });
    let mut steps = every_step();
    steps[0] = json!({ "writeFile": { "to": "/opt/new", "content": "", "mode": "0644" } });
    story("rebuild", &reported(&with_steps(&next, &steps), &facts, vec![allowed()]), &Texts::default());
}

#[test]
fn what_is_the_operators_own_is_no_change_and_not_denied() {
    let mut facts = after(&release_1(), &fresh());
    for kind in [DriftKind::Override, DriftKind::Invalid] {
        let local = Drift::node("edge/local.toml".parse().unwrap(), kind, "", "sets bandwidth (0123456789ab)");
        facts.bound.drift = vec![local];
        let doc = reported(&release_1(), &facts, vec![]);
        assert!(doc.steps.is_empty());
        let closing = "No changes. The node runs harbor-gateways serial 41 (release 1.4.1). 1 difference is the operator's \
                       own and left alone; mending or removing `edge/local.toml` ends it.";
        for detail in [Detail::Full, Detail::Changes, Detail::Summary] {
            let text = render::text(&doc, &Texts::default(), Style { detail, ..Style::default() });
            assert!(text.ends_with(&format!("{closing}\n")), "{text}");
        }
    }
}

#[test]
fn a_remedy_is_told_once_and_many_differences_are_counted() {
    let mut facts = after(&release_1(), &fresh());
    let unit = |n: usize| format!("services/u{n}.service").parse().unwrap();
    let failed = (0..7).map(|n| Drift::node(unit(n), DriftKind::Failed, "running", "failed"));
    let missing = (0..250).map(|n| drift(&format!("segments/{n:03}"), DriftKind::Missing, "x", ""));
    facts.bound.drift = failed.chain(missing).collect();
    let doc = refresh(&facts).unwrap().unwrap();
    let text = render::text(&doc, &Texts::default(), Style::default());
    let markdown = render::markdown(&doc, &Texts::default());
    for (shown, many) in [(&text, "… and 57 more"), (&markdown, "… and 57 more")] {
        assert!(shown.contains("Drift: 257 differences") && shown.contains(many), "{shown}");
        assert!(shown.contains("257 differences to repair. ") && shown.contains("repairs them."), "{shown}");
        assert_eq!(shown.matches("read its log").count(), 1, "{shown}");
        assert_eq!(shown.matches("a fresh generation takes").count(), 1, "{shown}");
        assert!(shown.contains("unit u0.service, unit u1.service, ") && shown.contains(" and 2 more"), "{shown}");
    }
}

#[test]
fn an_address_with_blanks_is_not_folded() {
    let mut manifest = release_1();
    let path = "share/a map of the harbour and of all its piers with their depths.pdf";
    let mut map = artifact(path, "x", "0644");
    map["name"] = json!("map");
    manifest["spec"]["artifacts"] = json!([map]);
    let doc = report(&planned(&manifest, &fresh()), Verdicts::default(), Origin::default(), None);
    let text = render::text(&doc, &Texts::default(), Style { width: Some(40), ..Style::default() });
    assert!(text.contains(&format!("\n    + artifact.{path}\n        no generation is active yet\n")), "{text}");
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
