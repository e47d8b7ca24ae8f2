//! Writing the corpus: what this program wrote before is replaced, what others added stays.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::Made;
use crate::case::{Files, MARK};
use crate::themes::Theme;
use crate::world::World;

/// The introduction; the table of cases follows it.
const README: &str = include_str!("readme.md");
/// How the node of the corpus is made.
const WORLD: &str = include_str!("world.yaml");

/// Writes everything below `folder`.
pub(crate) fn write(folder: &Path, world: &World, themes: &[Theme]) -> Made<()> {
    clear(folder)?;
    let mut files = Files::new();
    for (path, bytes) in &world.first {
        files.insert(format!("_world/files/first/{path}"), bytes.clone());
    }
    for (path, bytes) in &world.next {
        files.insert(format!("_world/files/set/{path}"), bytes.clone());
    }
    for (path, bytes) in world.signed_root(&world.root())? {
        files.insert(format!("_world/files/{path}"), bytes);
    }
    for key in world.keys.all() {
        files.insert(format!("_world/keys/{}.key", key.name()), key.private_pem()?.into_bytes());
        files.insert(format!("_world/keys/{}.pub", key.name()), key.public_pem().into_bytes());
    }
    files.insert("_world/world.yaml".to_owned(), WORLD.as_bytes().to_vec());
    let mut names = BTreeSet::new();
    for case in themes.iter().flat_map(|theme| &theme.cases) {
        if !names.insert(case.name) {
            return Err(format!("two cases are named `{}`", case.name).into());
        }
        files.insert(format!("{}/case.yaml", case.name), case.yaml().into_bytes());
        files.extend(case.files.iter().map(|(path, bytes)| (format!("{}/{path}", case.name), bytes.clone())));
    }
    files.insert("README.md".to_owned(), readme(themes).into_bytes());
    for (path, bytes) in files {
        let path = folder.join(path);
        if let Some(above) = path.parent() {
            fs::create_dir_all(above)?;
        }
        fs::write(path, bytes)?;
    }
    Ok(())
}

/// Removes the world and every case that bears the mark.
fn clear(folder: &Path) -> Made<()> {
    if !folder.is_dir() {
        return Ok(fs::create_dir_all(folder)?);
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let marked = fs::read_to_string(path.join("case.yaml")).is_ok_and(|text| text.starts_with(MARK));
        if marked || path.ends_with("_world") {
            fs::remove_dir_all(path)?;
        }
    }
    Ok(())
}

fn readme(themes: &[Theme]) -> String {
    let cases = || themes.iter().flat_map(|theme| &theme.cases);
    let controls = cases().filter(|case| case.exit == 0).count();
    let attacks = cases().count() - controls;
    let total = format!("\n## The cases\n\n{attacks} attacks, and {controls} controls that must be accepted.\n");
    let mut parts = vec![README.to_owned(), total];
    for theme in themes {
        parts.push(format!("\n### {}\n\n| case | exit | codes | story |\n| --- | --- | --- | --- |\n", theme.title));
        let rows: BTreeMap<_, _> = theme.cases.iter().map(|case| (case.name, case)).collect();
        parts.extend(rows.values().map(|case| {
            let codes: Vec<String> = case.codes.iter().map(|code| format!("`{code}`")).collect();
            let codes = if codes.is_empty() { "accepted".to_owned() } else { codes.join(" ") };
            let story = case.story.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
            format!("| `{}` | {} | {codes} | {story} |\n", case.name, case.exit)
        }));
    }
    parts.concat()
}
