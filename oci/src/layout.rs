//! An OCI image layout (image-spec 1.1, "OCI Image Layout Specification") as a source of sets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use autonomy_schema::{Blake3, Code, Reason, Reasons, RelPath, Sha256};
use autonomy_stateroot::{DirSet, SetSource, SourceError, SourceFile, read_file, read_refused, regular_files};
use serde::Deserialize;

use crate::layout_ref::{LayoutRef, Pick};
use crate::set::{self, Layers, SET_TYPE, TRUST_TYPE};
use crate::spec::{
    DOCKER_LIST_TYPE, DOCKER_MANIFEST_TYPE, Descriptor, INDEX_TYPE, Index, MANIFEST_TYPE, MAX_MANIFEST_BYTES, Manifest,
    REF_NAME,
};
use crate::volumes::Volumes;

/// Most manifests of a layout that are read, lists of manifests included.
const MAX_MANIFESTS: usize = 1000;
/// The marker file.
pub(crate) const MARKER: &str = "oci-layout";
/// The list of what the layout holds.
pub(crate) const INDEX: &str = "index.json";
/// The index while it is written.
pub(crate) const INDEX_PART: &str = "index.part";
/// The folder of blobs.
pub(crate) const BLOBS: &str = "blobs/sha256";
/// What may lie beside a layout of ours: what nodes sign for on the medium.
pub(crate) const RECEIPTS_FOLDER: &str = "receipts";
/// Largest marker file.
const MAX_MARKER_BYTES: u64 = 4096;

/// An open layout. Its list of files was read once; no link in it is followed.
pub struct Layout {
    path: PathBuf,
    medium: Box<dyn SetSource>,
    files: BTreeMap<String, SourceFile>,
    index: Index,
}

impl Layout {
    /// Opens the layout in a folder, whole or in volumes, and reads its index.
    pub fn open(path: &Path) -> Result<Self, Reasons> {
        let folder = || DirSet::open(path).map_err(|error| error.to_reason());
        let has_marker = !matches!(folder()?.open(&RelPath::fixed(MARKER)), Err(SourceError::Missing(_)));
        if !has_marker && let Some(volumes) = Volumes::open(path, folder()?)? {
            return Self::on(path, Box::new(volumes));
        }
        Self::open_folder(path)
    }

    /// Opens the layout that is a folder.
    pub(crate) fn open_folder(path: &Path) -> Result<Self, Reasons> {
        let folder = DirSet::open(path).map_err(|error| error.to_reason())?;
        Self::on(path, Box::new(folder))
    }

    /// Opens the layout on a medium that is open already; `path` is what it is called.
    pub fn on(path: &Path, medium: Box<dyn SetSource>) -> Result<Self, Reasons> {
        let (files, reasons) = regular_files(&*medium)?;
        let Some(marker) = read_file(&*medium, MARKER, MAX_MARKER_BYTES)? else {
            let message = format!("`{}` is no image layout: it has no `{MARKER}`", path.display());
            return Err(Reason::new(Code::SourceNotFound, message).into());
        };
        check_marker(&marker)?;
        let Some(index) = read_file(&*medium, INDEX, MAX_MANIFEST_BYTES)? else {
            return Err(Reason::new(Code::MissingFile, format!("the layout lacks `{INDEX}`")).into());
        };
        let index = Index::parse(&index).map_err(|reason| named(INDEX, reason))?;
        Reasons::check(reasons)?;
        if index.manifests.len() > MAX_MANIFESTS {
            let count = index.manifests.len();
            let message = format!("`{INDEX}` names {count} manifests; at most {MAX_MANIFESTS} are read of one layout");
            return Err(Reason::new(Code::LimitExceeded, message).with_remedy("split it into several layouts").into());
        }
        Ok(Self { path: path.to_owned(), medium, files, index })
    }

    /// What is wrong with the medium although everything could be read so far.
    pub fn warnings(&self) -> Vec<String> {
        self.medium.warnings()
    }

    /// What the layout holds.
    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// The bytes of a manifest or index of the layout; what is not as its digest says is refused.
    pub(crate) fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Reason> {
        let name = blob(descriptor.digest);
        if descriptor.size > MAX_MANIFEST_BYTES {
            let message = format!(
                "`{name}` is said to have {} bytes; a manifest has at most {MAX_MANIFEST_BYTES}",
                descriptor.size
            );
            return Err(Reason::new(Code::DocumentTooLarge, message));
        }
        self.there(descriptor)?;
        let bytes = read_file(&*self.medium, &name, descriptor.size)?.unwrap_or_default();
        let found = Sha256::of(&bytes);
        if found == descriptor.digest {
            return Ok(bytes);
        }
        Err(Reason::new(Code::DigestMismatch, format!("`{name}` is {found}: the medium is damaged")))
    }

