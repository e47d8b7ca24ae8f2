//! Whether another bundle lets more or less pass, as far as questions that were really asked can prove it.

use serde_json::Value;

use crate::admit::ENTRY;
use crate::bundle::Bundle;
use crate::decide::{Budget, decide};

/// How two bundles answered the same recorded questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Comparison {
    /// Questions asked of both.
    pub asked: usize,
    /// Those that the old bundle refuses and the new one permits.
    pub widened: usize,
    /// Those that the old bundle permits and the new one refuses.
    pub narrowed: usize,
}

impl Comparison {
    /// `widened`, `narrowed`, `differs` when it is both, `None` when no answer differs: that proves nothing.
    pub fn verdict(&self) -> Option<&'static str> {
        match (self.widened, self.narrowed) {
            (0, 0) => None,
            (_, 0) => Some("widened"),
            (0, _) => Some("narrowed"),
            _ => Some("differs"),
        }
    }
}

/// Asks both bundles about each recorded question. A question that a bundle cannot answer is refused, as it would be on
/// the node.
pub fn compare(old: &Bundle, new: &Bundle, questions: &[Value]) -> Comparison {
    let mut comparison = Comparison { asked: questions.len(), ..Comparison::default() };
    let permits = |bundle: &Bundle, question: &Value| {
        decide(bundle, ENTRY, question, &Budget::UPDATE).is_ok_and(|decision| decision.permits())
    };
    for question in questions {
        match (permits(old, question), permits(new, question)) {
            (false, true) => comparison.widened += 1,
            (true, false) => comparison.narrowed += 1,
            (true, true) | (false, false) => {}
        }
    }
    comparison
}
