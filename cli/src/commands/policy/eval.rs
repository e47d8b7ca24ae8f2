//! `autonomy policy eval`: asks a policy anything.

use std::fmt::Write as _;
use std::path::PathBuf;

use autonomy_policy::{Evaluated, Outcome, Ruled};
use autonomy_schema::{Code, Reason};
use serde_json::{Value, json};

use super::source;
use crate::failure::{Failure, exit};
use crate::node::Output;
use crate::{files, ui};

/// Largest input that is read: more than any question of ours.
const MAX_INPUT_BYTES: u64 = 64 << 20;

/// Evaluate a query about an input, and print its value as JSON, or `undefined`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The bundle, or the folder that it is built from.
    #[arg(long, value_name = "FILE|DIR")]
    bundle: PathBuf,
    /// What to evaluate, such as `data.autonomy.tool.allow`.
    #[arg(long, value_name = "QUERY")]
    query: String,
    /// The input, a JSON file.
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Tell which rules were evaluated, and what each came to.
    #[arg(long)]
    explain: bool,
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    eval(args).map_err(|failure| failure.with_json(args.output == Output::Json))
}

fn eval(args: &Args) -> Result<u8, Failure> {
    let bundle = source::bundle_or_folder(&args.bundle)?;
    let input = files::read(&args.input, MAX_INPUT_BYTES)?;
    let input: Value = serde_json::from_slice(&input)
        .map_err(|error| source::at(&args.input, Reason::new(Code::Syntax, error.to_string())))?;
    let evaluated = autonomy_policy::evaluate(&bundle, &args.query, &input)
        .map_err(|error| source::at(&args.bundle, error.to_reason()))?;
    let told = match args.output {
        Output::Json => format!("{}\n", as_json(&evaluated, args.explain)),
        Output::Text => ui::printable(&as_text(&evaluated, args.explain)),
    };
    ui::out(&told);
    Ok(exit::DONE)
}

fn as_json(evaluated: &Evaluated, explain: bool) -> Value {
    let rule = |rule: &Ruled| {
        let (outcome, value) = word(&rule.outcome);
        json!({ "name": rule.name, "file": rule.file, "line": rule.line, "outcome": outcome, "value": value })
    };
    let rules: Option<Vec<Value>> = explain.then(|| evaluated.rules.iter().map(rule).collect());
    json!({ "defined": !evaluated.values.is_empty(), "values": evaluated.values, "rules": rules })
}

fn word(outcome: &Outcome) -> (&'static str, Option<&Value>) {
    match outcome {
        Outcome::Value(Value::Bool(true)) => ("true", None),
        Outcome::Value(Value::Bool(false)) => ("false", None),
        Outcome::Value(value) => ("value", Some(value)),
        Outcome::Undefined => ("undefined", None),
        Outcome::Called => ("called", None),
        Outcome::Default => ("default", None),
    }
}

fn as_text(evaluated: &Evaluated, explain: bool) -> String {
    let mut text = String::new();
    for value in &evaluated.values {
        let _written = writeln!(text, "{value}");
    }
    if evaluated.values.is_empty() {
        text.push_str("undefined\n");
    }
    for rule in evaluated.rules.iter().filter(|_| explain) {
        let outcome = match word(&rule.outcome) {
            (_, Some(value)) => value.to_string(),
            (word, None) => word.to_owned(),
        };
        let _written = writeln!(text, "  {}:{} {} {outcome}", rule.file, rule.line, rule.name);
    }
    text
}
