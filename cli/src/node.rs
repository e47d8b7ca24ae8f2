//! What the verbs of a node share: the state root, the clock, who runs the verb, sources.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use autonomy_apply::{SERVICE_TIMEOUT, SystemRunner};
use autonomy_oci::{Reference, ReferenceError, Registry};
use autonomy_reconciler::{Actor, Asked, Options, Prepared, Reach, Source};
use autonomy_schema::document::{self, MAX_DOCUMENT_BYTES};
use autonomy_schema::facts::Facts;
use autonomy_schema::{Blake3, Code, Document as _, Name, Reason, Reasons, StateManifest, Time, set};
use autonomy_stateroot::hold::Suspension;
use autonomy_stateroot::{SetSource, StateRoot, layout, read_capped};
use autonomy_trust::Signed;
use clap::ValueEnum;
use indicatif::ProgressBar;

use crate::Global;
use crate::commands::sign::signatures_of;
use crate::failure::Failure;
use crate::{files, ui};

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Text,
    /// For scripts.
    Json,
}

/// The folder that the verb works on.
pub(crate) fn state_root_path(global: &Global) -> Result<&Path, Failure> {
    global
        .state_root
        .as_deref()
        .ok_or_else(|| Failure::Usage("no state root: give --state-root DIR, or set AUTONOMY_STATE_ROOT".to_owned()))
}

/// Opens the state root; INV-01 is checked here.
pub(crate) fn state_root(global: &Global) -> Result<(StateRoot, PathBuf), Failure> {
    let path = state_root_path(global)?;
    let root = StateRoot::open(path)?;
    let absolute = path.canonicalize().map_err(|error| Failure::io("resolve", path, &error))?;
    Ok((root, absolute))
}

/// The manifest of a generation. It was verified before it came there, so anything wrong with it is damage.
pub(crate) fn generation_manifest(root: &StateRoot, generation: &Name) -> Result<(StateManifest, Blake3), Failure> {
    let path = layout::generation_manifest(generation);
    let bytes = read_capped(root.disk(), &path, MAX_DOCUMENT_BYTES as u64);
    let bytes = bytes.map_err(|error| Failure::refused(error.to_reason(), false))?;
    let corrupt = |why: &str| Failure::because(Code::CorruptState, format!("`{path}`: {why}"));
    let bytes = bytes.ok_or_else(|| corrupt("it is missing, and `current` points to its generation"))?;
    let manifest = document::parse(&bytes).map_err(|reasons| corrupt(&reasons.one_line()))?;
    Ok((manifest, document::fingerprint(&bytes)))
}

/// Whether a folder, or the place where it would be made, lies in the state root.
pub(crate) fn lies_inside(folder: &Path, state_root: &Path) -> Result<bool, Failure> {
    let absolute = std::path::absolute(folder).map_err(|error| Failure::io("resolve", folder, &error))?;
    let existing = absolute.ancestors().find_map(|folder| folder.canonicalize().ok());
    Ok(existing.is_some_and(|folder| folder.starts_with(state_root)))
}

/// The clock of this machine.
pub(crate) fn clock() -> Time {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Time::from_unix(now.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX)))
}

/// An opened source, and where it keeps what was fetched for it.
pub(crate) struct Opened {
    set: Arc<dyn SetSource>,
    _workspace: Option<tempfile::TempDir>,
}

impl Drop for Opened {
    /// What is wrong with the medium is known when it was read.
    fn drop(&mut self) {
        for warning in self.set.warnings() {
            ui::warn(Some(&warning));
        }
    }
}

impl Opened {
    /// The set.
    pub(crate) fn set(&self) -> &dyn SetSource {
        &*self.set
    }

    /// The set, for those who keep it while they read it.
    pub(crate) fn shared(&self) -> Arc<dyn SetSource> {
        Arc::clone(&self.set)
    }
}

/// How a registry is reached. Credentials are those of docker's config file.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct RegistryArgs {
    /// Certificates (PEM) to trust for https, instead of the system's; for git, `GIT_SSL_CAINFO` says the same.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Speak https to a registry on this machine too; with others it is always spoken.
    #[arg(long)]
    tls: bool,
    /// How long a registry may be silent before it is given up, such as `2m` for a slow link.
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    patience: autonomy_schema::Duration,
}

impl RegistryArgs {
    /// The registry of a reference, ready to be asked.
    pub(crate) fn connect(&self, reference: &Reference) -> Result<Registry, Failure> {
        let connected = self.reach(None).registry(reference);
        connected.map_err(|reason| Failure::refused(reason, false))
    }

    fn reach(&self, state_root: Option<PathBuf>) -> Reach {
        Reach {
            ca_file: self.ca_file.clone(),
            git_credentials: None,
            tls: self.tls,
            patience: Some(Duration::from_millis(self.patience.millis())),
            cancel: None,
            state_root,
        }
    }
}

/// Reads a reference; what is none is a refusal with its reason.
pub(crate) fn reference(text: &str) -> Result<Reference, Failure> {
    text.parse().map_err(|error: ReferenceError| Failure::refused(error.to_reason(), false))
}

/// How remote sources are reached.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ReachArgs {
    #[command(flatten)]
    registry: RegistryArgs,
    /// Credentials for https, as git-credential-store writes them; without it, those of the user.
    #[arg(long, value_name = "FILE")]
    git_credentials: Option<PathBuf>,
}

impl ReachArgs {
    /// The registry of a reference, ready to be asked.
    pub(crate) fn connect(&self, reference: &Reference) -> Result<Registry, Failure> {
        self.registry.connect(reference)
    }

