//! `kind: Revocation`: a revocation list by itself, for the day on which no manifest can be made, or none shall be.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::Document;
use crate::manifest::{Revoked, is_default};
use crate::reason::{Code, Reason};
use crate::version::{ApiVersion, Kind};

/// Longest text that says why, in bytes.
pub const MAX_TEXT_BYTES: usize = 1024;
/// Most entries of a list; with more than that, the keys are to be rotated.
pub const MAX_ENTRIES: usize = 4096;

/// The whole list; it replaces the one before it, as that of a manifest does (`spec.revoked`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revocation {
    /// `autonomy/v1`.
    pub api_version: ApiVersion,
    /// `Revocation`.
    pub kind: Kind,
    /// Number and entries; the number is above the last one.
    pub revoked: Revoked,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reason: String,
}

impl Document for Revocation {
    const KIND: Kind = Kind::Revocation;

    fn validate(&self) -> Vec<Reason> {
        let mut reasons = Vec::new();
        let mut bad = |message: String| reasons.push(Reason::new(Code::BadValue, message));
        if self.revoked.number == 0 {
            bad("`revoked.number` is 0; revocation lists start at 1".to_owned());
        }
        let entries = self.revoked.keys.len() + self.revoked.manifests.len();
        if entries > MAX_ENTRIES {
            bad(format!("the list has {entries} entries; at most {MAX_ENTRIES}"));
        }
        reasons.extend(text_problem("reason", &self.reason));
        reasons
    }
}

/// What is wrong with a text for people.
pub(crate) fn text_problem(field: &str, text: &str) -> Option<Reason> {
    (text.len() > MAX_TEXT_BYTES || text.chars().any(char::is_control)).then(|| {
        let message = format!("`{field}` is longer than {MAX_TEXT_BYTES} bytes or holds control characters");
        Reason::new(Code::BadValue, message)
    })
}
