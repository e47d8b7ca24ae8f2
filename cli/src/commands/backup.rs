//! `autonomy backup`: the state root as one file.

use std::path::{Path, PathBuf};

use autonomy_apply::Silent;
use autonomy_reconciler::{Keeper, Made};
use serde_json::json;

use crate::Global;
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::{files, ui};

/// Write everything that this node is into one file, for `autonomy restore`. The file holds the node's private key.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The file to write, outside the state root.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file when it exists.
    #[arg(long)]
    force: bool,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    make(args, global).map_err(|failure| failure.with_json(args.output == Output::Json))
}

fn make(args: &Args, global: &Global) -> Result<u8, Failure> {
    let (root, state_root) = node::state_root(global)?;
    outside(&args.out, &state_root)?;
    if !args.force {
        files::must_not_exist(&args.out, "a backup is not overwritten without --force")?;
    }
    let clock = node::clock();
    let actor = node::actor("backup", clock);
    let runner = node::runner(global, &state_root);
    let bar = ui::progress(Some(0), "backing up");
    let keeper = Keeper { actor: &actor, runner: &runner, observer: &mut Silent };
    let made = autonomy_reconciler::backup(&root, &args.out, keeper, &|done, total| node::advance(&bar, done, total));
    bar.finish_and_clear();
    let made = made?;
    ui::warn(made.warning.as_deref());
    for note in &made.notes {
        ui::err(&ui::printable(&format!("note: {note}\n")));
    }
    ui::err("The file holds the node's private attest key: keep it as you keep the node.\n");
    show(args, &made);
    Ok(exit::DONE)
}

fn show(args: &Args, made: &Made) {
    let Made { list, counts: [files, folders, links], notes, .. } = made;
    let bytes = args.out.metadata().map_or(0, |meta| meta.len());
    if args.output == Output::Json {
        let value = json!({
            "node": { "id": list.node_id, "fleet": list.fleet }, "createdAt": list.created_at, "floors": list.floors,
            "files": files, "folders": folders, "links": links, "bytes": bytes, "fingerprint": list.fingerprint,
            "notes": notes,
        });
        return ui::out(&format!("{value}\n"));
    }
    let text = format!(
        "Backed up node `{}` of fleet `{}` to {}: {files} files, {folders} folders, {links} links, {bytes} bytes.\n",
        list.node_id,
        list.fleet,
        args.out.display(),
    );
    ui::out(&ui::printable(&text));
}

/// A backup inside the state root would be part of the next one, and lost with the node.
fn outside(path: &Path, state_root: &Path) -> Result<(), Failure> {
    if path.file_name().is_none() {
        return Err(Failure::Usage(format!("{} is not the name of a file", path.display())));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let resolved = folder.canonicalize().map_err(|error| Failure::io("resolve", folder, &error))?;
    if node::lies_inside(&resolved, state_root)? {
        let message = format!("{} lies inside the state root; a backup is kept elsewhere", path.display());
        return Err(Failure::Usage(message));
    }
    Ok(())
}
