//! The folder that a case is played in: the world, what the case puts over it, and what is done before the attack.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::case::{Case, Given, Step, World};
use super::child::{self, NODE, Ran, TEMPORARY};
use super::snapshot;
use super::swap::Ambush;

/// The folder of a corpus that all its cases share.
pub(super) const WORLD: &str = "_world";
/// Below it: what lies in the folder of every case.
const FILES: &str = "files";
/// Mode of a named pipe.
const PIPE_MODE: u32 = 0o600;

/// Why a case could not be played.
#[derive(Debug, thiserror::Error)]
pub(super) enum StageError {
    /// The machine failed.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A verb that prepares failed.
    #[error("{what} failed: {said}")]
    Verb {
        /// Which.
        what: String,
        /// Its last words.
        said: String,
    },
    /// A text to replace is not there once.
    #[error("`{text}` occurs {count} times in {path}; expected once")]
    Replace {
        /// The text.
        text: String,
        /// How often it is there.
        count: usize,
        /// In which file.
        path: String,
    },
}

/// For `map_err`: names what was tried.
pub(super) fn failed(action: impl Into<String>) -> impl FnOnce(io::Error) -> StageError {
    move |source| StageError::Io { action: action.into(), source }
}

/// State roots to copy, made once: making one draws keys and hashes.
pub(super) struct Nodes {
    folder: tempfile::TempDir,
}

impl Nodes {
    /// Makes a node, and one that runs the first release.
    pub(super) fn make(corpus: &Path, world: &World) -> Result<Self, StageError> {
        let folder = tempfile::Builder::new().prefix("autonomy-selftest-").tempdir();
        let nodes = Self { folder: folder.map_err(failed("make a temporary folder"))? };
        let place = nodes.folder.path().join("world");
        lay_out(corpus, &place)?;
        for (given, verb) in [(Given::Fresh, &world.init), (Given::Running, &world.activate)] {
            let ran = child::run(&place, verb).map_err(failed("start this program"))?;
            succeeded(&ran, "the world's `init` or `activate`")?;
            if let Some(kept) = nodes.of(given) {
                snapshot::copy(&place.join(NODE), &kept).map_err(failed("copy the state root"))?;
            }
        }
        Ok(nodes)
    }

    /// Where the state root lies that a case is given.
    fn of(&self, given: Given) -> Option<PathBuf> {
        match given {
            Given::Nothing => None,
            Given::Fresh => Some(self.folder.path().join("fresh")),
            Given::Running => Some(self.folder.path().join("running")),
        }
    }
}

/// A case that is ready to be played. Its folder goes away with it.
pub(super) struct Staged {
    folder: tempfile::TempDir,
    ambush: Option<Ambush>,
}

impl Staged {
    /// Lays the case out and does what it wants done before.
    pub(super) fn new(corpus: &Path, name: &str, case: &Case, nodes: &Nodes) -> Result<Self, StageError> {
        let folder = tempfile::Builder::new().prefix("case-").tempdir_in(nodes.folder.path());
        let mut staged = Self { folder: folder.map_err(failed("make a temporary folder"))?, ambush: None };
        lay_out(corpus, staged.path())?;
        let copy =
            |from: &Path, to: &Path| snapshot::copy(from, to).map_err(failed(format!("copy {}", from.display())));
        copy(&corpus.join(name), staged.path())?;
        if let Some(node) = nodes.of(case.given) {
            copy(&node, &staged.node())?;
        }
        for (at, step) in case.prepare.iter().enumerate() {
            staged.take(step, at)?;
        }
        Ok(staged)
    }

    /// The folder that the verb runs in.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The state root.
    pub(super) fn node(&self) -> PathBuf {
        self.path().join(NODE)
    }

    /// Ends what lies in wait; gives what went wrong with it.
    pub(super) fn lift(&mut self) -> Option<String> {
        let ambush = self.ambush.take()?;
        ambush.lift().err().map(|error| format!("the file was not swapped: {error}"))
    }

    fn take(&mut self, step: &Step, at: usize) -> Result<(), StageError> {
        if let Step::Run(verb) = step {
            let ran = child::run(self.path(), verb).map_err(failed("start this program"))?;
            return succeeded(&ran, &format!("`prepare.{at}`"));
        }
        let done = self.change(step);
        let done = done.map_err(failed(format!("carry out `prepare.{at}`")))?;
        done.map_or(Ok(()), Err)
    }

