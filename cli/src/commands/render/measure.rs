//! The files behind a manifest: each is read once, measured while it is read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use autonomy_policy::BuildOptions;
use autonomy_schema::author::{AuthoredArtifact, BuiltLock, BuiltPolicy, Inputs};
use autonomy_schema::lock::{Lock, LockedInputs, LockedPolicy};
use autonomy_schema::manifest::ArtifactType;
use autonomy_schema::segments::{self, MeasureError, Measured};
use autonomy_schema::{Code, Document as _, Mode, Name, Reason, Sha256, set};
use indicatif::ProgressBar;

use super::output::Staging;
use super::source::{Source, SourcedArtifact};
use super::tree::{self, MeasuredTree, TreeFile};
use crate::commands::{lock, policy};
use crate::failure::Failure;
use crate::{files, ui};

/// What reads an artifact: a copier that leaves it in the set, or one that only looks.
pub(crate) trait Measure {
    /// Reads the file of an artifact once, at most [`lock::MAX_ARTIFACT_BYTES`] of it.
    fn measure(&self, artifact: &SourcedArtifact<'_>) -> Result<Measured, Unmeasured>;
    /// Reads the files of a tree once.
    fn measure_tree(&self, artifact: &SourcedArtifact<'_>) -> Result<MeasuredTree, Unmeasured>;
}

/// Why an artifact was not measured.
pub(crate) enum Unmeasured {
    /// Its file cannot be read.
    Source(io::Error),
    /// Its file is longer than this cap.
    TooLong(u64),
    /// What lies below its folder cannot be read.
    Below(PathBuf, io::Error),
    /// What it holds cannot be part of a set.
    Wrong(Code, String),
    /// The set's folder refused its bytes.
    Sink(io::Error),
    /// Something else is at fault.
    Failed(Failure),
}

impl From<MeasureError> for Unmeasured {
    fn from(error: MeasureError) -> Self {
        match error {
            MeasureError::Read(error) => Self::Source(error),
            MeasureError::TooLong(cap) => Self::TooLong(cap),
        }
    }
}

/// Measures the artifacts, builds policy bundle and lock; gives what is to be pinned, and the bundle's bytes.
pub(super) fn measure(source: &Source, measure: &dyn Measure) -> Result<(Inputs, Vec<u8>), Failure> {
    let (mut artifacts, mut trees) = (BTreeMap::new(), BTreeMap::new());
    for artifact in source.artifacts() {
        let name = artifact.authored.name.clone();
        let failed = |error| unmeasured(source, &artifact, error);
        match artifact.authored.kind {
            ArtifactType::File => {
                artifacts.insert(name, measure.measure(&artifact).map_err(failed)?);
            }
            ArtifactType::Tree => {
                let MeasuredTree { payload, index } = measure.measure_tree(&artifact).map_err(failed)?;
                artifacts.insert(name.clone(), payload);
                trees.insert(name, index);
            }
        }
    }
    let bundle = build_policy(source)?;
    let policy = BuiltPolicy { size: bundle.len() as u64, digest: Sha256::of(&bundle) };
    let lock = match &source.authored.spec.lock {
        Some(path) => existing_lock(source, path, &artifacts, &policy)?,
        None => build_lock(source, &artifacts, &policy)?,
    };
    Ok((Inputs { artifacts, trees, policy, lock }, bundle))
}

fn unmeasured(source: &Source, artifact: &SourcedArtifact<'_>, error: Unmeasured) -> Failure {
    match error {
        Unmeasured::Source(error) => source.failure(vec![source.unreadable_artifact(artifact, &error)]),
        Unmeasured::TooLong(cap) => {
            let message = format!("`{}`: {} is longer than {cap} bytes", artifact.field, artifact.path.display());
            source.failure(vec![source.problem(&artifact.field, Code::LimitExceeded, message)])
        }
        Unmeasured::Below(path, error) => {
            let message = format!("`{}`: {} cannot be read: {error}", artifact.field, path.display());
            source.failure(vec![source.problem(&artifact.field, Code::IoError, message)])
        }
        Unmeasured::Wrong(code, message) => {
            let message = format!("`{}`: {message}", artifact.field);
            source.failure(vec![source.problem(&artifact.field, code, message)])
        }
        Unmeasured::Sink(error) => Failure::io("write", Path::new(artifact.authored.path.as_str()), &error),
        Unmeasured::Failed(failure) => failure,
    }
}

/// Copies artifacts into the set while they are measured.
pub(super) struct Copier<'a> {
    staging: &'a Staging,
    bar: ProgressBar,
}

impl<'a> Copier<'a> {
    /// The bar's end is the sum of the files' sizes, as far as they can be told.
    pub(super) fn new(source: &Source, staging: &'a Staging) -> Self {
        let size = |artifact: &SourcedArtifact<'_>| match artifact.authored.kind {
            ArtifactType::File => artifact.path.metadata().map_or(0, |metadata| metadata.len()),
            ArtifactType::Tree => {
                tree::look_through(artifact).map_or(0, |files| files.iter().map(|file| file.size).sum())
            }
        };
        let total = source.artifacts().map(|artifact| size(&artifact)).sum();
        Self { staging, bar: ui::progress(Some(total), "measuring artifacts") }
    }

