//! What a case came to, against what it must come to.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use autonomy_schema::Code;

use super::case::{Case, CodeName, Expect};
use super::child::{self, Ran};
use super::snapshot::Snapshot;
use super::stage::{Nodes, StageError, Staged, failed};

/// Most changed paths that are told of one case.
const MAX_TOLD: usize = 5;

/// What one case came to.
pub(super) struct Verdict {
    /// The exit code.
    pub(super) exit: Option<i32>,
    /// The reason codes on stderr.
    pub(super) codes: BTreeSet<CodeName>,
    /// What differs from what was expected; nothing, as a rule.
    pub(super) problems: Vec<String>,
    /// How long the verb took.
    pub(super) took: Duration,
}

/// Plays a case. An error of the machine or of its preparation is a problem of the case: the others are played all the
/// same.
pub(super) fn play(corpus: &Path, name: &str, case: &Case, nodes: &Nodes) -> Verdict {
    attempt(corpus, name, case, nodes).unwrap_or_else(|error| Verdict {
        exit: None,
        codes: BTreeSet::new(),
        problems: vec![format!("it was not played: {error}")],
        took: Duration::ZERO,
    })
}

fn attempt(corpus: &Path, name: &str, case: &Case, nodes: &Nodes) -> Result<Verdict, StageError> {
    let mut staged = Staged::new(corpus, name, case, nodes)?;
    let look = |node: &Path| Snapshot::of(node).map_err(failed("look at the state root"));
    let before = look(&staged.node())?;
    let started = Instant::now();
    let ran = child::run(staged.path(), &case.run).map_err(failed("start this program"))?;
    let took = started.elapsed();
    let ambush = staged.lift();
    let changes = before.changes_to(&look(&staged.node())?);
    let codes = codes(&ran.stderr);
    let mut problems = compare(&case.expect, &ran, &codes);
    problems.extend(ambush);
    problems.extend(change(&case.expect, &changes));
    Ok(Verdict { exit: ran.exit, codes, problems, took })
}

/// The codes of the lines `CODE: sentence`.
fn codes(stderr: &str) -> BTreeSet<CodeName> {
    let heads = stderr.lines().filter_map(|line| line.split_once(": ").map(|(head, _)| head));
    heads.filter_map(|head| head.parse::<Code>().ok()).map(CodeName).collect()
}

fn compare(expect: &Expect, ran: &Ran, codes: &BTreeSet<CodeName>) -> Vec<String> {
    let mut problems: Vec<String> = ran.killed.iter().cloned().collect();
    if ran.exit != Some(i32::from(expect.exit)) {
        let found = ran.exit.map_or_else(|| "ended by a signal".to_owned(), |exit| format!("exit {exit}"));
        problems.push(format!("{found}; expected exit {}", expect.exit));
    }
    if *codes != expect.codes {
        problems.push(format!("reasons {}; expected {}", listed(codes), listed(&expect.codes)));
    }
    if let Some(text) = &expect.says
        && !ran.stderr.contains(text.as_str())
    {
        problems.push(format!("no reason says `{text}`"));
    }
    if !problems.is_empty() {
        problems.extend(ran.stderr.lines().next().map(|line| format!("it said: {line}")));
    }
    problems
}

fn change(expect: &Expect, changes: &[String]) -> Vec<String> {
    if expect.changes && changes.is_empty() {
        return vec!["the state root is as it was; a change was expected".to_owned()];
    }
    if expect.changes {
        return Vec::new();
    }
    let told = changes.iter().take(MAX_TOLD).map(|change| format!("the state root changed: {change}"));
    let rest = changes.len().saturating_sub(MAX_TOLD);
    let rest = (rest > 0).then(|| format!("the state root changed in {rest} more places"));
    told.chain(rest).collect()
}

/// Codes as a list for people.
pub(super) fn listed(codes: &BTreeSet<CodeName>) -> String {
    if codes.is_empty() {
        return "none".to_owned();
    }
    codes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
