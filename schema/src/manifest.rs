//! The `StateManifest`: desired state as it is signed. `author` has the form that people write.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::{Blake3, Sha256};
use crate::document::Document;
use crate::path::{Mode, Name, RelPath, UnitName};
use crate::reason::Reason;
use crate::relay::Relay;
use crate::time::{Duration, Time};
use crate::version::{ApiVersion, Kind};

mod proof;
mod reconstruction;
mod unit;
mod validate;
mod window;

pub use proof::{Confirm, Health};
pub use reconstruction::{
    CopyBinary, DESTINATIONS, Directory, Effect, Reconstruction, ReconstructionStep, Symlink, SystemdUnit, UNIT_FOLDER,
    VerifyConfig, WriteFile, destination, is_allowed,
};
pub use unit::{MAX_UNIT_BYTES, unit_links};
pub use validate::{MAX_ARTIFACTS, MAX_COMMAND_BYTES, MAX_LIST};
pub use window::{Day, Window};

/// Whether a value is its type's default, so that "empty means absent" holds for every optional field.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Desired state of the nodes in its scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StateManifest {
    /// `autonomy/v1`.
    pub api_version: ApiVersion,
    /// `StateManifest`.
    pub kind: Kind,
    /// Which manifest this is.
    pub metadata: Metadata,
    /// What the nodes shall have.
    pub spec: Spec,
}

/// Which manifest this is, and how it stands to others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// The stream: serials are ordered within it.
    pub name: Name,
    /// Never lower on a node than one that it accepted.
    pub serial: u64,
    /// Fingerprint of the manifest that this one replaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Blake3>,
    /// Fingerprint of the manifest that this one deliberately steps back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_of: Option<Blake3>,
    /// Release channel, for people and control planes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<Name>,
    /// When it was authored.
    pub issued_at: Time,
    /// When it stops changes (never the running release).
    pub expires_at: Time,
    /// The trust root version that the author signed under; older nodes must import it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_version: Option<u64>,
    /// The oldest tool that may act on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_tool: Option<semver_text::Version>,
    /// Dotted paths of fields that a reader must understand, or refuse the document.
    #[serde(default, skip_serializing_if = "is_default")]
    pub critical: Vec<String>,
}

/// What the nodes in scope shall have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// Which nodes.
    pub scope: Scope,
    /// The release.
    pub release: Release,
    /// The lock file.
    pub lock: LockRef,
    /// The closed list of what lands in the generation.
    pub artifacts: Vec<Artifact>,
    /// The policy bundle.
    pub policy: PolicyRef,
    /// What is restarted after the rename, in order.
    #[serde(default, skip_serializing_if = "is_default")]
    pub services: Vec<Service>,
    /// How it travels on to peers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub relay: Relay,
    /// Facts that must hold before anything is changed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub preconditions: Vec<Precondition>,
    /// Limits of the platform.
    #[serde(default, skip_serializing_if = "is_default")]
    pub precheck: Precheck,
    /// What is rebuilt outside the state root after an OS replacement.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reconstruction: Reconstruction,
    /// How the new release proves that it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Return to the last known good generation unless confirmed in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<Confirm>,
    /// Maintenance window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Revocation list.
    #[serde(default, skip_serializing_if = "is_default")]
    pub revoked: Revoked,
}

/// Which nodes a manifest is for. Empty lists and maps match every node of the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scope {
    /// The fleet.
    pub fleet: Name,
    /// Hardware classes (`uname -m`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub hardware: Vec<Name>,
    /// Node ids.
    #[serde(default, skip_serializing_if = "is_default")]
    pub nodes: Vec<Name>,
    /// Labels that must all be equal.
    #[serde(default, skip_serializing_if = "is_default")]
    pub match_labels: BTreeMap<String, String>,
}

