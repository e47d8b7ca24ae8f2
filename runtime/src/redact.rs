//! What of a call's parameters goes on record: secrets do not.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Fields that hold secrets by their name, wherever they stand, whatever their case.
const ALWAYS: [&str; 10] = [
    "api_key",
    "apikey",
    "authorization",
    "client_secret",
    "cookie",
    "passwd",
    "password",
    "private_key",
    "secret",
    "token",
];
/// Stands where a secret stood.
const MARK: &str = "[redacted]";
/// Longest parameters that are recorded, in bytes of JSON; the digest of the input always is.
const MAX_BYTES: usize = 4 << 10;

/// The names of fields whose values never go on record.
#[derive(Debug, Clone)]
pub struct Redact(BTreeSet<String>);

impl Redact {
    /// The names that are always redacted, and these.
    pub fn new(more: &[String]) -> Self {
        Self(ALWAYS.iter().map(|&name| name.to_owned()).chain(more.iter().map(|name| name.to_lowercase())).collect())
    }

    /// The parameters without secrets; `None` when they are too long to be recorded.
    pub(crate) fn params(&self, params: &Value) -> Option<Value> {
        // Not copied when most of it would be thrown away: a long text is at least as long as JSON.
        let shown = self.shown(params, &mut MAX_BYTES.clone())?;
        serde_json::to_string(&shown).is_ok_and(|text| text.len() <= MAX_BYTES).then_some(shown)
    }

    fn shown(&self, value: &Value, left: &mut usize) -> Option<Value> {
        let size = match value {
            Value::String(text) => text.len(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => 1,
        };
        *left = left.checked_sub(size)?;
        Some(match value {
            Value::Array(items) => {
                Value::Array(items.iter().map(|item| self.shown(item, left)).collect::<Option<_>>()?)
            }
            Value::Object(fields) => {
                let mut kept = Map::new();
                for (name, value) in fields {
                    *left = left.checked_sub(name.len())?;
                    let is_secret = self.0.contains(&name.to_lowercase());
                    let shown = if is_secret { Value::from(MARK) } else { self.shown(value, left)? };
                    kept.insert(name.clone(), shown);
                }
                Value::Object(kept)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn named_fields_are_redacted_at_any_depth_and_long_parameters_are_left_out() {
        let redact = Redact::new(&["PIN".to_owned()]);
        let params = json!({ "user": "x", "Password": "p", "deep": [{ "token": { "a": 1 }, "pin": 4, "pins": 5 }] });
        let wanted = json!({ "user": "x", "Password": MARK, "deep": [{ "token": MARK, "pin": MARK, "pins": 5 }] });
        assert_eq!(redact.params(&params), Some(wanted));
        assert_eq!(redact.params(&json!({ "message": "x".repeat(MAX_BYTES) })), None);
        assert_eq!(redact.params(&json!({ "message": "\u{1}".repeat(MAX_BYTES / 2) })), None, "longer when escaped");
        assert!(redact.params(&json!({ "password": "x".repeat(MAX_BYTES) })).is_some());
    }
}
