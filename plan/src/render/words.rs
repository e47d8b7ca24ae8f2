//! The sentences that text and Markdown share.

use autonomy_schema::plan_doc::{Action, Due, Forecast, PlanDoc, Rebuilding, Step, Summary, Verdict};

use super::{drift, escape::safe};

/// Every mark with its word, in the order of the legend.
pub(super) const LEGEND: [(Action, &str); 6] = [
    (Action::Create, "create"),
    (Action::Update, "update"),
    (Action::Replace, "replace"),
    (Action::Remove, "remove"),
    (Action::Blocked, "blocked"),
    (Action::Relay, "relay onward"),
];

/// A size for people: `812 B`, `1.0 MiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let Some((unit, size)) = UNITS.into_iter().find(|(_, size)| count >= *size) else { return format!("{count} B") };
    let tenths = count / size * 10 + (count % size) * 10 / size;
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// A count with its noun.
pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// `Plan: 2 to add, 1 to change, 0 to remove, 1 blocked, 2 peers to relay.`, or `No changes. …`
pub fn summary_line(doc: &PlanDoc) -> String {
    if !doc.steps.is_empty() {
        return format!("Plan: {}.", counts(&doc.summary));
    }
    let manifest = &doc.manifest;
    let runs = format!(
        "The node runs {} serial {} (release {})",
        safe(manifest.name.as_str()),
        manifest.serial,
        safe(&manifest.release)
    );
    drift::closing(&doc.drift, &runs)
}

/// `CODE: sentence` for everything that blocks or refuses, sorted.
pub(super) fn refusing_lines(doc: &PlanDoc) -> Vec<String> {
    let blocked = doc.steps.iter().filter(|step| step.action == Action::Blocked);
    let mut lines: Vec<String> = blocked
        .map(|step| format!("{}: `{}`: {}", safe(&step.reason.code), safe(&step.address), safe(&step.reason.text)))
        .chain(refusals(doc).into_iter().map(|verdict| format!("{}: {}", safe(&verdict.code), safe(&verdict.message))))
        .collect();
    lines.sort();
    lines
}

/// `ok`, `no`, or `--` for a note that is neither.
pub(super) fn verdict_mark(verdict: &Verdict) -> &'static str {
    match (verdict.ok, verdict.code.as_str()) {
        (true, "ok") => "ok",
        (true, _) => "--",
        (false, _) => "no",
    }
}

/// What recorded decisions prove about the changed policy.
pub(super) fn policy_change(doc: &PlanDoc) -> Option<String> {
    let forecast = &doc.forecast;
    (!forecast.policy_proof.is_empty()).then(|| policy(forecast))
}

/// The counts of a summary, as the plan line has them.
fn counts(summary: &Summary) -> String {
    let mut parts = vec![
        format!("{} to add", summary.add),
        format!("{} to change", summary.change),
        format!("{} to remove", summary.remove),
    ];
    if summary.replace > 0 {
        parts.push(format!("{} to replace", summary.replace));
    }
    if summary.blocked > 0 {
        parts.push(format!("{} blocked", summary.blocked));
    }
    if summary.relay > 0 {
        parts.push(format!("{} to relay", counted(summary.relay, "peer", "peers")));
    }
    parts.join(", ")
}

/// Which artifact steps are not shown; `None` when all are.
pub(super) fn hidden_line(hidden: &Summary) -> Option<String> {
    let total = hidden.add + hidden.change + hidden.remove + hidden.replace;
    (total > 0).then(|| {
        format!(
            "… and {} ({}); `--output json` lists them all",
            counted(total, "more artifact", "more artifacts"),
            counts(hidden)
        )
    })
}

