//! A set that is sent on: where its bytes lie, and which of them are which segment.
//!
//! Blocking, and without anything that grows with the payload: indices are streamed, and a pack is read segment by segment.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

use autonomy_relay::{Delivery, MAX_WANTED, Wanted, pack};
use autonomy_schema::segments::{ENTRY_BYTES, MAX_SEGMENT};
use autonomy_schema::{Blake3, Code, Name, Reason, Reasons, RelPath, StateManifest, Time, set};
use autonomy_sets::{KeptSet, generation_set, manifest_of};
use autonomy_stateroot::{Folded, SetSource, SourceFile, StateRoot, layout};

use crate::store::Artifact;

/// Bytes of an entry of an index.
const ENTRY: usize = 40;
const _: () = assert!(ENTRY as u64 == ENTRY_BYTES);

/// Blocks of a tar archive; two empty ones end it.
const TAR_BLOCK: u64 = 512;

/// Where the bytes of a segment lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    file: Arc<RelPath>,
    offset: u64,
    length: u32,
}

/// The segments that a peer lacks: in the order of the set, and where they lie.
#[derive(Debug, Clone, Default)]
pub struct Wants {
    /// For the machine.
    pub wanted: Vec<Wanted>,
    /// For the reader.
    pub places: BTreeMap<Blake3, Place>,
}

/// Where a set lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// A generation, which the outbox names.
    Generation(Name),
    /// A set for other nodes.
    Transit,
}

/// A set that is sent on.
pub struct Source {
    /// As the machine knows it.
    pub delivery: Delivery,
    /// After that it is sent no more.
    pub expires: Time,
    manifest: StateManifest,
    set: Arc<Folded>,
}

impl Source {
    /// Finds the set of a manifest.
    pub fn open(root: &StateRoot, fingerprint: Blake3, at: &At) -> Result<Self, Reasons> {
        let (manifest, kept) = match at {
            At::Generation(generation) => {
                let (manifest, found) = manifest_of(root, generation).ok_or_else(|| absent(fingerprint))?;
                if found != fingerprint {
                    return Err(absent(fingerprint).into());
                }
                (manifest, generation_set(root, generation)?.with_roots()?)
            }
            At::Transit => {
                let base = layout::edge_set(fingerprint);
                let bytes = autonomy_stateroot::read_capped(
                    root.disk(),
                    &base.join(&RelPath::fixed(set::MANIFEST)),
                    autonomy_schema::document::MAX_DOCUMENT_BYTES as u64,
                );
                let bytes = bytes.map_err(|error| error.to_reason())?.ok_or_else(|| absent(fingerprint))?;
                if Blake3::of(&bytes) != fingerprint {
                    return Err(absent(fingerprint).into());
                }
                let manifest: StateManifest = autonomy_schema::document::parse(&bytes)?;
                let shown = format!("{fingerprint} in transit");
                (manifest.clone(), KeptSet::new(root, base, shown, manifest).with_roots()?)
            }
        };
        let delivery = Delivery {
            manifest: fingerprint,
            stream: manifest.metadata.name.clone(),
            serial: manifest.metadata.serial,
            documents: 0,
        };
        let set = Arc::new(Folded::new(Arc::new(kept), &manifest)?);
        let mut source = Self { delivery, expires: manifest.metadata.expires_at, manifest, set };
        let length = source.documents_length();
        source.delivery.documents = length.map_err(|error| Reason::new(Code::IoError, error.to_string()))?;
        Ok(source)
    }

    /// The segments in ranges that a peer named.
    pub fn wants(&self, missing: &[Artifact]) -> Result<Wants, Reason> {
        let mut wants = Wants::default();
        for lacks in missing {
            let artifact = self.manifest.spec.artifacts.iter().find(|artifact| artifact.name == lacks.artifact);
            let artifact = artifact.ok_or_else(|| {
                Reason::new(Code::BadRequest, "the peer lacks segments of an artifact that the manifest does not have")
            })?;
            let path = |text: String| text.parse::<RelPath>().map_err(|error| error.to_reason());
            let file = Arc::new(path(set::payload(artifact))?);
            let index = path(set::segment_index(&artifact.name))?;
            let reader = self.set.open(&index).map_err(|error| error.to_reason())?;
            locate(reader, &lacks.segments, &file, &mut wants)?;
        }
        Ok(wants)
    }

