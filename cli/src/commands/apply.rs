//! `autonomy apply`: shows the plan, asks, and carries it out.

use std::path::{Path, PathBuf};

use autonomy_reconciler::{Approval, Asked, Prepared};
use autonomy_schema::plan_doc::PlanDoc;
use autonomy_schema::{Document as _, Reasons};

use crate::Global;
use crate::commands::plan::Look;
use crate::failure::{Failure, exit};
use crate::watcher::{Watcher, failed};
use crate::{files, node, ui};

/// Make a set the active generation of this node: plan, ask, stage, switch by one rename, run services.
#[derive(clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Args {
    /// The set, or a plan that `autonomy plan --out` saved: what was approved then is carried out, without asking again.
    #[arg(value_name = "SET|PLAN")]
    what: String,
    /// Where the set of a saved plan lies, when that is not where it lay then.
    #[arg(long, value_name = "SET")]
    source: Option<String>,
    /// Do not ask.
    #[arg(long)]
    auto_approve: bool,
    /// Stage the generation and stop; a later apply of the same set goes on from there.
    #[arg(long)]
    stage_only: bool,
    /// Go on although the node is suspended or the maintenance window is closed. It asks, and the records say so.
    #[arg(long)]
    now_anyway: bool,
    /// A policy override for this manifest, signed by a threshold of the root keys (`autonomy policy override`).
    #[arg(long = "override", value_name = "FILE")]
    policy_override: Option<PathBuf>,
    /// Stream JSON Lines on stdout.
    #[arg(long)]
    json: bool,
    /// Read every file, whatever the stat cache says.
    #[arg(long)]
    verify_content: bool,
    #[command(flatten)]
    look: Look,
    #[command(flatten)]
    reach: node::ReachArgs,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    let mut watcher = Watcher::new(args.json, "Applied");
    carry_out(args, global, &mut watcher).inspect_err(|failure| watcher.refusal(failure))
}

fn carry_out(args: &Args, global: &Global, watcher: &mut Watcher) -> Result<u8, Failure> {
    let (root, path) = node::state_root(global)?;
    let saved = saved_plan(args)?;
    let source = node::source(&set_of(args, saved.as_ref())?, &args.reach, global)?;
    let source = source.set();
    let clock = node::clock();
    let verb = if args.stage_only { "apply --stage-only" } else { "apply" };
    let actor = node::actor(verb, clock);
    let runner = node::runner(global, &path);
    let bar = node::hashing();
    let progress = |done, total| node::advance(&bar, done, total);
    let options = node::options(global, clock, args.verify_content, &progress);
    let recovery = autonomy_reconciler::recover_unfinished(&root, &actor, &runner, watcher)?;
    crate::watcher::report_recovery(&recovery);
    let by = args.policy_override.as_deref().map(node::override_file).transpose()?;
    let asked = Asked { saved: saved.as_ref(), policy_override: by.as_ref().map(node::SignedFile::signed) };
    let prepared = autonomy_reconciler::prepare_as(&root, source, &asked, &options);
    bar.finish_and_clear();
    let prepared = prepared.map_err(|reasons| {
        ui::warn(autonomy_reconciler::note_refused_set(&root, source, &actor, &reasons).as_deref());
        Failure::from(reasons)
    })?;
    watcher.show(&prepared.doc, &prepared.texts, args.look)?;
    ui::warn(prepared.facts.bound.revoked_sentence().as_deref());
    let reasons = if args.now_anyway { prepared.reasons_anyway() } else { prepared.reasons() };
    if let Some(reasons) = Reasons::new(reasons) {
        ui::warn(autonomy_reconciler::note_refused_plan(&root, source, &prepared, &actor, &reasons).as_deref());
        return Err(reasons.into());
    }
    if !approved(args, saved.is_some(), &prepared)? {
        ui::err("Nothing was changed.\n");
        return Ok(exit::FAILURE);
    }
    let Args { stage_only, now_anyway, .. } = *args;
    let approval =
        Approval { prepared, saved, stage_only, now_anyway, actor: &actor, runner: &runner, observer: watcher };
    let result = autonomy_reconciler::apply(&root, source, approval, &options);
    watcher.bar.finish_and_clear();
    match result {
        Ok(outcome) => Ok(watcher.done(&root, &outcome)),
        Err(failure) => Err(failed(failure)),
    }
}

/// Consent. A saved plan was approved when it was saved, and nothing else than it is carried out; what holds it now is
/// another question.
fn approved(args: &Args, is_saved: bool, prepared: &Prepared) -> Result<bool, Failure> {
    let overrides = args.now_anyway && prepared.reasons().len() > prepared.reasons_anyway().len();
    if !prepared.plan.has_changes() || args.auto_approve || (is_saved && !overrides) {
        return Ok(true);
    }
    ui::consent(if overrides { "Apply this plan now, although it is held?" } else { "Apply this plan?" })
}

/// The saved plan, when the argument names a file: a set in a folder never is one.
fn saved_plan(args: &Args) -> Result<Option<PlanDoc>, Failure> {
    let path = Path::new(&args.what);
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = files::read(path, PlanDoc::MAX_BYTES as u64)?;
    Ok(Some(autonomy_reconciler::parse_saved(&bytes)?))
}

/// Where the set is.
fn set_of(args: &Args, saved: Option<&PlanDoc>) -> Result<String, Failure> {
    match (saved, &args.source) {
        (None, None) => Ok(args.what.clone()),
        (None, Some(_)) => {
            let message =
                format!("--source says where the set of a saved plan lies, and {} is no plan file", args.what);
            Err(Failure::Usage(ui::printable(&message)))
        }
        (Some(_), Some(source)) => Ok(source.clone()),
        (Some(saved), None) => saved.source.clone().ok_or_else(|| {
            let message = "the plan does not say where its set lies, as that was an absolute path: give --source SET";
            Failure::Usage(message.to_owned())
        }),
    }
}
