//! Reading `ci/arrows.toml`: floors, arrows, and what a closure must not hold.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use toml_edit::{DocumentMut, Item, TableLike};

use crate::finding::ScanError;

/// The parsed table.
#[derive(Debug)]
pub(crate) struct Table {
    /// By folder, as in `schema` or `examples/agent`.
    pub(crate) crates: BTreeMap<String, Row>,
    /// Folder → package names that its closure must not hold.
    pub(crate) closures: BTreeMap<String, BTreeSet<String>>,
}

/// One crate.
#[derive(Debug)]
pub(crate) struct Row {
    /// The floor; imports lie below it.
    pub(crate) floor: i64,
    /// Folders of the crates that it may import.
    pub(crate) imports: BTreeSet<String>,
}

impl Table {
    /// Reads `ci/arrows.toml` below `root`.
    pub(crate) fn read(root: &Path) -> Result<Self, ScanError> {
        let path = root.join("ci/arrows.toml");
        let text = std::fs::read_to_string(&path).map_err(|source| ScanError::Read { path, source })?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, ScanError> {
        let document = text.parse::<DocumentMut>().map_err(|error| ScanError::Table(error.to_string()))?;
        let mut crates = BTreeMap::new();
        for (folder, item) in table(document.get("crates"), "crates")?.iter() {
            let row = table(Some(item), folder)?;
            let floor = row
                .get("floor")
                .and_then(Item::as_integer)
                .ok_or_else(|| ScanError::Table(format!("`crates.{folder}` has no whole number `floor`")))?;
            crates.insert(folder.to_owned(), Row { floor, imports: strings(row.get("imports"), folder)? });
        }
        let mut sets = BTreeMap::new();
        for (name, item) in table(document.get("sets"), "sets")?.iter() {
            sets.insert(name.to_owned(), strings(Some(item), name)?);
        }
        let mut closures = BTreeMap::new();
        for (folder, item) in table(document.get("closures"), "closures")?.iter() {
            let mut banned = BTreeSet::new();
            for set in strings(Some(item), folder)? {
                let names = sets
                    .get(&set)
                    .ok_or_else(|| ScanError::Table(format!("`closures.{folder}` names the unknown set `{set}`")))?;
                banned.extend(names.iter().cloned());
            }
            closures.insert(folder.to_owned(), banned);
        }
        Ok(Self { crates, closures })
    }
}

fn table<'a>(item: Option<&'a Item>, name: &str) -> Result<&'a dyn TableLike, ScanError> {
    item.and_then(Item::as_table_like).ok_or_else(|| ScanError::Table(format!("there is no table `{name}`")))
}

fn strings(item: Option<&Item>, name: &str) -> Result<BTreeSet<String>, ScanError> {
    let problem = || ScanError::Table(format!("`{name}` needs a list of strings"));
    let array = item.and_then(Item::as_array).ok_or_else(problem)?;
    array.iter().map(|value| value.as_str().map(str::to_owned).ok_or_else(problem)).collect()
}
