//! What a scan finds, and why a scan cannot run.

use std::fmt;
use std::path::PathBuf;

/// One broken rule at one place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    place: String,
    line: usize,
    rule: &'static str,
    what: String,
}

impl Finding {
    /// A finding about a whole file, crate or table.
    pub(crate) fn at(place: impl Into<String>, rule: &'static str, what: impl Into<String>) -> Self {
        Self { place: place.into(), line: 0, rule, what: what.into() }
    }

    /// A finding on one line, counted from 1.
    pub(crate) fn on(place: &str, line: usize, rule: &'static str, what: impl Into<String>) -> Self {
        Self { place: place.to_owned(), line, rule, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {}: {}", self.rule, self.what)
    }
}

/// The scan could not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScanError {
    /// A file or folder could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A program could not be started.
    #[error("cannot run `{command}`")]
    Start {
        /// The command line.
        command: String,
        /// Why.
        source: std::io::Error,
    },
    /// A program failed.
    #[error("`{command}` failed:\n{stderr}")]
    Failed {
        /// The command line.
        command: String,
        /// What it said.
        stderr: String,
    },
    /// The answer of cargo does not have the expected form.
    #[error("cannot read the answer of `cargo metadata`")]
    Metadata(#[source] serde_json::Error),
    /// The arrow table does not have the expected form.
    #[error("ci/arrows.toml: {0}")]
    Table(String),
}

/// Runs `program` in `root` and gives its standard output.
pub(crate) fn run(program: &str, args: &[&str], root: &std::path::Path) -> Result<Vec<u8>, ScanError> {
    let command = || format!("{program} {}", args.join(" "));
    let output = std::process::Command::new(program)
        .args(args)
        .current_dir(root)
        .output()
        .map_err(|source| ScanError::Start { command: command(), source })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    Err(ScanError::Failed { command: command(), stderr })
}
