//! `autonomy resume`: ends what `autonomy suspend` began.

use crate::Global;
use crate::failure::{Failure, exit};
use crate::{node, ui};

/// Let changes pass again.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args, global: &Global) -> Result<u8, Failure> {
    let (root, _) = node::state_root(global)?;
    let warning = autonomy_reconciler::resume(&root, &node::actor("resume", node::clock()))?;
    ui::warn(warning.as_deref());
    ui::out("Resumed. Changes pass again.\n");
    Ok(exit::DONE)
}
