//! How a verb fails: reasons or diagnostics on stderr, the documented exit code, JSON on stdout where asked for.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use autonomy_schema::author::Diagnostic;
use autonomy_schema::{Code, Reason, Reasons};
use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report};

use crate::ui;

/// The exit codes of every verb (DESIGN §6).
pub(crate) mod exit {
    /// Done, or no changes.
    pub(crate) const DONE: u8 = 0;
    /// Failure.
    pub(crate) const FAILURE: u8 = 1;
    /// Changes are pending (`plan --detailed-exitcode`).
    pub(crate) const PENDING: u8 = 2;
    /// Wrong usage.
    pub(crate) const USAGE: u8 = 64;
}

/// Why a verb did not do what it was asked for.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A refusal, or a broken machine, with its reasons. `json` repeats them on stdout.
    Refused {
        /// Sorted.
        reasons: Reasons,
        /// Whether `--output json` was asked for.
        json: bool,
        /// The exit code, when it is not that of the reasons.
        exit: Option<u8>,
        /// Whether stdout has the reasons already, in another form.
        told: bool,
    },
    /// Authored files with errors; the texts give the snippets.
    Authored {
        /// Sorted.
        diagnostics: Vec<Diagnostic>,
        /// Text by file.
        texts: BTreeMap<String, String>,
    },
    /// The arguments contradict each other.
    Usage(String),
}

impl Failure {
    /// A refusal with the exit code of its reasons.
    pub(crate) fn refused(reasons: impl Into<Reasons>, json: bool) -> Self {
        Self::Refused { reasons: reasons.into(), json, exit: None, told: false }
    }

    /// The same, repeated on stdout where `--output json` was asked for.
    pub(crate) fn with_json(self, json: bool) -> Self {
        match self {
            Self::Refused { reasons, exit, json: already, told } => {
                Self::Refused { reasons, exit, json: (json && !told) || already, told }
            }
            other @ (Self::Authored { .. } | Self::Usage(_)) => other,
        }
    }

    /// The same, with another exit code in the place of `code`.
    pub(crate) fn exiting(self, code: u8, other: u8) -> Self {
        match self {
            Self::Refused { reasons, exit, json, told } => {
                let exit = exit.or_else(|| (reasons.exit() == code).then_some(other));
                Self::Refused { reasons, exit, json, told }
            }
            other @ (Self::Authored { .. } | Self::Usage(_)) => other,
        }
    }

    /// A single reason.
    pub(crate) fn because(code: Code, message: impl Into<String>) -> Self {
        Self::refused(Reason::new(code, message), false)
    }

    /// An input or output error of a file that the operator named; exit 1.
    pub(crate) fn io(action: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        let code = if error.kind() == std::io::ErrorKind::NotFound { Code::SourceNotFound } else { Code::IoError };
        Self::because(code, format!("cannot {action} {}: {error}", path.display()))
    }

    /// Prints the failure and gives the exit code.
    pub(crate) fn report(&self) -> u8 {
        match self {
            Self::Refused { reasons, json, exit, .. } => {
                report_reasons(reasons);
                if *json {
                    let value = serde_json::json!({ "reasons": reasons.as_slice() });
                    ui::out(&format!("{value}\n"));
                }
                exit.unwrap_or_else(|| reasons.exit())
            }
            Self::Authored { diagnostics, texts } => {
                report_diagnostics(diagnostics, texts);
                exit::FAILURE
            }
            Self::Usage(message) => {
                ui::err(&format!("usage: {message}\n"));
                exit::USAGE
            }
        }
    }
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Self::refused(reason, false)
    }
}

impl From<Reasons> for Failure {
    fn from(reasons: Reasons) -> Self {
        Self::refused(reasons, false)
    }
}

/// One line a reason, then each remedy once.
fn report_reasons(reasons: &Reasons) {
    let mut text = String::new();
    for reason in reasons.as_slice() {
        // One line each, also when a policy's message or a service's output has several: scripts read them by line.
        text.push_str(&ui::printable(&reason.to_string()).replace('\n', "\\n"));
        text.push('\n');
    }
    let mut remedies: Vec<_> = reasons.as_slice().iter().map(|reason| (reason.code, &reason.remedy)).collect();
    remedies.dedup();
    if ui::stderr_is_terminal() {
        for (code, remedy) in remedies {
            text.push_str(&ui::printable(&format!("  help: {remedy} (autonomy explain {code})")));
            text.push('\n');
        }
    }
    ui::err(&text);
}

fn report_diagnostics(diagnostics: &[Diagnostic], texts: &BTreeMap<String, String>) {
    let theme = if ui::stderr_has_color() { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(110);
    for diagnostic in diagnostics {
        // One line each: a key or value that is quoted may hold a line end.
        ui::err(&ui::printable(&format!("{diagnostic}")).replace('\n', "\\n"));
        ui::err("\n");
        if let Some(rendered) = snippet(diagnostic, texts, &handler) {
            ui::err(&rendered);
        }
    }
}

/// The lines around the place, with the place marked and the remedy below.
fn snippet(
    diagnostic: &Diagnostic,
    texts: &BTreeMap<String, String>,
    handler: &GraphicalReportHandler,
) -> Option<String> {
    let mark = diagnostic.mark.as_ref()?;
    let text = texts.get(&mark.file)?;
    let line = usize::try_from(mark.line).ok()?.checked_sub(1)?;
    let column = usize::try_from(mark.column).ok()?.checked_sub(1)?;
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let rest = text.get(start..)?.lines().next()?;
    let offset = rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at);
    let length = rest.get(offset..)?.split(['#', ',']).next()?.trim_end().len().max(1);
    let report = Report::new(
        MietteDiagnostic::new(diagnostic.message.clone())
            .with_code(diagnostic.code.as_str())
            .with_help(diagnostic.help.clone())
            .with_label(LabeledSpan::at(start + offset..start + offset + length, "here")),
    )
    .with_source_code(NamedSource::new(&mark.file, text.clone()));
    let mut rendered = String::new();
    handler.render_report(&mut rendered, report.as_ref()).ok()?;
    Some(rendered)
}

/// Why a result did not reach stdout, if one did not.
static LOST: OnceLock<String> = OnceLock::new();

/// Writes a result; a closed pipe ends quietly, as in `autonomy … | head`.
pub(crate) fn write_result(out: impl std::io::Write, text: &str) {
    if let Err(error) = write(out, text)
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        LOST.get_or_init(|| error.to_string());
    }
}

/// Writes a message; there is nowhere to tell that this failed.
pub(crate) fn write_message(out: impl std::io::Write, text: &str) {
    if let Err(error) = write(out, text) {
        tracing::debug!(%error, "output closed");
    }
}

fn write(mut out: impl std::io::Write, text: &str) -> std::io::Result<()> {
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

/// The exit code of a verb that did its work: a result that is cut short is none, as on a full disk.
pub(crate) fn after_output(code: u8) -> u8 {
    let Some(error) = LOST.get() else { return code };
    let reason = Reason::new(Code::IoError, format!("the verb is done, but its result could not be written: {error}"));
    report_reasons(&reason.into());
    exit::FAILURE
}