    /// Takes the bar away.
    pub(super) fn finish(self) {
        self.bar.finish_and_clear();
    }
}

impl Measure for Copier<'_> {
    fn measure(&self, artifact: &SourcedArtifact<'_>) -> Result<Measured, Unmeasured> {
        let (from, _size) = files::open_regular(&artifact.path).map_err(Unmeasured::Source)?;
        let AuthoredArtifact { path, mode, .. } = artifact.authored;
        let name = set::artifact(path);
        let to = self.staging.create(&name).map_err(Unmeasured::Failed)?;
        let mut copying = Copying { from: self.bar.wrap_read(from), to, failed: None };
        let measured = segments::measure(&mut copying, lock::MAX_ARTIFACT_BYTES);
        if let Some(error) = copying.failed {
            return Err(Unmeasured::Failed(Failure::io("write", &self.staging.path(&name), &error)));
        }
        let measured = measured?;
        self.staging.set_mode(&name, mode.unwrap_or(Mode::FILE)).map_err(Unmeasured::Failed)?;
        Ok(measured)
    }

    fn measure_tree(&self, artifact: &SourcedArtifact<'_>) -> Result<MeasuredTree, Unmeasured> {
        let folder = set::artifact(&artifact.authored.path);
        let files = tree::look_through(artifact)?;
        let sink = |file: &TreeFile| {
            let name = format!("{folder}/{}", file.path);
            let to = self.staging.create(&name).map_err(Unmeasured::Failed)?;
            self.staging.set_mode(&name, file.mode).map_err(Unmeasured::Failed)?;
            Ok(Some(to))
        };
        let measured = tree::measure(files, &sink, &|bytes| self.bar.inc(bytes))?;
        let name = set::tree_index(&artifact.authored.name);
        self.staging.write(&name, &measured.index).map_err(Unmeasured::Failed)?;
        Ok(measured)
    }
}

/// A reader that writes what it reads, so that the bytes that are hashed are the bytes that land in the set.
struct Copying<R> {
    from: R,
    to: File,
    /// A write error, which is not the source's fault.
    failed: Option<io::Error>,
}

impl<R: Read> Read for Copying<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        match self.to.write_all(&buffer[..count]) {
            Ok(()) => Ok(count),
            Err(error) => {
                let kind = error.kind();
                self.failed = Some(error);
                Err(kind.into())
            }
        }
    }
}

