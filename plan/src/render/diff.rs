//! Unified diffs of two texts, bounded.

use similar::{ChangeTag, TextDiff};

use super::TextPair;
use super::escape::{safe, safe_line};

/// Most lines per side that are compared; the comparison may be quadratic.
const MAX_LINES: usize = 5_000;
/// Most bytes per side that are compared.
const MAX_BYTES: usize = 512 << 10;
/// Most lines of a diff that are shown.
const MAX_SHOWN: usize = 200;
/// Longest line that is shown, in characters.
const MAX_WIDTH: usize = 400;

/// What kind of line it is, for colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    Head,
    Same,
    Added,
    Removed,
}

/// The lines of a unified diff, safe for a terminal, without newlines.
pub(super) fn unified(pair: &TextPair) -> Vec<(Line, String)> {
    let name = safe(&pair.address);
    let side = |text: &str, mark: &str| if text.is_empty() { "/dev/null".to_owned() } else { format!("{mark}/{name}") };
    let mut lines = vec![
        (Line::Head, format!("--- {}", side(&pair.before, "a"))),
        (Line::Head, format!("+++ {}", side(&pair.after, "b"))),
    ];
    let counts = [&pair.before, &pair.after].map(|text| text.lines().count());
    let too_large = [&pair.before, &pair.after].into_iter().any(|text| text.len() > MAX_BYTES);
    if too_large || counts.into_iter().any(|count| count > MAX_LINES) {
        lines.push((Line::Head, format!("… too large to compare here: {} → {} lines", counts[0], counts[1])));
        return lines;
    }
    let diff = TextDiff::from_lines(pair.before.as_str(), pair.after.as_str());
    let mut body = Vec::new();
    for hunk in diff.unified_diff().context_radius(3).iter_hunks() {
        body.push((Line::Head, hunk.header().to_string()));
        for change in hunk.iter_changes() {
            let (kind, mark) = match change.tag() {
                ChangeTag::Equal => (Line::Same, ' '),
                ChangeTag::Delete => (Line::Removed, '-'),
                ChangeTag::Insert => (Line::Added, '+'),
            };
            body.push((kind, format!("{mark}{}", clipped(change.value()))));
        }
    }
    let hidden = body.len().saturating_sub(MAX_SHOWN);
    body.truncate(MAX_SHOWN);
    lines.append(&mut body);
    if hidden > 0 {
        lines.push((Line::Head, format!("… {hidden} more lines of difference")));
    }
    lines
}

fn clipped(line: &str) -> String {
    let line = line.strip_suffix('\n').unwrap_or(line);
    let mut shown: String = line.chars().take(MAX_WIDTH).collect();
    if shown.len() < line.len() {
        shown.push('…');
    }
    safe_line(&shown).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(before: &str, after: &str) -> TextPair {
        TextPair { address: "edge.toml".to_owned(), before: before.to_owned(), after: after.to_owned() }
    }

    fn text(pair: &TextPair) -> String {
        unified(pair).into_iter().map(|(_, line)| line + "\n").collect()
    }

    #[test]
    fn a_changed_line_is_shown_with_its_context() {
        let shown = text(&pair("a\nb\nc\n", "a\nB\u{1b}\nc\n"));
        assert_eq!(shown, "--- a/edge.toml\n+++ b/edge.toml\n@@ -1,3 +1,3 @@\n a\n-b\n+B\\u{1b}\n c\n");
    }

    #[test]
    fn a_new_text_has_no_before() {
        assert!(text(&pair("", "x\n")).starts_with("--- /dev/null\n+++ b/edge.toml\n@@ -0,0 +1 @@\n+x\n"));
    }

    #[test]
    fn large_texts_are_bounded() {
        let long = "x\n".repeat(6_000);
        assert!(text(&pair("", &long)).ends_with("… too large to compare here: 0 → 6000 lines\n"));
        let some = "x\n".repeat(1_000);
        let shown = text(&pair("", &some));
        assert_eq!(shown.lines().count(), 2 + MAX_SHOWN + 1);
        assert!(shown.ends_with("… 801 more lines of difference\n"));
        assert!(text(&pair("", &"x".repeat(1_000))).lines().all(|line| line.chars().count() <= MAX_WIDTH + 2));
    }
}
