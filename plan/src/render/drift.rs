//! What differs from the active manifest, for people.

use autonomy_schema::facts::{DriftKind, DriftPlace};
use autonomy_schema::plan_doc::PlannedDrift;

use super::escape::safe;
use super::words;

/// Most things that are named beside one remedy; a manifest may start many units.
const MAX_SUBJECTS: usize = 5;

/// The mark of a difference.
pub(super) fn mark(kind: DriftKind) -> &'static str {
    match kind {
        DriftKind::Content | DriftKind::Mode | DriftKind::Lowered | DriftKind::Override => "~",
        DriftKind::Missing => "-",
        DriftKind::Extra => "+",
        DriftKind::Type => "-/+",
        DriftKind::Invalid | DriftKind::Stopped | DriftKind::Failed => "!",
    }
}

/// What differs: a file of the generation, or something of the node's.
pub(super) fn subject(entry: &PlannedDrift) -> String {
    let path = safe(entry.path.as_str());
    match (entry.place, path.strip_prefix("services/")) {
        (DriftPlace::Generation, _) => path.into_owned(),
        (DriftPlace::Node, Some(unit)) => format!("unit {unit}"),
        (DriftPlace::Node, None) => format!("node's {path}"),
        (DriftPlace::Os, _) => format!("/{path}"),
    }
}

/// `expected …, found …`, as far as there is anything to say. Of the operator's own file, what it does is said as it is.
pub(super) fn sides(entry: &PlannedDrift) -> String {
    if matches!(entry.kind, DriftKind::Override | DriftKind::Invalid) {
        return words::value("", &entry.actual);
    }
    let side = |label: &str, text: &str| match text {
        "" => String::new(),
        text => format!("{label} {}", words::value("", text)),
    };
    let (expected, actual) = (side("expected", &entry.expected), side("found", &entry.actual));
    let comma = if expected.is_empty() || actual.is_empty() { "" } else { ", " };
    format!("{expected}{comma}{actual}")
}

/// The heading of the section.
pub(super) fn heading(count: usize) -> String {
    format!("Drift: {} from the active manifest", words::counted(count as u64, "difference", "differences"))
}

/// What ends the differences: each distinct remedy once, with what it is for, in the order of the entries.
pub(super) fn remedies(drift: &[PlannedDrift]) -> Vec<(String, &str)> {
    let mut remedies: Vec<(&str, Vec<String>)> = Vec::new();
    for entry in drift {
        let Some(remedy) = entry.reason.remedy.as_deref() else { continue };
        let subject = match entry.place {
            DriftPlace::Generation => "files".to_owned(),
            DriftPlace::Node | DriftPlace::Os => subject(entry),
        };
        match remedies.iter_mut().find(|(known, _)| *known == remedy) {
            Some((_, subjects)) if subjects.contains(&subject) => {}
            Some((_, subjects)) => subjects.push(subject),
            None => remedies.push((remedy, vec![subject])),
        }
    }
    remedies.into_iter().map(|(remedy, subjects)| (listed(&subjects), remedy)).collect()
}

/// `a, b, c and 2 more`.
pub(super) fn listed(subjects: &[String]) -> String {
    let shown = subjects.iter().take(MAX_SUBJECTS).map(String::as_str).collect::<Vec<_>>().join(", ");
    match subjects.len().saturating_sub(MAX_SUBJECTS) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// What apply leaves alone, by name, in the order of the entries.
fn left_alone(drift: &[PlannedDrift]) -> Vec<String> {
    drift
        .iter()
        .filter(|entry| !entry.kind.is_repairable())
        .map(|entry| format!("`{}`", safe(entry.path.as_str())))
        .collect()
}

/// The closing line of a plan without steps: how much differs, and what would end it.
pub(super) fn closing(drift: &[PlannedDrift], runs: &str) -> String {
    let theirs = left_alone(drift);
    let repairable = drift.len() - theirs.len();
    let differences = |count: usize| words::counted(count as u64, "difference", "differences");
    let (verb, them) = if theirs.len() == 1 { ("is", "it") } else { ("are", "them") };
    let own = format!("{verb} the operator's own and left alone; mending or removing {} ends {them}", listed(&theirs));
    let repair = format!("`autonomy apply` of that set repairs {}", if repairable == 1 { "it" } else { "them" });
    match (repairable, theirs.len()) {
        (0, 0) => format!("No changes. {runs} and nothing differs from it."),
        (0, count) => format!("No changes. {runs}. {} {own}.", differences(count)),
        (count, 0) => format!("{} to repair. {runs}; {repair}.", differences(count)),
        (ours, count) => {
            format!("{}, {ours} to repair. {runs}; {repair}. {count} {own}.", differences(drift.len()))
        }
    }
}
