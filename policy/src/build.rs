//! Builds a bundle: checked Rego in, the same bytes out on every machine.

use std::collections::BTreeMap;
use std::io;

use autonomy_schema::canonical;
use autonomy_schema::manifest::semver_text::Version;
use autonomy_schema::path::{Name, RelPath};
use autonomy_schema::time::Time;

use crate::archive::{self, ArchiveError, MAX_FILES, MAX_UNPACKED};
use crate::bundle::{self, Bundle, BundleError, MANIFEST, PolicyManifest};
use crate::engine::{self, Fault};

/// What the bundle says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildOptions {
    /// Name of the policy.
    pub name: Name,
    /// Its version.
    pub version: Version,
    /// The tool versions that can evaluate it.
    pub required_runtime_version: Option<String>,
    /// When it is built; also the time of its files.
    pub created_at: Time,
}

/// Why no bundle was built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// `manifest.json` is written by the builder.
    #[error("the folder holds a `manifest.json`, which the builder writes; remove it")]
    Reserved,
    /// Nothing to decide with.
    #[error("the folder holds no `.rego` file")]
    Empty,
    /// Rego that does not compile.
    #[error("the policy does not compile: {0}")]
    Rego(String),
    /// Something that would not load again.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The archive could not be written: a path too long for ustar.
    #[error("the archive cannot be written")]
    Pack(#[source] io::Error),
}

/// Packs `files` (all but the bundle's `manifest.json`) into the bytes of a `policy.tar.gz`.
pub fn build(files: &BTreeMap<RelPath, Vec<u8>>, options: &BuildOptions) -> Result<Vec<u8>, BuildError> {
    if files.contains_key(&RelPath::fixed(MANIFEST)) {
        return Err(BuildError::Reserved);
    }
    if files.len() >= MAX_FILES {
        return Err(BundleError::from(ArchiveError::Files).into());
    }
    if files.values().fold(0_u64, |sum, content| sum.saturating_add(content.len() as u64)) > MAX_UNPACKED {
        return Err(BundleError::from(ArchiveError::Unpacked).into());
    }
    let (modules, data) = bundle::contents(files.clone())?;
    if modules.is_empty() {
        return Err(BuildError::Empty);
    }
    engine::compile(&modules, &data).map_err(|fault| match fault {
        Fault::Told(message) => BuildError::Rego(message),
        Fault::Time => BuildError::Rego("it takes too long".to_owned()),
    })?;
    let manifest = PolicyManifest {
        name: options.name.clone(),
        policy_bundle_version: options.version.clone(),
        required_runtime_version: options.required_runtime_version.clone(),
        bundle_hash: bundle::hash(files).map_err(BundleError::from)?,
        created_at: options.created_at,
    };
    bundle::requirement(&manifest)?;
    let mut all = files.clone();
    all.insert(RelPath::fixed(MANIFEST), canonical::to_bytes(&manifest).map_err(BundleError::from)?);
    let packed = archive::pack(&all, options.created_at).map_err(BuildError::Pack)?;
    // What is written must load: the caps and checks have one body.
    Bundle::load(&packed)?;
    Ok(packed)
}
