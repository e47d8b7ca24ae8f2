//! `autonomy segments`: what artifacts have in common.

use autonomy_reconciler::{SegmentStat, segment_stat};
use clap::Subcommand;
use serde_json::json;

use crate::Global;
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::ui;

/// Segments of artifacts.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show how many bytes the node's artifacts have in common. Writes nothing.
    Stat(StatArgs),
}

/// How it is shown.
#[derive(clap::Args)]
pub(crate) struct StatArgs {
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(command: &Command, global: &Global) -> Result<u8, Failure> {
    let Command::Stat(args) = command;
    stat(args, global).map_err(|failure| failure.with_json(args.output == Output::Json))
}

fn stat(args: &StatArgs, global: &Global) -> Result<u8, Failure> {
    let (root, _) = node::state_root(global)?;
    let stat = segment_stat(&root)?;
    let SegmentStat { sets, artifacts, logical_bytes, objects, object_bytes, segments, segment_bytes } = stat;
    if args.output == Output::Json {
        let hundredths = |bytes| stat.ratio(bytes);
        let value = json!({
            "sets": sets, "artifacts": artifacts, "logical_bytes": logical_bytes, "objects": objects,
            "object_bytes": object_bytes, "segments": segments, "segment_bytes": segment_bytes,
            "object_ratio_percent": hundredths(object_bytes), "segment_ratio_percent": hundredths(segment_bytes),
        });
        ui::out(&format!("{value}\n"));
        return Ok(exit::DONE);
    }
    let ratio = |bytes| match stat.ratio(bytes) {
        Some(ratio) => format!("{}.{:02} : 1", ratio / 100, ratio % 100),
        None => "-".to_owned(),
    };
    ui::out(&format!(
        "{artifacts} artifacts of {sets} sets  {logical_bytes} bytes\n\
         kept as {objects} objects  {object_bytes} bytes  {}\n\
         of {segments} segments  {segment_bytes} bytes  {}\n",
        ratio(object_bytes),
        ratio(segment_bytes),
    ));
    Ok(exit::DONE)
}
