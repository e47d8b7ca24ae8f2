//! What a node knows of itself. Bound facts are fingerprinted and tie a plan to the node's state; observed facts
//! are tested again at every use. Neither holds file content, environment or secrets.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::canonical::{self, CanonicalError};
use crate::digest::{Blake3, Sha256};
use crate::document::{Document, MAX_DERIVED_BYTES};
use crate::finding::Finding;
use crate::floors::StreamFloor;
use crate::manifest::{Artifact, Durability, ReconstructionStep, Spec, is_default};
use crate::os::OsFacts;
use crate::path::{Mode, Name, RelPath};
use crate::time::Time;
use crate::version::{ApiVersion, Kind};

/// Bound and observed facts of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Facts {
    /// `autonomy/v1`.
    #[serde(rename = "apiVersion")]
    pub api_version: ApiVersion,
    /// `Facts`.
    pub kind: Kind,
    /// Fingerprinted.
    pub bound: BoundFacts,
    /// Not fingerprinted.
    pub observed: ObservedFacts,
}

/// Facts that a plan is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BoundFacts {
    /// Who the node is.
    pub node: NodeFacts,
    /// What it runs on.
    pub os: OsFacts,
    /// The pinned trust root.
    pub trust: TrustFacts,
    /// The floors.
    pub floors: FloorFacts,
    /// The active generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<GenerationFacts>,
    /// The last known good generation's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lkg: Option<Name>,
    /// The boot epoch; absent before `edged precheck` saw the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootFacts>,
    /// The node's certificates.
    #[serde(default, skip_serializing_if = "is_default")]
    pub identity: IdentityFacts,
    /// What differs from the active manifest, sorted by path.
    #[serde(default, skip_serializing_if = "is_default")]
    pub drift: Vec<Drift>,
    /// Manifests that wait for the relay.
    #[serde(default, skip_serializing_if = "is_default")]
    pub outbox: BTreeSet<Blake3>,
    /// Manifests that failed here and are not tried again.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pinned: BTreeSet<Blake3>,
    /// Whether a change was cut off after its switch and waits for recovery.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unfinished: bool,
    /// The active generation, while it waits to be confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaiting: Option<Name>,
}

/// Who the node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeFacts {
    /// Node id.
    pub id: Name,
    /// Fleet.
    pub fleet: Name,
    /// Hardware class.
    pub hardware: Name,
    /// Labels.
    #[serde(default, skip_serializing_if = "is_default")]
    pub labels: BTreeMap<String, String>,
    /// Folders where reconstruction may write, beside those that are always allowed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub destinations: Vec<String>,
}

/// The node's place among operating systems, as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BootFacts {
    /// The boot epoch.
    pub epoch: u64,
    /// Composite of the operating system that it is of; another one than what is there calls for `edged precheck`.
    pub fingerprint: Blake3,
}

/// The node's certificates.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct IdentityFacts {
    /// Serial number of the node's certificate, in hex.
    #[serde(skip_serializing_if = "is_default")]
    pub certificate: String,
    /// SHA-256 of the CA's certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<Sha256>,
    /// Number of the CRL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crl: Option<u64>,
}

/// The pinned trust root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrustFacts {
    /// Its version.
    pub root_version: u64,
    /// BLAKE3 of its bytes.
    pub root: Blake3,
}

/// The floors, save the time mark, which is observed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FloorFacts {
    /// Whether a last known good generation ever existed.
    pub promoted: bool,
    /// The stream that the node follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<Name>,
    /// Floors per stream.
    #[serde(skip_serializing_if = "is_default")]
    pub streams: BTreeMap<Name, StreamFloor>,
    /// Number of the newest revocation list.
    pub revocation_number: u64,
}

/// The active generation is revoked. It runs on; policies, people and the next change are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevokedFact {
    /// Number of the revocation list.
    pub number: u64,
    /// What it names.
    pub what: RevokedWhat,
}

impl RevokedFact {
    /// What people are told of it.
    pub fn sentence(&self, manifest: Blake3, serial: u64) -> String {
        let subject = match self.what {
            RevokedWhat::Manifest => "the active manifest is",
            RevokedWhat::Keys => "keys that the active manifest or its lock needs are",
        };
        format!(
            "{subject} on revocation list {}; blake3:{}… (serial {serial}) keeps running until another one is applied",
            self.number,
            manifest.short()
        )
    }
}

