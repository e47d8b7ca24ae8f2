//! A plan as text for a terminal, as Markdown for a review, as one line of canonical JSON for a program.

use autonomy_schema::canonical::{self, CanonicalError};
use autonomy_schema::plan_doc::{Action, PlanDoc, Step, Summary};

mod diff;
pub mod escape;
mod markdown;
mod text;
mod words;

pub use markdown::markdown;
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
