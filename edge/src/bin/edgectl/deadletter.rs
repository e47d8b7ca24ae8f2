//! `edgectl relay deadletter`: rows whose attempts are used up.

use std::fmt::Write as _;
use std::io::{BufRead as _, IsTerminal as _};
use std::path::PathBuf;

use autonomy_edge::control::{Question, Which};
use autonomy_edge::status::RowStatus;
use autonomy_relay::RowState;
use autonomy_schema::{Blake3, Code, Name, Reason, Reasons};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::status::rows;
use crate::{Context, show};

/// Most receipts of a bundle.
const MAX_RECEIPTS: usize = 256;

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// All of them
    List(Filter),
    /// All that is known of some of them, as JSON or text
    Inspect(Filter),
    /// A bundle of evidence as JSON: rows, their set, receipts for it, versions; no keys, no payload
    Export {
        #[command(flatten)]
        filter: Filter,
        /// Where it is written [default: stdout]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Take them off the list; their counts stand, and they are not sent again
    Purge {
        #[command(flatten)]
        filter: Filter,
        /// Do not ask
        #[arg(long)]
        auto_approve: bool,
    },
    /// There is none, by design: sign a new manifest with a higher serial instead
    #[command(hide = true)]
    Retry {
        /// Whatever was meant to be tried again
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        anything: Vec<String>,
    },
}

/// Which dead letters.
#[derive(Args)]
pub(crate) struct Filter {
    /// Those of the set with this manifest
    #[arg(long, value_name = "FINGERPRINT")]
    manifest: Option<Blake3>,
    /// Those for this peer
    #[arg(long, value_name = "ID")]
    peer: Option<Name>,
    /// `manifest`, or one segment
    #[arg(long, value_name = "SEGMENT")]
    segment: Option<String>,
}

impl Filter {
    fn which(&self) -> Which {
        Which { manifest: self.manifest, peer: self.peer.clone(), segment: self.segment.clone() }
    }

    fn takes(&self, row: &RowStatus) -> bool {
        row.state == RowState::Deadletter
            && self.manifest.is_none_or(|manifest| manifest == row.manifest)
            && self.peer.as_ref().is_none_or(|peer| *peer == row.peer)
            && self.segment.as_ref().is_none_or(|segment| *segment == row.segment)
    }
}

/// Dead letters, and how many more there are.
struct Found {
    rows: Vec<RowStatus>,
    truncated: u64,
}

pub(crate) fn run(context: &Context, verb: &Verb) -> Result<(), Reasons> {
    match verb {
        Verb::List(filter) => {
            let found = find(context, filter)?;
            let value = json!({ "rows": found.rows, "truncated": found.truncated });
            show::result(&value, context.output, |_| list(&found));
        }
        Verb::Inspect(filter) => {
            let bundle = bundle(context, &find(context, filter)?)?;
            show::result(&bundle, context.output, |bundle| {
                let mut text = serde_json::to_string_pretty(bundle).unwrap_or_default();
                text += "\n\nThese are terminal. Mend the cause and sign a new manifest: it is a new delivery.\n";
                text
            });
        }
        Verb::Export { filter, out } => {
            let bundle = bundle(context, &find(context, filter)?)?;
            let text = serde_json::to_string_pretty(&bundle).unwrap_or_default() + "\n";
            match out {
                None => show::bytes(text.as_bytes()),
                Some(file) => {
                    let written = std::fs::write(file, &text);
                    let failed =
                        |error| Reason::new(Code::IoError, format!("cannot write `{}`: {error}", file.display()));
                    written.map_err(failed)?;
                    show::note(&format!("written to {}\n", file.display()));
                }
            }
        }
        Verb::Purge { filter, auto_approve } => {
            let found = find(context, filter)?;
            if !auto_approve {
                consent(&found)?;
            }
            let answer = context.ask(&Question::Purge(filter.which()))?;
            show::result(&answer, context.output, |answer| {
                format!("{} dead letters taken off the list; their counts stand\n", answer["purged"])
            });
        }
        // Answered before the state root is opened.
        Verb::Retry { .. } => {}
    }
    Ok(())
}

/// From the daemon; where it is down, from what it wrote last.
fn find(context: &Context, filter: &Filter) -> Result<Found, Reasons> {
    match context.ask(&Question::DeadLetters(filter.which())) {
        Ok(answer) => {
            let rows = serde_json::from_value(answer["rows"].clone());
            let rows = rows.map_err(|error| Reason::new(Code::IoError, format!("the answer is none: {error}")))?;
            Ok(Found { rows, truncated: answer["truncated"].as_u64().unwrap_or_default() })
        }
        Err(reasons) if reasons.has(Code::EdgedDown) => {
            let status = context.known()?.status;
            let dead = status.rows.iter().filter(|row| row.state == RowState::Deadletter).count() as u64;
            // Of those that the file does not list, nobody knows whether the filter takes them.
            let truncated = status.counters.deadletter.saturating_sub(dead);
            let rows = status.rows.into_iter().filter(|row| filter.takes(row)).collect();
            Ok(Found { rows, truncated })
        }
        Err(reasons) => Err(reasons),
    }
}

fn list(found: &Found) -> String {
    if found.rows.is_empty() {
        return "no dead letters\n".to_owned();
    }
    let mut text = rows(&found.rows.iter().collect::<Vec<_>>());
    if found.truncated > 0 {
        let _infallible = writeln!(text, "  and {} more: narrow it with --manifest or --peer", found.truncated);
    }
    text
}

/// Everything that somebody elsewhere needs to find the cause.
fn bundle(context: &Context, found: &Found) -> Result<serde_json::Value, Reasons> {
    let mut manifests: Vec<Blake3> = found.rows.iter().map(|row| row.manifest).collect();
    manifests.sort_unstable();
    manifests.dedup();
    let receipts = context.root.kept_receipts("")?.into_iter().filter_map(|kept| {
        let receipt: serde_json::Value = serde_json::from_slice(&kept.bytes).ok()?;
        let manifest: Blake3 = receipt["manifest"].as_str()?.parse().ok()?;
        manifests.contains(&manifest).then(|| json!({ "file": kept.file, "receipt": receipt }))
    });
    let settings = autonomy_edge::config::Settings::load(&context.root)?;
    Ok(json!({
        "kind": "DeadLetterEvidence",
        "tool_version": env!("CARGO_PKG_VERSION"),
        "node": context.root.node()?.node_id,
        "generation": settings.generation,
        "retry": { "attempts": settings.relay.max_retry_count, "backoff": settings.relay.backoff_base.to_string(), "window": settings.relay.window.to_string() },
        "manifests": manifests,
        "rows": found.rows,
        "truncated": found.truncated,
        "receipts": receipts.take(MAX_RECEIPTS).collect::<Vec<_>>(),
    }))
}

/// Asks, where somebody can answer.
fn consent(found: &Found) -> Result<(), Reasons> {
    if !std::io::stdin().is_terminal() {
        let message = "purging takes dead letters off the list, and nobody can be asked, as there is no terminal";
        return Err(Reason::new(Code::ConsentMissing, message).with_remedy("add `--auto-approve`").into());
    }
    show::note(&list(found));
    show::note("Take these off the list? Only `yes` is taken: ");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).ok();
    if line.trim() == "yes" {
        return Ok(());
    }
    Err(Reason::new(Code::ConsentMissing, "nothing was purged").into())
}
