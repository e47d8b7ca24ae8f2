//! Results on stdout, refusals and notes on stderr.

use std::io::Write as _;

use autonomy_schema::Reasons;
use autonomy_schema::path::is_deceptive;
use serde::Serialize;
use serde_json::json;

use crate::Output;

/// A word to the operator.
pub(crate) fn note(text: &str) {
    // Nobody is left to be told when stderr is closed.
    anstream::stderr().lock().write_all(text.as_bytes()).ok();
}

/// A result.
pub(crate) fn result<T: Serialize>(value: &T, output: Output, text: impl FnOnce(&T) -> String) {
    let shown = match output {
        Output::Text => text(value),
        Output::Json => serde_json::to_string_pretty(value).unwrap_or_default() + "\n",
    };
    bytes(shown.as_bytes());
}

/// Bytes of a result as they are.
pub(crate) fn bytes(bytes: &[u8]) {
    if let Err(error) = anstream::stdout().lock().write_all(bytes)
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        note(&format!("cannot write the result: {error}\n"));
    }
}

/// A refusal: a line and a remedy for each reason.
pub(crate) fn refusal(reasons: &Reasons, output: Output) {
    for reason in reasons.as_slice() {
        note(&format!("{}: {}\n  remedy: {}\n", reason.code, safe(&reason.message), safe(&reason.remedy)));
    }
    if output == Output::Json {
        result(&json!({ "reasons": reasons.as_slice() }), output, |_| String::new());
    }
}

/// Text from outside, whose characters neither steer the terminal nor hide what it shows.
pub(crate) fn safe(text: &str) -> String {
    let plain =
        |c: char| if c.is_control() || is_deceptive(c) { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(plain).collect()
}

/// Rows of cells below a head, in columns.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |at: usize| {
        let cells = rows.iter().map(|row| row[at].chars().count());
        cells.chain([head[at].len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect::<Vec<_>>();
        format!("  {}\n", padded.join("  ").trim_end())
    };
    let mut text = line(&mut head.iter().copied());
    for row in rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}

/// Enough of a digest to tell it from others.
pub(crate) fn short(digest: &str) -> String {
    digest.strip_prefix("blake3:").map_or_else(|| digest.to_owned(), |hex| hex.chars().take(12).collect())
}

/// A rate; 0 is no limit.
pub(crate) fn limit(bytes_per_second: u64) -> String {
    if bytes_per_second == 0 { "unlimited".to_owned() } else { format!("{bytes_per_second} B/s") }
}
