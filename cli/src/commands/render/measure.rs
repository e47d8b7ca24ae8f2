//! The files behind a manifest: each is read once, measured while it is copied into the set.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write as _};

use autonomy_policy::BuildOptions;
use autonomy_schema::author::{AuthoredArtifact, BuiltLock, BuiltPolicy, Inputs};
use autonomy_schema::lock::{Lock, LockedInputs, LockedPolicy};
use autonomy_schema::manifest::ArtifactType;
use autonomy_schema::segments::{self, MeasureError, Measured};
use autonomy_schema::{Code, Document as _, Mode, Name, Reason, Sha256, set};
use indicatif::ProgressBar;

use super::output::Staging;
use super::source::Source;
use crate::commands::{lock, policy};
use crate::failure::Failure;
use crate::{files, ui};

/// Fills the set with artifacts, segment indices and policy bundle; gives what is to be pinned.
pub(super) fn measure(source: &Source, staging: &Staging) -> Result<Inputs, Failure> {
    let artifacts = copy_artifacts(source, staging)?;
    let policy = build_policy(source, staging)?;
    let lock = match &source.authored.spec.lock {
        Some(path) => existing_lock(source, path, &artifacts, &policy)?,
        None => build_lock(source, &artifacts, &policy)?,
    };
    Ok(Inputs { artifacts, policy, lock })
}

fn copy_artifacts(source: &Source, staging: &Staging) -> Result<BTreeMap<Name, Measured>, Failure> {
    let artifacts = &source.authored.spec.artifacts;
    let files = artifacts.iter().enumerate().filter(|(_, artifact)| artifact.kind == ArtifactType::File);
    let total = files.clone().map(|(at, artifact)| {
        let path = source.path(&format!("spec.artifacts.{at}.source"), &artifact.source);
        path.metadata().map_or(0, |metadata| metadata.len())
    });
    let bar = ui::progress(Some(total.sum()), "measuring artifacts");
    let mut measured = BTreeMap::new();
    for (at, artifact) in files {
        let field = format!("spec.artifacts.{at}.source");
        let file = copy_artifact(source, staging, (&field, artifact), &bar)?;
        staging.write(&set::segment_index(&artifact.name), &file.index)?;
        measured.insert(artifact.name.clone(), file);
    }
    bar.finish_and_clear();
    Ok(measured)
}

fn copy_artifact(
    source: &Source,
    staging: &Staging,
    (field, artifact): (&str, &AuthoredArtifact),
    bar: &ProgressBar,
) -> Result<Measured, Failure> {
    let path = source.path(field, &artifact.source);
    let (from, _size) = files::open_regular(&path)
        .map_err(|error| source.failure(vec![source.unreadable(field, &artifact.source, &error)]))?;
    let (name, mode) = (set::artifact(&artifact.path), artifact.mode.unwrap_or(Mode::FILE));
    let mut copying = Copying { from: bar.wrap_read(from), to: staging.create(&name)?, failed: None };
    let measured = segments::measure(&mut copying, lock::MAX_ARTIFACT_BYTES);
    if let Some(error) = copying.failed {
        return Err(Failure::io("write", &staging.path(&name), &error));
    }
    let measured = measured.map_err(|error| match error {
        MeasureError::Read(error) => source.failure(vec![source.unreadable(field, &artifact.source, &error)]),
        MeasureError::TooLong(cap) => {
            let message = format!("`{field}`: {} is longer than {cap} bytes", path.display());
            source.failure(vec![source.problem(field, Code::LimitExceeded, message)])
        }
    })?;
    staging.set_mode(&name, mode)?;
    Ok(measured)
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

fn build_policy(source: &Source, staging: &Staging) -> Result<BuiltPolicy, Failure> {
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
    let bytes = autonomy_policy::build(&files, &options).map_err(|error| {
        let Reason { code, message, .. } = policy::refusal(&error);
        source.failure(vec![source.problem(field, code, format!("`{field}`: {}: {message}", folder.display()))])
    })?;
    staging.write(set::POLICY, &bytes)?;
    Ok(BuiltPolicy { size: bytes.len() as u64, digest: Sha256::of(&bytes) })
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
