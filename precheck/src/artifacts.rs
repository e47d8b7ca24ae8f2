//! Where the bytes of an artifact are in the state root: in its generation, in the object store, or in segments of other
//! artifacts. They are hashed on the handle that they are copied from.

use std::io::Read;

use autonomy_schema::manifest::{Artifact, FilePins};
use autonomy_schema::{Blake3, Code, Name, Reason, RelPath, set};
use autonomy_stateroot::{FileKind, StateRoot, layout};

use crate::segments::Segments;
use crate::write::Writer;

/// Bytes that are read at once.
const BUFFER: usize = 1 << 20;

/// The artifacts of a generation.
pub(crate) struct Artifacts<'a> {
    pub(crate) root: &'a StateRoot,
    pub(crate) generation: &'a Name,
}

impl Artifacts<'_> {
    /// The places that may hold the artifact's bytes, best first.
    fn candidates(&self, artifact: &Artifact, pins: &FilePins) -> Vec<RelPath> {
        let below = RelPath::fixed(set::ARTIFACTS).join(&artifact.path);
        let mut places = vec![layout::in_generation(self.generation, &below), layout::object(pins.blake3, pins.mode)];
        // Other manifests may have the same bytes with another mode.
        let listed = self.root.disk().list(Some(&layout::objects())).unwrap_or_default();
        let same = listed.iter().filter(|entry| layout::object_digest(&entry.name) == Some(pins.blake3));
        places.extend(same.filter_map(|entry| Some(layout::objects().join(&entry.name.parse().ok()?))));
        places.dedup();
        places.retain(|place| {
            let stat = self.root.disk().stat(place).ok().flatten();
            stat.is_some_and(|stat| stat.kind == FileKind::File && stat.size == pins.size)
        });
        places
    }

    /// Whether it is whole at one place, or all its segments are somewhere.
    pub(crate) fn find(&self, artifact: &Artifact) -> Result<(), Reason> {
        let found = artifact
            .file()
            .is_some_and(|pins| self.candidates(artifact, &pins).iter().any(|place| self.is_whole(place, &pins)));
        if found || Segments::search(self.root, self.generation, artifact).is_some() {
            Ok(())
        } else {
            Err(missing(artifact))
        }
    }

    fn is_whole(&self, place: &RelPath, pins: &FilePins) -> bool {
        let found = autonomy_stateroot::digests(self.root.disk(), place, pins.size).ok();
        found.is_some_and(|(blake3, _)| blake3 == pins.blake3)
    }

    /// Whether the generation's own copy is whole.
    pub(crate) fn is_whole_in_generation(&self, artifact: &Artifact) -> bool {
        let place = layout::in_generation(self.generation, &RelPath::fixed(set::ARTIFACTS).join(&artifact.path));
        artifact.file().is_none_or(|pins| self.is_whole(&place, &pins))
    }

    /// Copies the artifact from the first place that holds it whole, else segment by segment.
    pub(crate) fn copy(&self, artifact: &Artifact, writer: &mut Writer<'_>) -> Result<(), String> {
        let pins = artifact.file().ok_or("the artifact is no file")?;
        for place in self.candidates(artifact, &pins) {
            writer.restart()?;
            if self.copy_from(&place, &pins, writer)? {
                return Ok(());
            }
        }
        writer.restart()?;
        match Segments::search(self.root, self.generation, artifact) {
            Some(segments) if segments.copy(writer)? => Ok(()),
            Some(_) | None => Err(missing(artifact).message),
        }
    }

    /// Whether the copy is what is pinned. What cannot be read is not; what cannot be written is an error.
    fn copy_from(&self, place: &RelPath, pins: &FilePins, writer: &mut Writer<'_>) -> Result<bool, String> {
        let Ok(file) = self.root.disk().open(place) else { return Ok(false) };
        let mut file = file.take(pins.size.saturating_add(1));
        let mut buffer = vec![0; BUFFER];
        let mut hasher = blake3::Hasher::new();
        let mut size = 0;
        loop {
            let read = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_damaged) => return Ok(false),
            };
            size += read as u64;
            hasher.update(&buffer[..read]);
            writer.write(&buffer[..read])?;
        }
        Ok(size == pins.size && Blake3::from_bytes(*hasher.finalize().as_bytes()) == pins.blake3)
    }
}

fn missing(artifact: &Artifact) -> Reason {
    let message =
        format!("the artifact `{}` (`{}`) is not whole anywhere in the state root", artifact.name, artifact.path);
    let remedy =
        "bring the set of this release again (`autonomy import`), then run `autonomy fsck --repair --from SET`";
    Reason::new(Code::ReconstructionFailed, message).with_remedy(remedy)
}
