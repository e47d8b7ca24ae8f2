//! `autonomy policy test`: runs the `test_…` rules.

use std::fmt::Write as _;
use std::path::PathBuf;

use autonomy_policy::{TestReport, TestVerdict, Tested};
use serde_json::{Value, json};

use super::source;
use crate::failure::{Failure, exit};
use crate::node::Output;
use crate::ui;

/// Run the `test_…` rules of a policy. A test passes when its value is `true`. Ends with 1 when one does not.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The bundle, or the folder that it is built from.
    #[arg(value_name = "FILE|DIR")]
    policy: PathBuf,
    /// Run only those whose full name (`data.<package>.test_…`) holds this text.
    #[arg(long, value_name = "TEXT", default_value = "")]
    run: String,
    /// Tell for each file which lines no test reached.
    #[arg(long)]
    coverage: bool,
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    test(args).map_err(|failure| failure.with_json(args.output == Output::Json))
}

fn test(args: &Args) -> Result<u8, Failure> {
    let bundle = source::bundle_or_folder(&args.policy)?;
    let report =
        autonomy_policy::test(&bundle, &args.run).map_err(|error| source::at(&args.policy, error.to_reason()))?;
    let told = match args.output {
        Output::Json => format!("{}\n", as_json(&report, args.coverage)),
        Output::Text => ui::printable(&as_text(&report, args.coverage)),
    };
    ui::out(&told);
    Ok(if report.all_passed() { exit::DONE } else { exit::FAILURE })
}

fn as_json(report: &TestReport, coverage: bool) -> Value {
    let tests: Vec<Value> = report
        .tests
        .iter()
        .map(|test| {
            let (verdict, at, why) = match &test.verdict {
                TestVerdict::Passed => ("passed", None, None),
                TestVerdict::Failed { line, value } => ("failed", Some(*line), Some(value)),
                TestVerdict::Errored(message) => ("error", None, Some(message)),
            };
            json!({
                "name": test.name, "file": test.file, "line": test.line, "verdict": verdict, "failed_at": at, "why": why,
                "prints": test.prints,
            })
        })
        .collect();
    let coverage = coverage.then(|| {
        let files = report.coverage.iter();
        let file = |file: &autonomy_policy::FileCoverage| {
            json!({ "file": file.file, "percent": file.percent(), "uncovered": file.uncovered })
        };
        files.map(file).collect::<Vec<Value>>()
    });
    json!({ "passed": report.tests.len() - report.not_passed().count(), "tests": tests, "coverage": coverage })
}

fn as_text(report: &TestReport, coverage: bool) -> String {
    let mut text = String::new();
    for test in &report.tests {
        text.push_str(&one(test));
    }
    let failed = report.not_passed().count();
    let total = report.tests.len();
    // Writing to a String cannot fail.
    let _written = match (total, failed) {
        (0, _) => writeln!(text, "No tests."),
        (_, 0) => writeln!(text, "{total} passed."),
        _ => writeln!(text, "{} passed, {failed} not.", total - failed),
    };
    for file in report.coverage.iter().filter(|_| coverage) {
        let uncovered = ranges(file.uncovered.iter().copied());
        let uncovered = if uncovered.is_empty() { String::new() } else { format!(", not reached: {uncovered}") };
        let _written = writeln!(text, "coverage {:>3} % {}{uncovered}", file.percent(), file.file);
    }
    text
}

fn one(tested: &Tested) -> String {
    let Tested { name, file, line, verdict, prints } = tested;
    let mut text = match verdict {
        TestVerdict::Passed => return format!("pass  {file}:{line} {name}\n"),
        TestVerdict::Failed { line: at, value } => {
            format!(
                "FAIL  {file}:{line} {name}\n      {file}:{at}: its value is {value}; nothing behind this line was reached\n"
            )
        }
        TestVerdict::Errored(message) => {
            format!("ERROR {file}:{line} {name}\n      {}\n", message.replace('\n', "\n      "))
        }
    };
    for print in prints {
        let _written = writeln!(text, "      print {print}");
    }
    text
}

/// Lines as people write them: `3-5, 9`.
fn ranges(lines: impl Iterator<Item = u32>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for line in lines {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == line => *last = line,
            _ => ranges.push((line, line)),
        }
    }
    let shown = |(first, last): &(u32, u32)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges.iter().map(shown).collect::<Vec<_>>().join(", ")
}