    /// Writes a pack. Each segment is hashed before it goes: what the disk has damaged is not sent.
    pub fn pack(&self, ids: &[(Blake3, Place)], to: &mut dyn Write) -> io::Result<()> {
        let mut buffer = vec![0; MAX_SEGMENT as usize];
        let mut open: Option<(Arc<RelPath>, u64, Box<dyn Read + Send>)> = None;
        for (id, place) in ids {
            let file = match &mut open {
                Some((path, at, file)) if **path == *place.file && *at == place.offset => file,
                _ => {
                    let file =
                        self.set.open_at(&place.file, place.offset).map_err(|error| other(&error.to_reason()))?;
                    &mut open.insert((Arc::clone(&place.file), place.offset, file)).2
                }
            };
            let bytes = &mut buffer[..place.length as usize];
            file.read_exact(bytes)?;
            if Blake3::of(bytes) != *id {
                let what = format!("`{}` is damaged at byte {}", place.file, place.offset);
                return Err(other(&Reason::new(Code::DigestMismatch, what)));
            }
            to.write_all(&pack::head(id, place.length))?;
            to.write_all(bytes)?;
            if let Some((_, at, _)) = &mut open {
                *at += u64::from(place.length);
            }
        }
        Ok(())
    }

    /// The documents that open a transfer: everything but payloads.
    fn document_files(&self) -> io::Result<Vec<SourceFile>> {
        let payloads: Vec<String> = self.manifest.spec.artifacts.iter().map(set::payload).collect();
        let prefix = format!("{}/", set::ARTIFACTS);
        let mut files = self.set.list().map_err(|error| other(&error.to_reason()))?;
        files.retain(|file| !file.path.starts_with(&prefix) && !payloads.contains(&file.path));
        Ok(files)
    }

    /// How long the archive of the documents is.
    pub fn documents_length(&self) -> io::Result<u64> {
        let files = self.document_files()?;
        Ok(files.iter().map(|file| TAR_BLOCK + file.size.next_multiple_of(TAR_BLOCK)).sum::<u64>() + 2 * TAR_BLOCK)
    }

    /// Writes the documents as the archive that opens a transfer.
    pub fn documents(&self, to: &mut dyn Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(to);
        for file in self.document_files()? {
            let path: RelPath = file.path.parse().map_err(io::Error::other)?;
            let mut header = tar::Header::new_ustar();
            header.set_path(&file.path)?;
            header.set_size(file.size);
            header.set_mode(0o600);
            header.set_mtime(0);
            header.set_cksum();
            let reader = self.set.open(&path).map_err(|error| other(&error.to_reason()))?;
            archive.append(&header, reader.take(file.size))?;
        }
        archive.finish()
    }
}

fn absent(fingerprint: Blake3) -> Reason {
    Reason::new(Code::CorruptState, format!("the set of {fingerprint} is not where it is said to be"))
}

fn other(reason: &Reason) -> io::Error {
    io::Error::other(reason.to_string())
}

/// Walks an index, and takes down what lies in the ranges.
fn locate(index: impl Read, ranges: &[(u64, u64)], file: &Arc<RelPath>, wants: &mut Wants) -> Result<(), Reason> {
    let bad = |what: &str| Reason::new(Code::BadRequest, format!("{what} of `{file}`"));
    if ranges.iter().any(|(first, end)| first >= end) || !ranges.is_sorted_by(|before, after| before.1 <= after.0) {
        return Err(bad("the peer named ranges that are in no order"));
    }
    let mut reader = io::BufReader::new(index);
    let (mut number, mut offset) = (0u64, 0u64);
    for (first, end) in ranges {
        while number < *end {
            let mut entry = [0; ENTRY];
            reader.read_exact(&mut entry).map_err(|_short| bad("the peer lacks segments behind the end"))?;
            let (id, length) = entry.split_at(32);
            let length = u64::from_le_bytes(length.try_into().unwrap_or_default());
            let length = u32::try_from(length).ok().filter(|length| (1..=MAX_SEGMENT).contains(length));
            let length = length.ok_or_else(|| bad("the index holds a length that no segment has,"))?;
            if number >= *first {
                if wants.wanted.len() >= MAX_WANTED {
                    return Err(bad("the peer named more segments than one answer may, with those"));
                }
                let id = Blake3::from_bytes(id.try_into().unwrap_or_default());
                wants.wanted.push(Wanted { id, length });
                wants.places.entry(id).or_insert_with(|| Place { file: Arc::clone(file), offset, length });
            }
            number += 1;
            offset += u64::from(length);
        }
    }
    Ok(())
}
