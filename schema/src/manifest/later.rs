//! Parts of the manifest whose format is fixed and whose hands come with later issues. Until then a plan
//! blocks on them with `not_built`; they are never ignored.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::is_default;
use crate::path::{Mode, Name, UnitName};
use crate::time::Duration;

/// Steps that rebuild what lies outside the state root.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Reconstruction {
    /// In order.
    #[serde(skip_serializing_if = "is_default")]
    pub steps: Vec<ReconstructionStep>,
}

/// One step; exactly one field is set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ReconstructionStep {
    /// Copies an artifact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy_binary: Option<CopyBinary>,
    /// Writes a small file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_file: Option<WriteFile>,
    /// Makes a symbolic link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symlink: Option<Symlink>,
    /// Makes a directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<Directory>,
    /// Installs a systemd unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub systemd_unit: Option<SystemdUnit>,
    /// Runs a check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify_config: Option<VerifyConfig>,
}

impl ReconstructionStep {
    /// How many of the fields are set; exactly one is right.
    pub fn count(&self) -> usize {
        [
            self.copy_binary.is_some(),
            self.write_file.is_some(),
            self.symlink.is_some(),
            self.directory.is_some(),
            self.systemd_unit.is_some(),
            self.verify_config.is_some(),
        ]
        .into_iter()
        .filter(|set| *set)
        .count()
    }
}

/// Copies an artifact to an absolute path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CopyBinary {
    /// Name of the artifact.
    pub artifact: Name,
    /// Absolute destination.
    pub to: String,
    /// Permission bits.
    pub mode: Mode,
}

/// Writes a small text file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WriteFile {
    /// Absolute destination.
    pub to: String,
    /// The text.
    pub content: String,
    /// Permission bits.
    pub mode: Mode,
}

/// Makes a symbolic link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Symlink {
    /// Absolute path of the link.
    pub at: String,
    /// What it points to.
    pub target: String,
}

/// Makes a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Directory {
    /// Absolute path.
    pub path: String,
    /// Permission bits.
    pub mode: Mode,
}

/// Installs a systemd unit from an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SystemdUnit {
    /// Name of the unit.
    pub name: UnitName,
    /// Name of the artifact that holds the unit file.
    pub artifact: Name,
    /// Whether it is enabled by link.
    #[serde(default)]
    pub enable: bool,
}

/// Runs a command that must exit 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerifyConfig {
    /// Argument vector.
    pub command: Vec<String>,
}

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