    /// A change of files. What the inner error says is the case's fault, and not the machine's.
    fn change(&mut self, step: &Step) -> io::Result<Option<StageError>> {
        let at = |path: &super::case::Inside| within(self.folder.path(), &self.folder.path().join(path.as_path()));
        match step {
            Step::Remove(path) => {
                // A file that is not there was misspelt.
                at(path)?.symlink_metadata()?;
                snapshot::remove(&at(path)?)?;
            }
            Step::Folder(path) => fs::create_dir_all(at(path)?)?,
            Step::Fifo(path) => {
                snapshot::remove(&at(path)?)?;
                let mode = rustix::fs::Mode::from_raw_mode(PIPE_MODE);
                rustix::fs::mknodat(rustix::fs::CWD, at(path)?, rustix::fs::FileType::Fifo, mode, 0)?;
            }
            Step::Symlink { path, to } => {
                snapshot::remove(&at(path)?)?;
                symlink(to, at(path)?)?;
            }
            Step::Copy { from, to } => {
                let (from, to) = (at(from)?, at(to)?);
                if from.is_dir() {
                    snapshot::copy(&from, &to)?;
                } else {
                    snapshot::remove(&to)?;
                    fs::copy(plain(from)?, to)?;
                }
            }
            Step::Write { path, text } => {
                let path = plain(at(path)?)?;
                above(&path)?;
                fs::write(path, text)?;
            }
            Step::Append { path, text, times } => {
                let mut file =
                    io::BufWriter::new(OpenOptions::new().append(true).create(true).open(plain(at(path)?)?)?);
                for _ in 0..*times {
                    file.write_all(text.as_bytes())?;
                }
                file.flush()?;
            }
            Step::Replace { path, text, with } => return replace(&plain(at(path)?)?, text, with),
            Step::Grow { path, bytes } => {
                let path = plain(at(path)?)?;
                above(&path)?;
                OpenOptions::new().write(true).create(true).truncate(false).open(path)?.set_len(*bytes)?;
            }
            Step::SwapWhenOpened { path, with } => self.ambush = Some(Ambush::lay(at(path)?, at(with)?)?),
            Step::Run(_) => {}
        }
        Ok(None)
    }
}

/// The path, when no link on the way to it leads out of the folder of the case.
fn within(folder: &Path, path: &Path) -> io::Result<PathBuf> {
    let there = path.ancestors().skip(1).find(|above| above.symlink_metadata().is_ok());
    let real = there.unwrap_or(folder).canonicalize()?;
    if real.starts_with(folder.canonicalize()?) {
        return Ok(path.to_owned());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "a link leads out of the folder of the case"))
}

/// The path, when no link lies there.
fn plain(path: PathBuf) -> io::Result<PathBuf> {
    if path.is_symlink() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a link lies where a file is to be written or read"));
    }
    Ok(path)
}

fn above(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

fn replace(path: &Path, text: &str, with: &str) -> io::Result<Option<StageError>> {
    let old = fs::read_to_string(path)?;
    let count = old.matches(text).count();
    if count != 1 {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Ok(Some(StageError::Replace { text: text.to_owned(), count, path: name }));
    }
    File::create(path)?.write_all(old.replace(text, with).as_bytes())?;
    Ok(None)
}

/// What lies in the folder of every case.
fn lay_out(corpus: &Path, place: &Path) -> Result<(), StageError> {
    snapshot::copy(&corpus.join(WORLD).join(FILES), place).map_err(failed("copy the files of the world"))?;
    fs::create_dir(place.join(TEMPORARY)).map_err(failed("make a folder"))
}

fn succeeded(ran: &Ran, what: &str) -> Result<(), StageError> {
    if ran.exit == Some(0) && ran.killed.is_none() {
        return Ok(());
    }
    let last = ran.killed.as_deref().or_else(|| ran.stderr.lines().next()).unwrap_or("it said nothing");
    Err(StageError::Verb { what: what.to_owned(), said: last.to_owned() })
}
