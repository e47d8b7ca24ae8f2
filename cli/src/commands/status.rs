//! `autonomy status`: which side of a change the node is on, and who holds the lock.

use autonomy_schema::journal::Phase;
use serde_json::json;

use crate::Global;
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::ui;

/// Show what is active, what is unfinished, and who holds the lock. Writes nothing.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    show(args, global).map_err(|failure| failure.with_json(args.output == Output::Json))
}

fn show(args: &Args, global: &Global) -> Result<u8, Failure> {
    let (root, _) = node::state_root(global)?;
    let node_doc = root.node()?;
    let (current, lkg, journal) = (root.current()?, root.lkg()?, root.journal()?);
    let floors = root.floors()?.unwrap_or_default();
    let holder = root.lock_holder().map_err(|error| Failure::refused(error.to_reason(), false))?;
    let suspended = root.is_suspended().map_err(|error| Failure::refused(error.to_reason(), false))?;
    let since = root.suspension().map(|suspension| suspension.since);
    let manifest = current.as_ref().map(|current| node::generation_manifest(&root, current)).transpose()?;
    let unfinished = journal.as_ref().filter(|journal| !journal.phase.is_final());
    if args.output == Output::Json {
        let active = manifest.as_ref().map(|(manifest, fingerprint)| {
            json!({
                "manifest": fingerprint, "stream": manifest.metadata.name, "serial": manifest.metadata.serial,
                "release": manifest.spec.release.version, "generation": current,
            })
        });
        let value = json!({
            "node": { "id": node_doc.node_id, "fleet": node_doc.fleet, "hardware": node_doc.hardware, "labels": node_doc.labels },
            "active": active,
            "lkg": lkg,
            "stream": floors.stream,
            "unfinished": unfinished.map(|journal| json!({ "phase": journal.phase, "generation": journal.generation })),
            "lastFailure": journal.as_ref().and_then(|journal| journal.failure.clone()),
            "suspended": suspended.then(|| json!({ "since": since })),
            "lock": holder.as_ref().map(|holder| json!({ "pid": holder.pid, "command": holder.command })),
        });
        ui::out(&format!("{value}\n"));
        return Ok(exit::DONE);
    }
    let mut lines =
        vec![format!("Node       {} of fleet {} ({})", node_doc.node_id, node_doc.fleet, node_doc.hardware)];
    match (&manifest, &current) {
        (Some((manifest, fingerprint)), Some(current)) => {
            lines.push(format!("Active     {} {}", manifest.metadata.name, manifest.spec.release.version));
            lines.push(format!("Manifest   serial {}, {fingerprint}", manifest.metadata.serial));
            lines.push(format!("Generation {current}"));
        }
        _ => lines.push("Active     nothing yet".to_owned()),
    }
    lines.push(format!("Last good  {}", lkg.map_or_else(|| "none".to_owned(), |lkg| lkg.to_string())));
    match unfinished {
        Some(journal) => lines.push(unfinished_line(journal.phase, journal.generation.as_str())),
        None => lines.push("Apply      none in progress".to_owned()),
    }
    if let Some(failure) = journal.as_ref().and_then(|journal| journal.failure.as_ref()) {
        lines.push(format!("Last apply was undone: {failure}"));
    }
    if suspended {
        let since = since.map_or_else(String::new, |since| format!(" since {since}"));
        lines.push(format!("Suspended{since}: changes are held until `autonomy resume`"));
    }
    if let Some(holder) = holder {
        lines.push(format!("Lock       held by process {}: {}", holder.pid, holder.command));
    }
    ui::out(&ui::printable(&format!("{}\n", lines.join("\n"))));
    Ok(exit::DONE)
}

fn unfinished_line(phase: Phase, generation: &str) -> String {
    match phase {
        Phase::Intent => format!("Apply      cut off while staging {generation}; the old generation is active"),
        Phase::Staged | Phase::Prechecked => {
            format!("Apply      {generation} is staged; the old generation is active until `autonomy apply` goes on")
        }
        Phase::Switched => format!("Apply      {generation} is active; the next locking verb finishes its services"),
        Phase::Confirmed | Phase::RolledBack => "Apply      none in progress".to_owned(),
    }
}
