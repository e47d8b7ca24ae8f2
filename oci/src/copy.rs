//! Manifests with all that they name, from a layout or a registry to another.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use autonomy_schema::{Code, Reason, Reasons, Sha256};
use autonomy_stateroot::read_failed;

use crate::cosign::signature_tag;
use crate::layout::Layout;
use crate::layout_ref::{LayoutRef, Pick};
use crate::registry::{Registry, RegistryError};
use crate::spec::{DOCKER_LIST_TYPE, DOCKER_MANIFEST_TYPE, Descriptor, INDEX_TYPE, Index, MANIFEST_TYPE, Manifest};
use crate::writer::LayoutWriter;

/// Most manifests of one copy: those of an index, and what refers to them.
const MAX_MANIFESTS: usize = 1000;

/// Where something is copied from.
pub enum CopyFrom {
    /// A layout, and what is meant in it.
    Layout(Arc<Layout>, LayoutRef),
    /// What the registry's reference names.
    Registry(Box<Registry>),
}

/// Where something is copied to.
pub enum CopyTo {
    /// A layout, under a tag where one is given.
    Layout(LayoutWriter, Option<String>),
    /// A registry, under the tag of its reference, or without one where that has a digest.
    Registry(Box<Registry>),
}

/// What a copy brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// The digest of what was named.
    pub digest: Option<Sha256>,
    /// Manifests and indices.
    pub manifests: usize,
    /// Blobs that were not there already.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Copies what the source names. With `referrers`, also what refers to it and cosign's tag of signatures. Between two
/// registries, blobs lie in `scratch` on their way. `progress` is told bytes that came.
pub fn copy(
    from: &CopyFrom,
    to: CopyTo,
    referrers: bool,
    scratch: &Path,
    progress: &dyn Fn(u64),
) -> Result<Copied, Reasons> {
    let (named, bytes) = from.named()?;
    if let CopyTo::Registry(registry) = &to
        && let Some(digest) = registry.reference().digest()
        && digest != named.digest
    {
        let message = format!("{} is to be {digest}, and the source is {}", registry.reference(), named.digest);
        return Err(Reason::new(Code::DigestMismatch, message).into());
    }
    let mut copying = Copying { from, to, scratch, progress, seen: BTreeSet::new(), copied: Copied::default() };
    copying.copied.digest = Some(named.digest);
    copying.manifest(&named, &bytes)?;
    if referrers {
        copying.referrers(&named)?;
    }
    copying.name(&named, &bytes)?;
    let Copying { to, copied, .. } = copying;
    if let CopyTo::Layout(writer, _) = to {
        writer.finish().map_err(|error| error.to_reason())?;
    }
    Ok(copied)
}

impl CopyFrom {
    fn named(&self) -> Result<(Descriptor, Vec<u8>), Reasons> {
        match self {
            Self::Layout(layout, wanted) => {
                let descriptor = layout.named(wanted)?;
                let bytes = layout.document(&descriptor)?;
                Ok((descriptor, bytes))
            }
            Self::Registry(registry) => {
                let (media_type, bytes) = registry.named().map_err(|error| error.to_reason())?;
                Ok((Descriptor::of(&media_type, &bytes), bytes))
            }
        }
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Reason> {
        match self {
            Self::Layout(layout, _) => layout.document(descriptor),
            Self::Registry(registry) => {
                let found = registry.manifest(&descriptor.digest.to_string());
                found.map(|(_, bytes)| bytes).map_err(|error| error.to_reason())
            }
        }
    }

    fn referrers(&self, digest: Sha256) -> Result<Vec<Descriptor>, Reason> {
        match self {
            Self::Layout(layout, _) => Ok(layout.referrers(digest)),
            Self::Registry(registry) => registry.referrers(digest, None).map_err(|error| error.to_reason()),
        }
    }

    /// Cosign's signatures of a manifest, under their tag.
    fn signatures(&self, tag: &str) -> Result<Option<(Descriptor, Vec<u8>)>, Reasons> {
        match self {
            Self::Layout(layout, wanted) => {
                let wanted = LayoutRef { path: wanted.path.clone(), pick: Some(Pick::Tag(tag.to_owned())) };
                let Ok(descriptor) = layout.named(&wanted) else { return Ok(None) };
                let bytes = layout.document(&descriptor)?;
                Ok(Some((descriptor, bytes)))
            }
            Self::Registry(registry) => match registry.manifest(tag) {
                Ok((media_type, bytes)) => Ok(Some((Descriptor::of(&media_type, &bytes), bytes))),
                Err(RegistryError::NotFound { .. }) => Ok(None),
                Err(error) => Err(error.to_reason().into()),
            },
        }
    }
}

struct Copying<'a> {
    from: &'a CopyFrom,
    to: CopyTo,
    scratch: &'a Path,
    progress: &'a dyn Fn(u64),
    seen: BTreeSet<Sha256>,
    copied: Copied,
}

