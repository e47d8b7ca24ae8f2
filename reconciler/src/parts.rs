//! What of a set goes onto a medium: its files, and of artifacts that receivers have in part, or that are too large for one
//! file, the segments that they lack.

use std::collections::{BTreeMap, BTreeSet};

use autonomy_oci::{Cut, Cuts, Limits, Parts, Pin, Wanted};
use autonomy_schema::facts::Facts;
use autonomy_schema::manifest::{Artifact, Payload};
use autonomy_schema::segments::{self, Segment};
use autonomy_schema::{Blake3, Code, Reason, Reasons, RelPath, StateManifest, set};
use autonomy_stateroot::{SetSource, SourceFile, read_file};

/// Who receives a set that leaves out what they have.
#[derive(Debug, Clone)]
pub struct Receiver {
    /// What people call it.
    pub who: String,
    /// Manifests whose artifacts it has.
    pub has: BTreeSet<Blake3>,
}

impl Receiver {
    /// Whoever has the artifacts of a manifest.
    pub fn since(manifest: Blake3) -> Self {
        Self { who: "the receiver".to_owned(), has: BTreeSet::from([manifest]) }
    }

    /// A node, as it told of itself.
    pub fn node(facts: &Facts) -> Self {
        let current = facts.bound.current.as_ref().map(|current| current.manifest);
        let has = facts.observed.kept.iter().copied().chain(current).collect();
        Self { who: format!("node {}", facts.bound.node.id), has }
    }
}

/// A set that a receiver may have.
pub(crate) struct Base<'a> {
    pub(crate) manifest: StateManifest,
    pub(crate) set: &'a dyn SetSource,
}

/// The segments of a set, by name.
struct Known {
    ids: Vec<Blake3>,
    /// Whether the receivers have it, or it is on the medium already.
    there: Vec<bool>,
}

impl Known {
    fn at(&self, id: &Blake3) -> Option<usize> {
        self.ids.binary_search(id).ok()
    }

    fn is_there(&self, id: &Blake3) -> bool {
        self.at(id).and_then(|at| self.there.get(at)).is_some_and(|there| *there)
    }

    fn put(&mut self, id: &Blake3) {
        if let Some(there) = self.at(id).and_then(|at| self.there.get_mut(at)) {
            *there = true;
        }
    }
}

/// The parts of a set for receivers, each of whom must be able to build all of it; without receivers, the whole set.
pub(crate) fn parts(
    source: &dyn SetSource,
    manifest: &StateManifest,
    listed: &[SourceFile],
    receivers: &[Receiver],
    bases: &BTreeMap<Blake3, Base<'_>>,
    limits: Limits,
) -> Result<Parts, Reasons> {
    let mut known = Known { ids: Vec::new(), there: Vec::new() };
    for artifact in built(manifest, receivers, limits) {
        known.ids.extend(index(source, artifact.0, &artifact.1)?.iter().map(|segment| segment.id));
    }
    known.ids.sort_unstable();
    known.ids.dedup();
    known.there = vec![!receivers.is_empty(); known.ids.len()];
    let mut used = BTreeSet::new();
    for receiver in receivers {
        let has = has(receiver, bases)?;
        let mut theirs = Known { ids: std::mem::take(&mut known.ids), there: vec![false; known.there.len()] };
        for (fingerprint, base) in has {
            used.insert(fingerprint);
            for artifact in &base.manifest.spec.artifacts {
                let Some(pins) = artifact.payload() else { continue };
                for segment in index(base.set, artifact, &pins)? {
                    theirs.put(&segment.id);
                }
            }
        }
        known.ids = theirs.ids;
        known.there.iter_mut().zip(theirs.there).for_each(|(there, theirs)| *there &= theirs);
    }
    let mut cuts = Cuts::default();
    let mut left_out = BTreeSet::new();
    for (artifact, pins) in built(manifest, receivers, limits) {
        let segments = index(source, artifact, &pins)?;
        let shares = segments.iter().any(|segment| known.is_there(&segment.id));
        if shares || pins.size > limits.file {
            cut(&mut cuts, &mut known, artifact, &segments)?;
            left_out.insert(set::payload(artifact));
        } else {
            for segment in &segments {
                known.put(&segment.id);
            }
        }
    }
    let mut files = wanted(manifest, listed)?;
    files.retain(|file| !left_out.contains(file.path.as_str()));
    // Who gets every artifact as a file needs no base.
    let bases = if left_out.is_empty() { BTreeSet::new() } else { used };
    Ok(Parts { files, cuts, bases })
}

