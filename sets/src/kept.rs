//! The sets that a node keeps whole: its generations, and what waits in its inbox.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::OnceLock;

use autonomy_schema::{Blake3, Code, Name, Reason, Reasons, RelPath, StateManifest, document, set};
use autonomy_stateroot::{
    FileKind, SetSource, SourceError, SourceFile, SourceKind, StateRoot, Stored, known_contents, layout, read_capped,
};

use crate::roots;

/// A set of a state root, read where it lies.
pub struct KeptSet {
    root: StateRoot,
    /// What people call it.
    shown: String,
    /// The manifest whose set it is, and where that lies.
    of: Option<(RelPath, StateManifest)>,
    /// What goes with it, such as trust roots, and where that lies.
    more: Vec<(String, RelPath)>,
    /// Found when they are first asked for: the indices of trees are read for it.
    files: OnceLock<BTreeMap<String, RelPath>>,
}

/// A set that is kept, with what its manifest says.
pub struct Kept {
    /// Fingerprint of the manifest.
    pub fingerprint: Blake3,
    /// The manifest.
    pub manifest: StateManifest,
    /// The set.
    pub set: KeptSet,
}

/// Every set that the node keeps, each once: what it runs, its other generations from the newest on, its inbox.
pub fn kept(root: &StateRoot) -> Result<Vec<Kept>, Reasons> {
    let mut names = root.generations().map_err(|error| Reasons::from(error.to_reason()))?;
    names.reverse();
    if let Some(active) = root.current()? {
        names.retain(|name| *name != active);
        names.insert(0, active);
    }
    let mut found = Vec::new();
    let mut known = BTreeSet::new();
    for name in names {
        let Some((manifest, fingerprint)) = manifest_of(root, &name) else { continue };
        if known.insert(fingerprint) {
            let set = KeptSet::new(root, layout::generation(&name), format!("generation {name}"), manifest.clone());
            found.push(Kept { fingerprint, manifest, set });
        }
    }
    for (fingerprint, manifest) in inbox_entries(root)? {
        if known.insert(fingerprint) {
            let shown = format!("the inbox's {fingerprint}");
            let set = KeptSet::new(root, layout::inbox_entry(fingerprint), shown, manifest.clone());
            found.push(Kept { fingerprint, manifest, set });
        }
    }
    Ok(found)
}

/// Their fingerprints.
pub fn kept_manifests(root: &StateRoot) -> Result<BTreeSet<Blake3>, Reasons> {
    Ok(kept(root)?.into_iter().map(|kept| kept.fingerprint).collect())
}

/// The active generation as a set, with every trust root that the node keeps.
pub fn active_set(root: &StateRoot) -> Result<KeptSet, Reasons> {
    let Some(generation) = root.current()? else {
        let reason = Reason::new(Code::SourceNotFound, "no generation is active on this node");
        return Err(reason.with_remedy("name the set to export: `autonomy export SOURCE --to DIR`").into());
    };
    generation_set(root, &generation)?.with_roots()
}

/// Every trust root that the node keeps: names in a set, and where they lie.
pub fn root_files(root: &StateRoot) -> Result<Vec<(String, RelPath)>, Reasons> {
    let pinned = roots::pinned_root(root)?;
    let newest = pinned.document().version;
    let mut files = Vec::new();
    let mut add = |version: u64, (file, signatures): (RelPath, RelPath)| {
        let (name, beside) = set::root_files(version);
        files.extend([(name, file), (beside, signatures)].map(|(name, at)| (format!("{}/{name}", set::ROOTS), at)));
    };
    add(newest, (layout::trust_root(), layout::trust_root_signatures()));
    for kept in pinned.earlier() {
        let version = kept.document().version;
        add(version, (layout::kept_root(version), layout::kept_root_signatures(version)));
    }
    Ok(files)
}

/// The set of a generation.
pub fn generation_set(root: &StateRoot, generation: &Name) -> Result<KeptSet, Reasons> {
    let Some((manifest, _)) = manifest_of(root, generation) else {
        let path = layout::generation_manifest(generation);
        return Err(Reason::new(Code::CorruptState, format!("`{path}` cannot be read as a manifest")).into());
    };
    Ok(KeptSet::new(root, layout::generation(generation), format!("generation {generation}"), manifest))
}

