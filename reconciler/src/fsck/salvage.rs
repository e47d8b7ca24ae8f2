//! The set of a damaged generation, gathered from whatever is whole: the generation itself, others of the same manifest,
//! others that hold the same bytes, a set that somebody hands in.

use std::collections::BTreeMap;
use std::io::Read;

use autonomy_apply::{ApplyError, Repair, Transaction};
use autonomy_schema::plan_doc::PlanDoc;
use autonomy_schema::{
    Blake3, Code, Document as _, Name, Reason, Reasons, RelPath, Sha256, StateManifest, document, generation, set,
};
use autonomy_stateroot::{
    SetSource, SourceError, SourceFile, StatCache, StateRoot, Stored, contents, digests, known_contents, layout,
    pinned_contents, read_capped, read_file,
};
use autonomy_trust::{Purpose, Signed, verify_lock, verify_manifest};

use crate::generation::{Documents, documents, policy};
use crate::judge::Options;
use autonomy_sets::Loaded;
use autonomy_sets::manifest_of;

/// Most places that are looked at for one content.
pub(super) const MAX_PLACES: usize = 16;

pub(super) struct Salvage<'a> {
    root: &'a StateRoot,
    /// What the files of its artifacts must hash to.
    wanted: BTreeMap<RelPath, Blake3>,
    sizes: BTreeMap<String, u64>,
    /// The same bytes may have had another name or mode in another release: where they lie.
    elsewhere: BTreeMap<Blake3, Vec<RelPath>>,
    /// Generations that may hold its files under the same names, the damaged one first.
    siblings: &'a [Name],
    /// A set that was handed in.
    from: Option<&'a dyn SetSource>,
}

impl<'a> Salvage<'a> {
    /// The set of `manifest`, which is verified. The indices of its trees are gathered first: they name the rest.
    fn new(
        root: &'a StateRoot,
        manifest: &StateManifest,
        siblings: &'a [Name],
        from: Option<&'a dyn SetSource>,
    ) -> Result<Self, Reasons> {
        let pinned =
            pinned_contents(manifest)?.into_iter().map(|content| (content.path, content.pins.blake3)).collect();
        let mut salvage =
            Self { root, wanted: pinned, sizes: set::files(manifest), elsewhere: elsewhere(root), siblings, from };
        let all = contents(manifest, &salvage as &dyn SetSource)?;
        salvage.sizes.extend(all.iter().map(|content| (content.path.to_string(), content.pins.size)));
        salvage.wanted = all.into_iter().map(|content| (content.path, content.pins.blake3)).collect();
        Ok(salvage)
    }

    /// Where a file with these bytes may lie in the state root.
    fn places(&self, path: &RelPath, wanted: Blake3) -> Vec<RelPath> {
        let mut places: Vec<RelPath> =
            self.siblings.iter().map(|generation| layout::in_generation(generation, path)).collect();
        // Of content that a release has a thousand times, the first few will do.
        places.extend(self.elsewhere.get(&wanted).into_iter().flatten().take(MAX_PLACES).cloned());
        places
    }

    fn whole(&self, place: &RelPath, wanted: Blake3) -> bool {
        let stat = self.root.disk().stat(place).ok().flatten();
        stat.is_some_and(|stat| digests(self.root.disk(), place, stat.size).is_ok_and(|(blake3, _)| blake3 == wanted))
    }
}

impl SetSource for Salvage<'_> {
    /// What the manifest names; whether each can be had shows when it is opened.
    fn list(&self) -> Result<Vec<SourceFile>, SourceError> {
        let file = |(path, size)| SourceFile { path, kind: autonomy_stateroot::SourceKind::File, size, identity: None };
        Ok(self.sizes.clone().into_iter().map(file).collect())
    }

    fn open(&self, path: &RelPath) -> Result<Box<dyn Read + Send>, SourceError> {
        let wanted = self.wanted.get(path).copied().ok_or_else(|| SourceError::Missing(path.to_string()))?;
        if let Some(place) = self.places(path, wanted).into_iter().find(|place| self.whole(place, wanted))
            && let Ok(file) = self.root.disk().open(&place)
        {
            return Ok(file);
        }
        match self.from {
            Some(from) => from.open(path),
            None => Err(SourceError::Missing(path.to_string())),
        }
    }

    fn describe(&self) -> String {
        "what is whole in the state root".to_owned()
    }
}

/// The files of all generations, by content.
pub(super) fn elsewhere(root: &StateRoot) -> BTreeMap<Blake3, Vec<RelPath>> {
    let mut found: BTreeMap<Blake3, Vec<RelPath>> = BTreeMap::new();
    for generation in root.generations().unwrap_or_default() {
        let Some((manifest, _)) = manifest_of(root, &generation) else { continue };
        for content in known_contents(&manifest, &Stored::generation(root.disk(), &generation)).files {
            found.entry(content.pins.blake3).or_default().push(layout::in_generation(&generation, &content.path));
        }
    }
    found
}

