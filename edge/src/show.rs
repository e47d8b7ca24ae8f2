//! The report on stdout, messages on stderr.

use std::fmt::Write as _;
use std::io::Write as _;

use autonomy_precheck::Report;
use autonomy_schema::path::is_deceptive;

use crate::precheck::Output;

/// Prints a message.
pub(crate) fn message(text: &str) {
    // Nobody is left to be told when stderr is closed.
    anstream::stderr().lock().write_all(text.as_bytes()).ok();
}

/// Prints the report.
pub(crate) fn report(report: &Report, output: Output) {
    let text = match output {
        Output::Text => text(report),
        Output::Json => serde_json::to_string_pretty(report).unwrap_or_default() + "\n",
    };
    if let Err(error) = anstream::stdout().lock().write_all(text.as_bytes())
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        message(&format!("cannot write the report: {error}\n"));
    }
}

/// Text from outside, whose characters neither steer the terminal nor hide what it shows.
fn safe(text: &str) -> String {
    let plain =
        |c: char| if c.is_control() || is_deceptive(c) { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(plain).collect()
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let mut line = |line: String| writeln!(text, "{line}").unwrap_or_default();
    if let Some(found) = &report.fingerprint {
        let epoch = report.boot_epoch.map_or_else(|| "not recorded yet".to_owned(), |epoch| epoch.to_string());
        line(format!("operating system  {}", found.composite));
        line(format!("boot epoch        {epoch}"));
        for changed in &found.changed {
            let shown = |text: &str| if text.is_empty() { "nothing".to_owned() } else { safe(text) };
            line(format!("  ~ {}: {} -> {}", changed.component, shown(&changed.old), shown(&changed.new)));
        }
    }
    if !report.reconstructed.is_empty() {
        line(if report.dry_run { "would rebuild:".to_owned() } else { "rebuilt:".to_owned() });
        for step in &report.reconstructed {
            line(format!("  + {}", safe(step)));
        }
    }
    if let Some(serial) = &report.rotated {
        line(format!("certificate       replaced by {serial}"));
    }
    if report.findings.is_empty() {
        line("no findings".to_owned());
    } else {
        line("findings:".to_owned());
    }
    for finding in &report.findings {
        line(format!("  {:<7}  {}: {}", finding.severity.as_str(), finding.code, safe(&finding.message)));
        line(format!("           remedy: {}", safe(&finding.remedy)));
    }
    text
}
