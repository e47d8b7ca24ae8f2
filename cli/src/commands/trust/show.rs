//! `autonomy trust show`: whom a node trusts, and what it will not go below.

use std::path::PathBuf;

use autonomy_reconciler::Loaded;
use autonomy_schema::floors::Floors;
use autonomy_trust::PinnedRoot;
use serde_json::{Value, json};

use crate::Global;
use crate::commands::init;
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::ui;

/// Show the trust root that the node has pinned, and its floors; or the trust root of a file. Writes nothing.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A trust root, with its signatures beside it; the node's own when absent.
    file: Option<PathBuf>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    let json = args.output == Output::Json;
    show(args, global).map_err(|failure| failure.with_json(json))
}

fn show(args: &Args, global: &Global) -> Result<u8, Failure> {
    let (root, floors) = if let Some(path) = &args.file {
        (init::trust_root(path)?.0, None)
    } else {
        let Loaded { root, floors, .. } = autonomy_reconciler::load(&node::state_root(global)?.0)?;
        (root, Some(floors))
    };
    ui::out(&match args.output {
        Output::Json => format!("{}\n", as_json(&root, floors.as_ref())),
        Output::Text => ui::printable(&as_text(&root, floors.as_ref())),
    });
    Ok(exit::DONE)
}

fn as_text(root: &PinnedRoot, floors: Option<&Floors>) -> String {
    let document = root.document();
    let mut lines = vec![
        format!("trust root version {}, expires {}", document.version, document.expires_at),
        format!("  fingerprint  {}", root.fingerprint()),
    ];
    for (role, keys) in &document.roles {
        lines.push(format!("  {:<11}  {} of {} keys", role.as_str(), keys.threshold, keys.keys.len()));
        let revoked = |id| floors.is_some_and(|floors| floors.revoked.keys.contains(id));
        lines.extend(keys.keys.iter().map(|id| format!("    {id}{}", if revoked(id) { "  revoked" } else { "" })));
    }
    lines.push(format!("  serial step  {}", document.max_serial_step));
    lines.push(format!("  time step    {}", document.max_time_step));
    if let Some(reset) = document.reset_time_mark {
        lines.push(format!("  resets the time mark to {reset}"));
    }
    let earlier = root.earlier().iter().map(|root| root.document().version.to_string()).collect::<Vec<_>>();
    if !earlier.is_empty() {
        lines.push(format!("  kept before  {}", earlier.join(", ")));
    }
    if let Some(floors) = floors {
        lines.push("floors".to_owned());
        lines.extend(floors.streams.iter().map(|(stream, floor)| {
            let followed = if floors.stream.as_ref() == Some(stream) { ", followed" } else { "" };
            format!("  stream       {stream}: serial {}{followed}", floor.serial)
        }));
        let revoked = &floors.revoked;
        lines.push(format!(
            "  revocation   list {}: {} manifests, {} keys",
            revoked.number,
            revoked.manifests.len(),
            revoked.keys.len()
        ));
        lines.extend(revoked.manifests.iter().map(|manifest| format!("    {manifest}")));
        lines.extend(revoked.keys.iter().map(|key| format!("    {key}")));
        let mark = floors.time_mark.map_or_else(|| "none yet".to_owned(), |mark| mark.to_string());
        lines.push(format!("  time mark    {mark}"));
    }
    lines.join("\n") + "\n"
}

fn as_json(root: &PinnedRoot, floors: Option<&Floors>) -> Value {
    let earlier: Vec<Value> = root
        .earlier()
        .iter()
        .map(|root| json!({ "version": root.document().version, "fingerprint": root.fingerprint() }))
        .collect();
    json!({
        "version": root.document().version, "fingerprint": root.fingerprint(), "root": root.document(),
        "earlier": earlier, "floors": floors,
    })
}