    /// The entry of the layout that is asked for; the only one when nothing is.
    pub(crate) fn named(&self, wanted: &LayoutRef) -> Result<Descriptor, Reasons> {
        let fits = |entry: &&Descriptor| match &wanted.pick {
            Some(Pick::Tag(tag)) => entry.annotations.get(REF_NAME) == Some(tag),
            Some(Pick::Digest(digest)) => entry.digest == *digest,
            None => true,
        };
        let mut found = self.index.manifests.iter().filter(fits);
        match (found.next(), found.next()) {
            (Some(entry), None) => Ok(entry.clone()),
            (Some(entry), Some(other)) if entry.digest == other.digest => Ok(entry.clone()),
            (Some(_), Some(_)) => {
                let reason = Reason::new(Code::BadValue, format!("`{wanted}` has several manifests"));
                Err(reason.with_remedy("name one of them: `oci:PATH:TAG` or `oci:PATH@sha256:…`").into())
            }
            (None, _) => Err(Reason::new(Code::SourceNotFound, format!("`{wanted}` holds no such manifest")).into()),
        }
    }

    /// The entries of the index that refer to a manifest; those that cannot be read are passed over.
    pub(crate) fn referrers(&self, subject: Sha256) -> Vec<Descriptor> {
        let refers = |entry: &&Descriptor| {
            let manifest = self.manifest(entry).ok();
            manifest.and_then(|manifest| manifest.subject).is_some_and(|it| it.digest == subject)
        };
        self.index.manifests.iter().take(MAX_MANIFESTS).filter(refers).cloned().collect()
    }

    /// A blob from an offset on. It must be there in its full size.
    pub(crate) fn blob_from(&self, descriptor: &Descriptor, at: u64) -> std::io::Result<Box<dyn Read>> {
        self.there(descriptor).map_err(read_refused)?;
        let path = blob(descriptor.digest).parse::<RelPath>().map_err(|error| read_refused(error.to_reason()))?;
        Ok(self.medium.open_at(&path, at).map_err(|error| read_refused(error.to_reason()))?)
    }

    /// Whether a blob is there in its full size.
    fn there(&self, descriptor: &Descriptor) -> Result<(), Reason> {
        let name = blob(descriptor.digest);
        match self.files.get(&name) {
            None => Err(Reason::new(Code::MissingFile, format!("the layout lacks {}", called(descriptor, &name)))),
            Some(file) if file.size != descriptor.size => {
                let message =
                    format!("{} has {} bytes, {} are listed", called(descriptor, &name), file.size, descriptor.size);
                Err(Reason::new(Code::SizeMismatch, message))
            }
            Some(_) => Ok(()),
        }
    }

    /// The manifest behind a descriptor.
    fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest, Reason> {
        let bytes = self.document(descriptor)?;
        Manifest::parse(&bytes).map_err(|reason| named(&blob(descriptor.digest), reason))
    }

    /// Every set of the layout, by its digest: whole, or why not.
    pub fn sets(self: &Arc<Self>) -> Vec<(String, Result<LayoutSet, Reasons>)> {
        self.of_kind(SET_TYPE, true)
    }

    /// What changes whom nodes trust, as far as the layout has it. What cannot be read is told by [`Layout::sets`].
    pub fn trust(self: &Arc<Self>) -> Vec<(String, Result<LayoutSet, Reasons>)> {
        self.of_kind(TRUST_TYPE, false)
    }

    fn of_kind(self: &Arc<Self>, kind: &str, unreadable_too: bool) -> Vec<(String, Result<LayoutSet, Reasons>)> {
        let (mut found, mut known) = (Vec::new(), BTreeSet::new());
        for entry in self.index.manifests.iter().take(MAX_MANIFESTS).filter(|entry| known.insert(entry.digest)) {
            let wanted = LayoutRef { path: self.path.clone(), pick: Some(Pick::Digest(entry.digest)) };
            let set = match self.manifest(entry) {
                Ok(manifest) if manifest.kind() == kind => self.whole(&wanted, entry, &manifest, kind),
                Err(reason) if unreadable_too => Err(reason.into()),
                Ok(_) | Err(_) => continue,
            };
            found.push((wanted.to_string(), set));
        }
        found
    }

