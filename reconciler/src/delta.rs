//! A set on a medium that leaves artifacts out, as if it were whole: what is left out is put together while it is read,
//! from segments that lie on the medium or on this node.
//!
//! Nothing here is trusted: each segment is hashed when it is used, and the whole is verified like that of any other set.

mod assemble;
mod places;

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::sync::{Arc, OnceLock};

use autonomy_oci::LayoutSet;
use autonomy_schema::manifest::Artifact;
use autonomy_schema::segments::{ENTRY_BYTES, Entries, Segment};
use autonomy_schema::{Code, Reason, RelPath, StateManifest, set};
use autonomy_stateroot::{SetSource, SourceError, SourceFile, SourceKind, StateRoot, Unfolded, unverified};

use assemble::Assembled;
use places::{Places, Wanted};

/// Every so many segments, where one begins is kept.
const MARK_ENTRIES: u64 = 1024;

/// A set that is completed with segments from elsewhere.
struct Completed {
    set: Arc<LayoutSet>,
    /// What the medium does not hold as a file, by path.
    lacking: BTreeMap<String, Lacking>,
    root: Option<StateRoot>,
    /// Where the segments are; searched when the first of them is needed.
    places: OnceLock<Result<Arc<Places>, Reason>>,
}

/// An artifact that is put together.
#[derive(Debug, Clone)]
struct Lacking {
    size: u64,
    index: RelPath,
    index_size: u64,
    /// Why it cannot be put together, once that was asked.
    refusal: OnceLock<Result<Option<Reason>, Reason>>,
    /// Where some of its segments begin, once one in the middle was asked for.
    marks: OnceLock<Vec<u64>>,
}

/// The set as a source that holds everything that its manifest names, as long as the segments are somewhere: in its packs,
/// in the sets that the state root keeps, or in others on the same medium. A set that leaves nothing out stays as it is.
/// Its trees are files.
pub(crate) fn complete(set: LayoutSet, root: Option<&StateRoot>) -> Box<dyn SetSource> {
    if !set.is_delta() {
        return Box::new(Unfolded::new(Box::new(set)));
    }
    // What is wrong with the manifest is told by whoever verifies it.
    let lacking = unverified(&set).map(|(manifest, _)| lacking(&set, &manifest)).unwrap_or_default();
    let places = OnceLock::new();
    Box::new(Unfolded::new(Box::new(Completed { set: Arc::new(set), lacking, root: root.cloned(), places })))
}

/// The artifacts of a manifest that a source does not list.
fn lacking(set: &dyn SetSource, manifest: &StateManifest) -> BTreeMap<String, Lacking> {
    let listed: Vec<SourceFile> = set.list().unwrap_or_default();
    let mut found = BTreeMap::new();
    for artifact in &manifest.spec.artifacts {
        let path = set::payload(artifact);
        if let Some(lacking) = part(artifact)
            && listed.binary_search_by(|file| file.path.cmp(&path)).is_err()
        {
            found.insert(path, lacking);
        }
    }
    found
}

fn part(artifact: &Artifact) -> Option<Lacking> {
    let pins = artifact.payload()?;
    let index = set::segment_index(&artifact.name).parse().ok()?;
    Some(Lacking {
        size: pins.size,
        index,
        index_size: pins.segments.size,
        refusal: OnceLock::new(),
        marks: OnceLock::new(),
    })
}

impl Lacking {
    /// The entries of its index. Whoever uses what comes out of them verifies it.
    fn entries(&self, set: &dyn SetSource) -> Result<Entries<BufReader<impl Read + Send + use<>>>, SourceError> {
        self.entries_from(set, 0)
    }

    /// The same from an entry on.
    fn entries_from(
        &self,
        set: &dyn SetSource,
        entry: u64,
    ) -> Result<Entries<BufReader<impl Read + Send + use<>>>, SourceError> {
        let begin = entry.saturating_mul(ENTRY_BYTES).min(self.index_size);
        Ok(Entries::of(BufReader::new(set.open_at(&self.index, begin)?.take(self.index_size - begin))))
    }

    /// Where every [`MARK_ENTRIES`]th segment begins.
    fn marks(&self, set: &dyn SetSource) -> Result<&[u64], SourceError> {
        if let Some(marks) = self.marks.get() {
            return Ok(marks);
        }
        let (mut marks, mut begin) = (Vec::new(), 0);
        for (at, segment) in (0u64..).zip(self.entries(set)?) {
            let segment = segment.map_err(|source| SourceError::Io { path: self.index.to_string(), source })?;
            if at % MARK_ENTRIES == 0 {
                marks.push(begin);
            }
            begin += segment.length;
        }
        Ok(self.marks.get_or_init(|| marks))
    }
}

