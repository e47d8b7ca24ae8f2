//! `autonomy suspend`: changes are held until `autonomy resume`.

use crate::Global;
use crate::failure::{Failure, exit};
use crate::{node, ui};

/// Hold changes on this node. What runs goes on; plans can still be shown.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args, global: &Global) -> Result<u8, Failure> {
    let (root, _) = node::state_root(global)?;
    let warning = autonomy_reconciler::suspend(&root, &node::actor("suspend", node::clock()))?;
    ui::warn(warning.as_deref());
    ui::out("Suspended. Changes are refused (exit 10) until `autonomy resume`.\n");
    Ok(exit::DONE)
}