    /// The one set that is asked for.
    pub fn set(self: &Arc<Self>, wanted: &LayoutRef) -> Result<LayoutSet, Reasons> {
        let (descriptor, manifest) = self.pick(wanted)?;
        let strays = self.check().err().map(Reasons::into_vec).unwrap_or_default();
        match self.whole(wanted, &descriptor, &manifest, SET_TYPE) {
            Ok(set) => Reasons::check(strays).map(|()| set),
            Err(reasons) => {
                let all = reasons.as_slice().iter().cloned().chain(strays).collect();
                Err(Reasons::new(all).unwrap_or(reasons))
            }
        }
    }

    /// A set all of whose blobs are there.
    fn whole(
        self: &Arc<Self>,
        wanted: &LayoutRef,
        entry: &Descriptor,
        manifest: &Manifest,
        kind: &str,
    ) -> Result<LayoutSet, Reasons> {
        let layers = set::layers(manifest, kind)?;
        let blobs = manifest.layers.iter().chain([&manifest.config]);
        Reasons::check(blobs.filter_map(|blob| self.there(blob).err()).collect())?;
        Ok(LayoutSet { layout: Arc::clone(self), layers, shown: wanted.to_string(), digest: entry.digest })
    }

    fn pick(&self, wanted: &LayoutRef) -> Result<(Descriptor, Manifest), Reasons> {
        let candidates = self.index.manifests.iter().filter(|entry| match &wanted.pick {
            Some(Pick::Tag(tag)) => entry.annotations.get(REF_NAME) == Some(tag),
            Some(Pick::Digest(digest)) => entry.digest == *digest,
            None => true,
        });
        let candidates: Vec<&Descriptor> = candidates.take(MAX_MANIFESTS).collect();
        let mut found: Vec<(Descriptor, Manifest)> = Vec::new();
        for entry in &candidates {
            let manifest = self.manifest(entry)?;
            // Writers that know nothing of artifacts drop the type from the index; the manifest keeps it.
            let known = found.iter().any(|(other, _)| other.digest == entry.digest);
            if (manifest.kind() == SET_TYPE || wanted.pick.is_some()) && !known {
                found.push(((*entry).clone(), manifest));
            }
        }
        if found.len() == 1 {
            return Ok(found.swap_remove(0));
        }
        let tags = self.index.manifests.iter().filter_map(|entry| entry.annotations.get(REF_NAME));
        let tags = tags.map(|tag| format!("`{}`", tag.escape_debug())).take(20).collect::<Vec<_>>().join(", ");
        if found.is_empty() {
            let here = if tags.is_empty() { "it has no tags".to_owned() } else { format!("it has {tags}") };
            return Err(Reason::new(Code::SourceNotFound, format!("`{wanted}` holds no such set; {here}")).into());
        }
        let message = format!("`{wanted}` holds {} sets: {tags}", found.len());
        Err(Reason::new(Code::BadValue, message)
            .with_remedy("name one of them: `oci:PATH:TAG` or `oci:PATH@sha256:…`")
            .into())
    }

    /// Blobs that the index does not lead to; none are told when that cannot be known.
    pub(crate) fn unnamed_blobs(&self) -> Vec<String> {
        let Some(known) = self.reachable() else { return Vec::new() };
        self.files.keys().filter(|name| name.starts_with(BLOBS) && !known.contains(*name)).cloned().collect()
    }

    /// Refuses files that belong to nothing that the index names. Where a manifest cannot be read, what it would name is not
    /// known, and that manifest is what is told.
    pub fn check(&self) -> Result<(), Reasons> {
        let Some(known) = self.reachable() else { return Ok(()) };
        let strays = self
            .files
            .keys()
            .filter(|name| !known.contains(*name) && !is_receipt(name) && *name != MARKER && *name != INDEX)
            .filter(|name| !is_unfinished(name));
        let stray =
            |name: &String| Reason::new(Code::ExtraneousFile, format!("`{name}` belongs to nothing in `{INDEX}`"));
        Reasons::check(strays.map(stray).collect())
    }

    /// The blobs that the index leads to; `None` when a manifest on the way cannot be read, or there are too many.
    fn reachable(&self) -> Option<BTreeSet<String>> {
        let mut known = BTreeSet::new();
        let mut todo: Vec<Descriptor> = self.index.manifests.clone();
        let mut read = 0;
        while let Some(entry) = todo.pop() {
            if !known.insert(blob(entry.digest)) {
                continue;
            }
            read += 1;
            if read > MAX_MANIFESTS {
                return None;
            }
            let bytes = self.document(&entry).ok()?;
            match entry.media_type.as_str() {
                INDEX_TYPE | DOCKER_LIST_TYPE => todo.extend(Index::parse(&bytes).ok()?.manifests),
                MANIFEST_TYPE | DOCKER_MANIFEST_TYPE => {
                    let manifest = Manifest::parse(&bytes).ok()?;
                    known.extend(manifest.layers.iter().chain([&manifest.config]).map(|layer| blob(layer.digest)));
                }
                _ => {}
            }
        }
        Some(known)
    }
}

