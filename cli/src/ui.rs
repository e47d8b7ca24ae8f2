//! The terminal: colour, progress, questions. Results go to stdout, all else to stderr; without a terminal nothing
//! moves and nothing asks.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use autonomy_schema::{Code, Reason};
use indicatif::{ProgressBar, ProgressStyle};
use zeroize::Zeroizing;

use crate::failure::{self, Failure};

/// Prints a result.
pub(crate) fn out(text: &str) {
    failure::write_result(std::io::stdout().lock(), text);
}

/// Prints a message.
pub(crate) fn err(text: &str) {
    failure::write_message(std::io::stderr().lock(), text);
}

/// Prints a warning, where there is one.
pub(crate) fn warn(warning: Option<&str>) {
    if let Some(warning) = warning {
        err(&printable(&format!("warning: {warning}\n")));
    }
}

/// Whether stderr is a terminal.
pub(crate) fn stderr_is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Whether messages may have colour (`NO_COLOR`, `CLICOLOR`, terminals).
pub(crate) fn stderr_has_color() -> bool {
    anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never
}

/// Whether results may have colour.
pub(crate) fn stdout_has_color() -> bool {
    anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never
}

/// Columns of the terminal that results go to, or what `COLUMNS` says; absent for pipes and files, where lines stay
/// whole.
pub(crate) fn stdout_width() -> Option<usize> {
    if let Some(columns) = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()) {
        return Some(columns);
    }
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0).then(|| size.ws_col.into())
}

/// Whether the locale is UTF-8, as locale(7) looks for it. Without any locale, UTF-8 is taken for granted.
pub(crate) fn is_utf8() -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(std::env::var_os).find(|value| !value.is_empty());
    set.is_none_or(|locale| {
        let locale = locale.to_string_lossy().to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

/// Text from outside, whose characters neither steer the terminal nor turn or hide what it shows; lines stay.
pub(crate) fn printable(text: &str) -> String {
    text.split('\n').map(autonomy_plan::render::escape::safe).collect::<Vec<_>>().join("\n")
}

/// A span of time for people: its two largest units.
pub(crate) fn span(seconds: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1)];
    let counted = |(name, size): (&str, u64), rest: u64| {
        let count = rest / size;
        (count > 0).then(|| format!("{count} {name}{}", if count == 1 { "" } else { "s" }))
    };
    let Some(first) = UNITS.iter().position(|(_, size)| seconds >= *size) else { return "0 seconds".to_owned() };
    let largest = counted(UNITS[first], seconds);
    let rest = UNITS.get(first + 1).and_then(|unit| counted(*unit, seconds % UNITS[first].1));
    [largest, rest].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Traces go to stderr; `AUTONOMY_LOG` has the filter of `tracing`.
pub(crate) fn trace(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("AUTONOMY_LOG")
        .unwrap_or_else(|_unset| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}

/// A bar over bytes, or a spinner where nobody knows how many will come.
pub(crate) fn progress(length: Option<u64>, message: &str) -> ProgressBar {
    let template =
        if length.is_some() { "{msg} [{bar:30}] {bytes}/{total_bytes} {eta}" } else { "{spinner} {msg} {bytes}" };
    bar(length, template, message)
}

/// A bar that counts things.
pub(crate) fn progress_count(length: u64, message: &str) -> ProgressBar {
    bar(Some(length), "{msg} [{bar:30}] {pos}/{len}", message)
}

/// A spinner or bar on a terminal, nothing elsewhere.
fn bar(length: Option<u64>, template: &str, message: &str) -> ProgressBar {
    if !stderr_is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = length.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(message.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Asks on the terminal; only the word `yes` consents. Without a terminal: `consent_missing`.
pub(crate) fn consent(question: &str) -> Result<bool, Failure> {
    if !(std::io::stdin().is_terminal() && stderr_is_terminal()) {
        return Err(Failure::refused(
            Reason::new(Code::ConsentMissing, format!("{question} needs a yes, and there is no terminal to ask")),
            false,
        ));
    }
    err(&format!("{question} Only `yes` goes on: "));
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    read.map_err(|error| Failure::because(Code::IoError, format!("cannot read the answer: {error}")))?;
    Ok(answer.trim() == "yes")
}

/// The password of a private key: `COSIGN_PASSWORD`, or asked for on a terminal without echo.
pub(crate) fn password(prompt: &str, twice: bool) -> Result<Zeroizing<String>, Failure> {
    if let Some(password) = std::env::var_os("COSIGN_PASSWORD") {
        let text = password.into_string();
        return text
            .map(Zeroizing::new)
            .map_err(|_not_utf8| Failure::because(Code::WrongKey, "COSIGN_PASSWORD is not UTF-8"));
    }
    if !(std::io::stdin().is_terminal() && stderr_is_terminal()) {
        return Err(Failure::Usage("no password: set COSIGN_PASSWORD, or run on a terminal".to_owned()));
    }
    let ask = |text: &str| {
        rpassword::prompt_password(text)
            .map(Zeroizing::new)
            .map_err(|error| Failure::because(Code::IoError, format!("cannot read the password: {error}")))
    };
    let first = ask(prompt)?;
    if twice && *ask("again: ")? != *first {
        return Err(Failure::Usage("the two passwords differ".to_owned()));
    }
    std::io::stderr().flush().ok();
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn a_span_has_its_two_largest_units() {
        let told = [0, 1, 59, 61, 3600, 90_000, 86_400 * 365].map(span);
        let wanted = ["0 seconds", "1 second", "59 seconds", "1 minute 1 second", "1 hour", "1 day 1 hour", "365 days"];
        assert_eq!(told, wanted);
    }
}