impl Completed {
    fn places(&self) -> Result<Arc<Places>, Reason> {
        let search = || {
            let mut wanted = Wanted::default();
            for lacking in self.lacking.values() {
                // An index that cannot be read is told of when its artifact is opened.
                let Ok(entries) = lacking.entries(&*self.set) else { continue };
                entries.map_while(Result::ok).for_each(|segment| wanted.add(segment));
            }
            Places::search(wanted, &self.set, self.root.as_ref()).map(Arc::new)
        };
        self.places.get_or_init(search).clone()
    }

    /// Why an artifact cannot be put together; `None` when it can.
    fn refusal(&self, path: &str, lacking: &Lacking, places: &Places) -> Result<Option<Reason>, SourceError> {
        let (mut count, mut segments, mut bytes) = (0u64, 0u64, 0u64);
        for segment in lacking.entries(&*self.set)? {
            let Segment { id, length } =
                segment.map_err(|source| SourceError::Io { path: lacking.index.to_string(), source })?;
            count += 1;
            if places.get(&id).is_none() {
                segments += 1;
                bytes += length;
            }
        }
        if segments == 0 {
            return Ok(None);
        }
        let bases: Vec<String> = self.set.bases().iter().map(ToString::to_string).collect();
        let made = if bases.is_empty() {
            "its packs are not complete".to_owned()
        } else {
            format!("it was made for nodes that have {}", bases.join(" and "))
        };
        let message = format!(
            "`{path}` cannot be put together: {segments} of its {count} segments ({bytes} bytes) are neither on the medium nor on this node; {made}"
        );
        let reason = Reason::new(Code::MissingFile, message)
            .with_remedy("export it for this node: `autonomy export --for FACTS`, with what `autonomy facts --out FACTS` writes here; or export it whole");
        Ok(Some(reason))
    }

    /// An artifact from an offset on, put together while it is read.
    fn assemble(&self, path: &str, lacking: &Lacking, offset: u64) -> Result<Assembled, SourceError> {
        let places = self.places().map_err(SourceError::Incomplete)?;
        let refusal =
            lacking.refusal.get_or_init(|| self.refusal(path, lacking, &places).map_err(|error| error.to_reason()));
        if let Some(reason) = refusal.clone().unwrap_or_else(Some) {
            return Err(SourceError::Incomplete(reason));
        }
        // Whole segments are passed over, those before the last mark without being read; the rest is read.
        let marks = lacking.marks(&*self.set)?;
        let mark = marks.partition_point(|begin| *begin <= offset).saturating_sub(1);
        let mut begin = marks.get(mark).copied().unwrap_or(0);
        let mut entries = lacking.entries_from(&*self.set, mark as u64 * MARK_ENTRIES)?.peekable();
        while let Some(Ok(segment)) = entries.peek() {
            if begin + segment.length > offset {
                break;
            }
            begin += segment.length;
            entries.next();
        }
        let mut assembled = Assembled::new(path, Box::new(entries), places);
        let skipped = io::copy(&mut (&mut assembled).take(offset - begin), &mut io::sink());
        skipped.map_err(|source| SourceError::Io { path: path.to_owned(), source })?;
        Ok(assembled)
    }
}

impl SetSource for Completed {
    fn list(&self) -> Result<Vec<SourceFile>, SourceError> {
        let built = self.lacking.iter().map(|(path, lacking)| SourceFile {
            path: path.clone(),
            kind: SourceKind::File,
            size: lacking.size,
            identity: None,
        });
        let mut files = self.set.list()?;
        files.extend(built);
        files.sort();
        Ok(files)
    }

    fn open(&self, path: &RelPath) -> Result<Box<dyn Read + Send>, SourceError> {
        self.open_at(path, 0)
    }

    fn open_at(&self, path: &RelPath, offset: u64) -> Result<Box<dyn Read + Send>, SourceError> {
        match self.lacking.get(path.as_str()) {
            Some(lacking) => Ok(Box::new(self.assemble(path.as_str(), lacking, offset)?)),
            None => self.set.open_at(path, offset),
        }
    }

    fn describe(&self) -> String {
        self.set.describe()
    }

    fn warnings(&self) -> Vec<String> {
        self.set.warnings()
    }
}