/// A set in a layout, as far as its files lie there: what is to be built from segments is not listed.
pub struct LayoutSet {
    layout: Arc<Layout>,
    layers: Layers,
    shown: String,
    digest: Sha256,
}

impl fmt::Debug for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layout").field("path", &self.path).finish_non_exhaustive()
    }
}

impl fmt::Debug for LayoutSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayoutSet").field("shown", &self.shown).finish_non_exhaustive()
    }
}

impl LayoutSet {
    /// The digest of its OCI manifest.
    pub fn digest(&self) -> Sha256 {
        self.digest
    }

    /// Whether artifacts may be left out, to be built from segments.
    pub fn is_delta(&self) -> bool {
        self.layers.bases.is_some() || !self.layers.packs.is_empty()
    }

    /// What it says of the manifests that it builds on. Nobody signed that.
    pub fn bases(&self) -> &[Blake3] {
        self.layers.bases.as_deref().unwrap_or_default()
    }

    /// Its packs.
    pub fn packs(&self) -> &[Descriptor] {
        &self.layers.packs
    }

    /// Opens a pack at an offset.
    pub fn open_pack(&self, pack: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>, SourceError> {
        self.open_blob(pack, offset)
    }

    /// The layout that it lies in.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    fn open_blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>, SourceError> {
        let name = blob(descriptor.digest);
        match name.parse::<RelPath>() {
            Ok(path) => self.layout.medium.open_at(&path, offset),
            // Hex digits below a fixed folder are always a safe path.
            Err(_never) => Err(SourceError::Missing(name)),
        }
    }
}

impl SetSource for LayoutSet {
    fn list(&self) -> Result<Vec<SourceFile>, SourceError> {
        let entries = self.layers.files.iter().filter_map(|(path, descriptor)| {
            let file = self.layout.files.get(&blob(descriptor.digest))?;
            Some(SourceFile { path: path.clone(), ..file.clone() })
        });
        Ok(entries.collect())
    }

    fn open(&self, path: &RelPath) -> Result<Box<dyn Read + Send>, SourceError> {
        self.open_at(path, 0)
    }

    fn open_at(&self, path: &RelPath, offset: u64) -> Result<Box<dyn Read + Send>, SourceError> {
        match self.layers.files.get(path.as_str()) {
            Some(descriptor) => self.open_blob(descriptor, offset),
            None => Err(SourceError::Missing(path.to_string())),
        }
    }

    fn describe(&self) -> String {
        self.shown.clone()
    }

    fn warnings(&self) -> Vec<String> {
        self.layout.warnings()
    }
}

#[derive(Deserialize)]
struct Marker {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

/// Whether a file lies among the receipts.
fn is_receipt(name: &str) -> bool {
    name.strip_prefix(RECEIPTS_FOLDER).is_some_and(|rest| rest.starts_with('/'))
}

fn check_marker(bytes: &[u8]) -> Result<(), Reason> {
    let marker: Marker = serde_json::from_slice(bytes)
        .map_err(|error| Reason::new(Code::BadValue, format!("`{MARKER}` is not what marks a layout: {error}")))?;
    if marker.version == "1.0.0" {
        return Ok(());
    }
    let message = format!("the layout has version `{}`; this tool reads 1.0.0", marker.version.escape_debug());
    Err(Reason::new(Code::UnknownVersion, message))
}

/// What an export or a copy left that was cut off: no reason to refuse what was whole before. The next one removes it.
fn is_unfinished(name: &str) -> bool {
    let part = name.strip_prefix(BLOBS).and_then(|name| name.strip_prefix('/')?.strip_suffix(".part"));
    name == INDEX_PART
        || part.is_some_and(|part| part == "incoming" || part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Where a blob lies.
pub(crate) fn blob(digest: Sha256) -> String {
    format!("{BLOBS}/{}", digest.hex())
}

fn called(descriptor: &Descriptor, name: &str) -> String {
    descriptor.title().map_or_else(|| format!("`{name}`"), |title| format!("`{}` (`{name}`)", title.escape_debug()))
}

fn named(name: &str, mut reason: Reason) -> Reason {
    reason.message = format!("`{name}`: {}", reason.message);
    reason
}
