//! The plan for a terminal, in the manner that users of Terraform read at once.

use autonomy_schema::facts::DriftKind;
use autonomy_schema::plan_doc::{Action, PlanDoc, PlannedDrift, Step, Verdict};

use super::diff::{self, Line};
use super::escape::safe;
use super::paper::Paper;
use super::{Detail, MAX_ARTIFACTS_SHOWN, Style, Texts, drift, words};

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";

fn style(action: Action) -> &'static str {
    match action {
        Action::Create => GREEN,
        Action::Update | Action::Replace => YELLOW,
        Action::Remove | Action::Blocked => RED,
        Action::Relay => CYAN,
    }
}

/// The plan as text. Every shown value is safe for a terminal; the only escapes are our own colours.
pub fn text(doc: &PlanDoc, texts: &Texts, style: Style) -> String {
    let mut paper = Paper::new(style);
    if style.detail == Detail::Summary {
        paper.line(&words::summary_line(doc), 2);
        for reason in words::refusing_lines(doc) {
            paper.line(&reason, 2);
        }
        return paper.out;
    }
    head(&mut paper, doc);
    if !doc.drift.is_empty() {
        drifted(&mut paper, &doc.drift);
    }
    if !doc.steps.is_empty() {
        legend(&mut paper, doc);
        steps(&mut paper, doc, texts);
    }
    if style.detail == Detail::Changes {
        paper.heading(&words::summary_line(doc));
        return paper.out;
    }
    if !doc.steps.is_empty() {
        forecast(&mut paper, doc);
    }
    verdicts(&mut paper, "Precheck:", &doc.verdicts.precheck);
    verdicts(&mut paper, "Policy:", &doc.verdicts.policy);
    paper.heading(&words::summary_line(doc));
    let next = words::next_steps(doc);
    if !next.is_empty() {
        paper.gap();
        for sentence in next {
            paper.line(&sentence, 2);
        }
    }
    paper.out
}

fn head(paper: &mut Paper, doc: &PlanDoc) {
    let manifest = &doc.manifest;
    let channel = manifest.channel.as_ref().map_or_else(String::new, |channel| format!(", channel {channel}"));
    let title = format!(
        "{} serial {}, release {}{}",
        safe(manifest.name.as_str()),
        manifest.serial,
        safe(&manifest.release),
        safe(&channel)
    );
    let title = paper.paint(BOLD, &title);
    paper.line(&title, 2);
    paper.line(&format!("  manifest  {}", manifest.fingerprint), 12);
    if let Some(source) = &doc.source {
        paper.whole(&format!("  source    {}", safe(source)));
    }
    if let Some(revision) = &doc.revision {
        paper.whole(&format!("  revision  {}", safe(revision)));
    }
    paper.line(&format!("  plan      {}", doc.plan_id), 12);
    if words::unfinished(doc) {
        let note = paper.paint(YELLOW, words::UNFINISHED);
        paper.gap();
        paper.line(&note, 2);
    }
}

/// What was changed behind the manifest's back.
fn drifted(paper: &mut Paper, entries: &[PlannedDrift]) {
    paper.heading(&format!("{}:", drift::heading(entries.len())));
    paper.gap();
    for entry in entries.iter().take(MAX_ARTIFACTS_SHOWN) {
        let color = match entry.kind {
            DriftKind::Content | DriftKind::Mode | DriftKind::Type | DriftKind::Override | DriftKind::Lowered => YELLOW,
            DriftKind::Extra => GREEN,
            DriftKind::Missing | DriftKind::Invalid | DriftKind::Stopped | DriftKind::Failed => RED,
        };
        let mark = paper.paint(color, &format!("{:>3}", drift::mark(entry.kind)));
        let (subject, code) = (paper.paint(BOLD, &drift::subject(entry)), safe(&entry.reason.code).into_owned());
        let code = paper.paint(DIM, &format!("({code})"));
        paper.entry(&format!("  {mark} {subject}"), &format!("  {} {code}", safe(&entry.reason.text)), 8);
        let sides = drift::sides(entry);
        if !sides.is_empty() {
            paper.line(&format!("        {sides}"), 8);
        }
    }
    if entries.len() > MAX_ARTIFACTS_SHOWN {
        let more = entries.len() - MAX_ARTIFACTS_SHOWN;
        paper.line(&format!("  … and {more} more; `--output json` lists them all"), 4);
    }
    paper.gap();
    paper.line("  Remedies:", 4);
    for (what, remedy) in drift::remedies(entries) {
        paper.line(&format!("    {what}: {}", safe(remedy)), 6);
    }
}

