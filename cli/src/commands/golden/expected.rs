//! What the tool says now: rendered overlays, their fingerprints, their plans for recorded nodes, and the schemas.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use autonomy_plan::render::{self, Style, Texts};
use autonomy_reconciler::{Foreseen, Foresight, foresee, node_of};
use autonomy_schema::facts::Facts;
use autonomy_schema::segments::{self, Measured};
use autonomy_schema::version::Kind;
use autonomy_schema::{Code, Name, Reason, RelPath, set};
use autonomy_stateroot::{SetSource, SourceError, SourceFile, SourceKind, known_contents};

use super::record::{FINGERPRINTS, PLANS, SCHEMAS, SETS};
use crate::commands::render::{
    Measure, MeasuredTree, Rendered, Source, SourcedArtifact, StandIns, Unmeasured, build, measure_tree,
};
use crate::commands::{lock, schema};
use crate::failure::Failure;
use crate::{files, node, ui};

/// Most overlays and most recorded nodes.
const MAX_ENTRIES: usize = 10_000;

/// What is rendered, and with what.
pub(super) struct Inputs<'a> {
    pub(super) manifests: &'a Path,
    pub(super) golden: &'a Path,
    pub(super) with_schemas: bool,
}

/// Every file as it should be on record, by its path below the folder of records.
pub(super) fn make(inputs: &Inputs<'_>) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let stand_ins = stand_ins(inputs.golden)?;
    let overlays = overlays(inputs.manifests)?;
    let rendered = render_all(&overlays, &stand_ins)?;
    let mut files = BTreeMap::new();
    let mut fingerprints = String::new();
    for (name, set) in &rendered {
        files.insert(format!("{SETS}/{name}/{}", set::MANIFEST), pretty(&set.bytes)?);
        files.insert(format!("{SETS}/{name}/{}", set::LOCK), pretty(&set.inputs.lock.bytes)?);
        let (lock, policy) = (set.manifest.spec.lock.fingerprint, set.manifest.spec.policy.digest);
        // A line each, so that a diff shows which of them moved.
        let _ = writeln!(fingerprints, "{name} manifest {}", set.fingerprint);
        let _ = writeln!(fingerprints, "{name} lock {lock}");
        let _ = writeln!(fingerprints, "{name} policy {policy}");
    }
    files.insert(FINGERPRINTS.to_owned(), fingerprints.into_bytes());
    for (path, facts) in recorded_facts(inputs.golden)? {
        plans(&path, &facts, &rendered, &mut files)?;
    }
    if inputs.with_schemas {
        for kind in Kind::ALL {
            files.insert(format!("{SCHEMAS}/{kind}.json"), schema::text(*kind)?.into_bytes());
        }
    }
    Ok(files)
}

/// The plain files of a folder that may be absent, sorted.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let listed = match std::fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::io("read the folder", folder, &error)),
    };
    let mut paths = Vec::new();
    for entry in listed {
        paths.push(entry.map_err(|error| Failure::io("read the folder", folder, &error))?.path());
        if paths.len() > MAX_ENTRIES {
            let message = format!("{} holds more than {MAX_ENTRIES} entries", folder.display());
            return Err(Failure::because(Code::LimitExceeded, message));
        }
    }
    paths.sort();
    Ok(paths)
}

/// The last part of a path, as a name that is safe in a record's path.
fn name_of(path: &Path) -> Result<Name, Failure> {
    let name = path.file_stem().filter(|_| path.is_file()).or(path.file_name()).unwrap_or(path.as_os_str());
    let wrong = |why: String| Failure::because(Code::BadName, format!("{}: {why}", path.display()));
    let text = name.to_str().ok_or_else(|| wrong("the name is not UTF-8".to_owned()))?;
    text.parse().map_err(|error: autonomy_schema::path::PathError| wrong(error.to_string()))
}

/// Artifacts that are rendered from a file of the records, as their source is built and differs between machines.
fn stand_ins(golden: &Path) -> Result<StandIns, Failure> {
    let mut stand_ins = StandIns::new();
    for path in entries(&golden.join("stand-ins"))? {
        let text = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let name = text
            .parse::<Name>()
            .map_err(|error| Failure::because(Code::BadName, format!("{}: {error}", path.display())))?;
        ui::err(&format!("golden: artifact {name} is rendered from its stand-in {}\n", path.display()));
        stand_ins.insert(name, path);
    }
    Ok(stand_ins)
}

/// The overlays by name, or the folder itself.
fn overlays(manifests: &Path) -> Result<Vec<(Name, PathBuf)>, Failure> {
    let is_source = |path: &PathBuf| path.join("manifest.yaml").exists();
    let mut found: Vec<PathBuf> = entries(&manifests.join("overlays"))?.into_iter().filter(is_source).collect();
    if found.is_empty() {
        found.push(manifests.to_path_buf());
    }
    found.into_iter().map(|path| Ok((name_of(&path)?, path))).collect()
}

/// Renders every overlay, on every core; each file behind them is read once. The first failure in the order of the
/// names is told.
fn render_all(overlays: &[(Name, PathBuf)], stand_ins: &StandIns) -> Result<BTreeMap<Name, Rendered>, Failure> {
    let (reader, next) = (Reader::default(), AtomicUsize::new(0));
    let done: Mutex<BTreeMap<Name, Result<Rendered, Failure>>> = Mutex::default();
    let bar = ui::progress_count(overlays.len() as u64, "rendering");
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(overlays.len());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((name, folder)) = overlays.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let rendered = Source::load(folder, stand_ins).and_then(|source| build(&source, &reader));
                    done.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), rendered);
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.into_iter().map(|(name, rendered)| Ok((name, rendered?))).collect()
}

