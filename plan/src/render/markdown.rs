//! The plan for a review: headings, tables, fenced diffs.

use std::fmt::Write as _;

use autonomy_schema::plan_doc::{Action, PlanDoc, Step, Verdict};

use super::{MAX_ARTIFACTS_SHOWN, Texts, diff, drift, escape::safe, words};

/// The plan as Markdown. What a document says cannot leave its cell or fence.
pub fn markdown(doc: &PlanDoc, texts: &Texts) -> String {
    let manifest = &doc.manifest;
    let mut out = format!(
        "## Plan: {} serial {}, release {}\n\n**{}**\n\n- manifest `{}`\n",
        cell(manifest.name.as_str()),
        manifest.serial,
        cell(&manifest.release),
        cell(&words::summary_line(doc)),
        manifest.fingerprint,
    );
    if let Some(source) = &doc.source {
        let _ = writeln!(out, "- source {}", code(source));
    }
    if let Some(revision) = &doc.revision {
        let _ = writeln!(out, "- revision {}", code(revision));
    }
    let _ = writeln!(out, "- plan `{}`", doc.plan_id);
    if words::unfinished(doc) {
        let _ = writeln!(out, "\n> {}", words::UNFINISHED);
    }
    drifted(&mut out, doc);
    if !doc.steps.is_empty() {
        steps(&mut out, doc, texts);
        out.push_str("\n### Forecast\n\n");
        for (name, sentence) in words::forecast(doc) {
            let _ = writeln!(out, "- {name}: {}", cell(&sentence));
        }
    }
    verdicts(&mut out, "Precheck", &doc.verdicts.precheck);
    verdicts(&mut out, "Policy", &doc.verdicts.policy);
    let next = words::next_steps(doc);
    if !next.is_empty() {
        out.push_str("\n### Next\n\n");
        for sentence in next {
            // The back quotes are ours; a source inside them is made harmless as in any other cell.
            let _ = writeln!(out, "- {}", sentence.replace('<', "&lt;"));
        }
    }
    out
}

fn drifted(out: &mut String, doc: &PlanDoc) {
    if doc.drift.is_empty() {
        return;
    }
    let heading = drift::heading(doc.drift.len());
    let _ = writeln!(out, "\n### {heading}\n\n| | what | why | details |\n| --- | --- | --- | --- |");
    for entry in doc.drift.iter().take(MAX_ARTIFACTS_SHOWN) {
        let (mark, subject, sides) = (drift::mark(entry.kind), drift::subject(entry), drift::sides(entry));
        let why = format!("{} ({})", cell(&entry.reason.text), cell(&entry.reason.code));
        let _ = writeln!(out, "| `{mark}` | {} | {why} | {} |", code(&subject), cell(&sides));
    }
    if doc.drift.len() > MAX_ARTIFACTS_SHOWN {
        let _ = writeln!(out, "\n… and {} more.", doc.drift.len() - MAX_ARTIFACTS_SHOWN);
    }
    out.push('\n');
    for (what, remedy) in drift::remedies(&doc.drift) {
        let _ = writeln!(out, "- remedy for {}: {}", code(&what), cell(remedy));
    }
}

fn steps(out: &mut String, doc: &PlanDoc, texts: &Texts) {
    out.push_str("\n### Changes, in the order of execution\n\n| | what | why | details |\n| --- | --- | --- | --- |\n");
    let (shown, hidden, _) = super::shown(doc);
    for step in &shown {
        let why = format!("{} ({})", cell(&step.reason.text), cell(&step.reason.code));
        let remedy = step.reason.remedy.as_ref().map_or_else(String::new, |text| format!("; remedy: {}", cell(text)));
        let fact = step.reason.fact.as_ref().filter(|_| step.action == Action::Blocked);
        let fact = fact.map_or_else(String::new, |fact| format!("; fact: {}", code(fact)));
        let _ = writeln!(
            out,
            "| `{}` | {} | {why}{fact}{remedy} | {} |",
            step.action.mark(),
            code(&step.address),
            details(step)
        );
    }
    if let Some(line) = words::hidden_line(&hidden) {
        let _ = writeln!(out, "\n{line}");
    }
    if let Some(sentence) = words::policy_change(doc) {
        let _ = writeln!(out, "\nPolicy: {}.", cell(&sentence));
    }
    for pair in shown.iter().flat_map(|step| texts.of(step)) {
        let body: String = diff::unified(pair).into_iter().map(|(_, line)| line + "\n").collect();
        let fence = fence(&body);
        let _ = writeln!(out, "\n{fence}diff\n{body}{fence}");
    }
}

fn details(step: &Step) -> String {
    let parts: Vec<String> = words::changed(step)
        .into_iter()
        .map(|(name, before, after)| format!("{}: {}", cell(name), cell(&words::sides(step, name, before, after))))
        .collect();
    parts.join("<br>")
}

fn verdicts(out: &mut String, title: &str, verdicts: &[Verdict]) {
    if verdicts.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n### {title}\n");
    for verdict in verdicts {
        let head = match words::verdict_mark(verdict) {
            mark @ "ok" => format!("`{mark}`"),
            mark @ "no" => format!("`{mark}` **{}**", cell(&verdict.code)),
            mark => format!("`{mark}` *{}*", cell(&verdict.code)),
        };
        let remedy =
            if verdict.remedy.is_empty() { String::new() } else { format!(" (remedy: {})", cell(&verdict.remedy)) };
        let _ = writeln!(out, "- {head}: {}{remedy}", cell(&verdict.message));
    }
}

/// Plain text that cannot become markup.
pub fn cell(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in safe(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            '|' | '*' | '_' | '[' | ']' | '\\' | '#' | '~' | '!' | '@' => {
                out.push('\\');
                out.push(c);
            }
            '`' => out.push('\''),
            other => out.push(other),
        }
    }
    out
}

/// A code span; back quotes and bars, which would end it or its cell, are replaced.
fn code(text: &str) -> String {
    format!("`{}`", safe(text).replace('`', "'").replace('|', "\\|"))
}

/// A fence longer than any run of back quotes inside.
fn fence(body: &str) -> String {
    let mut longest = 0;
    let mut run = 0;
    for c in body.chars() {
        run = if c == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    "`".repeat(3.max(longest + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_in_their_cell_and_fence() {
        assert_eq!(cell("a|b <script> [x](y) `c`\n"), "a\\|b &lt;script> \\[x\\](y) 'c'\\\\n");
        assert_eq!(code("a`|b"), "`a'\\|b`");
        assert_eq!(fence("x ```` y"), "`````");
        assert_eq!(fence("plain"), "```");
    }
}
