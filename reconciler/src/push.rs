//! A set into a registry: its files, the manifests that its release refers to, and what refers to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use autonomy_oci::spec::{Descriptor, MANIFEST_TYPE};
use autonomy_oci::{Attached, LOCK_TYPE, Limits, Registry, RegistryError, SET_TYPE, SIGNATURES_TYPE, plan_set};
use autonomy_schema::manifest::Artifact;
use autonomy_schema::oci::{ARTIFACT_TYPE, POLICY_TYPE};
use autonomy_schema::{Blake3, Reason, Reasons, Sha256, StateManifest, document, set};
use autonomy_stateroot::{Folded, SetSource, read_file};

use crate::export::signed;
use crate::parts::parts;
use autonomy_sets::{Draft, read_draft};

/// The artifact that `artifactRef` means.
const AGENT: &str = "agent";

/// What a push brought.
#[derive(Debug, Clone)]
pub struct Pushed {
    /// The manifest of the set.
    pub manifest: StateManifest,
    /// Its fingerprint.
    pub fingerprint: Blake3,
    /// The digest of the set's OCI manifest.
    pub digest: Sha256,
    /// The digest of the agent's OCI manifest, where the set has an artifact of that name.
    pub artifact: Option<Sha256>,
    /// The digest of the policy's OCI manifest.
    pub policy: Sha256,
    /// Files of the set.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Pushes a set under the tag of the registry's reference, which moves when everything else is there. As with an export,
/// who signed it is the receiver's question. `progress` is told bytes done and bytes in all.
pub fn push(
    source: Arc<dyn SetSource>,
    registry: &Registry,
    tag: &str,
    progress: &dyn Fn(u64, u64),
) -> Result<Pushed, Reasons> {
    let Draft { manifest, fingerprint, policy } = read_draft(&*source)?;
    // In a registry, a tree is one blob, and a file may have any size.
    let source = Folded::new(source, &manifest)?;
    let limits = Limits { file: u64::MAX, ..Limits::default() };
    let listed = source.list().map_err(|error| error.to_reason())?;
    signed(&listed)?;
    let parts = parts(&source, &manifest, &listed, &[], &BTreeMap::new(), limits)?;
    let files = parts.files.len();
    let plan = plan_set(&source, parts, limits, tag)?;
    let bytes = listed.iter().map(|file| file.size).sum();
    let oci = registry.push_files(&plan, &|done| progress(done, bytes))?;
    let failed = |error: RegistryError| Reasons::from(error.to_reason());
    let mut this = Descriptor::of(MANIFEST_TYPE, &oci);
    this.artifact_type = Some(SET_TYPE.to_owned());
    registry.push_manifest(MANIFEST_TYPE, &oci, &this.digest.to_string()).map_err(failed)?;
    let agent = manifest.spec.artifacts.iter().find(|artifact| artifact.name.as_str() == AGENT);
    let agent = agent.and_then(Artifact::file);
    let agent = agent.map(|pins| registry.push_single(ARTIFACT_TYPE, pins.digest, pins.size)).transpose()?;
    let pinned = &manifest.spec.policy;
    let bundle = registry.push_single(POLICY_TYPE, pinned.digest, pinned.size)?;
    let read = |name: &'static str, cap: u64| -> Result<Vec<u8>, Reason> {
        Ok(read_file(&source, name, cap)?.unwrap_or_default())
    };
    let lock = read(set::LOCK, document::MAX_DOCUMENT_BYTES as u64)?;
    let lock_signatures = read(set::LOCK_SIGNATURES, set::MAX_SIGNATURES_BYTES)?;
    let signatures = read(set::MANIFEST_SIGNATURES, set::MAX_SIGNATURES_BYTES)?;
    let lock = [
        Attached { media_type: LOCK_TYPE, title: set::LOCK, bytes: &lock },
        Attached { media_type: SIGNATURES_TYPE, title: set::LOCK_SIGNATURES, bytes: &lock_signatures },
    ];
    let policy = [Attached { media_type: POLICY_TYPE, title: set::POLICY, bytes: &policy }];
    let signatures = [Attached { media_type: SIGNATURES_TYPE, title: set::MANIFEST_SIGNATURES, bytes: &signatures }];
    let both: [(&str, &[Attached<'_>]); 2] = [(LOCK_TYPE, &lock), (POLICY_TYPE, &policy)];
    let all = [both[0], both[1], (SIGNATURES_TYPE, &signatures[..])];
    attach(registry, &this, &all).map_err(failed)?;
    if let Some(agent) = &agent {
        attach(registry, agent, &both).map_err(failed)?;
    }
    registry.push_manifest(MANIFEST_TYPE, &oci, tag).map_err(failed)?;
    Ok(Pushed {
        manifest,
        fingerprint,
        digest: this.digest,
        artifact: agent.map(|agent| agent.digest),
        policy: bundle.digest,
        files,
        bytes,
    })
}

/// Puts referrers of one subject.
fn attach(
    registry: &Registry,
    subject: &Descriptor,
    referrers: &[(&str, &[Attached<'_>])],
) -> Result<(), RegistryError> {
    let made = referrers.iter().map(|(kind, files)| registry.push_attachment(kind, subject, files));
    registry.attach(&made.collect::<Result<Vec<_>, _>>()?).map(|_| ())
}