/// A digest, alone or with a mode behind it, shortened to what people compare; a size with its unit; anything else as it is.
pub(super) fn value(field: &str, text: &str) -> String {
    let (first, rest) = text.split_at(text.find(' ').unwrap_or(text.len()));
    if let Some((algorithm, hex)) = first.split_once(':')
        && matches!(algorithm, "blake3" | "sha256")
        && hex.len() == 64
        && hex.is_ascii()
    {
        return format!("{algorithm}:{}{}", &hex[..12], safe(rest));
    }
    match text.parse() {
        Ok(count) if field == "size" && count >= 1024 => format!("{} ({text} B)", bytes(count)),
        Ok(_) if field == "size" => format!("{text} B"),
        _ => safe(text).into_owned(),
    }
}

/// The fields of a step that tell something: all of a new or removed thing, those that differ of a changed one.
pub(super) fn changed(step: &Step) -> Vec<(&str, Option<&str>, Option<&str>)> {
    let names: std::collections::BTreeSet<&String> = step.before.keys().chain(step.after.keys()).collect();
    names
        .into_iter()
        .map(|name| {
            (name.as_str(), step.before.get(name).map(String::as_str), step.after.get(name).map(String::as_str))
        })
        .filter(|(_, before, after)| before != after)
        .collect()
}

/// `before → after` of a field, each side as [`value`] shows it.
pub(super) fn sides(step: &Step, name: &str, before: Option<&str>, after: Option<&str>) -> String {
    match (before.map(|text| value(name, text)), after.map(|text| value(name, text))) {
        (Some(before), Some(after)) => format!("{before} → {after}"),
        (None, Some(after)) => after,
        (Some(before), None) if step.action == Action::Remove => before,
        (Some(before), None) => format!("{before} → none"),
        (None, None) => String::new(),
    }
}

/// The lines of the forecast: a name and a sentence.
pub(super) fn forecast(doc: &PlanDoc) -> Vec<(&'static str, String)> {
    let forecast = &doc.forecast;
    let reused = match forecast.disk_reused_bytes {
        0 => String::new(),
        count => format!(", {} reused by hard link", bytes(count)),
    };
    let rebuild = rebuilding(&forecast.reconstruction);
    let mut lines = vec![("disk", format!("{} new{reused}", bytes(forecast.disk_new_bytes)))];
    lines.extend((!rebuild.is_empty()).then_some(("rebuild", rebuild)));
    lines.push(("services", format!("{} after the switch", counted(forecast.restarts, "step", "steps"))));
    lines.push(("policy", policy(forecast)));
    lines.extend(forecast.certificate.as_ref().map(|due| ("certificate", expires(due))));
    lines.extend(forecast.crl.as_ref().map(|due| ("CRL", next(due))));
    lines.extend(forecast.durability.map(|given| ("durability", format!("the platform gives {}", given.as_str()))));
    lines
}

/// What reconstruction does outside the state root; empty when that is nothing.
fn rebuilding(forecast: &Rebuilding) -> String {
    let counts = [
        (forecast.files, "file", "files"),
        (forecast.directories, "directory", "directories"),
        (forecast.links, "link", "links"),
        (forecast.units, "unit", "units"),
        (forecast.checks, "check", "checks"),
    ];
    let counts: Vec<String> = counts
        .into_iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, one, many)| counted(count, one, many))
        .collect();
    let mut parts = Vec::new();
    if !counts.is_empty() {
        parts.push(format!("{} outside the state root, after the switch", counts.join(", ")));
    }
    if !forecast.left.is_empty() {
        let left: Vec<String> = forecast.left.iter().map(|path| safe(path).into_owned()).collect();
        parts.push(format!("left as they are: {}", drift::listed(&left)));
    }
    parts.join("; ")
}

/// `2026-12-11` of a time.
fn date(due: &Due) -> String {
    due.at.to_string().chars().take_while(|c| *c != 'T').collect()
}

/// `12 days`, or less than one.
fn days(count: i64) -> String {
    match u64::try_from(count) {
        Ok(0) | Err(_) => "less than a day".to_owned(),
        Ok(count) => counted(count, "day", "days"),
    }
}

fn expires(due: &Due) -> String {
    let date = date(due);
    if due.days < 0 {
        return format!("expired {} ago ({date})", days(-due.days - 1));
    }
    let soon = if due.soon { ", which is soon: renew it" } else { "" };
    format!("expires in {} ({date}){soon}", days(due.days))
}