/// The artifacts that may be left out.
fn built<'a>(
    manifest: &'a StateManifest,
    receivers: &[Receiver],
    limits: Limits,
) -> impl Iterator<Item = (&'a Artifact, Payload)> {
    let delta = !receivers.is_empty();
    let files = manifest.spec.artifacts.iter().filter_map(|artifact| Some((artifact, artifact.payload()?)));
    // An empty file has no segments that somebody could have.
    files.filter(move |(_, pins)| pins.size > 0 && (delta || pins.size > limits.file))
}

/// What a receiver has, as far as its sets are at hand.
fn has<'b, 'a>(
    receiver: &Receiver,
    bases: &'b BTreeMap<Blake3, Base<'a>>,
) -> Result<Vec<(Blake3, &'b Base<'a>)>, Reasons> {
    let found: Vec<_> = receiver.has.iter().filter_map(|manifest| Some((*manifest, bases.get(manifest)?))).collect();
    if !found.is_empty() || receiver.has.is_empty() {
        return Ok(found);
    }
    let has: Vec<String> = receiver.has.iter().map(ToString::to_string).collect();
    let message = format!(
        "nothing is at hand of what {} has ({}): neither in the state root, nor at the target, nor as a named base",
        receiver.who,
        has.join(", ")
    );
    Err(Reason::new(Code::SourceNotFound, message)
        .with_remedy("name the set that it has: `--base SOURCE`; or export the set whole")
        .into())
}

/// The segments of an artifact, as the pinned index says.
fn index(source: &dyn SetSource, artifact: &Artifact, pins: &Payload) -> Result<Vec<Segment>, Reason> {
    let name = set::segment_index(&artifact.name);
    let at = |reason: Reason| Reason { message: format!("{}: {}", source.describe(), reason.message), ..reason };
    let bytes = read_file(source, &name, pins.segments.size).map_err(at)?;
    let lacks = || at(Reason::new(Code::MissingFile, format!("the set lacks `{name}`")));
    let bytes = bytes.ok_or_else(lacks)?;
    let found = Blake3::of(&bytes);
    if found != pins.segments.index {
        let message = format!("`{name}` is {found}, the manifest pins {}", pins.segments.index);
        return Err(at(Reason::new(Code::DigestMismatch, message)));
    }
    segments::parse_index(&bytes, pins.size)
        .map_err(|error| at(Reason::new(Code::BadValue, format!("`{name}`: {error}"))))
}

/// Adds what is not there yet of an artifact.
fn cut(cuts: &mut Cuts, known: &mut Known, artifact: &Artifact, segments: &[Segment]) -> Result<(), Reason> {
    let path = set::payload(artifact).parse::<RelPath>().map_err(|error| error.to_reason())?;
    // A manifest names far fewer artifacts, and an index no segment above 64 KiB.
    let file = u32::try_from(cuts.files.len()).unwrap_or(u32::MAX);
    cuts.files.push(path);
    let mut offset = 0;
    for segment in segments {
        if !known.is_there(&segment.id) {
            known.put(&segment.id);
            let length = u32::try_from(segment.length).unwrap_or(u32::MAX);
            cuts.segments.push(Cut { id: segment.id, length, file, offset });
        }
        offset += segment.length;
    }
    Ok(())
}

/// The files of the set as the manifest pins them, and the trust roots that lie with it.
fn wanted(manifest: &StateManifest, listed: &[SourceFile]) -> Result<Vec<Wanted>, Reasons> {
    let spec = &manifest.spec;
    let mut pinned = BTreeMap::from([
        (set::LOCK.to_owned(), (spec.lock.size, Pin::Sha256(spec.lock.digest))),
        (set::POLICY.to_owned(), (spec.policy.size, Pin::Sha256(spec.policy.digest))),
    ]);
    for artifact in &spec.artifacts {
        let Some(pins) = artifact.payload() else { continue };
        let index = (pins.segments.size, Pin::Blake3(pins.segments.index));
        pinned.insert(set::segment_index(&artifact.name), index);
        pinned.insert(set::payload(artifact), (pins.size, Pin::Sha256(pins.digest)));
        if let Some(index) = artifact.index {
            pinned.insert(set::tree_index(&artifact.name), (index.size, Pin::Sha256(index.digest)));
        }
    }
    let wanted = listed.iter().map(|file| {
        let path = file.path.parse::<RelPath>().map_err(|error| error.to_reason())?;
        let (size, pin) = pinned.get(&file.path).copied().unwrap_or((file.size, Pin::None));
        Ok(Wanted { path, size, pin })
    });
    wanted.collect::<Result<_, Reason>>().map_err(Reasons::from)
}
