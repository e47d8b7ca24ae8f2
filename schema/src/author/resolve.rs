//! From the authored manifest and what was measured of its files to the manifest that is signed. Pure: the caller
//! reads the files.

use std::collections::{BTreeMap, BTreeSet};

use super::{AuthoredArtifact, AuthoredManifest};
use crate::canonical::CanonicalError;
use crate::digest::Sha256;
use crate::document::{Document, unknown_critical};
use crate::lock::{Lock, LockedInputs, LockedPolicy};
use crate::manifest::{
    Artifact, ArtifactType, LockRef, PolicyRef, Release, SegmentsRef, Spec, StateManifest, TreeIndexRef,
};
use crate::path::{Mode, Name, RelPath};
use crate::reason::Reason;
use crate::segments::Measured;
use crate::{Blake3, oci, set};

/// What was measured of the files that a manifest names.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// One entry per artifact, by name: of a tree, what was measured of its payload.
    pub artifacts: BTreeMap<Name, Measured>,
    /// The index of every tree, by name.
    pub trees: BTreeMap<Name, Vec<u8>>,
    /// The bundle.
    pub policy: BuiltPolicy,
    /// The lock.
    pub lock: BuiltLock,
}

/// The bundle's bytes as they will be pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltPolicy {
    /// Size in bytes.
    pub size: u64,
    /// SHA-256.
    pub digest: Sha256,
}

/// The lock and its bytes as they will be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltLock {
    /// The document.
    pub lock: Lock,
    /// Its canonical bytes.
    pub bytes: Vec<u8>,
}

/// A manifest cannot be pinned.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The rules that bind values together are broken.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Reason>),
    /// A digest could not be computed.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
}

/// Pins `authored` to `inputs`, and checks the result as every reader will.
pub fn resolve(authored: &AuthoredManifest, inputs: &Inputs) -> Result<StateManifest, ResolveError> {
    let spec = &authored.spec;
    let artifacts: Vec<Artifact> = spec.artifacts.iter().map(|artifact| pin(artifact, inputs)).collect();
    let agent = artifacts.iter().find(|artifact| artifact.name.as_str() == "agent").and_then(Artifact::file);
    let artifact_ref = match (&spec.release.artifact_ref, agent) {
        (Some(reference), Some(agent)) => {
            Some(oci::pinned_reference(reference, oci::ARTIFACT_TYPE, agent.digest, agent.size)?)
        }
        (reference, _) => reference.clone(),
    };
    let policy = &inputs.policy;
    let policy_ref = spec.release.policy_ref.as_ref();
    let policy_ref = policy_ref
        .map(|reference| oci::pinned_reference(reference, oci::POLICY_TYPE, policy.digest, policy.size))
        .transpose()?;
    let lock = &inputs.lock;
    let manifest = StateManifest {
        api_version: authored.api_version,
        kind: authored.kind,
        metadata: authored.metadata.clone(),
        spec: Spec {
            scope: spec.scope.clone(),
            release: Release {
                version: spec.release.version.clone(),
                target_lock_fingerprint: lock.lock.behavioral_fingerprint,
                artifact_ref,
                policy_ref,
            },
            lock: LockRef {
                path: RelPath::fixed(set::LOCK),
                size: lock.bytes.len() as u64,
                digest: Sha256::of(&lock.bytes),
                fingerprint: lock.lock.behavioral_fingerprint,
            },
            artifacts,
            policy: PolicyRef {
                path: RelPath::fixed(set::POLICY),
                size: policy.size,
                digest: policy.digest,
                default: spec.policy.default,
            },
            services: spec.services.clone(),
            relay: spec.relay.clone(),
            preconditions: spec.preconditions.clone(),
            precheck: spec.precheck.clone(),
            reconstruction: spec.reconstruction.clone(),
            health: spec.health.clone(),
            confirm: spec.confirm.clone(),
            window: spec.window.clone(),
            revoked: spec.revoked.clone(),
        },
    };
    let mut reasons = manifest.validate();
    let value = serde_json::to_value(&manifest).unwrap_or_default();
    reasons.extend(unknown_critical(manifest.critical(), &value, &BTreeSet::new()));
    if reasons.is_empty() { Ok(manifest) } else { Err(ResolveError::Invalid(reasons)) }
}

/// What is wrong with `authored` whatever its files hold: every rule of [`resolve`] that needs no digest. Callers ask
/// before they read gigabytes.
pub fn check(authored: &AuthoredManifest) -> Result<Vec<Reason>, ResolveError> {
    let nothing = Sha256::of(b"");
    let semver = authored.spec.policy.version.clone().unwrap_or_else(|| authored.spec.release.version.clone());
    let policy = LockedPolicy { digest: nothing, semver };
    let lock = Lock::new(nothing, policy, LockedInputs { prompt_hash: nothing, tool_inputs_hash: nothing })?;
    let empty = Measured { size: 0, sha256: nothing, blake3: Blake3::of(b""), index: Vec::new() };
    let trees = authored.spec.artifacts.iter().filter(|artifact| artifact.kind == ArtifactType::Tree);
    let inputs = Inputs {
        artifacts: authored.spec.artifacts.iter().map(|artifact| (artifact.name.clone(), empty.clone())).collect(),
        trees: trees.map(|artifact| (artifact.name.clone(), Vec::new())).collect(),
        policy: BuiltPolicy { size: 0, digest: nothing },
        lock: BuiltLock { lock, bytes: Vec::new() },
    };
    match resolve(authored, &inputs) {
        Ok(_) => Ok(Vec::new()),
        Err(ResolveError::Invalid(reasons)) => Ok(reasons),
        Err(error @ ResolveError::Canonical(_)) => Err(error),
    }
}

/// An artifact with the pins of what was measured.
fn pin(artifact: &AuthoredArtifact, inputs: &Inputs) -> Artifact {
    let measured = inputs.artifacts.get(&artifact.name);
    let segments =
        |m: &Measured| SegmentsRef { index: Blake3::of(&m.index), count: m.count(), size: m.index.len() as u64 };
    let mode = match artifact.kind {
        ArtifactType::File => Some(artifact.mode.unwrap_or(Mode::FILE)),
        ArtifactType::Tree => artifact.mode,
    };
    let index = |bytes: &Vec<u8>| TreeIndexRef {
        blake3: Blake3::of(bytes),
        digest: Sha256::of(bytes),
        size: bytes.len() as u64,
    };
    Artifact {
        name: artifact.name.clone(),
        kind: artifact.kind,
        path: artifact.path.clone(),
        mode: measured.and(mode),
        size: measured.map(|m| m.size),
        digest: measured.map(|m| m.sha256),
        blake3: measured.map(|m| m.blake3),
        segments: measured.map(segments),
        index: inputs.trees.get(&artifact.name).map(index),
    }
}
