//! A plan as text for a terminal, as Markdown for a review, as one line of canonical JSON for a program.

use autonomy_schema::canonical::{self, CanonicalError};
use autonomy_schema::plan_doc::{Action, PlanDoc, Step, Summary};

mod diff;
mod drift;
pub mod escape;
mod markdown;
mod paper;
mod text;
mod words;

pub use markdown::{cell as markdown_cell, markdown};
pub use text::text;
pub use words::{bytes, next_steps, summary_line};

use crate::steps::ARTIFACT;

/// Most artifact steps that text and Markdown show; the count of the others is told, and JSON has all.
pub const MAX_ARTIFACTS_SHOWN: usize = 200;

/// Two versions of one text behind a step: `edge.toml`, or a Rego module as `policy/<path>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TextPair {
    /// The step's address, or one below it.
    pub address: String,
    /// What is there; empty when nothing is.
    pub before: String,
    /// What will be there; empty when it goes.
    pub after: String,
}

/// The texts whose differences are shown under their steps. They are rendered, never stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Texts(pub Vec<TextPair>);

impl Texts {
    /// The pairs that belong under a step and differ.
    fn of<'a>(&'a self, step: &'a Step) -> impl Iterator<Item = &'a TextPair> {
        self.0.iter().filter(|pair| {
            let below = pair.address.strip_prefix(step.address.as_str());
            below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) && pair.before != pair.after
        })
    }
}

/// How much of a plan is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Detail {
    /// All of it.
    #[default]
    Full,
    /// Drift and changes alone, without forecast, verdicts and what to run next.
    Changes,
    /// The closing line alone, and what blocks or refuses.
    Summary,
}

/// How text is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// Whether ANSI colours are used.
    pub color: bool,
    /// Columns to fold long sentences at; absent for pipes and files, where lines stay whole.
    pub width: Option<usize>,
    /// Whether our own marks keep to ASCII; what documents say is escaped as well.
    pub ascii: bool,
    /// How much is shown.
    pub detail: Detail,
}

/// The lines of a unified diff, safe for a terminal, bounded in number and length, without newlines; texts that are too
/// large are not compared, and a line says so.
pub fn difference(pair: &TextPair) -> Vec<String> {
    diff::unified(pair).into_iter().map(|(_, line)| line).collect()
}

/// The plan as one line of canonical JSON with its newline.
pub fn json(doc: &PlanDoc) -> Result<String, CanonicalError> {
    let bytes = canonical::to_bytes(doc)?;
    let mut line = String::from_utf8_lossy(&bytes).into_owned();
    line.push('\n');
    Ok(line)
}

/// The steps that are shown, and the artifact steps that are not.
fn shown(doc: &PlanDoc) -> (Vec<&Step>, Summary, Option<usize>) {
    let mut artifacts = 0;
    let mut hidden = Vec::new();
    let mut last = None;
    let mut steps = Vec::new();
    for step in &doc.steps {
        let artifact = step.address.starts_with(ARTIFACT) && step.action != Action::Blocked;
        if artifact {
            artifacts += 1;
        }
        if artifact && artifacts > MAX_ARTIFACTS_SHOWN {
            hidden.push(step.clone());
            continue;
        }
        if artifact {
            last = Some(steps.len());
        }
        steps.push(step);
    }
    (steps, Summary::of(&hidden), last)
}