fn next(due: &Due) -> String {
    let date = date(due);
    if due.days < 0 {
        format!("overdue by {} ({date})", days(-due.days - 1))
    } else {
        format!("next due in {} ({date})", days(due.days))
    }
}

fn policy(forecast: &Forecast) -> String {
    let proof = if forecast.policy_proof.is_empty() { String::new() } else { format!(": {}", forecast.policy_proof) };
    safe(&format!("{}{proof}", forecast.policy)).into_owned()
}

/// Whether an apply was cut off.
pub(super) fn unfinished(doc: &PlanDoc) -> bool {
    doc.bound_facts.get("apply.unfinished").is_some_and(|text| text == "true")
}

/// A note for a node whose last apply was cut off.
pub(super) const UNFINISHED: &str =
    "An apply was cut off here. The next `autonomy apply` first recovers, so this plan may change.";

/// The verdicts that refuse, platform first.
fn refusals(doc: &PlanDoc) -> Vec<&Verdict> {
    doc.verdicts.precheck.iter().chain(&doc.verdicts.policy).filter(|verdict| !verdict.ok).collect()
}

/// A source as it is typed: quoted when a shell would read more into it.
fn shell_word(source: &str) -> String {
    let shown = safe(source);
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:@+,=".contains(c);
    if shown.chars().all(plain) { shown.into_owned() } else { format!("'{}'", shown.replace('\'', "'\\''")) }
}

/// What to run next, one sentence each.
pub fn next_steps(doc: &PlanDoc) -> Vec<String> {
    if doc.steps.is_empty() {
        return Vec::new();
    }
    let mut next = Vec::new();
    let mut codes: Vec<&str> = doc
        .steps
        .iter()
        .filter(|step| step.action == Action::Blocked)
        .map(|step| step.reason.code.as_str())
        .chain(refusals(doc).into_iter().map(|verdict| verdict.code.as_str()))
        .collect();
    codes.sort_unstable();
    codes.dedup();
    // A return is shown by the verb that carries it out.
    let returns = doc.steps.iter().any(|step| step.reason.code == crate::Why::RollbackAsked.as_str());
    if codes.is_empty() && returns {
        return next;
    }
    if codes.is_empty() {
        let source = doc.source.as_deref().map_or("SET".to_owned(), shell_word);
        next.push(format!("`autonomy apply {source}` carries this out; it shows the plan again and asks first."));
    } else {
        next.push("Nothing was changed, and this plan cannot be applied as it stands.".to_owned());
        next.extend(
            codes.into_iter().map(|code| format!("`autonomy explain {}` tells what to do about it.", safe(code))),
        );
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_down() {
        for (count, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1023.9 KiB"),
            (1 << 20, "1.0 MiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(bytes(count), shown);
        }
    }

    #[test]
    fn values_are_short_and_safe() {
        assert_eq!(value("blake3", &format!("blake3:{}", "ab".repeat(32))), "blake3:abababababab");
        let mode = format!("blake3:{} 0755\u{1b}", "ab".repeat(32));
        assert_eq!(value("state", &mode), "blake3:abababababab 0755\\u{1b}");
        assert_eq!(value("size", "1048576"), "1.0 MiB (1048576 B)");
        assert_eq!(value("size", "12"), "12 B");
        assert_eq!(value("serial", "42"), "42");
        assert_eq!(value("x", "a\u{1b}"), "a\\u{1b}");
    }

    #[test]
    fn replacements_are_told_only_when_there_are_some() {
        let mut summary = Summary { add: 2, change: 1, blocked: 1, relay: 2, ..Summary::default() };
        assert_eq!(counts(&summary), "2 to add, 1 to change, 0 to remove, 1 blocked, 2 peers to relay");
        summary = Summary { replace: 1, relay: 1, ..Summary::default() };
        assert_eq!(counts(&summary), "0 to add, 0 to change, 0 to remove, 1 to replace, 1 peer to relay");
    }
}