/// What a revocation list names of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RevokedWhat {
    /// The manifest itself.
    Manifest,
    /// So many of its signers that the others are too few.
    Keys,
}

/// The active generation, as its manifest says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GenerationFacts {
    /// Folder below `generations/`.
    pub generation: Name,
    /// Fingerprint of its manifest.
    pub manifest: Blake3,
    /// Its stream.
    pub stream: Name,
    /// Its serial.
    pub serial: u64,
    /// Its release version.
    pub release: String,
    /// BLAKE3 of its lock's behaviour.
    pub lock: Blake3,
    /// SHA-256 of its policy bundle.
    pub policy: crate::digest::Sha256,
    /// Set when a revocation list names it, or keys without which its threshold is not reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<RevokedFact>,
    /// BLAKE3 of its `edge.toml`.
    pub edge: Blake3,
    /// Its artifacts, sorted by path.
    pub artifacts: Vec<ArtifactFact>,
    /// What its reconstruction steps bring about outside the state root, in their order.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reconstruction: Vec<RebuildFact>,
}

/// What one reconstruction step brings about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RebuildFact {
    /// The kind of step.
    pub step: String,
    /// The absolute path, or the program of a check.
    pub at: String,
    /// What is there afterwards.
    pub expected: String,
}

impl RebuildFact {
    /// What the steps of a manifest bring about.
    pub fn all_of(spec: &Spec) -> Vec<Self> {
        let fact = |step: &ReconstructionStep| Self {
            step: step.kind().to_owned(),
            at: step.label(),
            expected: step.expected(&spec.artifacts),
        };
        spec.reconstruction.steps.iter().map(fact).collect()
    }
}

/// One artifact of the active generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactFact {
    /// Path below `artifacts/`.
    pub path: RelPath,
    /// Permission bits of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Size in bytes.
    pub size: u64,
    /// BLAKE3; of a tree, that of its payload.
    pub blake3: Blake3,
    /// SHA-256 of a tree's index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Sha256>,
}

impl ArtifactFact {
    /// What a manifest pins of an artifact, as a fact; `None` where it pins too little.
    pub fn of(artifact: &Artifact) -> Option<Self> {
        let payload = artifact.payload()?;
        let (mode, index) = (artifact.file().map(|pins| pins.mode), artifact.tree().map(|pins| pins.index.digest));
        (mode.is_some() || index.is_some()).then(|| Self {
            path: artifact.path.clone(),
            mode,
            size: payload.size,
            blake3: payload.blake3,
            index,
        })
    }
}

/// Where something differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DriftPlace {
    /// In the active generation; the path is below it.
    #[default]
    Generation,
    /// On the node, beside its generations: `edge/local.toml`, `trust/floors.json`, or `services/<unit>`.
    Node,
    /// Outside the state root, where a reconstruction step wrote; the path is below the root of the operating system.
    Os,
}

/// How something differs from what the active manifest says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DriftKind {
    /// Other bytes.
    Content,
    /// Other permission bits.
    Mode,
    /// Gone.
    Missing,
    /// Not part of the manifest.
    Extra,
    /// Not a regular file.
    Type,
    /// A file of the operator's own that goes before the manifest: `edge/local.toml`.
    Override,
    /// The same, but it cannot be used as it stands.
    Invalid,
    /// A floor lies below what the active generation proves that the node has seen.
    Lowered,
    /// A service that the manifest starts does not run.
    Stopped,
    /// A service that the manifest starts has failed.
    Failed,
}

impl DriftKind {
    /// Whether applying the active manifest again ends it. What is the operator's own is shown and left alone.
    pub const fn is_repairable(self) -> bool {
        !matches!(self, DriftKind::Override | DriftKind::Invalid)
    }

    /// The text in documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            DriftKind::Content => "content",
            DriftKind::Mode => "mode",
            DriftKind::Missing => "missing",
            DriftKind::Extra => "extra",
            DriftKind::Type => "type",
            DriftKind::Override => "override",
            DriftKind::Invalid => "invalid",
            DriftKind::Lowered => "lowered",
            DriftKind::Stopped => "stopped",
            DriftKind::Failed => "failed",
        }
    }
}

