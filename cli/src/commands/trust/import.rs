//! `autonomy trust import`: newer trust roots and a newer revocation list take effect on the node.

use std::path::PathBuf;

use autonomy_reconciler::Imported;
use serde_json::json;

use super::verify::open;
use crate::Global;
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::ui;

/// Take newer trust roots from a folder, one version at a time, and a newer revocation list (`revocation.json`). Each root
/// that holds is pinned before the next is looked at; what runs goes on. An expired root is no hindrance.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A folder with `roots/`, such as a set, or with `<N>.root.json`; and, or, with `revocation.json`.
    folder: PathBuf,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    let json = args.output == Output::Json;
    import(args, global).map_err(|failure| failure.with_json(json))
}

fn import(args: &Args, global: &Global) -> Result<u8, Failure> {
    let (root, path) = node::state_root(global)?;
    let medium = open(&args.folder)?;
    let actor = node::actor("trust import", node::clock());
    let runner = node::runner(global, &path);
    let imported = autonomy_reconciler::import_trust(&root, &medium, &actor, &runner)?;
    ui::warn(imported.warning.as_deref());
    match args.output {
        Output::Json => {
            let reasons = imported.refusal.as_ref().map(autonomy_schema::Reasons::as_slice).unwrap_or_default();
            let value = json!({
                "pinned": imported.pinned, "kept": imported.kept, "version": imported.version, "revocation": imported.revocation,
                "reasons": reasons,
            });
            ui::out(&format!("{value}\n"));
        }
        Output::Text => ui::out(&as_text(&imported)),
    }
    let facts = node::facts(global, &root, None, false)?;
    ui::warn(facts.bound.revoked_sentence().as_deref());
    match imported.refusal {
        None => Ok(exit::DONE),
        Some(reasons) => Err(Failure::Refused { reasons, json: false, exit: None, told: true }),
    }
}

fn as_text(imported: &Imported) -> String {
    let mut lines: Vec<String> =
        imported.pinned.iter().map(|version| format!("Pinned trust root version {version}.")).collect();
    lines
        .extend(imported.kept.iter().map(|version| format!("Kept trust root version {version}, which was lost here.")));
    lines.extend(imported.revocation.map(|number| format!("Revocation list {number} counts from now on.")));
    if lines.is_empty() {
        lines.push(format!("Nothing newer was taken; trust root version {} stays pinned.", imported.version));
    }
    lines.join("\n") + "\n"
}