/// The marks that occur.
fn legend(paper: &mut Paper, doc: &PlanDoc) {
    paper.gap();
    paper.line("Actions are marked as follows:", 2);
    for (action, word) in words::LEGEND {
        if doc.steps.iter().any(|step| step.action == action) {
            let mark = paper.paint(style(action), &format!("{:>3}", action.mark()));
            paper.line(&format!("  {mark} {word}"), 6);
        }
    }
}

fn steps(paper: &mut Paper, doc: &PlanDoc, texts: &Texts) {
    paper.heading("Changes, in the order of execution:");
    let (shown, hidden, last_artifact) = super::shown(doc);
    for (at, one) in shown.into_iter().enumerate() {
        // What is proved about a policy stands above its difference, which may be long.
        let proved = if one.address == "policy" { words::policy_change(doc) } else { None };
        step(paper, one, proved.as_deref(), texts);
        if last_artifact == Some(at)
            && let Some(line) = words::hidden_line(&hidden)
        {
            paper.gap();
            paper.line(&format!("      {line}"), 6);
        }
    }
}

fn step(paper: &mut Paper, step: &Step, proved: Option<&str>, texts: &Texts) {
    let mark = paper.paint(style(step.action), &format!("{:>3}", step.action.mark()));
    let address = paper.paint(BOLD, &safe(&step.address));
    let code = paper.paint(DIM, &format!("({})", safe(&step.reason.code)));
    paper.gap();
    paper.entry(&format!("  {mark} {address}"), &format!("  {} {code}", safe(&step.reason.text)), 8);
    if step.action == Action::Blocked
        && let Some(fact) = &step.reason.fact
    {
        paper.line(&format!("        fact:   {}", safe(fact)), 16);
    }
    if let Some(remedy) = &step.reason.remedy {
        paper.line(&format!("        remedy: {}", safe(remedy)), 16);
    }
    let changed = words::changed(step);
    let width = changed.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or(0);
    for (name, before, after) in changed {
        let value = words::sides(step, name, before, after);
        paper.line(&format!("        {:width$}  {value}", safe(name)), 10 + width);
    }
    if let Some(sentence) = proved {
        paper.line(&format!("        {sentence}"), 10);
    }
    for pair in texts.of(step) {
        for (kind, line) in diff::unified(pair) {
            let line = match kind {
                Line::Head => paper.paint(DIM, &line),
                Line::Same => line,
                Line::Added => paper.paint(GREEN, &line),
                Line::Removed => paper.paint(RED, &line),
            };
            paper.whole(format!("        {line}").trim_end());
        }
    }
}

fn forecast(paper: &mut Paper, doc: &PlanDoc) {
    paper.heading("Forecast:");
    let lines = words::forecast(doc);
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(9);
    for (name, sentence) in lines {
        paper.line(&format!("  {name:<width$} {sentence}"), width + 3);
    }
}

fn verdicts(paper: &mut Paper, title: &str, verdicts: &[Verdict]) {
    if verdicts.is_empty() {
        return;
    }
    paper.heading(title);
    for verdict in verdicts {
        let mark = match words::verdict_mark(verdict) {
            mark @ "ok" => paper.paint(GREEN, mark),
            mark @ "no" => paper.paint(RED, mark),
            mark => paper.paint(YELLOW, mark),
        };
        let code = if verdict.code == "ok" { String::new() } else { format!("{}: ", safe(&verdict.code)) };
        paper.line(&format!("  {mark}  {code}{}", safe(&verdict.message)), 6);
        if !verdict.remedy.is_empty() {
            paper.line(&format!("      remedy: {}", safe(&verdict.remedy)), 14);
        }
    }
}
