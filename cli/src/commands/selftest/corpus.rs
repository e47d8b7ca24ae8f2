//! A corpus on disk: `_world/` and one folder for each case.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use autonomy_schema::{Code, Name};

use super::case::{Case, World};
use super::stage::WORLD;
use crate::failure::Failure;

/// Most cases of a corpus.
const MAX_CASES: usize = 10_000;

/// Everything that a run needs, read before anything is played.
pub(super) struct Corpus {
    /// Where it lies.
    pub(super) folder: PathBuf,
    /// How its node is made.
    pub(super) world: World,
    /// By name.
    pub(super) cases: BTreeMap<String, Case>,
}

impl Corpus {
    /// Reads a corpus; of its cases only `only`, where that is given.
    pub(super) fn read(folder: &Path, only: Option<&str>) -> Result<Self, Failure> {
        // The verbs run in folders of their own.
        let folder = folder.canonicalize().map_err(|error| missing(folder, &error))?;
        if !folder.join(WORLD).is_dir() {
            let message = format!("{} is not a corpus: it has no folder `{WORLD}`", folder.display());
            return Err(Failure::because(Code::SourceNotFound, message));
        }
        let world = World::read(&folder.join(WORLD))?;
        let mut cases = BTreeMap::new();
        for name in names(&folder)? {
            if only.is_none_or(|only| only == name) {
                let case = Case::read(&folder.join(&name))?;
                cases.insert(name, case);
            }
        }
        match only {
            Some(only) if cases.is_empty() => {
                let message = format!("--only {only}: {} has no such case", folder.display());
                Err(Failure::Usage(crate::ui::printable(&message)))
            }
            None if cases.is_empty() => {
                Err(Failure::because(Code::SourceNotFound, format!("{} has no cases", folder.display())))
            }
            _ => Ok(Self { folder, world, cases }),
        }
    }
}

fn missing(folder: &Path, error: &std::io::Error) -> Failure {
    let message = format!(
        "there is no corpus in {}: {error}; run from a clone of the repository, or name one with --corpus",
        folder.display()
    );
    Failure::because(Code::SourceNotFound, message)
}

/// The folders of cases: every folder, save those whose names begin with `_` or `.`.
fn names(folder: &Path) -> Result<Vec<String>, Failure> {
    let failed = |error: std::io::Error| Failure::io("read the folder", folder, &error);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(['_', '.']) || !entry.file_type().map_err(failed)?.is_dir() {
            continue;
        }
        if name.parse::<Name>().is_err() {
            let message = format!("the folder `{}` of the corpus has no plain name", name.escape_default());
            return Err(Failure::because(Code::BadName, message));
        }
        names.push(name);
        if names.len() > MAX_CASES {
            return Err(Failure::because(Code::LimitExceeded, format!("the corpus has more than {MAX_CASES} cases")));
        }
    }
    Ok(names)
}
