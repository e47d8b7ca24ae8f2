//! The documents of OCI image-spec 1.1 that are read and written: descriptors, image manifests, image indices.
//!
//! Fields that are not listed here are read over, as the specification demands ("Extensibility").

use std::collections::BTreeMap;

use autonomy_schema::canonical::{self, CanonicalError};
pub use autonomy_schema::oci::{EMPTY_TYPE, MANIFEST_TYPE};
use autonomy_schema::{Code, Reason, Sha256};
use serde::{Deserialize, Serialize};

/// Largest manifest or index in bytes: what distribution-spec 1.1 asks registries to take ("Pushing Manifests").
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// Media type of an image index.
pub const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of an image manifest as Docker names it; the form is the same.
pub const DOCKER_MANIFEST_TYPE: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Media type of a manifest list as Docker names it; the form is that of an index.
pub const DOCKER_LIST_TYPE: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// The name of a file: `oras pull` and others write the layer under it.
pub const TITLE: &str = "org.opencontainers.image.title";
/// The tag of an entry in a layout's index.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// What points to a blob or a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type.
    pub media_type: String,
    /// Digest of the bytes.
    pub digest: Sha256,
    /// Their number.
    pub size: u64,
    /// What kind of artifact a manifest is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The platform of an image in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// The platform of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`, … as Go names them.
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// `v7`, `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Descriptor {
    /// A descriptor of `bytes`.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self::new(media_type, Sha256::of(bytes), bytes.len() as u64)
    }

    /// A descriptor of what was hashed elsewhere.
    pub fn new(media_type: &str, digest: Sha256, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            artifact_type: None,
            annotations: BTreeMap::new(),
            platform: None,
        }
    }

    /// The same with an annotation.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The file name that it carries.
    pub fn title(&self) -> Option<&str> {
        self.annotations.get(TITLE).map(String::as_str)
    }
}

/// An image manifest; an artifact is one with an artifact type and, mostly, the empty config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// Media type of this document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What kind of artifact it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The config.
    pub config: Descriptor,
    /// The layers.
    pub layers: Vec<Descriptor>,
    /// What this one refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// An artifact with the empty config.
    pub fn artifact(artifact_type: &str, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(MANIFEST_TYPE.to_owned()),
            artifact_type: Some(artifact_type.to_owned()),
            config: Descriptor::of(EMPTY_TYPE, autonomy_schema::oci::EMPTY_CONFIG),
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// What kind of artifact it is: what it says, else the media type of its config (image-spec 1.1, "Guidelines for
    /// Artifact Usage").
    pub fn kind(&self) -> &str {
        self.artifact_type.as_deref().unwrap_or(&self.config.media_type)
    }

    /// Its bytes, a pure function of the document.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CanonicalError> {
        canonical::to_bytes(self)
    }

    /// Reads a manifest.
    pub fn parse(bytes: &[u8]) -> Result<Self, Reason> {
        let manifest: Self = parse(bytes, "an image manifest")?;
        if manifest.schema_version == 2 {
            Ok(manifest)
        } else {
            Err(not("an image manifest", "schemaVersion is not 2"))
        }
    }
}

/// An image index: a list of manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// Media type of this document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The manifests.
    pub manifests: Vec<Descriptor>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            schema_version: 2,
            media_type: Some(INDEX_TYPE.to_owned()),
            manifests: Vec::new(),
            annotations: BTreeMap::new(),
        }
    }
}

impl Index {
    /// Its bytes, a pure function of the document.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CanonicalError> {
        canonical::to_bytes(self)
    }

    /// Reads an index.
    pub fn parse(bytes: &[u8]) -> Result<Self, Reason> {
        let index: Self = parse(bytes, "an image index")?;
        if index.schema_version == 2 { Ok(index) } else { Err(not("an image index", "schemaVersion is not 2")) }
    }
}

fn parse<T: for<'de> Deserialize<'de>>(bytes: &[u8], what: &str) -> Result<T, Reason> {
    if bytes.len() as u64 > MAX_MANIFEST_BYTES {
        let message = format!("{what} of {} bytes; at most {MAX_MANIFEST_BYTES} are read", bytes.len());
        return Err(Reason::new(Code::DocumentTooLarge, message));
    }
    serde_json::from_slice(bytes).map_err(|error| not(what, &error.to_string()))
}

fn not(what: &str, why: &str) -> Reason {
    Reason::new(Code::BadValue, format!("this is not {what}: {why}"))
}
