//! `autonomy apply`: shows the plan, asks, and carries it out.

use std::path::Path;

use autonomy_apply::{Applied, Event, Observer, Recovery, SERVICE_TIMEOUT, SystemRunner};
use autonomy_plan::render::Detail;
use autonomy_reconciler::{ApplyFailure, Approval, Outcome, Prepared};
use autonomy_schema::journal::Phase;
use autonomy_schema::plan_doc::{self, PlanDoc};
use autonomy_schema::version::TOOL_VERSION;
use autonomy_schema::{Document as _, Reasons};
use autonomy_stateroot::StateRoot;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::Global;
use crate::commands::plan::{self, Format, Look};
use crate::failure::{Failure, exit};
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
    let mut watcher = Watcher { json: args.json, bar: ui::progress(Some(0), "staging") };
    watcher.line("version", json!({ "tool": TOOL_VERSION, "format_version": plan_doc::FORMAT_VERSION }));
    carry_out(args, global, &mut watcher).inspect_err(|failure| watcher.refusal(failure))
}

fn carry_out(args: &Args, global: &Global, watcher: &mut Watcher) -> Result<u8, Failure> {
    let (root, path) = node::state_root(global)?;
    let saved = saved_plan(args)?;
    let source = node::source(&set_of(args, saved.as_ref())?, &args.reach)?;
    let source = source.set();
    let clock = node::clock();
    let verb = if args.stage_only { "apply --stage-only" } else { "apply" };
    let actor = node::actor(verb, clock);
    let runner = SystemRunner::new(&path, SERVICE_TIMEOUT);
    let bar = node::hashing();
    let progress = |done, total| node::advance(&bar, done, total);
    let options = node::options(clock, args.verify_content, &progress);
    let recovery = autonomy_reconciler::recover_unfinished(&root, &actor, &runner, watcher)?;
    report_recovery(&recovery);
    let prepared = match &saved {
        None => autonomy_reconciler::prepare(&root, source, &options),
        Some(saved) => autonomy_reconciler::prepare_saved(&root, source, saved, &options),
    };
    bar.finish_and_clear();
    let prepared = prepared.map_err(|reasons| {
        ui::warn(autonomy_reconciler::note_refused_set(&root, source, &actor, &reasons).as_deref());
        Failure::from(reasons)
    })?;
    watcher.show(&prepared, args.look)?;
    if let Some(reasons) = Reasons::new(prepared.reasons()) {
        ui::warn(autonomy_reconciler::note_refused_plan(&root, source, &prepared, &actor, &reasons).as_deref());
        return Err(reasons.into());
    }
    // A saved plan was approved when it was saved, and nothing else than it is carried out.
    let approved = args.auto_approve || saved.is_some();
    if prepared.plan.has_changes() && !approved && !ui::consent("Apply this plan?")? {
        ui::err("Nothing was changed.\n");
        return Ok(exit::FAILURE);
    }
    let approval =
        Approval { prepared, saved, stage_only: args.stage_only, actor: &actor, runner: &runner, observer: watcher };
    let result = autonomy_reconciler::apply(&root, source, approval, &options);
    watcher.bar.finish_and_clear();
    match result {
        Ok(outcome) => Ok(done(&root, watcher, &outcome)),
        Err(failure) => Err(failed(failure)),
    }
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

fn report_recovery(recovery: &Recovery) {
    let text = match recovery {
        Recovery::Clean => return,
        Recovery::StillStaged(generation) => {
            format!("An earlier apply left {generation} staged; it goes on from there.")
        }
        Recovery::Undone(generation) => {
            format!("Recovered: an apply was cut off; {generation} is removed, the old generation is active, whole.")
        }
        Recovery::Finished(generation) => {
            format!("Recovered: an apply was cut off after its switch; {generation} is active, whole.")
        }
        Recovery::RolledBack { reason, active } => {
            let active = active.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
            format!("Recovered: an apply was cut off and is undone ({reason}); {active} is active.")
        }
    };
    ui::err(&ui::printable(&format!("{text}\n")));
}

fn done(root: &StateRoot, watcher: &Watcher, outcome: &Outcome) -> u8 {
    ui::warn(outcome.warning.as_deref());
    let (word, text) = match &outcome.applied {
        // The plan that was shown says so already.
        Applied::Nothing => ("nothing", String::new()),
        Applied::Staged(generation) => ("staged", format!("Staged {generation}. Nothing of it is active.")),
        Applied::Active(generation) => ("applied", format!("Applied. {generation} is active and the last known good.")),
        Applied::Relayed => ("relayed", "Put into the outbox. The active generation did not change.".to_owned()),
    };
    if watcher.json {
        let generation = root.current().ok().flatten();
        watcher.line(
            "result",
            json!({ "outcome": word, "exit": exit::DONE, "plan_id": outcome.plan_id, "generation": generation }),
        );
    } else if !text.is_empty() {
        ui::out(&format!("{text}\n"));
    }
    exit::DONE
}

fn failed(failure: ApplyFailure) -> Failure {
    ui::warn(failure.warning.as_deref());
    if let Some(active) = &failure.returned_to {
        let active = active.as_ref().map_or_else(|| "Nothing".to_owned(), ToString::to_string);
        ui::err(&format!("The switch was undone. {active} is active.\n"));
    }
    failure.reasons.into()
}

/// Shows what happens: a bar on a terminal, JSON Lines where asked for.
struct Watcher {
    json: bool,
    bar: ProgressBar,
}

impl Watcher {
    fn line(&self, kind: &str, mut fields: Value) {
        if !self.json {
            return;
        }
        if let Some(fields) = fields.as_object_mut() {
            fields.insert("type".to_owned(), json!(kind));
        }
        ui::out(&format!("{fields}\n"));
    }

    /// The last line of a stream that ends in a refusal, wherever it came from.
    fn refusal(&self, failure: &Failure) {
        if let Failure::Refused { reasons, .. } = failure {
            let (exit, reasons) = (reasons.exit(), reasons.as_slice());
            self.line("result", json!({ "outcome": "refused", "exit": exit, "reasons": reasons }));
        }
    }

    fn show(&self, prepared: &Prepared, look: Look) -> Result<(), Failure> {
        if !self.json {
            ui::out(&plan::rendered(&prepared.doc, &prepared.texts, Format::Text, look.style(Detail::Full))?);
            return Ok(());
        }
        for step in &prepared.doc.steps {
            self.line(
                "planned_change",
                json!({ "action": step.action, "address": step.address, "reason": step.reason }),
            );
        }
        Ok(())
    }
}

impl Observer for Watcher {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Phase(Phase::Intent) => self.line("step_start", json!({ "address": "generation" })),
            Event::Phase(Phase::Switched) => self.line("step_complete", json!({ "address": "generation" })),
            Event::Phase(phase) => self.line("step_progress", json!({ "address": "generation", "phase": phase })),
            Event::Staged { done, total } => {
                node::advance(&self.bar, *done, *total);
                self.line("step_progress", json!({ "address": "generation", "done": done, "total": total }));
            }
            Event::ServiceStarted(service) => {
                self.bar.set_message(format!("service {service}"));
                self.line("step_start", json!({ "address": format!("service.{service}") }));
            }
            Event::ServiceDone(service) => {
                self.line("step_complete", json!({ "address": format!("service.{service}") }));
            }
            Event::ServiceFailed(service, reason) => {
                self.line("step_errored", json!({ "address": format!("service.{service}"), "reason": reason }));
            }
            Event::RollingBack(reason) => {
                self.line("step_errored", json!({ "address": "generation", "reason": reason }));
            }
        }
    }
}
