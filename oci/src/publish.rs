//! Sets into a registry, and what refers to them.

use std::io::{self, Read};

use autonomy_schema::oci::{ARTIFACT_TYPE, EMPTY_CONFIG, POLICY_TYPE};
use autonomy_schema::{Blake3, Code, Reason, Sha256};
use autonomy_stateroot::SetSource;
use sha2::Digest as _;

use crate::registry::{Registry, RegistryError};
use crate::set::{self, FILE_TYPE, SET_TYPE};
use crate::spec::{Descriptor, EMPTY_TYPE, MANIFEST_TYPE, Manifest, TITLE};
use crate::writer::{Pin, Wanted};

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
    /// Uploads the files that are `wanted`, those that the registry has excepted. Gives the bytes of the set's OCI
    /// manifest, which is not there yet: the caller puts it when everything else is.
    pub fn push_files(
        &self,
        source: &dyn SetSource,
        wanted: &[Wanted],
        progress: &dyn Fn(u64),
    ) -> Result<Vec<u8>, Reason> {
        let (mut layers, mut done) = (Vec::with_capacity(wanted.len()), 0);
        for file in wanted {
            let digest = self.push_file(source, file, &|bytes| progress(done + bytes))?;
            done += file.size;
            progress(done);
            layers.push(Descriptor::new(FILE_TYPE, digest, file.size).with(TITLE, file.path.as_str()));
        }
        self.push_bytes(EMPTY_TYPE, EMPTY_CONFIG).map_err(|error| error.to_reason())?;
        set::manifest(SET_TYPE, layers)
    }

    fn push_file(&self, source: &dyn SetSource, file: &Wanted, progress: &dyn Fn(u64)) -> Result<Sha256, Reason> {
        if let Pin::Sha256(digest) = file.pin
            && self.blob_exists(digest).map_err(|error| error.to_reason())?
        {
            return Ok(digest);
        }
        let digest = hashed(source, file)?;
        let open = |at: u64| {
            let mut reader = source.open(&file.path).map_err(|error| io::Error::other(error.to_string()))?;
            io::copy(&mut reader.by_ref().take(at), &mut io::sink())?;
            Ok(reader as Box<dyn Read>)
        };
        let descriptor = Descriptor::new(FILE_TYPE, digest, file.size);
        self.push_blob(&descriptor, &open, progress).map_err(|error| error.to_reason())?;
        Ok(digest)
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

/// The digest of a file that is as its pin and its size say.
fn hashed(source: &dyn SetSource, file: &Wanted) -> Result<Sha256, Reason> {
    let mut reader = source.open(&file.path).map_err(|error| error.to_reason())?.take(file.size.saturating_add(1));
    let (mut sha256, mut blake3) = (sha2::Sha256::new(), blake3::Hasher::new());
    let (mut buffer, mut size) = (vec![0; 256 << 10], 0);
    loop {
        let read = reader.read(&mut buffer).map_err(|error| {
            Reason::new(Code::IoError, format!("cannot read `{}` of {}: {error}", file.path, source.describe()))
        })?;
        if read == 0 {
            break;
        }
        size += read as u64;
        sha256.update(&buffer[..read]);
        if let Pin::Blake3(_) = file.pin {
            blake3.update(&buffer[..read]);
        }
    }
    let digest = Sha256::from_bytes(sha256.finalize().into());
    file.check(size, digest, Blake3::from_bytes(*blake3.finalize().as_bytes()))?;
    Ok(digest)
}
