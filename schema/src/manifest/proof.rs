//! How the new release proves that it works.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::Duration;

/// How the new release proves that it works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Argument vector; a relative program is taken from the generation's artifacts.
    pub command: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
}

/// Confirmation in time, or back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Confirm {
    /// How long the node waits for `autonomy confirm`.
    pub within: Duration,
}
