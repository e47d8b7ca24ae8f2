//! `autonomy lock`: what an agent release is made of, bound into one fingerprint.

use std::path::{Path, PathBuf};

use autonomy_schema::document::{self, MAX_DOCUMENT_BYTES};
use autonomy_schema::lock::{Lock, LockedInputs, LockedPolicy};
use autonomy_schema::manifest::semver_text::Version;
use autonomy_schema::{Code, Document as _, Reason, Reasons, Sha256, StateManifest, segments, set};
use clap::Subcommand;

use crate::failure::{Failure, exit};
use crate::{files, ui};

/// Largest artifact: its segment index (a 400th) is held in memory.
pub(crate) const MAX_ARTIFACT_BYTES: u64 = 64 << 30;
/// Largest prompt or tool inputs.
pub(crate) const MAX_INPUT_BYTES: u64 = 64 << 20;

/// `autonomy lock`.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Build a lock from the files that it binds.
    Build(Build),
    /// Print the behavioral fingerprint of a lock.
    Fingerprint(File),
    /// Check a lock's form and fingerprint, and with `--dir` the files that it binds.
    Verify(Verify),
}

/// `autonomy lock build`.
#[derive(clap::Args)]
pub(crate) struct Build {
    /// The agent.
    #[arg(long, value_name = "FILE")]
    agent: PathBuf,
    /// The policy bundle.
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// The prompt.
    #[arg(long, value_name = "FILE")]
    prompt: Option<PathBuf>,
    /// The tool inputs.
    #[arg(long, value_name = "FILE")]
    tool_inputs: Option<PathBuf>,
    /// Where to write the lock.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// A lock file.
#[derive(clap::Args)]
pub(crate) struct File {
    /// The lock.
    file: PathBuf,
}

/// `autonomy lock verify`.
#[derive(clap::Args)]
pub(crate) struct Verify {
    /// The lock.
    file: PathBuf,
    /// A rendered set; its agent, policy and manifest must be what the lock says.
    #[arg(long, value_name = "SET")]
    dir: Option<PathBuf>,
}

pub(crate) fn run(command: &Command) -> Result<u8, Failure> {
    match command {
        Command::Build(args) => build(args),
        Command::Fingerprint(args) => {
            let (lock, _bytes) = read_lock(&args.file)?;
            ui::out(&format!("{}\n", lock.behavioral_fingerprint));
            Ok(exit::DONE)
        }
        Command::Verify(args) => verify(args),
    }
}

fn build(args: &Build) -> Result<u8, Failure> {
    let agent = digest(&args.agent)?;
    let policy = files::read(&args.policy, set::MAX_POLICY_BYTES)?;
    let policy = LockedPolicy { digest: Sha256::of(&policy), semver: semver_of(&args.policy, &policy)? };
    let input = |path: &Option<PathBuf>| {
        let bytes = path.as_ref().map(|path| files::read(path, MAX_INPUT_BYTES)).transpose();
        bytes.map(|bytes| Sha256::of(&bytes.unwrap_or_default()))
    };
    let inputs = LockedInputs { prompt_hash: input(&args.prompt)?, tool_inputs_hash: input(&args.tool_inputs)? };
    let unwritable = |error| Failure::because(Code::BadValue, format!("cannot write the lock: {error}"));
    let lock = Lock::new(agent, policy, inputs).map_err(unwritable)?;
    files::replace(&args.out, &lock.to_canonical().map_err(unwritable)?)?;
    ui::out(&format!(
        "lock {}\n  fingerprint {}\n  agent       {}\n  policy      {} ({})\n",
        ui::printable(&args.out.display().to_string()),
        lock.behavioral_fingerprint,
        lock.agent_artifact.digest,
        lock.policy_bundle.digest,
        lock.policy_bundle.semver
    ));
    Ok(exit::DONE)
}

fn verify(args: &Verify) -> Result<u8, Failure> {
    let (lock, bytes) = read_lock(&args.file)?;
    let place = ui::printable(&args.file.display().to_string());
    let mut text = format!("lock {place}: canonical, fingerprint {}\n", lock.behavioral_fingerprint);
    if let Some(dir) = &args.dir {
        Reasons::check(against_set(&lock, &bytes, dir)?)?;
        text.push_str("  agent, policy and manifest of the set are those of the lock\n");
    }
    text.push_str("  signatures are not checked here; `autonomy verify` does\n");
    ui::out(&text);
    Ok(exit::DONE)
}

/// How the files of a set differ from what the lock binds.
fn against_set(lock: &Lock, bytes: &[u8], dir: &Path) -> Result<Vec<Reason>, Failure> {
    let manifest = files::read(&dir.join(set::MANIFEST), MAX_DOCUMENT_BYTES as u64)?;
    let manifest = document::parse::<StateManifest>(&manifest)?;
    let mut reasons = Vec::new();
    let mut differs = |what: &str, found: Sha256, expected: Sha256| {
        if found != expected {
            let message = format!("{what} is {found}; the lock says {expected}");
            reasons.push(Reason::new(Code::DigestMismatch, message));
        }
    };
    let policy = files::read(&dir.join(set::POLICY), set::MAX_POLICY_BYTES)?;
    differs("the policy bundle", Sha256::of(&policy), lock.policy_bundle.digest);
    let agent = manifest.spec.artifacts.iter().find(|artifact| artifact.name.as_str() == "agent");
    if let Some(agent) = agent {
        differs("the agent", digest(&dir.join(set::artifact(&agent.path)))?, lock.agent_artifact.digest);
    } else {
        reasons.push(Reason::new(Code::MissingFile, "the manifest has no artifact named `agent`"));
    }
    let semver = semver_of(&dir.join(set::POLICY), &policy)?;
    if semver != lock.policy_bundle.semver {
        let message = format!("the policy bundle has version {semver}; the lock says {}", lock.policy_bundle.semver);
        reasons.push(Reason::new(Code::BadValue, message));
    }
    let pinned = &manifest.spec.lock;
    if pinned.digest != Sha256::of(bytes) || pinned.fingerprint != lock.behavioral_fingerprint {
        let message = format!("the manifest pins the lock {}, this one is {}", pinned.digest, Sha256::of(bytes));
        reasons.push(Reason::new(Code::DigestMismatch, message));
    }
    Ok(reasons)
}

/// Reads and checks a lock: canonical form, fields, fingerprint.
pub(crate) fn read_lock(path: &Path) -> Result<(Lock, Vec<u8>), Failure> {
    let bytes = files::read(path, MAX_DOCUMENT_BYTES as u64)?;
    let lock = document::parse::<Lock>(&bytes)?;
    Ok((lock, bytes))
}

/// The version that a bundle says of itself.
fn semver_of(path: &Path, bundle: &[u8]) -> Result<Version, Failure> {
    let bundle = autonomy_policy::Bundle::load(bundle).map_err(|error| {
        let mut reason = error.to_reason();
        reason.message = format!("{}: {}", path.display(), reason.message);
        Failure::refused(reason, false)
    })?;
    Ok(bundle.manifest().policy_bundle_version.clone())
}

/// SHA-256 of a file, with progress on a terminal.
fn digest(path: &Path) -> Result<Sha256, Failure> {
    let (file, size) = files::open_regular(path).map_err(|error| Failure::io("read", path, &error))?;
    let bar = ui::progress(Some(size), &format!("hashing {}", ui::printable(&path.display().to_string())));
    let measured = segments::measure(bar.wrap_read(file), MAX_ARTIFACT_BYTES);
    bar.finish_and_clear();
    let measured = measured.map_err(|error| match error {
        segments::MeasureError::Read(error) => Failure::io("read", path, &error),
        segments::MeasureError::TooLong(cap) => {
            Failure::because(Code::LimitExceeded, format!("{} is longer than {cap} bytes", path.display()))
        }
    })?;
    Ok(measured.sha256)
}
