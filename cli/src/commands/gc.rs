//! `autonomy gc`: removes what nothing needs.

use autonomy_plan::render::bytes;
use autonomy_stateroot::gc::Garbage;
use serde_json::{Value, json};

use crate::Global;
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::ui;

/// Remove generations and objects that nothing needs. What is active, last known good, staged, waiting, pinned, in the outbox
/// or needed by the relay stays, and the newest others with it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many other generations stay, the newest first.
    #[arg(long, value_name = "N", default_value_t = 2)]
    keep: usize,
    /// Show what would be removed. Writes nothing.
    #[arg(long)]
    dry_run: bool,
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    collect(args, global).map_err(|failure| failure.with_json(args.output == Output::Json))
}

fn collect(args: &Args, global: &Global) -> Result<u8, Failure> {
    let (root, path) = node::state_root(global)?;
    let garbage = if args.dry_run {
        autonomy_reconciler::find_garbage(&root, args.keep)?
    } else {
        let actor = node::actor("gc", node::clock());
        let runner = node::runner(global, &path);
        let bar = ui::progress_count(0, "removing");
        let collected = autonomy_reconciler::collect_garbage(&root, args.keep, &actor, &runner, &|done| {
            bar.set_position(done as u64);
        });
        bar.finish_and_clear();
        let collected = collected?;
        ui::warn(collected.warning.as_deref());
        collected.garbage
    };
    let text = match args.output {
        Output::Json => format!("{}\n", as_json(&garbage, args.dry_run)),
        Output::Text => as_text(&garbage, args.dry_run),
    };
    ui::out(&ui::printable(&text));
    Ok(exit::DONE)
}

fn as_json(garbage: &Garbage, dry_run: bool) -> Value {
    json!({ "dryRun": dry_run, "removed": {
        "generations": garbage.generations, "objects": garbage.objects, "leftovers": garbage.leftovers,
        "bytes": garbage.bytes,
    }, "kept": garbage.kept })
}

fn as_text(garbage: &Garbage, dry_run: bool) -> String {
    let mut lines: Vec<String> = Vec::new();
    for name in &garbage.generations {
        lines.push(format!("- {name}"));
    }
    for (name, why) in &garbage.kept {
        lines.push(format!("  {name}  stays: {}", why.join(", ")));
    }
    let verb = if dry_run { "Would remove" } else { "Removed" };
    let (generations, objects) = (garbage.generations.len(), garbage.objects.len());
    lines.push(if garbage.is_empty() {
        "Nothing to remove.".to_owned()
    } else {
        format!("{verb} {generations} generations and {objects} objects; {} free.", bytes(garbage.bytes))
    });
    lines.join("\n") + "\n"
}