/// Measures files without copying them, each once however many overlays name it.
#[derive(Default)]
struct Reader {
    known: Mutex<BTreeMap<PathBuf, Measured>>,
}

impl Measure for Reader {
    fn measure(&self, artifact: &SourcedArtifact<'_>) -> Result<Measured, Unmeasured> {
        let key = artifact.path.canonicalize().map_err(Unmeasured::Source)?;
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(known.clone());
        }
        let (mut file, _size) = files::open_regular(&key).map_err(Unmeasured::Source)?;
        let measured = segments::measure(&mut file, lock::MAX_ARTIFACT_BYTES)?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, measured.clone());
        Ok(measured)
    }

    fn measure_tree(&self, artifact: &SourcedArtifact<'_>) -> Result<MeasuredTree, Unmeasured> {
        measure_tree(artifact)
    }
}

/// Canonical JSON on many lines, so that a diff shows the field.
fn pretty(bytes: &[u8]) -> Result<Vec<u8>, Failure> {
    let broken = |error: serde_json::Error| Failure::because(Code::BadValue, error.to_string());
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(broken)?;
    let mut text = serde_json::to_vec_pretty(&value).map_err(broken)?;
    text.push(b'\n');
    Ok(text)
}

/// The facts on record.
fn recorded_facts(golden: &Path) -> Result<Vec<(PathBuf, Facts)>, Failure> {
    let files = entries(&golden.join("facts"))?.into_iter();
    files.map(|path| node::facts_file(&path).map(|facts| (path, facts))).collect()
}

/// The plans of every overlay that is for the node.
fn plans(
    path: &Path,
    facts: &Facts,
    rendered: &BTreeMap<Name, Rendered>,
    files: &mut BTreeMap<String, Vec<u8>>,
) -> Result<(), Failure> {
    let (name, about) = (name_of(path)?, node_of(facts));
    let for_it = |set: &Rendered| autonomy_trust::scope_reasons(&set.manifest, &about).is_empty();
    let mut found = false;
    for (overlay, set) in rendered.iter().filter(|(_, set)| for_it(set)) {
        found = true;
        files.insert(format!("{PLANS}/{name}.{overlay}.txt"), plan_text(overlay, set, facts).into_bytes());
    }
    if found {
        return Ok(());
    }
    let message = format!("{}: no overlay is for node `{}`", path.display(), about.node_id);
    let reason = Reason::new(Code::ScopeMismatch, message);
    Err(Failure::refused(reason.with_remedy("remove the facts, or widen the scope of an overlay"), false))
}

/// The plan at the clock of the facts, with what would refuse it.
fn plan_text(overlay: &Name, set: &Rendered, facts: &Facts) -> String {
    let mut how = Foresight { trust: None, policies: &BTreeMap::new(), clock: None };
    let source = InMemory { overlay, set };
    let (mut text, reasons) = match foresee(&source, facts.clone(), &mut how) {
        Ok(Foreseen { doc, reasons }) => (render::text(&doc, &Texts::default(), Style::default()), reasons),
        Err(reasons) => (String::new(), reasons.as_slice().to_vec()),
    };
    for (at, reason) in reasons.iter().enumerate() {
        let gap = if at == 0 && !text.is_empty() { "\n" } else { "" };
        let _ = writeln!(text, "{gap}{}", ui::printable(&reason.to_string()).replace('\n', "\\n"));
    }
    text
}

/// A rendered set that was never written: a plan reads its documents, and of its artifacts only that they are there.
struct InMemory<'a> {
    overlay: &'a Name,
    set: &'a Rendered,
}

impl InMemory<'_> {
    fn tree_index(&self, path: &str) -> Option<&Vec<u8>> {
        self.set.inputs.trees.iter().find(|(name, _)| set::tree_index(name) == path).map(|(_, index)| index)
    }
}

impl SetSource for InMemory<'_> {
    fn list(&self) -> Result<Vec<SourceFile>, SourceError> {
        let mut sizes = set::files(&self.set.manifest);
        let known = known_contents(&self.set.manifest, self as &dyn SetSource);
        sizes.extend(known.files.into_iter().map(|content| (content.path.to_string(), content.pins.size)));
        sizes.insert(set::MANIFEST.to_owned(), self.set.bytes.len() as u64);
        let signatures = [set::MANIFEST_SIGNATURES, set::LOCK_SIGNATURES];
        let files = sizes.into_iter().filter(|(path, _)| !signatures.contains(&path.as_str()));
        let file = |(path, size)| SourceFile { path, kind: SourceKind::File, size, identity: None };
        Ok(files.map(file).collect())
    }

    fn open(&self, path: &RelPath) -> Result<Box<dyn Read + Send>, SourceError> {
        let bytes = match path.as_str() {
            set::MANIFEST => &self.set.bytes,
            set::LOCK => &self.set.inputs.lock.bytes,
            set::POLICY => &self.set.policy,
            other => self.tree_index(other).ok_or_else(|| SourceError::Missing(other.to_owned()))?,
        };
        Ok(Box::new(Cursor::new(bytes.clone())))
    }

    fn describe(&self) -> String {
        self.overlay.to_string()
    }
}
