//! `autonomy resume`: ends what `autonomy suspend` began.

use crate::Global;
use crate::failure::{Failure, exit};
use crate::{node, ui};

/// Let changes pass again.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args, global: &Global) -> Result<u8, Failure> {
    let (root, path) = node::state_root(global)?;
    let runner = node::runner(global, &path);
    let held = root.suspension();
    let noted = autonomy_reconciler::resume(&root, &node::actor("resume", node::clock()), &runner)?;
    ui::warn(noted.warning.as_deref());
    let text = node::suspension_text(held.as_ref());
    ui::out(&ui::printable(&if noted.result {
        format!("Resumed. Changes pass again; they were held{text}.\n")
    } else {
        "Nothing held changes on this node.\n".to_owned()
    }));
    Ok(exit::DONE)
}
