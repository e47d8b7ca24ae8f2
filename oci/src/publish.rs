//! Sets into a registry, and what refers to them.

use std::io::{self, Read};

use autonomy_schema::oci::{ARTIFACT_TYPE, EMPTY_CONFIG, POLICY_TYPE};
use autonomy_schema::{Code, Reason, Sha256};
use autonomy_stateroot::read_refused;

use crate::blobs::{Blob, SetPlan};
use crate::registry::{Registry, RegistryError};
use crate::set::FILE_TYPE;
use crate::spec::{Descriptor, EMPTY_TYPE, MANIFEST_TYPE, Manifest, TITLE};

/// Artifact type of a lock with its signatures, and media type of the lock.
pub const LOCK_TYPE: &str = "application/vnd.autonomy.lock.v1+json";
/// Artifact type of the signatures of a set's manifest, and media type of every file of signature lines.
pub const SIGNATURES_TYPE: &str = "application/vnd.autonomy.signatures.v1+jsonl";

/// A file of a referrer.
#[derive(Debug, Clone, Copy)]
pub struct Attached<'a> {
    /// Its media type.
    pub media_type: &'a str,
    /// Its name.
    pub title: &'a str,
    /// Its bytes.
    pub bytes: &'a [u8],
}

impl Registry {
    /// Uploads the blobs of a set, those that the registry has excepted. Gives the bytes of its OCI manifest, which is not
    /// there yet: the caller puts it when everything else is.
    pub fn push_files(&self, plan: &SetPlan<'_>, progress: &dyn Fn(u64)) -> Result<Vec<u8>, Reason> {
        let (mut done, mut manifest) = (0, Vec::new());
        for blob in &plan.blobs {
            if blob.digest == plan.entry.digest {
                blob.read(|piece| {
                    manifest.extend_from_slice(piece);
                    Ok::<_, Reason>(())
                })?;
                continue;
            }
            self.push_file(blob, &|bytes| progress(done + bytes))?;
            done += blob.size;
            progress(done);
        }
        Ok(manifest)
    }

    fn push_file(&self, blob: &Blob<'_>, progress: &dyn Fn(u64)) -> Result<(), Reason> {
        if self.blob_exists(blob.digest).map_err(|error| error.to_reason())? {
            return Ok(());
        }
        // What is not as pinned is told before a byte goes out.
        blob.read(|_| Ok::<_, Reason>(()))?;
        let open = |at: u64| {
            let mut reader = blob.open().map_err(read_refused)?;
            io::copy(&mut reader.by_ref().take(at), &mut io::sink())?;
            Ok(reader as Box<dyn Read + '_>)
        };
        let descriptor = Descriptor::new(FILE_TYPE, blob.digest, blob.size);
        self.push_blob(&descriptor, &open, progress).map_err(|error| error.to_reason())
    }

    /// Puts the manifest of one file that is there already: the one that `artifactRef` and `policyRef` are the digests
    /// of.
    pub fn push_single(&self, artifact_type: &str, digest: Sha256, size: u64) -> Result<Descriptor, Reason> {
        let bytes = autonomy_schema::oci::manifest(artifact_type, digest, size);
        let bytes = bytes.map_err(|error| Reason::new(Code::BadValue, error.to_string()))?;
        let mut descriptor = Descriptor::of(MANIFEST_TYPE, &bytes);
        let put = self.push_manifest(MANIFEST_TYPE, &bytes, &descriptor.digest.to_string());
        put.map_err(|error| error.to_reason())?;
        descriptor.artifact_type = Some(artifact_type.to_owned());
        Ok(descriptor)
    }

    /// Uploads files as a referrer of `subject`: the bytes of its manifest, for [`Registry::attach`].
    pub fn push_attachment(
        &self,
        artifact_type: &str,
        subject: &Descriptor,
        files: &[Attached<'_>],
    ) -> Result<Vec<u8>, RegistryError> {
        let layers = files.iter().map(|file| {
            let layer = self.push_bytes(file.media_type, file.bytes)?;
            Ok(layer.with(TITLE, file.title))
        });
        let mut manifest = Manifest::artifact(artifact_type, layers.collect::<Result<_, RegistryError>>()?);
        self.push_bytes(EMPTY_TYPE, EMPTY_CONFIG)?;
        // What a subject says of itself beside these three is no part of what it is.
        manifest.subject = Some(Descriptor::new(&subject.media_type, subject.digest, subject.size));
        manifest.to_bytes().map_err(|error| RegistryError::Unfit {
            what: format!("the referrer of {}", subject.digest),
            problem: error.to_string(),
        })
    }
}

/// What a manifest of one file is about: an agent's artifact or a policy bundle, as [`Registry::push_single`] puts it.
pub fn single_file(manifest: &Manifest) -> Option<&Descriptor> {
    match (manifest.kind(), manifest.layers.as_slice()) {
        (ARTIFACT_TYPE | POLICY_TYPE, [layer]) => Some(layer),
        _ => None,
    }
}