fn build_policy(source: &Source) -> Result<Vec<u8>, Failure> {
    let (metadata, spec) = (&source.authored.metadata, &source.authored.spec);
    let field = "spec.policy.source";
    let folder = source.path(field, &spec.policy.source);
    if let Err(error) = folder.metadata() {
        return Err(source.failure(vec![source.unreadable(field, &spec.policy.source, &error)]));
    }
    let files = policy::read_folder(&folder)?;
    let version = spec.policy.version.as_ref().unwrap_or(&spec.release.version);
    let options = BuildOptions {
        name: spec.policy.name.as_ref().unwrap_or(&metadata.name).clone(),
        version: version.clone(),
        required_runtime_version: spec.policy.required_runtime_version.clone(),
        // Not SOURCE_DATE_EPOCH: the manifest has a time of its own, the same on every machine.
        created_at: metadata.issued_at,
    };
    autonomy_policy::build(&files, &options).map_err(|error| {
        let Reason { code, message, .. } = policy::refusal(&error);
        source.failure(vec![source.problem(field, code, format!("`{field}`: {}: {message}", folder.display()))])
    })
}

/// The agent's digest; that there is one was checked when the source was loaded.
fn agent(artifacts: &BTreeMap<Name, Measured>) -> Option<Sha256> {
    artifacts.iter().find(|(name, _)| name.as_str() == "agent").map(|(_, file)| file.sha256)
}

fn build_lock(
    source: &Source,
    artifacts: &BTreeMap<Name, Measured>,
    policy: &BuiltPolicy,
) -> Result<BuiltLock, Failure> {
    let spec = &source.authored.spec;
    let input = |field: &str, value: &Option<String>| match value {
        None => Ok(Sha256::of(b"")),
        Some(value) => {
            let path = source.path(field, value);
            files::open_regular(&path)
                .map_err(|error| source.failure(vec![source.unreadable(field, value, &error)]))?;
            files::read(&path, lock::MAX_INPUT_BYTES).map(|bytes| Sha256::of(&bytes))
        }
    };
    let inputs = LockedInputs {
        prompt_hash: input("spec.inputs.prompt", &spec.inputs.prompt)?,
        tool_inputs_hash: input("spec.inputs.toolInputs", &spec.inputs.tool_inputs)?,
    };
    let semver = spec.policy.version.as_ref().unwrap_or(&spec.release.version).clone();
    let agent = agent(artifacts).unwrap_or_else(|| Sha256::of(b""));
    let unwritable = |error| Failure::because(Code::BadValue, format!("cannot write the lock: {error}"));
    let lock = Lock::new(agent, LockedPolicy { digest: policy.digest, semver }, inputs).map_err(unwritable)?;
    let bytes = lock.to_canonical().map_err(unwritable)?;
    Ok(BuiltLock { lock, bytes })
}

/// A lock that the author made: it must bind the very files that are rendered.
fn existing_lock(
    source: &Source,
    value: &str,
    artifacts: &BTreeMap<Name, Measured>,
    policy: &BuiltPolicy,
) -> Result<BuiltLock, Failure> {
    let field = "spec.lock";
    let path = source.path(field, value);
    files::open_regular(&path).map_err(|error| source.failure(vec![source.unreadable(field, value, &error)]))?;
    let (lock, bytes) = lock::read_lock(&path)?;
    let mut problems = Vec::new();
    let bound = [
        ("agent", agent(artifacts), lock.agent_artifact.digest),
        ("policy bundle", Some(policy.digest), lock.policy_bundle.digest),
    ];
    for (what, found, expected) in bound {
        if found != Some(expected) {
            let found = found.map_or_else(|| "absent".to_owned(), |digest| digest.to_string());
            let message = format!("`{field}`: {} binds the {what} {expected}; this one is {found}", path.display());
            problems.push(source.problem(field, Code::DigestMismatch, message));
        }
    }
    if problems.is_empty() { Ok(BuiltLock { lock, bytes }) } else { Err(source.failure(problems)) }
}
