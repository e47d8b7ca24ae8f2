//! `autonomy restore`: a node from its backup, or what a node lost of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use autonomy_apply::Silent;
use autonomy_reconciler::{Archive, Keeper, Restored};
use autonomy_stateroot::StateRoot;
use serde_json::json;

use crate::Global;
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::ui;

/// Make an empty folder the node of a backup, or fill what this node lost. What is right stays as it is, and floors are
/// never lowered.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What `autonomy backup` wrote.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Do not ask before a state root is changed that is one already.
    #[arg(long)]
    auto_approve: bool,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    fill(args, global).map_err(|failure| failure.with_json(args.output == Output::Json))
}

fn fill(args: &Args, global: &Global) -> Result<u8, Failure> {
    let path = node::state_root_path(global)?;
    let bar = ui::progress(Some(0), "reading");
    let archive = Archive::open(&args.file, &|done, total| node::advance(&bar, done, total));
    bar.finish_and_clear();
    let archive = archive?;
    let is_node = path.join("node.yaml").symlink_metadata().is_ok();
    if is_node && !args.auto_approve {
        let (list, at) = (archive.list(), path.display());
        let what = format!("Restore what {at} lost from the backup of node `{}` of {}?", list.node_id, list.created_at);
        if !ui::consent(&ui::printable(&what))? {
            ui::err("Nothing was changed.\n");
            return Ok(exit::FAILURE);
        }
    }
    let root = if is_node { StateRoot::open(path)? } else { place(path, &archive)? };
    let absolute = path.canonicalize().map_err(|error| Failure::io("resolve", path, &error))?;
    let clock = node::clock();
    let actor = node::actor("restore", clock);
    let runner = node::runner(global, &absolute);
    let keeper = Keeper { actor: &actor, runner: &runner, observer: &mut Silent };
    let restored = autonomy_reconciler::restore(&root, &archive, keeper)?;
    ui::warn(restored.warning.as_deref());
    for note in &restored.notes {
        ui::err(&ui::printable(&format!("note: {note}\n")));
    }
    show(args, &archive, &restored);
    Ok(exit::DONE)
}

/// A folder that is no state root yet. A backup that is refused leaves none behind.
fn place(path: &Path, archive: &Archive) -> Result<StateRoot, Failure> {
    if path.symlink_metadata().is_err() {
        archive.verify()?;
    }
    Ok(StateRoot::on(Arc::new(autonomy_stateroot::make_place(path)?)))
}

fn show(args: &Args, archive: &Archive, restored: &Restored) {
    let (list, Restored { restored, kept, notes, current, floors, .. }) = (archive.list(), restored);
    if args.output == Output::Json {
        let value = json!({
            "node": { "id": list.node_id, "fleet": list.fleet }, "createdAt": list.created_at, "restored": restored,
            "kept": kept, "notes": notes, "current": current, "floors": floors,
        });
        return ui::out(&format!("{value}\n"));
    }
    let mut lines =
        vec![format!("Node `{}` of fleet `{}`, from the backup of {}.", list.node_id, list.fleet, list.created_at)];
    if restored.is_empty() {
        lines.push("Nothing was missing or damaged; nothing was changed.".to_owned());
    }
    lines.extend(restored.iter().map(|what| format!("  restored  {what}")));
    lines.extend(kept.iter().map(|what| format!("  kept      {what}")));
    lines.extend(floors.iter().map(|(stream, serial)| format!("Floor      {stream}: serial {serial}")));
    lines.push(format!("Active     {}", current.as_ref().map_or("nothing", |name| name.as_str())));
    ui::out(&ui::printable(&format!("{}\n", lines.join("\n"))));
}