/// One difference between the node and its active manifest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Drift {
    /// Where it is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub place: DriftPlace,
    /// Path below the generation, or a name of the node's.
    pub path: RelPath,
    /// How it differs.
    pub kind: DriftKind,
    /// What the manifest says: a digest or a mode.
    #[serde(default, skip_serializing_if = "is_default")]
    pub expected: String,
    /// What is there.
    #[serde(default, skip_serializing_if = "is_default")]
    pub actual: String,
}

impl Drift {
    /// A difference in the active generation.
    pub fn generation(path: RelPath, kind: DriftKind, expected: impl Into<String>, actual: impl Into<String>) -> Self {
        Self { place: DriftPlace::Generation, path, kind, expected: expected.into(), actual: actual.into() }
    }

    /// A difference beside the generations.
    pub fn node(path: RelPath, kind: DriftKind, expected: impl Into<String>, actual: impl Into<String>) -> Self {
        Self { place: DriftPlace::Node, ..Self::generation(path, kind, expected, actual) }
    }

    /// A difference outside the state root.
    pub fn os(path: RelPath, kind: DriftKind, expected: impl Into<String>, actual: impl Into<String>) -> Self {
        Self { place: DriftPlace::Os, ..Self::generation(path, kind, expected, actual) }
    }

    /// The name of the bound fact.
    pub fn fact(&self) -> String {
        match self.place {
            DriftPlace::Generation => format!("drift.{}", self.path),
            DriftPlace::Node => format!("drift.node:{}", self.path),
            DriftPlace::Os => format!("drift.os:/{}", self.path),
        }
    }
}

/// Facts that are tested again at every use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObservedFacts {
    /// The clock.
    pub clock: Time,
    /// The time mark of the floors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_mark: Option<Time>,
    /// Free bytes on the state root's file system.
    pub free_bytes: u64,
    /// Bytes that the state root holds.
    pub used_bytes: u64,
    /// Whether the node is suspended.
    #[serde(default, skip_serializing_if = "is_default")]
    pub suspended: bool,
    /// Manifests whose artifacts the node keeps: those of its generations and of its inbox. Told by `autonomy facts`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub kept: BTreeSet<Blake3>,
    /// When the node's certificate ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_expires: Option<Time>,
    /// When the next CRL is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crl_due: Option<Time>,
    /// What durability the platform gives; absent where nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
    /// What `edged precheck` would find, sorted by code.
    #[serde(default, skip_serializing_if = "is_default")]
    pub findings: Vec<Finding>,
}

impl BoundFacts {
    /// What people are told when the active manifest is revoked.
    pub fn revoked_sentence(&self) -> Option<String> {
        let current = self.current.as_ref()?;
        current.revoked.as_ref().map(|revoked| revoked.sentence(current.manifest, current.serial))
    }

    /// The fingerprint that plans are bound to.
    pub fn fingerprint(&self) -> Result<Blake3, CanonicalError> {
        canonical::fingerprint(self)
    }