    /// The same for the reconciler.
    pub(crate) fn reach(&self, global: &Global) -> Reach {
        Reach { git_credentials: self.git_credentials.clone(), ..self.registry.reach(global.state_root.clone()) }
    }
}

/// Opens a source (DESIGN §12). What must be fetched goes into a folder that goes away again, so that verbs which write
/// nothing write nothing.
pub(crate) fn source(text: &str, reach: &ReachArgs, global: &Global) -> Result<Opened, Failure> {
    let source = Source::parse(text, reach.reach(global))?;
    if !source.fetches() {
        return Ok(Opened { set: Arc::from(source.open(Path::new(""), &|_| {})?), _workspace: None });
    }
    let workspace = tempfile::Builder::new().prefix("autonomy-").tempdir();
    let workspace = workspace.map_err(|error| Failure::io("make a folder in", &std::env::temp_dir(), &error))?;
    let bar = ui::progress(None, "fetching");
    let set = source.open(workspace.path(), &|bytes| bar.set_position(bytes));
    bar.finish_and_clear();
    Ok(Opened { set: Arc::from(set?), _workspace: Some(workspace) })
}

/// Where the loop keeps what it fetched: below `cache/`, which may be lost.
pub(crate) fn loop_workspace(state_root: &Path) -> PathBuf {
    state_root.join("cache/source")
}

/// The facts of this node.
pub(crate) fn facts(
    global: &Global,
    root: &StateRoot,
    now: Option<Time>,
    verify_content: bool,
) -> Result<Facts, Failure> {
    let options = options(global, now.unwrap_or_else(clock), verify_content, &|_, _| {});
    Ok(autonomy_reconciler::look(root, &options)?)
}

/// A plan on this node, with progress while files are hashed.
pub(crate) fn prepared(
    global: &Global,
    root: &StateRoot,
    source: &Opened,
    by: Option<&SignedFile>,
    now: Option<Time>,
    verify_content: bool,
) -> Result<Prepared, Failure> {
    let bar = hashing();
    let progress = |done, total| advance(&bar, done, total);
    let options = options(global, now.unwrap_or_else(clock), verify_content, &progress);
    let asked = Asked { saved: None, policy_override: by.map(SignedFile::signed) };
    let prepared = autonomy_reconciler::prepare_as(root, source.set(), &asked, &options);
    bar.finish_and_clear();
    Ok(prepared?)
}

/// Reads what `autonomy facts` wrote.
pub(crate) fn facts_file(path: &Path) -> Result<Facts, Failure> {
    let bytes = files::read(path, Facts::MAX_BYTES as u64)?;
    // `autonomy facts` ends its line, canonical JSON does not.
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    document::parse(bytes).map_err(|reasons: Reasons| {
        let at = |reason: Reason| Reason { message: format!("{}: {}", path.display(), reason.message), ..reason };
        Reasons::new(reasons.as_slice().iter().cloned().map(at).collect()).unwrap_or(reasons).into()
    })
}

/// A document and the signatures beside it.
pub(crate) struct SignedFile {
    pub(crate) bytes: Vec<u8>,
    pub(crate) signatures: Vec<u8>,
}

impl SignedFile {
    /// Both, to be verified.
    pub(crate) fn signed(&self) -> Signed<'_> {
        Signed { bytes: &self.bytes, signatures: &self.signatures }
    }
}

/// Reads a policy override.
pub(crate) fn override_file(path: &Path) -> Result<SignedFile, Failure> {
    signed_file(path, MAX_DOCUMENT_BYTES as u64)
}

/// Reads a file of at most `cap` bytes. Without its signature file it is signed by nobody: that is what the verifier then says.
pub(crate) fn signed_file(path: &Path, cap: u64) -> Result<SignedFile, Failure> {
    let bytes = files::read(path, cap)?;
    let signatures = files::read_if_there(&signatures_of(path), set::MAX_SIGNATURES_BYTES)?.unwrap_or_default();
    Ok(SignedFile { bytes, signatures })
}

/// Who runs this process.
pub(crate) fn who() -> String {
    format!("uid:{}", nix::unistd::getuid())
}

/// Who runs the verb.
pub(crate) fn actor(verb: &str, clock: Time) -> Actor {
    Actor { who: who(), verb: verb.to_owned(), clock }
}

/// Progress of hashing.
pub(crate) fn hashing() -> ProgressBar {
    ui::progress(Some(0), "verifying")
}

/// Options of a plan on this machine.
pub(crate) fn options<'a>(
    global: &'a Global,
    clock: Time,
    verify_content: bool,
    progress: &'a dyn Fn(u64, u64),
) -> Options<'a> {
    Options { clock, verify_content, os_root: &global.os_root, progress, units: &autonomy_apply::unit_state }
}

/// Who runs services here, and rebuilds what lies outside the state root.
pub(crate) fn runner(global: &Global, state_root: &Path) -> SystemRunner {
    SystemRunner::new(state_root, &global.os_root, SERVICE_TIMEOUT)
}

/// Moves a bar.
pub(crate) fn advance(bar: &ProgressBar, done: u64, total: u64) {
    bar.set_length(total);
    bar.set_position(done);
}

/// Since when, by whom and why changes are held, as the end of a sentence.
pub(crate) fn suspension_text(suspension: Option<&Suspension>) -> String {
    let Some(Suspension { since, reason, owner }) = suspension else { return String::new() };
    let owner = owner.as_ref().map_or_else(String::new, |owner| format!(" by {owner}"));
    let reason = reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    format!(" since {since}{owner}{reason}")
}
