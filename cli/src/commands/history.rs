//! `autonomy history`: who changed the node, when, why, and how it ended.

use std::fmt::Write as _;

use autonomy_reconciler::Act;
use serde_json::{Value, json};

use crate::Global;
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::ui;

/// Tell who changed this node, when, why, and how it ended, newest first. The records are checked on the way. Writes
/// nothing.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many acts at most.
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    show(args, global).map_err(|failure| failure.with_json(args.output == Output::Json))
}

fn show(args: &Args, global: &Global) -> Result<u8, Failure> {
    let (root, _) = node::state_root(global)?;
    let acts = autonomy_reconciler::history(&root)?;
    let shown: Vec<&Act> = acts.iter().rev().take(args.limit).collect();
    if args.output == Output::Json {
        ui::out(&format!("{}\n", json!({ "acts": shown, "total": acts.len() })));
        return Ok(exit::DONE);
    }
    let mut text = String::new();
    for act in &shown {
        text.push_str(&told(act));
    }
    if shown.is_empty() {
        text.push_str("Nothing was changed on this node since it was made.\n");
    }
    if shown.len() < acts.len() {
        writeln!(text, "{} older ones; `--limit` shows more.", acts.len() - shown.len()).ok();
    }
    ui::out(&ui::printable(&text));
    Ok(exit::DONE)
}

/// One act in a few lines.
fn told(act: &Act) -> String {
    let mut text = format!("{}  {}  {}", act.time, act.verb, act.outcome.replace('_', " "));
    if let (Some(release), Some(serial)) = (act.text("release"), act.detail.get("serial")) {
        write!(text, "  release {release}, serial {serial}").ok();
    }
    text.push('\n');
    let mut line = |name: &str, value: String| writeln!(text, "  {name:<11} {value}").ok();
    line("by", act.actor.clone());
    if let Some(manifest) = act.manifest {
        line("manifest", manifest.to_string());
    }
    if let Some(signers) = act.detail.get("signers").and_then(Value::as_array) {
        let signers: Vec<String> = signers.iter().filter_map(Value::as_str).map(short).collect();
        line("signed by", signers.join(", "));
    }
    if let Some(source) = act.detail.get("origin").and_then(|origin| origin.get("source")).and_then(Value::as_str) {
        let revision = act.detail["origin"].get("revision").and_then(Value::as_str);
        line("from", revision.map_or_else(|| source.to_owned(), |revision| format!("{source} ({revision})")));
    }
    if let Some(why) = act.detail.get("why").and_then(|why| why.get("text")).and_then(Value::as_str) {
        line("why", why.to_owned());
    }
    if let Some(changes) = act.detail.get("changes").and_then(Value::as_array).filter(|changes| !changes.is_empty()) {
        let changes: Vec<&str> = changes.iter().filter_map(Value::as_str).collect();
        line("changed", changes.join(", "));
    }
    if let Some(plan) = act.text("plan") {
        line("plan", plan.to_owned());
    }
    if let Some(overridden) = act.detail.get("overridden").and_then(Value::as_array) {
        let codes: Vec<&str> = overridden.iter().filter_map(|reason| reason.get("code")?.as_str()).collect();
        line("overridden", format!("{} (--now-anyway)", codes.join(", ")));
    }
    if let Some(by) = act.detail.get("policyOverride") {
        let signers = by.get("signers").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let signers: Vec<String> = signers.map(short).collect();
        let reason = by.get("reason").and_then(Value::as_str).unwrap_or_default();
        line("overridden", format!("the policy, by {}: {reason}", signers.join(", ")));
    }
    if let Some(roots) = act.detail.get("roots").and_then(Value::as_array).filter(|roots| !roots.is_empty()) {
        line("roots", roots.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
    }
    if let Some(number) = act.detail.get("revocation").and_then(Value::as_u64) {
        let by = act.detail.get("list").and_then(|list| list.get("signers")).and_then(Value::as_array);
        let by: Vec<String> = by.into_iter().flatten().filter_map(Value::as_str).map(short).collect();
        let why = act.detail.get("list").and_then(|list| list.get("reason")).and_then(Value::as_str);
        let why = why.filter(|why| !why.is_empty()).map_or_else(String::new, |why| format!(": {why}"));
        line("revocation", format!("list {number}, signed by {}{why}", by.join(", ")));
    }
    for name in ["reason", "owner"] {
        if let Some(value) = act.text(name) {
            line(name, value.to_owned());
        }
    }
    if let Some(generation) = act.made_active() {
        line("active", generation.to_owned());
    }
    for reason in act.reasons() {
        line("because", reason.to_string());
    }
    text
}

/// A key id shortened to what people compare.
fn short(id: &str) -> String {
    id.split_once(':').map_or(id, |(_, hex)| hex).chars().take(12).collect()
}
