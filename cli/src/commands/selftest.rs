//! `autonomy selftest`: this build against a corpus of attacks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use autonomy_schema::Code;
use serde_json::{Value, json};

use crate::failure::{Failure, exit};
use crate::node::Output;
use crate::ui;

mod case;
mod child;
mod corpus;
mod judge;
mod snapshot;
mod stage;
mod swap;

use case::Case;
use corpus::Corpus;
use judge::Verdict;

/// Most cases that are played at once; each is a process that hashes.
const MAX_WORKERS: usize = 4;

/// `autonomy selftest`.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Play a corpus of attacks against this build: each must be refused for its very reason, and leave the node as it
    /// was.
    Hostile(Args),
}

/// `autonomy selftest hostile`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The corpus. Its cases run verbs of this program: take it from whom you trust.
    #[arg(long, value_name = "DIR", default_value = "examples/hostile")]
    corpus: PathBuf,
    /// Play this case alone.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(command: &Command) -> Result<u8, Failure> {
    let Command::Hostile(args) = command;
    hostile(args).map_err(|failure| failure.with_json(args.output == Output::Json))
}

fn hostile(args: &Args) -> Result<u8, Failure> {
    let corpus = Corpus::read(&args.corpus, args.only.as_deref())?;
    let started = Instant::now();
    let verdicts = play(&corpus)?;
    let tally = Tally::of(&corpus, &verdicts);
    let text = match args.output {
        Output::Text => text(&corpus, &verdicts, &tally, started.elapsed().as_secs()),
        Output::Json => format!("{}\n", as_json(&corpus, &verdicts, &tally)),
    };
    ui::out(&text);
    Ok(if tally.is_clean() { exit::DONE } else { exit::FAILURE })
}

/// Plays every case, several at once.
fn play(corpus: &Corpus) -> Result<BTreeMap<String, Verdict>, Failure> {
    let stopped = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        // Folders are removed on the way out, so the way out must be taken.
        signal_hook::flag::register(signal, Arc::clone(&stopped))
            .map_err(|error| Failure::because(Code::IoError, format!("cannot listen for signals: {error}")))?;
    }
    let nodes = stage::Nodes::make(&corpus.folder, &corpus.world)
        .map_err(|error| Failure::because(Code::IoError, ui::printable(&error.to_string())))?;
    let cases: Vec<(&String, &Case)> = corpus.cases.iter().collect();
    let bar = ui::progress_count(cases.len() as u64, "attacking");
    let (next, verdicts) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(MAX_WORKERS);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((name, case)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    let verdict = judge::play(&corpus.folder, name, case, &nodes);
                    bar.inc(1);
                    // A worker that panicked holds nothing half-done: an entry is there or not.
                    let mut verdicts = verdicts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    verdicts.insert((*name).clone(), verdict);
                }
            });
        }
    });
    bar.finish_and_clear();
    if stopped.load(Ordering::Relaxed) {
        return Err(Failure::because(Code::Superseded, "the self-test was interrupted"));
    }
    Ok(verdicts.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// How many cases came out as expected, and of how many.
struct Tally {
    attacks: (usize, usize),
    controls: (usize, usize),
}

impl Tally {
    fn of(corpus: &Corpus, verdicts: &BTreeMap<String, Verdict>) -> Self {
        let count = |control: bool| {
            let all = corpus.cases.iter().filter(|(_, case)| case.is_control() == control);
            let good = |name: &String| verdicts.get(name).is_some_and(|verdict| verdict.problems.is_empty());
            let (names, total) = (all.clone().map(|(name, _)| name), all.count());
            (names.filter(|name| good(name)).count(), total)
        };
        Self { attacks: count(false), controls: count(true) }
    }

    fn is_clean(&self) -> bool {
        self.attacks.0 == self.attacks.1 && self.controls.0 == self.controls.1
    }
}

fn text(corpus: &Corpus, verdicts: &BTreeMap<String, Verdict>, tally: &Tally, seconds: u64) -> String {
    let width = corpus.cases.keys().map(String::len).max().unwrap_or_default();
    let mut lines = Vec::new();
    for (name, case) in &corpus.cases {
        let Some(verdict) = verdicts.get(name) else { continue };
        let what = if case.is_control() {
            "accepted".to_owned()
        } else {
            format!("refused: {} (exit {})", judge::listed(&case.expect.codes), case.expect.exit)
        };
        let (word, expected) = if verdict.problems.is_empty() { ("ok   ", "") } else { ("WRONG", "expected: ") };
        lines.push(format!("{word} {name:width$}  {expected}{what}"));
        lines.extend(verdict.problems.iter().map(|problem| ui::printable(&format!("      {problem}"))));
    }
    let ((refused, attacks), (accepted, controls)) = (tally.attacks, tally.controls);
    lines.push(format!("{attacks} attacks: {refused} refused as expected"));
    lines.push(format!("{controls} controls: {accepted} accepted as expected"));
    lines.push(ui::span(seconds) + "\n");
    lines.join("\n")
}

fn as_json(corpus: &Corpus, verdicts: &BTreeMap<String, Verdict>, tally: &Tally) -> Value {
    let cases = corpus.cases.iter().filter_map(|(name, case)| {
        let verdict = verdicts.get(name)?;
        let codes = |codes: &std::collections::BTreeSet<case::CodeName>| -> Vec<String> {
            codes.iter().map(ToString::to_string).collect()
        };
        Some(json!({
            "name": name,
            "kind": if case.is_control() { "control" } else { "attack" },
            "story": case.story.trim(),
            "as_expected": verdict.problems.is_empty(),
            "expected": { "exit": case.expect.exit, "codes": codes(&case.expect.codes) },
            "found": { "exit": verdict.exit, "codes": codes(&verdict.codes) },
            "problems": verdict.problems,
            "milliseconds": u64::try_from(verdict.took.as_millis()).unwrap_or(u64::MAX),
        }))
    });
    let cases: Vec<Value> = cases.collect();
    let part = |(good, total): (usize, usize)| json!({ "total": total, "as_expected": good });
    json!({ "attacks": part(tally.attacks), "controls": part(tally.controls), "cases": cases })
}
