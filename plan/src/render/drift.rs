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

/// What ends the differences: one remedy for the files of the generation, and one for each thing of the node's. Each with
/// what it is for.
pub(super) fn remedies(drift: &[PlannedDrift]) -> Vec<(String, &str)> {
    let of = |place| drift.iter().filter(move |entry| entry.place == place);
    let mut seen = BTreeSet::new();
    let files = of(DriftPlace::Generation).filter_map(|entry| entry.reason.remedy.as_deref());
    let files = files.filter(|remedy| seen.insert(*remedy)).map(|remedy| ("files".to_owned(), remedy));
    let node = of(DriftPlace::Node).filter_map(|entry| Some((subject(entry), entry.reason.remedy.as_deref()?)));
    files.chain(node).collect()
}
