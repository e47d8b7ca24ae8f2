//! Laws of the planner, over made-up manifests and facts.

use autonomy_plan::render::{Style, Texts};
use autonomy_plan::{Origin, check_binding, refresh, render, report};
use autonomy_schema::facts::{Drift, DriftKind, DriftPlace, Facts};
use autonomy_schema::plan_doc::{Action, PlanDoc, Verdicts};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fixture::{after, artifact, drift, fresh, parse, planned, release_1};

/// A release: files by path with content and mode, and versions of the other parts.
fn release(serial: u64) -> impl Strategy<Value = Value> {
    let files = prop::collection::btree_map("[a-c]{1,2}", ("[xyz]{0,3}", prop::bool::ANY), 0..6);
    let steps = prop::collection::vec((0..3_u8, "[a-c]", "[xy]"), 0..4);
    (files, 0..2_u8, 0..3_u8, prop::bool::ANY, steps).prop_map(move |(files, policy, peers, service, steps)| {
        let mut manifest = release_1();
        manifest["metadata"]["serial"] = json!(serial);
        let spec = &mut manifest["spec"];
        let files: Vec<Value> = files
            .iter()
            .map(|(name, (content, exec))| artifact(name, content, if *exec { "0755" } else { "0644" }))
            .collect();
        spec["artifacts"] = json!(files);
        spec["policy"]["digest"] = json!(autonomy_schema::Sha256::of(&[policy]));
        let peers: Vec<Value> =
            (0..peers).map(|n| json!({ "id": format!("peer-{n}"), "address": format!("10.0.0.{n}:1") })).collect();
        spec["relay"] = json!({ "peers": peers });
        // No two steps may write at one place; the manifest's parser sees to that.
        let mut places = std::collections::BTreeSet::new();
        let steps = steps.iter().filter(|(kind, at, _)| *kind == 2 || places.insert(at.clone()));
        let steps: Vec<Value> = steps.map(|(kind, at, what)| rebuilding(*kind, at, what)).collect();
        spec["reconstruction"] = json!({ "steps": steps });
        spec["services"] = if service { json!([{ "command": ["a"] }]) } else { json!([]) };
        manifest
    })
}

fn rebuilding(kind: u8, at: &str, what: &str) -> Value {
    let at = format!("/opt/{at}");
    match kind {
        0 => json!({ "writeFile": { "to": at, "content": what, "mode": "0644" } }),
        1 => json!({ "symlink": { "at": at, "target": what } }),
        _ => json!({ "verifyConfig": { "command": [at, what] } }),
    }
}

/// A node: fresh or with some release, perhaps drifted.
fn node() -> impl Strategy<Value = Facts> {
    let kinds = prop::sample::select(vec![
        DriftKind::Content,
        DriftKind::Mode,
        DriftKind::Missing,
        DriftKind::Extra,
        DriftKind::Type,
    ]);
    let drifts = prop::collection::btree_map("artifacts/[a-c]|edge\\.toml|segments/[ab]", kinds, 0..3);
    let outside = prop::collection::btree_set("opt/[a-c]", 0..3);
    (prop::option::of(release(1)), drifts, outside).prop_map(|(active, drifts, outside)| {
        let mut facts = fresh();
        if let Some(active) = active {
            facts = after(&active, &facts);
            facts.bound.drift = drifts.iter().map(|(path, kind)| drift(path, *kind, "e", "a")).collect();
            let outside = outside.iter().map(|path| Drift::os(path.parse().unwrap(), DriftKind::Content, "e", "a"));
            facts.bound.drift.extend(outside);
        }
        facts
    })
}