/// The release, as people and registries name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// Version of the release.
    pub version: semver_text::Version,
    /// The `behavioral_fingerprint` of the lock.
    pub target_lock_fingerprint: Blake3,
    /// Where the agent artifact is in a registry, with the digest of its OCI manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_ref: Option<String>,
    /// Where the policy bundle is in a registry, with the digest of its OCI manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_ref: Option<String>,
}

/// The lock file of the set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LockRef {
    /// Always `autonomy.lock.json`.
    pub path: RelPath,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of the bytes.
    pub digest: Sha256,
    /// The lock's `behavioral_fingerprint`.
    pub fingerprint: Blake3,
}

/// What an artifact is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ArtifactType {
    /// One file.
    #[default]
    File,
    /// Many files under one path, listed in a streamed index.
    Tree,
}

/// One artifact of the generation. A `file` has mode, size, digest, blake3 and segments; a `tree` has an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Unique name; `agent` is what `autonomy run` starts.
    pub name: Name,
    /// `file` or `tree`.
    #[serde(rename = "type", default)]
    pub kind: ArtifactType,
    /// Where it lies below `artifacts/`.
    pub path: RelPath,
    /// Permission bits of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Size in bytes; of a tree, that of its files together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// SHA-256; of a tree, that of its payload: its files one after the other in the order of the index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Sha256>,
    /// BLAKE3 of the same bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<Blake3>,
    /// The segment index of the same bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<SegmentsRef>,
    /// The index of a tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<TreeIndexRef>,
}

/// The pinned parts of a file artifact, all present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilePins {
    /// Permission bits.
    pub mode: Mode,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256.
    pub digest: Sha256,
    /// BLAKE3.
    pub blake3: Blake3,
    /// Segment index.
    pub segments: SegmentsRef,
}

/// The pinned bytes of an artifact: of a file its own, of a tree those of its files in the order of its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload {
    /// Size in bytes.
    pub size: u64,
    /// SHA-256.
    pub digest: Sha256,
    /// BLAKE3.
    pub blake3: Blake3,
    /// Segment index.
    pub segments: SegmentsRef,
}

/// The pinned parts of a tree, all present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreePins {
    /// Its index.
    pub index: TreeIndexRef,
    /// Its files, one after the other.
    pub payload: Payload,
}

impl Artifact {
    /// What is pinned of the bytes. Always `Some` for an artifact of a parsed manifest, whose parser checks it.
    pub fn payload(&self) -> Option<Payload> {
        Some(Payload { size: self.size?, digest: self.digest?, blake3: self.blake3?, segments: self.segments? })
    }

    /// The pins of a file; `None` for a tree. Always `Some` for a file of a parsed manifest, whose parser checks it.
    pub fn file(&self) -> Option<FilePins> {
        let Payload { size, digest, blake3, segments } = self.payload()?;
        match self.kind {
            ArtifactType::Tree => None,
            ArtifactType::File => Some(FilePins { mode: self.mode?, size, digest, blake3, segments }),
        }
    }

    /// The pins of a tree; `None` for a file. Always `Some` for a tree of a parsed manifest.
    pub fn tree(&self) -> Option<TreePins> {
        match self.kind {
            ArtifactType::File => None,
            ArtifactType::Tree => Some(TreePins { index: self.index?, payload: self.payload()? }),
        }
    }
}

/// The segment index file `segments/<artifact>.idx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SegmentsRef {
    /// BLAKE3 of the index file.
    pub index: Blake3,
    /// Number of segments.
    pub count: u64,
    /// Size of the index file in bytes: 40 a segment.
    pub size: u64,
}

/// The index file `trees/<artifact>.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TreeIndexRef {
    /// BLAKE3 of the index file.
    pub blake3: Blake3,
    /// SHA-256 of the index file.
    pub digest: Sha256,
    /// Size of the index file in bytes.
    pub size: u64,
}

/// What an update policy answers when no rule speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PolicyDefault {
    /// Refuse; the only default that exists.
    #[default]
    Deny,
}