    /// What is named only where the platform, `node.yaml` or `edged precheck` says it.
    fn named_platform(&self) -> impl Iterator<Item = (String, String)> {
        let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let named = [
            ("node.destinations", text(&self.node.destinations.join(" "))),
            ("os.buildId", text(&self.os.build_id)),
            ("os.machineId", text(&self.os.machine_id)),
            ("os.bootParameters", text(&self.os.boot_parameters)),
            ("identity.certificate", text(&self.identity.certificate)),
            ("identity.ca", self.identity.ca.map(|ca| ca.to_string())),
            ("identity.crl", self.identity.crl.map(|crl| crl.to_string())),
            ("boot.epoch", self.boot.as_ref().map(|boot| boot.epoch.to_string())),
            ("boot.fingerprint", self.boot.as_ref().map(|boot| boot.fingerprint.to_string())),
        ];
        named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)))
    }

    /// The facts by name, as preconditions and stale plans name them. Long lists are one digest each.
    pub fn named(&self) -> Result<BTreeMap<String, String>, CanonicalError> {
        let mut named = BTreeMap::from([
            ("node.id".to_owned(), self.node.id.to_string()),
            ("node.fleet".to_owned(), self.node.fleet.to_string()),
            ("node.hardware".to_owned(), self.node.hardware.to_string()),
            ("os.kernel".to_owned(), self.os.kernel.clone()),
            ("os.machine".to_owned(), self.os.machine.clone()),
            ("os.id".to_owned(), self.os.id.clone()),
            ("os.versionId".to_owned(), self.os.version_id.clone()),
            ("trust.rootVersion".to_owned(), self.trust.root_version.to_string()),
            ("trust.root".to_owned(), self.trust.root.to_string()),
            ("floors.promoted".to_owned(), self.floors.promoted.to_string()),
            ("floors.revocationNumber".to_owned(), self.floors.revocation_number.to_string()),
            ("apply.unfinished".to_owned(), self.unfinished.to_string()),
        ]);
        let mut put = |name: String, value: String| named.insert(name, value);
        for (key, value) in &self.node.labels {
            put(format!("node.label.{key}"), value.clone());
        }
        named.extend(self.named_platform());
        let mut put = |name: String, value: String| named.insert(name, value);
        if let Some(stream) = &self.floors.stream {
            put("floors.stream".to_owned(), stream.to_string());
        }
        for (stream, floor) in &self.floors.streams {
            put(format!("floors.serial.{stream}"), floor.serial.to_string());
            put(format!("floors.manifest.{stream}"), floor.manifest.to_string());
        }
        if let Some(current) = &self.current {
            put("current.generation".to_owned(), current.generation.to_string());
            put("current.manifest".to_owned(), current.manifest.to_string());
            put("current.serial".to_owned(), current.serial.to_string());
            put("current.release".to_owned(), current.release.clone());
            put("current.lock".to_owned(), current.lock.to_string());
            put("current.policy".to_owned(), current.policy.to_string());
            if let Some(revoked) = &current.revoked {
                put("current.revoked".to_owned(), revoked.number.to_string());
            }
            put("current.edge".to_owned(), current.edge.to_string());
            put("current.artifacts".to_owned(), canonical::fingerprint(&current.artifacts)?.to_string());
            if !current.reconstruction.is_empty() {
                let steps = canonical::fingerprint(&current.reconstruction)?;
                put("current.reconstruction".to_owned(), steps.to_string());
            }
        }
        if let Some(lkg) = &self.lkg {
            put("lkg.generation".to_owned(), lkg.to_string());
        }
        if let Some(awaiting) = &self.awaiting {
            put("confirm.awaiting".to_owned(), awaiting.to_string());
        }
        for drift in &self.drift {
            let found = if drift.actual.is_empty() { String::new() } else { format!(" {}", drift.actual) };
            put(drift.fact(), format!("{}{found}", drift.kind.as_str()));
        }
        for manifest in &self.outbox {
            put(format!("outbox.{}", manifest.short()), "waiting".to_owned());
        }
        for manifest in &self.pinned {
            put(format!("pinned.{}", manifest.short()), "failed here".to_owned());
        }
        Ok(named)
    }
}

impl ObservedFacts {
    /// The facts by name, as preconditions name them.
    pub fn named(&self) -> BTreeMap<String, String> {
        let mut named = BTreeMap::from([
            ("observed.clock".to_owned(), self.clock.to_string()),
            ("observed.freeBytes".to_owned(), self.free_bytes.to_string()),
            ("observed.usedBytes".to_owned(), self.used_bytes.to_string()),
            ("observed.suspended".to_owned(), self.suspended.to_string()),
        ]);
        if let Some(mark) = self.time_mark {
            named.insert("observed.timeMark".to_owned(), mark.to_string());
        }
        if let Some(expires) = self.certificate_expires {
            named.insert("observed.certificateExpires".to_owned(), expires.to_string());
        }
        if let Some(due) = self.crl_due {
            named.insert("observed.crlDue".to_owned(), due.to_string());
        }
        if let Some(durability) = self.durability {
            named.insert("observed.durability".to_owned(), durability.as_str().to_owned());
        }
        for finding in &self.findings {
            named.insert(format!("observed.finding.{}", finding.code), finding.severity.as_str().to_owned());
        }
        for manifest in &self.kept {
            named.insert(format!("observed.kept.{}", manifest.short()), manifest.to_string());
        }
        named
    }
}

impl Document for Facts {
    const KIND: Kind = Kind::Facts;
    const MAX_BYTES: usize = MAX_DERIVED_BYTES;
}
