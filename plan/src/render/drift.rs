//! What differs from the active manifest, for people.

use std::collections::BTreeSet;

use autonomy_schema::facts::{DriftKind, DriftPlace};
use autonomy_schema::plan_doc::PlannedDrift;

use super::escape::safe;
use super::words;

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
    }
}

/// `expected …, found …`, as far as there is anything to say.
pub(super) fn sides(entry: &PlannedDrift) -> String {
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

/// Every remedy once, in the order of the entries.
pub(super) fn remedies(drift: &[PlannedDrift]) -> Vec<&str> {
    let mut seen = BTreeSet::new();
    drift.iter().filter_map(|entry| entry.reason.remedy.as_deref()).filter(|remedy| seen.insert(*remedy)).collect()
}
