//! A policy bundle as it is read: archive, manifest, modules and data, all checked.

use std::collections::BTreeMap;

use autonomy_schema::canonical::{self, CanonicalError};
use autonomy_schema::digest::Sha256;
use autonomy_schema::manifest::semver_text::Version;
use autonomy_schema::path::{Name, RelPath};
use autonomy_schema::reason::{Code, Reason};
use autonomy_schema::time::Time;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::archive::{self, ArchiveError, Unpacked};
use crate::opa::{self, Opa, Read};

/// File name of the bundle's manifest.
pub(crate) const MANIFEST: &str = "manifest.json";
/// File name of data documents.
pub(crate) const DATA: &str = "data.json";

/// `manifest.json` of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyManifest {
    /// Name of the policy.
    pub name: Name,
    /// Its version.
    pub policy_bundle_version: Version,
    /// The tool versions that can evaluate it: a version (this or later) or a range such as `>=0.1.0, <2.0.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_runtime_version: Option<String>,
    /// SHA-256 over the canonical JSON object of path to SHA-256 of all other files.
    pub bundle_hash: Sha256,
    /// When it was built.
    pub created_at: Time,
}

/// Why bytes are not a policy bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The archive is not one.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// No `manifest.json`.
    #[error("the bundle has no `manifest.json`")]
    NoManifest,
    /// `manifest.json` or a data document is not what it must be.
    #[error("`{path}` of the bundle is malformed")]
    Json {
        /// Which file.
        path: RelPath,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// `required_runtime_version` is not a version or range.
    #[error("`required_runtime_version` is `{0}`; expected a version or a range such as `>=0.1.0`")]
    Requirement(String),
    /// A Rego file is not UTF-8.
    #[error("`{0}` of the bundle is not UTF-8")]
    NotUtf8(RelPath),
    /// A data document that is no object, or that says something twice.
    #[error("data of `{0}` is no object, or says again what another data document says")]
    Data(RelPath),
    /// A file that would be ignored although it looks like input.
    #[error("`{0}` would be ignored; data is read from `data.json` alone")]
    Ignored(RelPath),
    /// The files are not those that were hashed.
    #[error("the files of the bundle hash to {actual}; its manifest says {expected}")]
    Hash {
        /// What the manifest says.
        expected: Sha256,
        /// What the files give.
        actual: Sha256,
    },
    /// The hash could not be taken.
    #[error("the bundle cannot be hashed")]
    Canonical(#[from] CanonicalError),
    /// A plain OPA bundle that is not what it must be.
    #[error("the OPA bundle cannot be used: {0}")]
    Opa(String),
    /// A file of a plain OPA bundle is not the one that its `.signatures.json` lists.
    #[error("`{0}` of the OPA bundle has not the hash that `.signatures.json` lists")]
    OpaHash(RelPath),
}

impl BundleError {
    /// The refusal that it is.
    pub fn to_reason(&self) -> Reason {
        let code = match self {
            BundleError::Hash { .. } | BundleError::OpaHash(_) => Code::DigestMismatch,
            BundleError::Archive(ArchiveError::NotAFile(_)) => Code::SymlinkRefused,
            BundleError::Archive(ArchiveError::Path(_)) => Code::UnsafePath,
            BundleError::Archive(ArchiveError::Twice(_)) => Code::CaseCollision,
            BundleError::Archive(ArchiveError::Packed(_) | ArchiveError::Unpacked | ArchiveError::Files) => {
                Code::LimitExceeded
            }
            BundleError::Archive(ArchiveError::Gzip(_) | ArchiveError::Trailing | ArchiveError::Tar(_))
            | BundleError::Json { .. } => Code::Syntax,
            BundleError::NoManifest => Code::MissingFile,
            BundleError::NotUtf8(_) => Code::NotUtf8,
            BundleError::Requirement(_)
            | BundleError::Data(_)
            | BundleError::Ignored(_)
            | BundleError::Opa(_)
            | BundleError::Canonical(_) => Code::BadValue,
        };
        let cause = std::error::Error::source(self).map_or_else(String::new, |source| format!(": {source}"));
        Reason::new(code, format!("policy bundle: {self}{cause}"))
    }
}

/// A bundle whose archive, manifest and hash are right. Its Rego is checked when it is built and when it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    manifest: PolicyManifest,
    digest: Sha256,
    modules: BTreeMap<String, String>,
    data: Value,
    files: Vec<(String, u64)>,
    opa: Option<Opa>,
}

