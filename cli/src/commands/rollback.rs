//! `autonomy rollback`: back to a generation that the node had.

use autonomy_apply::Recovery;
use autonomy_plan::render::Texts;
use autonomy_schema::journal::Operation;
use autonomy_schema::{Name, Reasons};

use crate::Global;
use crate::commands::plan::Look;
use crate::failure::{Failure, exit};
use crate::watcher::{Watcher, failed, report_recovery};
use crate::{node, ui};

/// Return to the last known good generation, or to one that is named: show the plan, ask, switch by one rename, run the
/// services. Floors stay. The manifest that is left is pinned, so that nothing brings it back until `autonomy unpin`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The generation, as `autonomy generations` lists it. Without it: the last known good one; when that is active
    /// already, the one that was active before it.
    generation: Option<Name>,
    /// Do not ask.
    #[arg(long)]
    auto_approve: bool,
    /// Go on although the node is suspended. It asks, and the records say so.
    #[arg(long)]
    now_anyway: bool,
    /// Stream JSON Lines on stdout.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    look: Look,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    let mut watcher = Watcher::new(args.json, "Returned");
    carry_out(args, global, &mut watcher).inspect_err(|failure| watcher.refusal(failure))
}

fn carry_out(args: &Args, global: &Global, watcher: &mut Watcher) -> Result<u8, Failure> {
    let (root, path) = node::state_root(global)?;
    let clock = node::clock();
    let actor = node::actor("rollback", clock);
    let runner = node::runner(global, &path);
    let options = node::options(global, clock, false, &|_, _| {});
    let recovery = autonomy_reconciler::recover_unfinished(&root, &actor, &runner, watcher)?;
    report_recovery(&recovery);
    // Without a name, what recovery did is what was asked for; one step further would be one too many.
    if args.generation.is_none() {
        if let Recovery::RolledBack { reason, .. } = recovery {
            return Err(Reasons::from(reason).into());
        }
        let finished = root.journal()?.is_some_and(|journal| journal.operation == Operation::Rollback);
        if finished && matches!(recovery, Recovery::Finished(_)) {
            return Ok(exit::DONE);
        }
    }
    let prepared = autonomy_reconciler::prepare_return(&root, args.generation.as_ref(), &options)?;
    watcher.show(&prepared.doc, &Texts::default(), args.look)?;
    if let Some(reasons) = Reasons::new(prepared.reasons(args.now_anyway)) {
        return Err(reasons.into());
    }
    if prepared.has_changes() && !args.auto_approve && !ui::consent("Return to this generation?")? {
        ui::err("Nothing was changed.\n");
        return Ok(exit::FAILURE);
    }
    let hands = (&runner as &dyn autonomy_apply::ServiceRunner, watcher as &mut dyn autonomy_apply::Observer);
    match autonomy_reconciler::roll_back(&root, &prepared, args.now_anyway, &actor, hands, &options) {
        Ok(outcome) => Ok(watcher.done(&root, &outcome)),
        Err(failure) => Err(failed(failure)),
    }
}