/// The policy bundle of the set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRef {
    /// Always `policy.tar.gz`.
    pub path: RelPath,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of the bytes.
    pub digest: Sha256,
    /// `deny`.
    #[serde(default)]
    pub default: PolicyDefault,
}

/// What is done to a service after the rename.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ServiceAction {
    /// `systemctl restart`.
    Restart,
    /// `systemctl reload`.
    Reload,
    /// Nothing; the unit is named for people.
    None,
}

/// A service step: either `unit` and `action`, or `command`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// A systemd unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<UnitName>,
    /// What is done to the unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<ServiceAction>,
    /// An argument vector; a relative program is taken from the generation's artifacts. No shell.
    #[serde(default, skip_serializing_if = "is_default")]
    pub command: Vec<String>,
}

impl Service {
    /// How the step is addressed: the unit, or the program of the command.
    pub fn label(&self) -> &str {
        match (&self.unit, self.command.first()) {
            (Some(unit), _) => unit.as_str(),
            (None, Some(program)) => program,
            (None, None) => "",
        }
    }
}

/// A predicate over one fact: exactly one of `equals`, `atLeast`, `atMost`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Precondition {
    /// Name of the fact, as `autonomy facts` shows it.
    pub fact: String,
    /// The fact has this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<String>,
    /// The fact, read as a dotted version, is this or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<String>,
    /// The fact, read as a dotted version, is this or earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<String>,
}

/// How durable the node must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// What every node gives.
    #[default]
    Standard,
    /// Needs cgroup v2 (INV-05).
    High,
}

impl Durability {
    /// The text in documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::High => "high",
        }
    }
}

/// Limits of the platform that are checked before a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Precheck {
    /// Bytes that stay free on the file system after the change.
    pub min_free_bytes: u64,
    /// A certificate that expires within this span is a finding.
    pub cert_expiry_window: Duration,
    /// Demanded durability.
    pub durability: Durability,
}

impl Default for Precheck {
    fn default() -> Self {
        Self {
            min_free_bytes: 0,
            cert_expiry_window: Duration::from_millis(604_800_000),
            durability: Durability::Standard,
        }
    }
}

/// The revocation list. Its number never goes down on a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Revoked {
    /// Number of the list.
    pub number: u64,
    /// Fingerprints of revoked manifests.
    #[serde(skip_serializing_if = "is_default")]
    pub manifests: Vec<Blake3>,
    /// SHA-256 of the `SubjectPublicKeyInfo` DER of revoked keys.
    #[serde(skip_serializing_if = "is_default")]
    pub keys: Vec<Sha256>,
}

impl Document for StateManifest {
    const KIND: Kind = Kind::StateManifest;

    fn validate(&self) -> Vec<Reason> {
        validate::validate(self)
    }

    fn critical(&self) -> &[String] {
        &self.metadata.critical
    }
}

/// `semver::Version` with a JSON Schema.
pub mod semver_text {
    use std::borrow::Cow;
    use std::fmt;
    use std::str::FromStr;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    /// A semantic version (semver.org 2.0).
    #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
    pub struct Version(pub semver::Version);

    impl fmt::Display for Version {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            fmt::Display::fmt(&self.0, f)
        }
    }

    impl FromStr for Version {
        type Err = semver::Error;

        fn from_str(text: &str) -> Result<Self, semver::Error> {
            semver::Version::parse(text).map(Version)
        }
    }

    impl Serialize for Version {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(&self.0)
        }
    }

    impl<'de> Deserialize<'de> for Version {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = Cow::<'de, str>::deserialize(deserializer)?;
            text.parse().map_err(|error| {
                de::Error::custom(format!("bad_value: `{text}` is not a semantic version such as `1.4.2`: {error}"))
            })
        }
    }

    impl JsonSchema for Version {
        fn schema_name() -> Cow<'static, str> {
            "SemanticVersion".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({ "type": "string", "pattern": "^[0-9]+\\.[0-9]+\\.[0-9]+([-+].*)?$" })
        }
    }
}
