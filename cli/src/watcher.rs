//! What people and scripts see while a node changes: the plan, a bar, JSON Lines, and how it ended.

use autonomy_apply::{Applied, Event, Observer, Recovery};
use autonomy_plan::render::{Detail, Texts};
use autonomy_reconciler::{ApplyFailure, Outcome};
use autonomy_schema::Name;
use autonomy_schema::journal::Phase;
use autonomy_schema::plan_doc::{self, PlanDoc};
use autonomy_schema::version::TOOL_VERSION;
use autonomy_stateroot::StateRoot;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::commands::plan::{self, Format, Look};
use crate::failure::{Failure, exit};
use crate::{node, ui};

/// Shows what happens: a bar on a terminal, JSON Lines where asked for.
pub(crate) struct Watcher {
    json: bool,
    /// How the change is called when it is done.
    word: &'static str,
    /// Moves while files are staged.
    pub(crate) bar: ProgressBar,
}

impl Watcher {
    /// One that has said its first line.
    pub(crate) fn new(json: bool, word: &'static str) -> Self {
        let watcher = Self { json, word, bar: ui::progress(Some(0), "staging") };
        watcher.line("version", json!({ "tool": TOOL_VERSION, "format_version": plan_doc::FORMAT_VERSION }));
        watcher
    }

    fn line(&self, kind: &str, mut fields: Value) {
        if !self.json {
            return;
        }
        if let Some(fields) = fields.as_object_mut() {
            fields.insert("type".to_owned(), json!(kind));
        }
        ui::out(&format!("{fields}\n"));
    }

    /// Tells what was done; gives the exit code.
    pub(crate) fn done(&self, root: &StateRoot, outcome: &Outcome) -> u8 {
        ui::warn(outcome.warning.as_deref());
        let (word, text) = match &outcome.applied {
            // The plan that was shown says so already.
            Applied::Nothing => ("nothing", String::new()),
            Applied::Staged(generation) => ("staged", format!("Staged {generation}. Nothing of it is active.")),
            Applied::Active(generation) => {
                ("applied", format!("{}. {generation} is active and the last known good.", self.word))
            }
            Applied::Waiting(generation) => ("waiting", format!("{}. {}", self.word, waits(root, generation))),
            Applied::Rotated => {
                ("rotated", "The newer trust root is pinned. The active generation did not change.".to_owned())
            }
            Applied::Relayed => ("relayed", "Put into the outbox. The active generation did not change.".to_owned()),
        };
        if self.json {
            let generation = root.current().ok().flatten();
            self.line(
                "result",
                json!({ "outcome": word, "exit": exit::DONE, "plan_id": outcome.plan_id, "generation": generation }),
            );
        } else if !text.is_empty() {
            ui::out(&format!("{text}\n"));
        }
        exit::DONE
    }

    /// The last line of a stream that ends in a refusal, wherever it came from.
    pub(crate) fn refusal(&self, failure: &Failure) {
        if let Failure::Refused { reasons, .. } = failure {
            let (exit, reasons) = (reasons.exit(), reasons.as_slice());
            self.line("result", json!({ "outcome": "refused", "exit": exit, "reasons": reasons }));
        }
    }

    /// Shows a plan.
    pub(crate) fn show(&self, doc: &PlanDoc, texts: &Texts, look: Look) -> Result<(), Failure> {
        if !self.json {
            ui::out(&plan::rendered(doc, texts, Format::Text, look.style(Detail::Full))?);
            return Ok(());
        }
        for step in &doc.steps {
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
            Event::RebuildStarted(step) => {
                self.bar.set_message(format!("reconstruction {step}"));
                self.line("step_start", json!({ "address": rebuild(step) }));
            }
            Event::RebuildDone(step) => self.line("step_complete", json!({ "address": rebuild(step) })),
            Event::RebuildFailed(step, reason) => {
                self.line("step_errored", json!({ "address": rebuild(step), "reason": reason }));
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
            Event::HealthStarted(command) => {
                self.bar.set_message(format!("health {command}"));
                self.line("step_start", json!({ "address": "health" }));
            }
            Event::HealthDone(_) => self.line("step_complete", json!({ "address": "health" })),
            Event::HealthFailed(_, reason) => {
                self.line("step_errored", json!({ "address": "health", "reason": reason }));
            }
            Event::RollingBack(reason) => {
                self.line("step_errored", json!({ "address": "generation", "reason": reason }));
            }
        }
    }
}

/// The address of a reconstruction step (`copyBinary /usr/local/bin/agent`) in the plan.
fn rebuild(step: &str) -> String {
    let place = step.split_once(' ').map_or(step, |(_kind, place)| place);
    format!("reconstruction.{place}")
}

/// Tells what recovery did before the verb itself began.
pub(crate) fn report_recovery(recovery: &Recovery) {
    let text = match recovery {
        Recovery::Clean => return,
        Recovery::StillStaged(generation) => {
            format!("An earlier apply left {generation} staged; it goes on from there.")
        }
        Recovery::Undone(generation) => {
            format!("Recovered: an apply was cut off; {generation} is removed, the old generation is active, whole.")
        }
        Recovery::NotBegun(generation) => {
            format!("Recovered: a return to {generation} was cut off before its switch; nothing changed.")
        }
        Recovery::Finished(generation) => {
            format!("Recovered: a change was cut off after its switch; {generation} is active, whole.")
        }
        Recovery::WaitsAgain(generation) => format!(
            "The machine was started anew: the time to confirm {generation} begins again, once. `autonomy confirm` ends it."
        ),
        Recovery::RolledBack { reason, active } => {
            format!("Returned: {reason}. {} is active.", named(active.as_ref()))
        }
    };
    ui::err(&ui::printable(&format!("{text}\n")));
}

/// A change that did not do what it was asked for.
pub(crate) fn failed(failure: ApplyFailure) -> Failure {
    ui::warn(failure.warning.as_deref());
    if let Some(active) = &failure.returned_to {
        ui::err(&format!("The switch was undone. {} is active.\n", named(active.as_ref())));
    }
    failure.reasons.into()
}

fn named(active: Option<&Name>) -> String {
    active.map_or_else(|| "Nothing".to_owned(), ToString::to_string)
}

/// What must come now, and what happens without it.
fn waits(root: &StateRoot, generation: &Name) -> String {
    let journal = root.journal().ok().flatten();
    let within = journal.and_then(|journal| journal.waiting).map(|waiting| waiting.within);
    let within = within.map_or_else(String::new, |within| format!(" within {within}"));
    let back = named(root.lkg().ok().flatten().as_ref());
    format!("{generation} is active. Run `autonomy confirm`{within}, or {back} is active again.")
}
