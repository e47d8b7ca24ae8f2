//! House rules as failing checks: `autonomy-scan dependencies | prohibited [--root DIR]`.
//!
//! - `dependencies` proves the arrows and closures of `ci/arrows.toml` with cargo's own answers;
//! - `prohibited` parses the source for what must not be in it.
//!
//! Exit 0 when clean, 1 with one line per violation (`place: rule: what`), 2 when the scan itself could not run: a
//! scan that cannot run has proved nothing. `tests/planted` plants every violation and demands that it is caught.
//!
//! Deliberately absent: fixing anything, and exceptions by comment. An exception is an edit of the table, with an ADR.

#![expect(clippy::print_stdout, reason = "a program: the verdict is its output")]

mod activation;
mod behaviour;
mod dependencies;
mod files;
mod finding;
mod prohibited;
mod rules;
mod table;
mod tokens;

use std::path::PathBuf;
use std::process::ExitCode;

use finding::{Finding, ScanError};

const USAGE: &str = "usage: autonomy-scan dependencies|prohibited [--root DIR]";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (Some(verb), root) = (args.next(), root(&mut args)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(64);
    };
    let outcome = match (verb.as_str(), root) {
        ("dependencies", Some(root)) => dependencies::scan(&root),
        ("prohibited", Some(root)) => prohibited::scan(&root),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(64);
        }
    };
    report(&verb, outcome)
}

/// The folder to scan: `--root DIR`, else the working folder; `None` for any other argument.
fn root(args: &mut impl Iterator<Item = String>) -> Option<PathBuf> {
    let root = match args.next().as_deref() {
        None => PathBuf::from("."),
        Some("--root") => PathBuf::from(args.next()?),
        Some(_) => return None,
    };
    args.next().is_none().then_some(root)
}

fn report(verb: &str, outcome: Result<(Vec<Finding>, String), ScanError>) -> ExitCode {
    match outcome {
        Err(error) => {
            eprintln!("scan-{verb}: {error}");
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                eprintln!("  because: {cause}");
                source = cause.source();
            }
            ExitCode::from(2)
        }
        Ok((mut findings, scope)) => {
            findings.sort();
            findings.dedup();
            for finding in &findings {
                println!("{finding}");
            }
            println!("scan-{verb}: {scope}, {} violations", findings.len());
            if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}