/// The sets in the inbox. What is there and is none is passed over; `verify` judges what is used.
pub fn inbox_entries(root: &StateRoot) -> Result<Vec<(Blake3, StateManifest)>, Reasons> {
    let listed = match root.disk().list(Some(&layout::inbox())) {
        Ok(listed) => listed,
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        Err(error) => return Err(error.to_reason().into()),
    };
    let mut found = Vec::new();
    for entry in listed {
        let Ok(fingerprint) = format!("blake3:{}", entry.name).parse::<Blake3>() else { continue };
        let path = layout::inbox_entry(fingerprint).join(&RelPath::fixed(set::MANIFEST));
        let Ok(Some(bytes)) = read_capped(root.disk(), &path, document::MAX_DOCUMENT_BYTES as u64) else { continue };
        found.extend(document::parse(&bytes).ok().map(|manifest| (fingerprint, manifest)));
    }
    Ok(found)
}

/// The manifest of a generation as it lies there, when it can be read.
pub fn manifest_of(root: &StateRoot, generation: &Name) -> Option<(StateManifest, Blake3)> {
    let path = layout::generation_manifest(generation);
    let bytes = read_capped(root.disk(), &path, document::MAX_DOCUMENT_BYTES as u64).ok()??;
    Some((document::parse(&bytes).ok()?, document::fingerprint(&bytes)))
}

impl KeptSet {
    /// Files of the state root that belong to no manifest: their names in the set, and where they lie.
    pub fn of_files(root: &StateRoot, shown: String, files: Vec<(String, RelPath)>) -> Self {
        Self { root: root.clone(), shown, of: None, more: files, files: OnceLock::new() }
    }

    /// The same set with every trust root that the node keeps.
    pub fn with_roots(mut self) -> Result<Self, Reasons> {
        self.more.extend(root_files(&self.root)?);
        Ok(self)
    }

    /// The set of a manifest in a folder of the state root.
    pub fn new(root: &StateRoot, base: RelPath, shown: String, manifest: StateManifest) -> Self {
        Self { root: root.clone(), shown, of: Some((base, manifest)), more: Vec::new(), files: OnceLock::new() }
    }

    /// Names in the set, and where they lie in the state root. What a damaged index would name is told by whoever verifies
    /// the set.
    fn files(&self) -> &BTreeMap<String, RelPath> {
        self.files.get_or_init(|| {
            let mut files: BTreeMap<String, RelPath> = self.more.iter().cloned().collect();
            if let Some((base, manifest)) = &self.of {
                let known = known_contents(manifest, &Stored::new(self.root.disk(), base.clone()));
                let stored = known.files.into_iter().map(|content| content.path);
                let documents = set::files(manifest).into_keys().filter_map(|name| name.parse::<RelPath>().ok());
                files.extend(documents.chain(stored).map(|path| (path.to_string(), base.join(&path))));
            }
            files
        })
    }

    fn place(&self, path: &RelPath) -> Result<&RelPath, SourceError> {
        self.files().get(path.as_str()).ok_or_else(|| SourceError::Missing(path.to_string()))
    }
}

impl SetSource for KeptSet {
    fn list(&self) -> Result<Vec<SourceFile>, SourceError> {
        let mut found = Vec::new();
        for (name, at) in self.files() {
            let Some(stat) = self.root.disk().stat(at).map_err(|error| SourceError::stored(name, error))? else {
                continue;
            };
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
        self.root.disk().open(self.place(path)?).map_err(|error| SourceError::stored(path.as_str(), error))
    }

    fn open_at(&self, path: &RelPath, offset: u64) -> Result<Box<dyn Read + Send>, SourceError> {
        self.root.disk().open_at(self.place(path)?, offset).map_err(|error| SourceError::stored(path.as_str(), error))
    }

    fn describe(&self) -> String {
        self.shown.clone()
    }
}
