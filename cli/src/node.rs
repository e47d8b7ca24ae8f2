//! What the verbs of a node share: the state root, the clock, who runs the verb, sources.

use std::path::{Path, PathBuf};

use autonomy_reconciler::{Actor, Options};
use autonomy_schema::document::{self, MAX_DOCUMENT_BYTES};
use autonomy_schema::{Blake3, Code, Name, StateManifest, Time};
use autonomy_stateroot::{DirSet, StateRoot, layout, read_capped};
use clap::ValueEnum;
use indicatif::ProgressBar;

use crate::Global;
use crate::failure::Failure;
use crate::ui;

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
    let manifest = document::parse(&bytes).map_err(|reasons| {
        corrupt(&reasons.as_slice().iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    })?;
    Ok((manifest, document::fingerprint(&bytes)))
}

/// The clock of this machine.
pub(crate) fn clock() -> Time {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Time::from_unix(now.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX)))
}

/// Opens a source. Until their issues land, a folder is the only kind.
pub(crate) fn source(text: &str) -> Result<DirSet, Failure> {
    DirSet::open(Path::new(text)).map_err(|error| Failure::refused(error.to_reason(), false))
}

/// Who runs the verb.
pub(crate) fn actor(verb: &str, clock: Time) -> Actor {
    Actor { who: format!("uid:{}", nix::unistd::getuid()), verb: verb.to_owned(), clock }
}

/// Progress of hashing.
pub(crate) fn hashing() -> ProgressBar {
    ui::progress(Some(0), "verifying")
}

/// Options of a plan on this machine.
pub(crate) fn options(clock: Time, verify_content: bool, progress: &dyn Fn(u64, u64)) -> Options<'_> {
    Options { clock, verify_content, os_root: Path::new("/"), progress }
}

/// Moves a bar.
pub(crate) fn advance(bar: &ProgressBar, done: u64, total: u64) {
    bar.set_length(total);
    bar.set_position(done);
}

/// Reads a small file that the operator named, up to `cap` bytes.
pub(crate) fn read_file(path: &Path, cap: u64) -> Result<Vec<u8>, Failure> {
    use std::io::Read as _;
    let file = std::fs::File::open(path).map_err(|error| Failure::io("open", path, &error))?;
    let mut bytes = Vec::new();
    file.take(cap + 1).read_to_end(&mut bytes).map_err(|error| Failure::io("read", path, &error))?;
    if bytes.len() as u64 > cap {
        let message = format!("{} is longer than {cap} bytes", path.display());
        return Err(Failure::because(Code::DocumentTooLarge, message));
    }
    Ok(bytes)
}
