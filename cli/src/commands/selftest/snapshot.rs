//! A state root as it lies on disk: copied for each case, and compared before and after.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use autonomy_schema::Blake3;

/// What a refused verb may write (DESIGN §12), as the first component of a path below the state root.
const MAY_CHANGE: [&str; 7] = ["audit", "telemetry", "metrics", "quarantine", "cache", "LOCK", "store.lock"];

/// Written before the first step of a change, and put back when the change is refused after that: only its bytes count.
const JOURNAL: &str = "journal/apply.json";

/// One entry of a state root.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// Type and permission bits.
    mode: u32,
    /// When it was written, in nanoseconds; 0 for what is touched on the way: the journal, and folders.
    written: i128,
    /// The digest of the bytes, or the text of a link.
    content: String,
}

/// Everything in a state root that a refusal must not change, by path.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Snapshot(BTreeMap<String, Entry>);

impl Snapshot {
    /// Looks at the folder `root`; one that does not exist holds nothing.
    pub(super) fn of(root: &Path) -> io::Result<Self> {
        let mut entries = BTreeMap::new();
        if root.symlink_metadata().is_ok() {
            look(root, String::new(), &mut entries)?;
        }
        Ok(Self(entries))
    }

    /// The paths that differ, each with how.
    pub(super) fn changes_to(&self, after: &Self) -> Vec<String> {
        let gone = self.0.keys().filter(|path| !after.0.contains_key(*path)).map(|path| format!("{path} is gone"));
        let others = after.0.iter().filter_map(|(path, now)| {
            let how = match self.0.get(path) {
                None => "is new",
                Some(before) if before == now => return None,
                Some(before) if before.mode != now.mode => "has another mode or type",
                Some(before) if before.content != now.content => "has other content",
                Some(_) => "was written again",
            };
            Some(format!("{path} {how}"))
        });
        gone.chain(others).collect()
    }
}

fn look(path: &Path, name: String, entries: &mut BTreeMap<String, Entry>) -> io::Result<()> {
    let metadata = path.symlink_metadata()?;
    let mut written = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    if name == JOURNAL {
        written = 0;
    }
    let content = if metadata.is_symlink() {
        fs::read_link(path)?.to_string_lossy().into_owned()
    } else if metadata.is_file() {
        Blake3::of(&fs::read(path)?).to_string()
    } else {
        written = 0;
        if metadata.is_dir() {
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                let below = entry.file_name().to_string_lossy().into_owned();
                if name.is_empty() && MAY_CHANGE.contains(&below.as_str()) {
                    continue;
                }
                let below = if name.is_empty() { below } else { format!("{name}/{below}") };
                look(&entry.path(), below, entries)?;
            }
        }
        String::new()
    };
    let name = if name.is_empty() { ".".to_owned() } else { name };
    entries.insert(name, Entry { mode: metadata.mode(), written, content });
    Ok(())
}

/// Copies a folder: files with their modes, links as links, and one file with two names as one file with two names, as
/// objects and generations share theirs.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    copy_folder(from, to, &mut BTreeMap::new())
}

fn copy_folder(from: &Path, to: &Path, seen: &mut BTreeMap<(u64, u64), PathBuf>) -> io::Result<()> {
    if !to.is_dir() {
        fs::create_dir(to)?;
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            copy_folder(&path, &target, seen)?;
            continue;
        }
        remove(&target)?;
        let identity = (metadata.dev(), metadata.ino());
        if metadata.is_symlink() {
            symlink(fs::read_link(&path)?, &target)?;
        } else if !metadata.is_file() {
            let message = format!("{} is no file, folder or link; let `prepare` make it", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        } else if let Some(first) = seen.get(&identity) {
            fs::hard_link(first, &target)?;
        } else {
            fs::copy(&path, &target)?;
            if metadata.nlink() > 1 {
                seen.insert(identity, target);
            }
        }
    }
    fs::set_permissions(to, from.metadata()?.permissions())
}

/// Removes whatever lies at `path`; nothing is right too.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    }
}
