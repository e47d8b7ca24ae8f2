//! What every refusal must be.

use autonomy_schema::author::Diagnostic;
use autonomy_schema::{Reason, Reasons};

/// Bytes of sentences that a refusal may have beyond what it quotes of the input.
const WORDS: usize = 64 << 10;
/// How often an input may be quoted: a long name can be part of several sentences.
const QUOTED: usize = 16;

/// Sorted, in words, and no larger than its cause warrants. A sentence may quote a line end: the last door escapes it.
pub(crate) fn refusal(reasons: &Reasons, input: usize) {
    assert!(reasons.as_slice().is_sorted(), "{reasons:?}");
    assert!(!reasons.as_slice().is_empty());
    sentences(reasons.as_slice(), input);
}

/// The same for reasons that no refusal holds yet.
pub(crate) fn sentences(reasons: &[Reason], input: usize) {
    for reason in reasons {
        assert!(!reason.message.is_empty() && !reason.remedy.is_empty(), "{reason:?}");
    }
    let said: usize = reasons.iter().map(|reason| reason.message.len()).sum();
    assert!(said <= QUOTED * input + WORDS, "{said} bytes are said of {input}");
}

/// Errors of an authored file lie within the file.
pub(crate) fn diagnostics(diagnostics: &[Diagnostic], texts: &[&[u8]]) {
    assert!(!diagnostics.is_empty());
    let input = texts.iter().map(|text| text.len()).sum();
    let lines = texts.iter().map(|text| text.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count() + 2).max();
    for diagnostic in diagnostics {
        let Some(mark) = &diagnostic.mark else { continue };
        assert!(mark.line >= 1 && mark.column >= 1, "{diagnostic:?}");
        assert!(lines.is_some_and(|lines| mark.line <= lines as u64), "{diagnostic:?}");
    }
    let reasons: Vec<Reason> = diagnostics.iter().map(Diagnostic::to_reason).collect();
    sentences(&reasons, input);
}
