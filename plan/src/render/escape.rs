//! What a document says must not steer the terminal that shows it.

use std::borrow::Cow;

use autonomy_schema::path::is_deceptive;

/// The text with control, bidirectional and invisible characters written as escapes.
pub fn safe(text: &str) -> Cow<'_, str> {
    if text.chars().any(is_deceptive) { Cow::Owned(escaped(text, |_| false)) } else { Cow::Borrowed(text) }
}

/// The same for a line of a diff, where a tab is layout.
pub(super) fn safe_line(text: &str) -> Cow<'_, str> {
    if text.chars().any(|c| is_deceptive(c) && c != '\t') {
        Cow::Owned(escaped(text, |c| c == '\t'))
    } else {
        Cow::Borrowed(text)
    }
}

fn escaped(text: &str, keep: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_deceptive(c) && !keep(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        for (hostile, shown) in [
            ("a\u{1b}[2Jb", "a\\u{1b}[2Jb"),
            ("a\nPlan: 0 to add", "a\\nPlan: 0 to add"),
            ("\r\u{8}\u{7f}\u{9b}31m", "\\r\\u{8}\\u{7f}\\u{9b}31m"),
            ("x\u{202e}txt.exe", "x\\u{202e}txt.exe"),
            ("zero\u{200b}width", "zero\\u{200b}width"),
            ("tab\t", "tab\\t"),
        ] {
            assert_eq!(safe(hostile), shown);
        }
        assert_eq!(safe("pier-7 Ölhafen →"), "pier-7 Ölhafen →");
        assert_eq!(safe_line("\ta\u{1b}"), "\ta\\u{1b}");
    }
}
