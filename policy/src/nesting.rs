//! How deep brackets may nest.
//!
//! The engine's parser tries what follows an opening bracket first as a comprehension and then as a list, set or object,
//! so each level makes it read what is within twice or more: 40 brackets keep it busy for hours, and no timer is looked at
//! while it parses. Found by ci/fuzz.

use regorus::Source;
use regorus::unstable::{Lexer, TokenKind};

use crate::engine::{Fault, told};

/// Deepest nesting of brackets, braces and parentheses. The policies of people have half of it.
pub(crate) const MAX_DEPTH: usize = 16;

/// Refuses a module whose brackets nest deeper than [`MAX_DEPTH`], before the parser sees it.
pub(crate) fn check(path: &str, text: &str) -> Result<(), Fault> {
    let source = told!(Source::from_contents(path.to_owned(), text.to_owned()))?;
    let mut lexer = Lexer::new(&source);
    let mut depth = 0_usize;
    loop {
        let token = told!(lexer.next_token())?;
        match (token.0, token.1.text()) {
            (TokenKind::Eof, _) => return Ok(()),
            (TokenKind::Symbol, "[" | "{" | "(") => depth += 1,
            (TokenKind::Symbol, "]" | "}" | ")") => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            let line = token.1.line;
            return Err(Fault::Told(format!("{path}:{line}: brackets nest deeper than {MAX_DEPTH}")));
        }
    }
}