impl Copying<'_> {
    /// A manifest after all that it names.
    fn manifest(&mut self, descriptor: &Descriptor, bytes: &[u8]) -> Result<(), Reasons> {
        if !self.seen.insert(descriptor.digest) {
            return Ok(());
        }
        if self.seen.len() > MAX_MANIFESTS {
            let message = format!("more than {MAX_MANIFESTS} manifests hang together; no more are copied at once");
            return Err(Reason::new(Code::LimitExceeded, message).into());
        }
        match descriptor.media_type.as_str() {
            INDEX_TYPE | DOCKER_LIST_TYPE => {
                for entry in Index::parse(bytes)?.manifests {
                    let child = self.from.document(&entry)?;
                    self.manifest(&entry, &child)?;
                }
            }
            MANIFEST_TYPE | DOCKER_MANIFEST_TYPE => {
                let manifest = Manifest::parse(bytes)?;
                for blob in manifest.layers.iter().chain([&manifest.config]) {
                    self.blob(blob)?;
                }
            }
            other => {
                let message = format!("{} is of type `{}`, no manifest", descriptor.digest, other.escape_debug());
                return Err(Reason::new(Code::BadValue, message).into());
            }
        }
        self.copied.manifests += 1;
        match &mut self.to {
            CopyTo::Layout(writer, _) => writer.put_document(descriptor.digest, bytes).map_err(|it| it.to_reason())?,
            CopyTo::Registry(registry) => {
                let target = descriptor.digest.to_string();
                let put = registry.push_manifest(&descriptor.media_type, bytes, &target);
                put.map_err(|error| error.to_reason())?;
            }
        }
        Ok(())
    }

    fn blob(&mut self, blob: &Descriptor) -> Result<(), Reason> {
        let there = match &self.to {
            CopyTo::Layout(writer, _) => writer.holds(blob.digest, blob.size),
            CopyTo::Registry(registry) => registry.blob_exists(blob.digest).map_err(|error| error.to_reason())?,
        };
        if there {
            return Ok(());
        }
        let before = self.copied.bytes;
        let tell = |bytes| (self.progress)(before + bytes);
        match (self.from, &self.to) {
            (CopyFrom::Layout(layout, _), CopyTo::Registry(to)) => {
                let open = |at| layout.blob_from(blob, at);
                to.push_blob(blob, &open, &tell).map_err(|error| error.to_reason())?;
            }
            (CopyFrom::Layout(layout, _), CopyTo::Layout(writer, _)) => {
                let mut source = layout.blob_from(blob, 0).map_err(|error| unreadable(blob, &error))?;
                writer.put_blob(blob, &mut source).map_err(|error| error.to_reason())?;
            }
            (CopyFrom::Registry(from), CopyTo::Layout(writer, _)) => {
                let part = writer.part_of(blob.digest);
                from.pull_blob(blob, &part, &tell).map_err(|error| error.to_reason())?;
                writer.settle_part(&part, blob.digest).map_err(|error| error.to_reason())?;
            }
            (CopyFrom::Registry(from), CopyTo::Registry(to)) => {
                let part = self.scratch.join(blob.digest.hex());
                from.pull_blob(blob, &part, &tell).map_err(|error| error.to_reason())?;
                let open = |at| open_from(&part, at);
                to.push_blob(blob, &open, &|_| ()).map_err(|error| error.to_reason())?;
                fs::remove_file(&part).map_err(|error| unreadable(blob, &error))?;
            }
        }
        self.copied.blobs += 1;
        self.copied.bytes += blob.size;
        Ok(())
    }

    /// What refers to a manifest, what refers to that, and cosign's signatures of it.
    fn referrers(&mut self, subject: &Descriptor) -> Result<(), Reasons> {
        let mut manifests = Vec::new();
        for entry in self.from.referrers(subject.digest)? {
            let bytes = self.from.document(&entry)?;
            if self.seen.contains(&entry.digest) {
                continue;
            }
            self.manifest(&entry, &bytes)?;
            self.referrers(&entry)?;
            if let CopyTo::Layout(writer, _) = &mut self.to {
                writer.enter(Descriptor { annotations: entry.annotations.clone(), ..entry.clone() }, None);
            }
            manifests.push(bytes);
        }
        if let CopyTo::Registry(registry) = &self.to {
            registry.attach(&manifests).map_err(|error| error.to_reason())?;
        }
        let tag = signature_tag(subject.digest);
        if let Some((descriptor, bytes)) = self.from.signatures(&tag)? {
            self.manifest(&descriptor, &bytes)?;
            match &mut self.to {
                CopyTo::Layout(writer, _) => writer.enter(descriptor, Some(&tag)),
                CopyTo::Registry(registry) => {
                    let put = registry.push_manifest(&descriptor.media_type, &bytes, &tag);
                    put.map_err(|error| error.to_reason())?;
                }
            }
        }
        Ok(())
    }

    /// The name, when everything is there.
    fn name(&mut self, named: &Descriptor, bytes: &[u8]) -> Result<(), Reason> {
        match &mut self.to {
            CopyTo::Layout(writer, tag) => {
                let tag = tag.clone();
                writer.enter(
                    Descriptor { annotations: std::collections::BTreeMap::new(), ..named.clone() },
                    tag.as_deref(),
                );
            }
            CopyTo::Registry(registry) => {
                if let Some(tag) = registry.reference().tag() {
                    let put = registry.push_manifest(&named.media_type, bytes, tag);
                    put.map_err(|error| error.to_reason())?;
                }
            }
        }
        Ok(())
    }
}

fn open_from(path: &PathBuf, at: u64) -> io::Result<Box<dyn Read>> {
    use std::io::Seek as _;
    let mut file = fs::File::open(path)?;
    file.seek(io::SeekFrom::Start(at))?;
    Ok(Box::new(file))
}

fn unreadable(blob: &Descriptor, error: &io::Error) -> Reason {
    read_failed(&format!("the blob {}", blob.digest), error)
}
