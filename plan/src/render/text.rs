//! The plan for a terminal, in the manner that users of Terraform read at once.

use std::fmt::Write as _;

use autonomy_schema::facts::DriftKind;
use autonomy_schema::plan_doc::{Action, PlanDoc, PlannedDrift, Step, Verdict};

use super::diff::{self, Line};
use super::escape::safe;
use super::{Detail, MAX_ARTIFACTS_SHOWN, Style, Texts, words};

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";

/// Text with or without ANSI colours.
struct Paper {
    out: String,
    color: bool,
}

impl Paper {
    fn paint(&self, style: &str, text: &str) -> String {
        if self.color { format!("\u{1b}[{style}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn line(&mut self, text: &str) {
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn heading(&mut self, text: &str) {
        let heading = self.paint(BOLD, text);
        self.out.push('\n');
        self.line(&heading);
    }
}

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
    let mut paper = Paper { out: String::new(), color: style.color };
    if style.detail == Detail::Summary {
        paper.line(&words::summary_line(doc));
        return paper.out;
    }
    head(&mut paper, doc);
    if !doc.drift.is_empty() {
        drift(&mut paper, &doc.drift);
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
        paper.out.push('\n');
        for sentence in next {
            paper.line(&sentence);
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
    paper.line(&title);
    paper.line(&format!("  manifest  {}", manifest.fingerprint));
    if let Some(source) = &doc.source {
        paper.line(&format!("  source    {}", safe(source)));
    }
    paper.line(&format!("  plan      {}", doc.plan_id));
    if words::unfinished(doc) {
        let note = paper.paint(YELLOW, words::UNFINISHED);
        paper.out.push('\n');
        paper.line(&note);
    }
}

/// What was changed behind the manifest's back.
fn drift(paper: &mut Paper, drift: &[PlannedDrift]) {
    let count = words::counted(drift.len() as u64, "difference", "differences");
    paper.heading(&format!("Drift: {count} from the active manifest:"));
    paper.out.push('\n');
    for entry in drift.iter().take(MAX_ARTIFACTS_SHOWN) {
        let (style, mark) = match entry.kind {
            DriftKind::Content | DriftKind::Mode | DriftKind::Lowered | DriftKind::Override => (YELLOW, "~"),
            DriftKind::Missing | DriftKind::Stopped | DriftKind::Failed | DriftKind::Invalid => (RED, "-"),
            DriftKind::Extra => (GREEN, "+"),
            DriftKind::Type => (YELLOW, "-/+"),
        };
        let mark = paper.paint(style, mark);
        let side = |label: &str, text: &str| match text {
            "" => String::new(),
            text => format!(" {label} {}", words::value("", text)),
        };
        let (expected, actual) = (side("expected", &entry.expected), side("found", &entry.actual));
        let comma = if expected.is_empty() || actual.is_empty() { "" } else { "," };
        let line = format!("  {mark} {}  {}:{expected}{comma}{actual}", safe(entry.path.as_str()), entry.kind.as_str());
        paper.line(line.trim_end_matches(':'));
    }
    if drift.len() > MAX_ARTIFACTS_SHOWN {
        let more = drift.len() - MAX_ARTIFACTS_SHOWN;
        paper.line(&format!("  … and {more} more; `--output json` lists them all"));
    }
}

/// The marks that occur.
fn legend(paper: &mut Paper, doc: &PlanDoc) {
    paper.out.push('\n');
    paper.line("Actions are marked as follows:");
    for (action, word) in words::LEGEND {
        if doc.steps.iter().any(|step| step.action == action) {
            let mark = paper.paint(style(action), &format!("{:>3}", action.mark()));
            paper.line(&format!("  {mark} {word}"));
        }
    }
}

fn steps(paper: &mut Paper, doc: &PlanDoc, texts: &Texts) {
    paper.heading("Changes, in the order of execution:");
    let (shown, hidden, last_artifact) = super::shown(doc);
    for (at, one) in shown.into_iter().enumerate() {
        step(paper, one, texts);
        if last_artifact == Some(at)
            && let Some(line) = words::hidden_line(&hidden)
        {
            paper.out.push('\n');
            paper.line(&format!("      {line}"));
        }
    }
}

fn step(paper: &mut Paper, step: &Step, texts: &Texts) {
    let mark = paper.paint(style(step.action), &format!("{:>3}", step.action.mark()));
    let address = paper.paint(BOLD, &safe(&step.address));
    let code = paper.paint(DIM, &format!("({})", safe(&step.reason.code)));
    paper.out.push('\n');
    paper.line(&format!("  {mark} {address}  {} {code}", safe(&step.reason.text)));
    if let Some(remedy) = &step.reason.remedy {
        paper.line(&format!("        remedy: {}", safe(remedy)));
    }
    let changed = words::changed(step);
    let width = changed.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or(0);
    for (name, before, after) in changed {
        let show = |text: Option<&str>| text.map(|text| words::value(name, text));
        let value = match (show(before), show(after)) {
            (Some(before), Some(after)) => format!("{before} → {after}"),
            (None, Some(one)) => one,
            (Some(one), None) => one + if step.action == Action::Remove { "" } else { " → none" },
            (None, None) => String::new(),
        };
        paper.line(&format!("        {:width$}  {value}", safe(name)));
    }
    for pair in texts.of(step) {
        for (kind, line) in diff::unified(pair) {
            let line = match kind {
                Line::Head => paper.paint(DIM, &line),
                Line::Same => line,
                Line::Added => paper.paint(GREEN, &line),
                Line::Removed => paper.paint(RED, &line),
            };
            paper.line(format!("        {line}").trim_end());
        }
    }
}

fn forecast(paper: &mut Paper, doc: &PlanDoc) {
    paper.heading("Forecast:");
    for (name, sentence) in words::forecast(doc) {
        paper.line(&format!("  {name:<9} {sentence}"));
    }
}

fn verdicts(paper: &mut Paper, title: &str, verdicts: &[Verdict]) {
    if verdicts.is_empty() {
        return;
    }
    paper.heading(title);
    for verdict in verdicts {
        let mark = if verdict.ok { paper.paint(GREEN, "ok") } else { paper.paint(RED, "no") };
        let code = if verdict.ok { String::new() } else { format!("{}: ", safe(&verdict.code)) };
        paper.line(&format!("  {mark}  {code}{}", safe(&verdict.message)));
        if !verdict.ok && !verdict.remedy.is_empty() {
            let _ = writeln!(paper.out, "      remedy: {}", safe(&verdict.remedy));
        }
    }
}
