//! `autonomy generations`: what the node could run.

use serde_json::json;

use crate::Global;
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::ui;

/// List the generations of this node, with what each is to it. Whether they are whole is what `autonomy fsck` tells.
/// Writes nothing.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    show(args, global).map_err(|failure| failure.with_json(args.output == Output::Json))
}

fn show(args: &Args, global: &Global) -> Result<u8, Failure> {
    let (root, _) = node::state_root(global)?;
    let listed = autonomy_reconciler::generations(&root)?;
    if args.output == Output::Json {
        ui::out(&format!("{}\n", json!({ "generations": listed })));
        return Ok(exit::DONE);
    }
    if listed.is_empty() {
        ui::out("This node has no generations yet.\n");
        return Ok(exit::DONE);
    }
    let width = listed.iter().map(|one| one.generation.as_str().len()).max().unwrap_or(0);
    let mut text = String::new();
    for one in &listed {
        let release = one.release.as_deref().map_or("unreadable".to_owned(), |release| format!("release {release}"));
        let line = format!("{:width$}  {release:<16}  {}", one.generation.as_str(), one.roles.join(", "));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    ui::out(&ui::printable(&text));
    Ok(exit::DONE)
}
