//! `autonomy unpin`: a manifest that failed here may be tried again.

use crate::Global;
use crate::failure::{Failure, exit};
use crate::{node, ui};

/// Let a manifest that failed on this node, or was left by a rollback, be tried again.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Its fingerprint, or the first digits of it, as `autonomy status` shows them.
    #[arg(value_name = "FINGERPRINT")]
    manifest: String,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    let (root, path) = node::state_root(global)?;
    let runner = node::runner(global, &path);
    let noted = autonomy_reconciler::unpin(&root, &node::actor("unpin", node::clock()), &runner, &args.manifest)?;
    ui::warn(noted.warning.as_deref());
    ui::out(&format!("Unpinned. {} may be tried again.\n", noted.result));
    Ok(exit::DONE)
}
