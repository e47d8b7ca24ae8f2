//! `autonomy confirm`: the new release works; or, with `--expire`, what happens when nobody says so.

use autonomy_apply::{Recovery, Silent};
use autonomy_schema::journal::{Phase, Verdict};
use autonomy_schema::{Blake3, Reasons};

use crate::Global;
use crate::failure::{Failure, exit};
use crate::watcher::{failed, report_recovery};
use crate::{node, ui};

/// Confirm that the new release works, so that the node keeps it. Without this in time (`spec.confirm.within`) it returns to
/// the last known good generation by itself.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The manifest that is meant; another one that waits is then not confirmed.
    #[arg(conflicts_with = "expire")]
    manifest: Option<Blake3>,
    /// What timer and boot unit call: return when the time is over (exit 8), begin the window anew after the first
    /// reboot, and do nothing otherwise.
    #[arg(long)]
    expire: bool,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    let (root, path) = node::state_root(global)?;
    let runner = node::runner(global, &path);
    if args.expire {
        let actor = node::actor("confirm --expire", node::clock());
        let recovery = autonomy_reconciler::expire(&root, &actor, &runner, &mut Silent)?;
        report_recovery(&recovery);
        if let Recovery::RolledBack { reason, .. } = recovery {
            return Err(Reasons::from(reason).into());
        }
        let now = autonomy_apply::ServiceRunner::moment(&runner);
        let waits = autonomy_reconciler::awaiting(&root, &now)?;
        ui::out(&match waits.as_ref().map(|waits| (&waits.generation, waits.verdict)) {
            Some((generation, Verdict::Holds(left))) => {
                format!("{generation} waits for `autonomy confirm`; {} left.\n", ui::span(left.millis() / 1000))
            }
            Some(_) | None => "Nothing waits for a confirmation.\n".to_owned(),
        });
        return Ok(exit::DONE);
    }
    if let Some(journal) = root.journal()?.filter(|journal| journal.phase == Phase::Confirmed)
        && args.manifest.is_none_or(|wanted| wanted == journal.manifest)
        && root.current()?.as_ref() == Some(&journal.generation)
    {
        ui::out(&format!("Nothing waits for a confirmation: {} is confirmed.\n", journal.generation));
        return Ok(exit::DONE);
    }
    let actor = node::actor("confirm", node::clock());
    match autonomy_reconciler::confirm(&root, args.manifest, &actor, &runner, &mut Silent) {
        Ok(noted) => {
            ui::warn(noted.warning.as_deref());
            ui::out(&format!("Confirmed. {} is the last known good generation.\n", noted.result));
            Ok(exit::DONE)
        }
        Err(failure) => Err(failed(failure)),
    }
}
