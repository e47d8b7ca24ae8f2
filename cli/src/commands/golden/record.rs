//! The files on record: read with caps, links refused, differences bounded.

use std::collections::BTreeMap;
use std::path::Path;

use autonomy_plan::render::{self, TextPair};
use autonomy_schema::document::MAX_DERIVED_BYTES;
use autonomy_schema::{Code, Reason};

use crate::failure::Failure;
use crate::files;

/// Rendered manifests and locks, one folder an overlay.
pub(super) const SETS: &str = "sets";
/// Plans of overlays for nodes.
pub(super) const PLANS: &str = "plans";
/// JSON Schemas of the tool.
pub(super) const SCHEMAS: &str = "schemas";
/// Fingerprints of all overlays.
pub(super) const FINGERPRINTS: &str = "fingerprints.txt";
/// Most files on record.
const MAX_FILES: usize = 20_000;

/// What is on record, by its path below the folder.
pub(super) fn read(golden: &Path) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let mut found = BTreeMap::new();
    for folder in [SETS, PLANS, SCHEMAS, FINGERPRINTS] {
        let path = golden.join(folder);
        if path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink()) {
            return Err(linked(&path));
        }
    }
    for folder in [SETS, PLANS, SCHEMAS] {
        walk(golden, folder, &mut found)?;
    }
    if let Some(bytes) = files::read_if_there(&golden.join(FINGERPRINTS), MAX_DERIVED_BYTES as u64)? {
        found.insert(FINGERPRINTS.to_owned(), bytes);
    }
    Ok(found)
}

fn walk(golden: &Path, below: &str, found: &mut BTreeMap<String, Vec<u8>>) -> Result<(), Failure> {
    let folder = golden.join(below);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::io("read the folder", &folder, &error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| Failure::io("read the folder", &folder, &error))?;
        let (path, kind) = (entry.path(), entry.file_type());
        let kind = kind.map_err(|error| Failure::io("look at", &path, &error))?;
        let Ok(name) = entry.file_name().into_string() else {
            return Err(Failure::because(Code::NotUtf8, format!("{} is not UTF-8", path.display())));
        };
        let name = format!("{below}/{name}");
        if kind.is_dir() {
            walk(golden, &name, found)?;
        } else if kind.is_file() {
            found.insert(name, files::read(&path, MAX_DERIVED_BYTES as u64)?);
        } else {
            return Err(linked(&path));
        }
        if found.len() > MAX_FILES {
            let message = format!("{} holds more than {MAX_FILES} files", golden.display());
            return Err(Failure::refused(Reason::new(Code::LimitExceeded, message), false));
        }
    }
    Ok(())
}

/// An update must not write where a link leads.
fn linked(path: &Path) -> Failure {
    let message = format!("{} is a symbolic link or special file; records are plain files", path.display());
    Failure::because(Code::SymlinkRefused, message)
}

/// A unified diff of a record and what the tool says now.
pub(super) fn difference(name: &str, recorded: Option<&Vec<u8>>, expected: Option<&Vec<u8>>) -> String {
    let text = |bytes: Option<&Vec<u8>>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let pair = TextPair {
        address: name.to_owned(),
        before: text(recorded).unwrap_or_default(),
        after: text(expected).unwrap_or_default(),
    };
    render::difference(&pair).into_iter().map(|line| line + "\n").collect()
}