proptest! {
    // Each case plans a few times in an unoptimised build.
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn planning_twice_gives_the_same_bytes(manifest in release(2), facts in node()) {
        let bytes = |plan: &autonomy_plan::Plan| {
            let doc = report(plan, Verdicts::default(), Origin::default(), None);
            (render::json(&doc).unwrap(), render::text(&doc, &Texts::default(), Style { color: true, ..Style::default() }))
        };
        prop_assert_eq!(bytes(&planned(&manifest, &facts)), bytes(&planned(&manifest, &facts)));
    }

    #[test]
    fn success_leaves_nothing_to_do(manifest in release(2), facts in node()) {
        let plan = planned(&manifest, &facts);
        prop_assert!(plan.has_changes());
        let done = after(&manifest, &facts);
        prop_assert!(!planned(&manifest, &done).has_changes());
        // And the plan that was carried out does not hold any longer.
        let doc = report(&plan, Verdicts::default(), Origin::default(), None);
        prop_assert!(check_binding(&doc, parse(&manifest).1, &facts).is_ok());
        prop_assert!(check_binding(&doc, parse(&manifest).1, &done).is_err());
    }

    #[test]
    fn the_order_of_lists_without_order_is_no_change(manifest in release(1), facts in node()) {
        let mut turned = manifest.clone();
        turned["spec"]["artifacts"].as_array_mut().unwrap().reverse();
        let (left, right) = (planned(&manifest, &facts), planned(&turned, &facts));
        let artifacts = |plan: &autonomy_plan::Plan| -> Vec<_> {
            plan.doc().steps.iter().filter(|step| step.address.starts_with("artifact.")).cloned().collect()
        };
        prop_assert_eq!(artifacts(&left), artifacts(&right));
        // On a node that has the one, the other changes no artifact.
        prop_assert!(artifacts(&planned(&turned, &after(&manifest, &fresh()))).is_empty());
    }

    #[test]
    fn the_order_of_drift_does_not_matter(manifest in release(2), facts in node()) {
        let mut turned = facts.clone();
        turned.bound.drift.reverse();
        let (left, right) = (planned(&manifest, &facts), planned(&manifest, &turned));
        prop_assert_eq!(&left.doc().steps, &right.doc().steps);
        prop_assert_eq!(&left.doc().drift, &right.doc().drift);
    }

    #[test]
    fn addresses_are_unique_and_every_drift_of_a_kept_file_has_a_step(manifest in release(2), facts in node()) {
        let plan = planned(&manifest, &facts);
        let mut addresses: Vec<_> = plan.doc().steps.iter().map(|step| step.address.clone()).collect();
        addresses.sort();
        let count = addresses.len();
        addresses.dedup();
        prop_assert_eq!(addresses.len(), count);
        let manifest = parse(&manifest).0;
        let places: Vec<_> = manifest.spec.reconstruction.steps.iter().filter_map(|step| step.place()?.ok()).collect();
        for entry in &facts.bound.drift {
            if entry.place == DriftPlace::Os && places.contains(&entry.path) {
                let step = format!("reconstruction./{}", entry.path);
                prop_assert!(addresses.iter().any(|address| address.starts_with(&step)), "{} has no step", step);
            }
            if let Some(path) = entry.path.as_str().strip_prefix("artifacts/") {
                let step = format!("artifact.{path}");
                let kept = addresses.contains(&step);
                prop_assert!(kept, "{} has no step", step);
            }
        }
        let blocked = plan.doc().steps.iter().any(|step| step.action == Action::Blocked);
        prop_assert_eq!(blocked, !plan.blocked().is_empty());
    }

    #[test]
    fn json_reads_back(manifest in release(2), facts in node()) {
        let doc = report(&planned(&manifest, &facts), Verdicts::default(), Origin { source: Some("fleet/pier-7"), revision: None }, None);
        let line = render::json(&doc).unwrap();
        let body = line.strip_suffix('\n').unwrap();
        let read: autonomy_schema::plan_doc::PlanDoc =
            autonomy_schema::document::parse(body.as_bytes()).unwrap();
        prop_assert_eq!(read, doc);
    }

    #[test]
    fn folding_and_colour_change_no_word_and_ascii_is_ascii(manifest in release(2), facts in node(), width in 40_usize..=120) {
        let mut facts = facts;
        let unit = |path: &str, kind, is: &str| Drift::node(path.parse().unwrap(), kind, "running", is);
        if facts.bound.current.is_some() {
            facts.bound.drift.push(unit("edge/local.toml", DriftKind::Override, "sets bandwidth, Öl (0123456789ab)"));
            facts.bound.drift.push(unit("services/agent.service", DriftKind::Failed, "failed"));
        }
        facts.bound.node.labels.insert("site".to_owned(), "Ölhafen → 7".to_owned());
        let doc = report(&planned(&manifest, &facts), Verdicts::default(), Origin { source: Some("Flotte/Öl"), revision: None }, None);
        for doc in refresh(&facts).unwrap().iter().chain([&doc]) {
            layout_changes_no_word(doc, width)?;
        }
    }
}

/// At any width, in colour and in ASCII, the same is said.
fn layout_changes_no_word(doc: &PlanDoc, width: usize) -> Result<(), TestCaseError> {
    let text = |style| render::text(doc, &Texts::default(), style);
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let whole = text(Style::default());
    let folded = text(Style { width: Some(width), ..Style::default() });
    prop_assert_eq!(words(&whole), words(&folded));
    for line in folded.lines().filter(|line| line.chars().count() > width) {
        // Only a word that fits no line below its hanging indent makes a line too wide.
        let longest = line.split(' ').map(|word| word.chars().count()).max().unwrap_or(0);
        prop_assert!(longest + 20 > width, "wider than {}: {}", width, line);
    }
    let color = text(Style { color: true, ..Style::default() });
    let mut plain = String::new();
    let mut escape = false;
    for c in color.chars() {
        match c {
            '\u{1b}' => escape = true,
            'm' if escape => escape = false,
            c if !escape => plain.push(c),
            _ => {}
        }
    }
    prop_assert_eq!(&plain, &whole);
    let ascii = text(Style { ascii: true, ..Style::default() });
    prop_assert!(ascii.is_ascii(), "{}", ascii);
    let narrow = text(Style { ascii: true, color: true, width: Some(width), ..Style::default() });
    prop_assert!(narrow.is_ascii(), "{}", narrow);
    Ok(())
}