/// What a generation can be staged again from.
pub(super) struct Sources<'a> {
    pub(super) root: &'a StateRoot,
    pub(super) loaded: &'a Loaded,
    pub(super) from: Option<&'a dyn SetSource>,
    pub(super) options: &'a Options<'a>,
}

impl Sources<'_> {
    /// Its signed documents: its own where they hold, those of another generation of the same manifest, or those of the set
    /// that was handed in.
    fn documents(&self, damaged: &Name, siblings: &[Name]) -> Result<Documents, Reasons> {
        let mut first = None;
        for generation in siblings {
            match documents(self.root, self.loaded, generation, Purpose::Recover, self.options) {
                Ok(found) => return Ok(found),
                Err(reasons) => drop(first.get_or_insert(reasons)),
            }
        }
        if let Some(from) = self.from {
            let found = self.handed_in(from)?;
            if generation::is_of(damaged, found.manifest.document().metadata.serial, found.manifest.fingerprint()) {
                return Ok(found);
            }
            let message = format!("`{}` is the set of another manifest than that of {damaged}", from.describe());
            return Err(Reason::new(Code::SourceNotFound, message).into());
        }
        Err(first.unwrap_or_else(|| Reason::new(Code::UnknownGeneration, format!("{damaged} is not there")).into()))
    }

    fn handed_in(&self, from: &dyn SetSource) -> Result<Documents, Reasons> {
        let read = |name: &'static str, cap: u64| read_from(from, name, cap);
        let context = self.loaded.context(self.options.clock, Purpose::Recover);
        let cap = document::MAX_DOCUMENT_BYTES as u64;
        let (bytes, signatures) =
            (read(set::MANIFEST, cap)?, read(set::MANIFEST_SIGNATURES, set::MAX_SIGNATURES_BYTES)?);
        let manifest = verify_manifest(Signed { bytes: &bytes, signatures: &signatures }, &context)?;
        let (bytes, signatures) = (read(set::LOCK, cap)?, read(set::LOCK_SIGNATURES, set::MAX_SIGNATURES_BYTES)?);
        let lock = verify_lock(Signed { bytes: &bytes, signatures: &signatures }, &manifest, &context)?;
        Ok(Documents { manifest, lock })
    }

    fn policy(&self, siblings: &[Name], pinned: Sha256) -> Result<Vec<u8>, Reasons> {
        if let Some(bytes) = siblings.iter().find_map(|generation| policy(self.root, generation, pinned)) {
            return Ok(bytes);
        }
        let bytes = self.from.map(|from| read_from(from, set::POLICY, set::MAX_POLICY_BYTES)).transpose()?;
        let bytes = bytes.filter(|bytes| Sha256::of(bytes) == pinned);
        bytes.ok_or_else(|| {
            Reason::new(Code::CorruptState, "its policy bundle is damaged, and no other one is at hand").into()
        })
    }
}

/// A file of a set, within its cap.
fn read_from(from: &dyn SetSource, name: &'static str, cap: u64) -> Result<Vec<u8>, Reasons> {
    let lacks = || Reasons::from(SourceError::Missing(name.to_owned()).to_reason());
    read_file(from, name, cap)?.ok_or_else(lacks)
}

/// Stages a damaged generation again; gives the new name.
pub(super) fn restage(sources: &Sources<'_>, damaged: &Name, transaction: Transaction<'_>) -> Result<Name, ApplyError> {
    let root = sources.root;
    let mut siblings = vec![damaged.clone()];
    let others = root.generations()?.into_iter().filter(|name| name != damaged);
    siblings.extend(others.filter(|name| generation::are_same_manifest(name, damaged)));
    let Documents { manifest, lock } = sources.documents(damaged, &siblings).map_err(ApplyError::Refused)?;
    let bundle = sources.policy(&siblings, manifest.document().spec.policy.digest).map_err(ApplyError::Refused)?;
    let plan = siblings.iter().find_map(|generation| plan_of(root, generation));
    let set = Salvage::new(root, manifest.document(), &siblings, sources.from).map_err(ApplyError::Refused)?;
    let mut request = Repair {
        damaged,
        set: &set,
        manifest: &manifest,
        lock: &lock,
        policy: &bundle,
        plan: plan.as_deref(),
        // Nothing is believed of files in a repair.
        cache: &mut StatCache::default(),
    };
    transaction.repair(&mut request)
}

/// The plan that made a generation, when it can still be read.
fn plan_of(root: &StateRoot, generation: &Name) -> Option<Vec<u8>> {
    let path = layout::in_generation(generation, &RelPath::fixed("plan.json"));
    let bytes = read_capped(root.disk(), &path, PlanDoc::MAX_BYTES as u64).ok()??;
    document::parse::<PlanDoc>(&bytes).is_ok_and(|plan| autonomy_plan::is_its_own(&plan)).then_some(bytes)
}
