//! What `edged precheck` finds: a stable code, how grave it is, and what would mend it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reason::{Code, Reason};

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The node must not go on as it is.
    Error,
    /// It goes on; somebody should look.
    Warning,
    /// It is told, and that is all.
    Info,
}

impl Severity {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The stable code; `autonomy explain` tells more of each.
    pub code: Code,
    /// How grave it is.
    pub severity: Severity,
    /// What was found, where.
    pub message: String,
    /// What would mend it.
    pub remedy: String,
}

impl Finding {
    /// A reason as a finding.
    pub fn new(severity: Severity, reason: Reason) -> Self {
        Self { code: reason.code, severity, message: reason.message, remedy: reason.remedy }
    }
}
