//! Lines on their way to a terminal: coloured, folded at its width, kept to ASCII.

use super::Style;

/// Our own marks, and what stands for them where only ASCII is shown.
const MARKS: [(char, &str); 6] = [('→', "->"), ('…', "..."), ('–', "-"), ('×', "x"), ('“', "\""), ('”', "\"")];

/// Collects lines in a style.
pub(super) struct Paper {
    /// What was written so far.
    pub(super) out: String,
    style: Style,
}

impl Paper {
    pub(super) fn new(style: Style) -> Self {
        Self { out: String::new(), style }
    }

    /// The text between the escapes of a colour, where colours are wanted.
    pub(super) fn paint(&self, color: &str, text: &str) -> String {
        if self.style.color { format!("\u{1b}[{color}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// A line that may be folded; what follows begins below column `hang`.
    pub(super) fn line(&mut self, text: &str, hang: usize) {
        self.entry("", text, hang);
    }

    /// A line whose beginning, such as a mark and an address, is never broken, even where it has blanks of its own.
    pub(super) fn entry(&mut self, lead: &str, text: &str, hang: usize) {
        match self.style.width {
            Some(width) => self.folded(lead, text, width, hang),
            None => self.whole(&format!("{lead}{text}")),
        }
    }

    /// A line of a text that is shown as it is.
    pub(super) fn whole(&mut self, text: &str) {
        if self.style.ascii {
            push_ascii(&mut self.out, text);
        } else {
            self.out.push_str(text);
        }
        self.out.push('\n');
    }

    /// An empty line.
    pub(super) fn gap(&mut self) {
        self.out.push('\n');
    }

    /// An empty line and a bold one.
    pub(super) fn heading(&mut self, text: &str) {
        self.gap();
        let heading = self.paint("1", text);
        self.line(&heading, 2);
    }

    /// Breaks the line where words begin. A word that is longer than a line, such as a digest, is never cut.
    fn folded(&mut self, lead: &str, text: &str, width: usize, hang: usize) {
        let (mut line, mut column, mut has_word) = (lead.to_owned(), self.columns(lead), !lead.is_empty());
        let mut lines = Vec::new();
        for part in parts(text) {
            let blanks = part.chars().take_while(|c| *c == ' ').count();
            let word = part.trim_start_matches(' ');
            let long = self.columns(word);
            // A word that fits no line gains nothing from a new one.
            if has_word && column + blanks + long > width && hang + long <= width {
                lines.push(std::mem::take(&mut line));
                line.push_str(&" ".repeat(hang));
                line.push_str(word);
                column = hang + long;
            } else {
                line.push_str(part);
                column += blanks + long;
            }
            has_word = has_word || long > 0;
        }
        lines.push(line);
        for line in lines {
            self.whole(&line);
        }
    }

    /// Columns of a text: its characters, without our colours. Wide and combining characters are counted as one.
    fn columns(&self, text: &str) -> usize {
        let mut count = 0;
        let mut escape = false;
        for c in text.chars() {
            match c {
                '\u{1b}' => escape = true,
                'm' if escape => escape = false,
                _ if escape => {}
                c if self.style.ascii => {
                    let mut one = String::new();
                    push_ascii(&mut one, c.encode_utf8(&mut [0; 4]));
                    count += one.len();
                }
                _ => count += 1,
            }
        }
        count
    }
}

/// Each word with the blanks before it.
fn parts(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut in_word = false;
    for (at, c) in text.char_indices() {
        if c == ' ' && in_word {
            parts.push(&text[start..at]);
            start = at;
        }
        in_word = c != ' ';
    }
    parts.push(&text[start..]);
    parts
}

/// Our marks in their ASCII form, our colours as they are, everything else that is not ASCII as an escape.
fn push_ascii(out: &mut String, text: &str) {
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c);
        } else if let Some((_, mark)) = MARKS.iter().find(|(mark, _)| *mark == c) {
            out.push_str(mark);
        } else {
            out.extend(c.escape_unicode());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(text: &str, width: usize, hang: usize) -> String {
        let mut paper = Paper::new(Style { width: Some(width), ..Style::default() });
        paper.line(text, hang);
        paper.out
    }

    #[test]
    fn lines_break_between_words_and_hang() {
        assert_eq!(folded("  ok  one two three", 12, 6), "  ok  one\n      two\n      three\n");
        assert_eq!(folded("  id  blake3:0123456789abcdef next", 10, 6), "  id  blake3:0123456789abcdef\n      next\n");
        assert_eq!(folded("short", 80, 2), "short\n");
        assert_eq!(folded("a  b", 80, 2), "a  b\n");
    }

    #[test]
    fn what_leads_a_line_stays_whole() {
        let mut paper = Paper::new(Style { width: Some(14), ..Style::default() });
        paper.entry("  ~ a b c d e f g h", "  one two", 4);
        assert_eq!(paper.out, "  ~ a b c d e f g h\n    one two\n");
    }

    #[test]
    fn colours_take_no_columns() {
        let mut paper = Paper::new(Style { color: true, width: Some(9), ..Style::default() });
        let red = paper.paint("31", "12345");
        paper.line(&format!("{red} 789 x"), 2);
        assert_eq!(paper.out, "\u{1b}[31m12345\u{1b}[0m 789\n  x\n");
    }

    #[test]
    fn ascii_has_a_form_for_every_mark_and_an_escape_for_the_rest() {
        let mut paper = Paper::new(Style { ascii: true, ..Style::default() });
        paper.line("1 → 2 … 02:00–04:00 Öl", 2);
        assert_eq!(paper.out, "1 -> 2 ... 02:00-04:00 \\u{d6}l\n");
    }
}