impl Bundle {
    /// Reads the bytes of a `policy.tar.gz`, or of a plain OPA bundle: that has a `.manifest` and no `manifest.json`.
    pub fn load(bytes: &[u8]) -> Result<Self, BundleError> {
        let Unpacked { mut files, loose } = archive::unpack(bytes)?;
        let listed = files.iter().map(|(path, content)| (path.to_string(), content.len() as u64)).collect();
        let path = RelPath::fixed(MANIFEST);
        if !files.contains_key(&path) && files.contains_key(&RelPath::fixed(opa::MANIFEST)) {
            let Read { manifest, opa, modules, data } = opa::read(files)?;
            return Ok(Self { manifest, digest: Sha256::of(bytes), modules, data, files: listed, opa: Some(opa) });
        }
        if let Some(error) = loose {
            return Err(error.into());
        }
        let text = files.remove(&path).ok_or(BundleError::NoManifest)?;
        let manifest: PolicyManifest =
            serde_json::from_slice(&text).map_err(|source| BundleError::Json { path, source })?;
        requirement(&manifest)?;
        let actual = hash(&files)?;
        if actual != manifest.bundle_hash {
            return Err(BundleError::Hash { expected: manifest.bundle_hash, actual });
        }
        let (modules, data) = contents(files)?;
        Ok(Self { manifest, digest: Sha256::of(bytes), modules, data, files: listed, opa: None })
    }

    /// Its files by path, with their sizes.
    pub fn files(&self) -> &[(String, u64)] {
        &self.files
    }

    /// What a plain OPA bundle says beside; `None` for one of ours.
    pub fn opa(&self) -> Option<&Opa> {
        self.opa.as_ref()
    }

    /// What the bundle says of itself.
    pub fn manifest(&self) -> &PolicyManifest {
        &self.manifest
    }

    /// SHA-256 of the packed bytes, as the signed manifest pins them.
    pub fn digest(&self) -> Sha256 {
        self.digest
    }

    /// The Rego files by path, tests included.
    pub fn modules(&self) -> &BTreeMap<String, String> {
        &self.modules
    }

    /// The data documents, merged.
    pub fn data(&self) -> &Value {
        &self.data
    }

    /// Whether this version of the tool may evaluate it.
    pub(crate) fn fits(&self, tool: &semver::Version) -> Result<bool, BundleError> {
        Ok(requirement(&self.manifest)?.is_none_or(|wanted| wanted.matches(tool)))
    }
}

/// The required runtime, parsed: a bare version means this or later.
pub(crate) fn requirement(manifest: &PolicyManifest) -> Result<Option<semver::VersionReq>, BundleError> {
    let Some(text) = &manifest.required_runtime_version else { return Ok(None) };
    let range = if semver::Version::parse(text).is_ok() { format!(">={text}") } else { text.clone() };
    let parsed = semver::VersionReq::parse(&range);
    parsed.map(Some).map_err(|_unparsable| BundleError::Requirement(text.chars().take(80).collect()))
}

/// What [`PolicyManifest::bundle_hash`] is: the manifest itself is not among the files.
pub(crate) fn hash(files: &BTreeMap<RelPath, Vec<u8>>) -> Result<Sha256, CanonicalError> {
    let list: BTreeMap<&str, Sha256> =
        files.iter().map(|(path, content)| (path.as_str(), Sha256::of(content))).collect();
    Ok(Sha256::of(&canonical::to_bytes(&list)?))
}

type Contents = (BTreeMap<String, String>, Value);

/// Sorts files into modules and data. Other files (a README) are carried and not read.
pub(crate) fn contents(files: BTreeMap<RelPath, Vec<u8>>) -> Result<Contents, BundleError> {
    let mut modules = BTreeMap::new();
    let mut data = Map::new();
    for (path, content) in files {
        let name = path.file_name();
        if name == DATA {
            let value =
                serde_json::from_slice(&content).map_err(|source| BundleError::Json { path: path.clone(), source })?;
            if !merge(&mut data, path.parent().as_ref(), value) {
                return Err(BundleError::Data(path));
            }
        } else if name.rsplit_once('.').is_some_and(|(_, end)| end == "rego") {
            let text = String::from_utf8(content).map_err(|_not_utf8| BundleError::NotUtf8(path.clone()))?;
            modules.insert(path.to_string(), text);
        } else if matches!(name, "data.yaml" | "data.yml") {
            return Err(BundleError::Ignored(path));
        }
    }
    Ok((modules, Value::Object(data)))
}

/// Puts a data document under the folders that it lies in, as OPA does; `false` when a value would be overwritten.
fn merge(data: &mut Map<String, Value>, folder: Option<&RelPath>, value: Value) -> bool {
    let Value::Object(fields) = value else { return false };
    let mut place = data;
    for component in folder.into_iter().flat_map(RelPath::components) {
        let below = place.entry(component).or_insert_with(|| Value::Object(Map::new()));
        let Value::Object(below) = below else { return false };
        place = below;
    }
    join(place, fields)
}

fn join(place: &mut Map<String, Value>, fields: Map<String, Value>) -> bool {
    fields.into_iter().all(|(key, value)| match (place.get_mut(&key), value) {
        (None, value) => {
            place.insert(key, value);
            true
        }
        (Some(Value::Object(there)), Value::Object(more)) => join(there, more),
        (Some(_), _) => false,
    })
}
