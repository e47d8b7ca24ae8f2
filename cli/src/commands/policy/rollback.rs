//! `autonomy policy rollback`: back to the last known good bundle.

use crate::Global;
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::ui;

/// Make the last known good policy bundle the one that decides, and the one that decided the last known good one. It is
/// verified again.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    roll_back(args, global).map_err(|failure| failure.with_json(args.output == Output::Json))
}

fn roll_back(args: &Args, global: &Global) -> Result<u8, Failure> {
    let (root, path) = node::state_root(global)?;
    let actor = node::actor("policy rollback", node::clock());
    let noted = autonomy_reconciler::roll_back_policy(&root, &actor, &node::runner(global, &path))?;
    ui::warn(noted.warning.as_deref());
    super::load::show(&noted.result, "Returned to", args.output);
    Ok(exit::DONE)
}
