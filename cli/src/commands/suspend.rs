//! `autonomy suspend`: changes are held until `autonomy resume`.

use autonomy_stateroot::hold::Suspension;

use crate::Global;
use crate::failure::{Failure, exit};
use crate::{node, ui};

/// Longest reason and owner in bytes: a sentence, not a document.
const MAX_TEXT: usize = 1024;

/// Hold changes on this node. What runs goes on; plans can still be shown, and a release that nobody confirms is still
/// left in time.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Why, for whoever finds the node so.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Who answers for it, when that is not the user who runs this.
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    for (flag, text) in [("--reason", &args.reason), ("--owner", &args.owner)] {
        if text.as_ref().is_some_and(|text| text.len() > MAX_TEXT || text.trim().is_empty()) {
            return Err(Failure::Usage(format!("{flag} is a text of 1 to {MAX_TEXT} bytes")));
        }
    }
    let (root, path) = node::state_root(global)?;
    let runner = node::runner(global, &path);
    let since = node::clock();
    let owner = args.owner.clone().unwrap_or_else(node::who);
    let suspension = Suspension { since, reason: args.reason.clone(), owner: Some(owner) };
    let noted = autonomy_reconciler::suspend(&root, &node::actor("suspend", since), &runner, &suspension)?;
    ui::warn(noted.warning.as_deref());
    if noted.result {
        ui::out("Suspended. Changes are refused (exit 10) until `autonomy resume`.\n");
    } else {
        let text = node::suspension_text(root.suspension().as_ref());
        ui::out(&ui::printable(&format!("Suspended already{text}. Nothing was changed.\n")));
    }
    Ok(exit::DONE)
}
