//! The authored manifest: files by `source:`, no digests. `resolve` pins it.

use serde::Deserialize;

use crate::manifest::semver_text::Version;
use crate::manifest::{
    ArtifactType, Confirm, Health, Metadata, PolicyDefault, Precheck, Precondition, Reconstruction, Revoked, Scope,
    Service, Window,
};
use crate::path::{Mode, Name, RelPath};
use crate::relay::Relay;
use crate::version::{ApiVersion, Kind};

/// `manifest.yaml`, overlays merged.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthoredManifest {
    /// `autonomy/v1`.
    pub api_version: ApiVersion,
    /// `StateManifest`.
    pub kind: Kind,
    /// As it will be signed.
    pub metadata: Metadata,
    /// What the nodes shall have.
    pub spec: AuthoredSpec,
}

/// The authored `spec`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthoredSpec {
    /// As it will be signed.
    pub scope: Scope,
    /// Version and references without digest.
    pub release: AuthoredRelease,
    /// Path of a lock that exists already; without it render builds one.
    #[serde(default)]
    pub lock: Option<String>,
    /// Files that a built lock binds beside agent and policy.
    #[serde(default)]
    pub inputs: AuthoredInputs,
    /// Files by `source:`.
    pub artifacts: Vec<AuthoredArtifact>,
    /// Folder of Rego.
    pub policy: AuthoredPolicy,
    /// As it will be signed.
    #[serde(default)]
    pub services: Vec<Service>,
    /// As it will be signed; render pins every default.
    #[serde(default)]
    pub relay: Relay,
    /// As it will be signed.
    #[serde(default)]
    pub preconditions: Vec<Precondition>,
    /// As it will be signed.
    #[serde(default)]
    pub precheck: Precheck,
    /// As it will be signed.
    #[serde(default)]
    pub reconstruction: Reconstruction,
    /// As it will be signed.
    #[serde(default)]
    pub health: Option<Health>,
    /// As it will be signed.
    #[serde(default)]
    pub confirm: Option<Confirm>,
    /// As it will be signed.
    #[serde(default)]
    pub window: Option<Window>,
    /// As it will be signed.
    #[serde(default)]
    pub revoked: Revoked,
}

/// The authored release.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthoredRelease {
    /// Version of the release.
    pub version: Version,
    /// Registry reference of the agent artifact, without digest.
    #[serde(default)]
    pub artifact_ref: Option<String>,
    /// Registry reference of the policy bundle, without digest.
    #[serde(default)]
    pub policy_ref: Option<String>,
}

/// Files that shape the agent's behaviour.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuthoredInputs {
    /// The prompt.
    pub prompt: Option<String>,
    /// The tool inputs.
    pub tool_inputs: Option<String>,
}

/// An artifact before it is measured.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthoredArtifact {
    /// Unique name.
    pub name: Name,
    /// `file`, the default, or `tree`.
    #[serde(rename = "type", default)]
    pub kind: ArtifactType,
    /// Where it will lie below `artifacts/`.
    pub path: RelPath,
    /// Permission bits of a file; 0644 when absent. The files of a tree are 0755 where their owner may run them, else 0644.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// The file, or the folder of a tree, relative to the YAML file that says so.
    pub source: String,
}

/// The policy before it is built.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthoredPolicy {
    /// Folder of Rego, relative to the YAML file that says so.
    pub source: String,
    /// Name of the bundle; that of the stream when absent.
    #[serde(default)]
    pub name: Option<Name>,
    /// Version of the bundle; that of the release when absent.
    #[serde(default)]
    pub version: Option<Version>,
    /// `required_runtime_version` of the bundle.
    #[serde(default)]
    pub required_runtime_version: Option<String>,
    /// `deny`.
    #[serde(default)]
    pub default: PolicyDefault,
}
