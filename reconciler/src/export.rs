//! A set onto a medium: into an OCI image layout that other tools read as well.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use autonomy_oci::{LayoutWriter, Pin, Wanted, WriteError};
use autonomy_schema::{Blake3, Code, Name, Reason, Reasons, RelPath, Sha256, StateManifest, set};
use autonomy_stateroot::{
    DiskError, FileKind, SetSource, SourceError, SourceFile, SourceKind, StateRoot, Stored, contents, layout,
};

use crate::generations::manifest_of;
use crate::roots;
use crate::set::{Draft, read_draft};

/// What an export wrote.
#[derive(Debug, Clone)]
pub struct Exported {
    /// The manifest of the set.
    pub manifest: StateManifest,
    /// Its fingerprint.
    pub fingerprint: Blake3,
    /// The tag in the layout.
    pub tag: String,
    /// The digest of the OCI manifest.
    pub digest: Sha256,
    /// Files of the set.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Writes a set into the layout at `to`, which is made when it is absent, beside the sets that it holds already. Who
/// signed the set is the receiver's question; that it is signed, complete and as its manifest pins it, is asked here.
/// `progress` is told bytes done and bytes in all.
pub fn export(
    source: &dyn SetSource,
    to: &Path,
    tag: Option<&str>,
    progress: &dyn Fn(u64, u64),
) -> Result<Exported, Reasons> {
    let Draft { manifest, fingerprint, policy: _ } = read_draft(source)?;
    let listed = source.list().map_err(|error| error.to_reason())?;
    signed(&listed)?;
    let wanted = wanted(&manifest, &listed)?;
    let bytes = listed.iter().map(|file| file.size).sum();
    let tag = tag.map_or_else(|| format!("{}-{}", manifest.metadata.name, manifest.metadata.serial), str::to_owned);
    let refused = |error: WriteError| Reasons::from(error.to_reason());
    let mut writer = LayoutWriter::open(to).map_err(refused)?;
    let digest = writer.add(source, &wanted, &tag, &|done| progress(done, bytes)).map_err(refused)?;
    writer.finish().map_err(refused)?;
    Ok(Exported { manifest, fingerprint, tag, digest, files: wanted.len(), bytes })
}

/// A set that nobody signed is of no use on a medium.
pub(crate) fn signed(listed: &[SourceFile]) -> Result<(), Reasons> {
    let signatures = [set::MANIFEST_SIGNATURES, set::LOCK_SIGNATURES];
    let lacks = signatures.into_iter().filter(|name| !listed.iter().any(|file| file.path == *name && file.size > 0));
    let reasons = lacks.map(|name| {
        Reason::new(Code::MissingFile, format!("the set lacks `{name}`")).with_remedy("sign it first: `autonomy sign`")
    });
    Reasons::check(reasons.collect())
}

/// The files of the set as the manifest pins them, and the trust roots that lie with it.
pub(crate) fn wanted(manifest: &StateManifest, listed: &[SourceFile]) -> Result<Vec<Wanted>, Reasons> {
    let spec = &manifest.spec;
    let mut pinned = BTreeMap::from([
        (set::LOCK.to_owned(), (spec.lock.size, Pin::Sha256(spec.lock.digest))),
        (set::POLICY.to_owned(), (spec.policy.size, Pin::Sha256(spec.policy.digest))),
    ]);
    for artifact in &spec.artifacts {
        let Some(pins) = artifact.file() else { continue };
        let index = (pins.segments.size, Pin::Blake3(pins.segments.index));
        pinned.insert(set::segment_index(&artifact.name), index);
        pinned.insert(set::artifact(&artifact.path), (pins.size, Pin::Sha256(pins.digest)));
    }
    let wanted = listed.iter().map(|file| {
        let path = file.path.parse::<RelPath>().map_err(|error| error.to_reason())?;
        let (size, pin) = pinned.get(&file.path).copied().unwrap_or((file.size, Pin::None));
        Ok(Wanted { path, size, pin })
    });
    wanted.collect::<Result<_, Reason>>().map_err(Reasons::from)
}

/// The active generation as a set, with every trust root that the node keeps.
pub fn active_set(root: &StateRoot) -> Result<GenerationSet<'_>, Reasons> {
    let Some(generation) = root.current()? else {
        let reason = Reason::new(Code::SourceNotFound, "no generation is active on this node");
        return Err(reason.with_remedy("name the set to export: `autonomy export SOURCE --to DIR`").into());
    };
    let Some((manifest, _)) = manifest_of(root, &generation) else {
        let path = layout::generation_manifest(&generation);
        return Err(Reason::new(Code::CorruptState, format!("`{path}` cannot be read as a manifest")).into());
    };
    let mut files: BTreeMap<String, RelPath> = BTreeMap::new();
    for name in set::files(&manifest).into_keys() {
        let tail = name.parse::<RelPath>().map_err(|error| error.to_reason())?;
        files.insert(name, layout::in_generation(&generation, &tail));
    }
    let contents = contents(&manifest, &Stored::generation(root.disk(), &generation))?;
    let stored = contents.into_iter().map(|content| content.path);
    files.extend(stored.map(|path| (path.to_string(), layout::in_generation(&generation, &path))));
    let pinned = roots::pinned_root(root)?;
    let newest = pinned.document().version;
    let mut add = |version: u64, (file, signatures): (RelPath, RelPath)| {
        let (name, beside) = set::root_files(version);
        files.extend([(name, file), (beside, signatures)].map(|(name, at)| (format!("{}/{name}", set::ROOTS), at)));
    };
    add(newest, (layout::trust_root(), layout::trust_root_signatures()));
    for kept in pinned.earlier() {
        let version = kept.document().version;
        add(version, (layout::kept_root(version), layout::kept_root_signatures(version)));
    }
    Ok(GenerationSet { root, generation, files })
}

/// A generation of a node, read as a set.
pub struct GenerationSet<'a> {
    root: &'a StateRoot,
    generation: Name,
    /// Names in the set, and where they lie in the state root.
    files: BTreeMap<String, RelPath>,
}

impl SetSource for GenerationSet<'_> {
    fn list(&self) -> Result<Vec<SourceFile>, SourceError> {
        let mut found = Vec::new();
        for (name, at) in &self.files {
            let Some(stat) = self.root.disk().stat(at).map_err(|error| broken(name, error))? else { continue };
            let kind = match stat.kind {
                FileKind::File => SourceKind::File,
                FileKind::Symlink => SourceKind::Symlink,
                FileKind::Dir | FileKind::Other => SourceKind::Other,
            };
            found.push(SourceFile { path: name.clone(), kind, size: stat.size, identity: Some(stat.identity) });
        }
        found.sort();
        Ok(found)
    }

    fn open(&self, path: &RelPath) -> Result<Box<dyn Read + Send>, SourceError> {
        let at = self.files.get(path.as_str()).ok_or_else(|| SourceError::Missing(path.to_string()))?;
        self.root.disk().open(at).map_err(|error| broken(path.as_str(), error))
    }

    fn describe(&self) -> String {
        format!("generation {}", self.generation)
    }
}

fn broken(path: &str, error: DiskError) -> SourceError {
    if error.is_not_found() {
        return SourceError::Missing(path.to_owned());
    }
    SourceError::Io { path: path.to_owned(), source: error.source }
}
