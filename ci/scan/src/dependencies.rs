//! Arrows (from `cargo metadata`) and closures (from `cargo tree`, per package, because feature unification can hand
//! a crate what its own manifest does not ask for).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::finding::{Finding, ScanError, run};
use crate::table::Table;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `null` for normal, else `dev` or `build`.
    kind: Option<String>,
    /// Set for path dependencies alone.
    path: Option<PathBuf>,
}

/// Proves the table for the workspace at `root`.
pub(crate) fn scan(root: &Path) -> Result<(Vec<Finding>, String), ScanError> {
    let table = Table::read(root)?;
    let metadata = metadata(root)?;
    let mut findings = table_findings(&table);
    let folders: BTreeMap<String, &Package> = metadata
        .packages
        .iter()
        .map(|package| (folder_of(package.manifest_path.parent(), &metadata.workspace_root), package))
        .collect();
    for (folder, package) in &folders {
        findings.extend(arrow_findings(folder, package, &table, &metadata.workspace_root));
    }
    let mut closures = 0;
    for (folder, banned) in &table.closures {
        if let Some(package) = folders.get(folder) {
            closures += 1;
            findings.extend(closure_findings(root, folder, package, banned)?);
        }
    }
    Ok((findings, format!("{} crates and {closures} closures", folders.len())))
}

fn metadata(root: &Path) -> Result<Metadata, ScanError> {
    let answer = run(&cargo(), &["metadata", "--format-version", "1", "--no-deps"], root)?;
    serde_json::from_slice(&answer).map_err(ScanError::Metadata)
}

/// Cargo names itself to what it runs.
fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_unset| "cargo".to_owned())
}

/// The folder of a crate relative to the workspace, as the table writes it; an outsider keeps its whole path.
fn folder_of(folder: Option<&Path>, workspace: &Path) -> String {
    let folder = folder.unwrap_or(workspace);
    folder.strip_prefix(workspace).unwrap_or(folder).to_string_lossy().into_owned()
}

/// The table must keep its own rule, also for the crates that do not exist yet.
fn table_findings(table: &Table) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (folder, row) in &table.crates {
        for import in &row.imports {
            let place = format!("ci/arrows.toml: crates.{folder}");
            match table.crates.get(import) {
                None => findings.push(Finding::at(place, "unknown-crate", format!("`{import}` is not in the table"))),
                Some(below) if below.floor >= row.floor => findings.push(Finding::at(
                    place,
                    "floor",
                    format!("`{import}` is on floor {}, not below floor {}", below.floor, row.floor),
                )),
                Some(_) => {}
            }
        }
    }
    for folder in table.closures.keys().filter(|folder| !table.crates.contains_key(*folder)) {
        let place = format!("ci/arrows.toml: closures.{folder}");
        findings.push(Finding::at(place, "unknown-crate", "is not in the table of crates"));
    }
    findings
}

fn arrow_findings(folder: &str, package: &Package, table: &Table, workspace: &Path) -> Vec<Finding> {
    let place = format!("{folder}/Cargo.toml");
    let Some(row) = table.crates.get(folder) else {
        return vec![Finding::at(place, "unknown-crate", format!("`{}` has no row in ci/arrows.toml", package.name))];
    };
    let mut findings = Vec::new();
    for dependency in package.dependencies.iter().filter(|dependency| dependency.kind.as_deref() != Some("dev")) {
        let Some(path) = &dependency.path else { continue };
        let target = folder_of(Some(path), workspace);
        match table.crates.get(&target) {
            None => findings.push(Finding::at(
                place.clone(),
                "unknown-crate",
                format!("imports `{}` from {target}, which has no row in ci/arrows.toml", dependency.name),
            )),
            Some(below) if below.floor >= row.floor => findings.push(Finding::at(
                place.clone(),
                "floor",
                format!("imports `{target}` (floor {}) from floor {}", below.floor, row.floor),
            )),
            Some(_) if !row.imports.contains(&target) => {
                findings.push(Finding::at(place.clone(), "arrow", format!("imports `{target}`, which is not allowed")));
            }
            Some(_) => {}
        }
    }
    findings
}

fn closure_findings(
    root: &Path,
    folder: &str,
    package: &Package,
    banned: &BTreeSet<String>,
) -> Result<Vec<Finding>, ScanError> {
    let answer = run(&cargo(), &["tree", "--package", &package.name, "-e", "normal", "--prefix", "none"], root)?;
    let answer = String::from_utf8_lossy(&answer);
    // A line is `name v1.2.3 (path) (*)`.
    let names: BTreeSet<&str> = answer.lines().filter_map(|line| line.split_whitespace().next()).collect();
    if !names.contains(package.name.as_str()) {
        let stderr = format!("the answer does not name `{}` itself", package.name);
        return Err(ScanError::Failed { command: "cargo tree".to_owned(), stderr });
    }
    let held = names.into_iter().filter(|name| banned.contains(*name));
    Ok(held.map(|name| Finding::at(folder, "closure", format!("`{name}` is among its dependencies"))).collect())
}
