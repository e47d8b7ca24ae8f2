//! `autonomy trace`: the chain of custody of a set, as text, JSON, or a picture.

use std::fmt::Write as _;
use std::path::PathBuf;

use autonomy_reconciler::{Chain, Stop, Traced, Witness, known_nodes};
use autonomy_schema::Reasons;
use serde_json::{Value, json};

use crate::Global;
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::{files, ui};

mod svg;

/// Show the chain of custody of a set: who had it when, and from whom, as the receipts of nodes say it. What they leave
/// open is said. Writes nothing but the picture.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The manifest: its fingerprint, the first digits of it (at least 8), or `latest` for what this node runs, or has
    /// in its inbox.
    #[arg(value_name = "FINGERPRINT")]
    manifest: String,
    /// A medium or a folder with receipts, beside those in the state root. May be given more than once.
    #[arg(long, value_name = "DIR")]
    receipts: Vec<PathBuf>,
    /// A folder with the nodes' public keys, `<node id>.pub`: each is the `identity/attest.pub` of its node. Those in
    /// `trust/nodes/` of the state root are known without it.
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Draw who gave it to whom into this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    trace(args, global).map_err(|failure| failure.with_json(args.output == Output::Json))
}

fn trace(args: &Args, global: &Global) -> Result<u8, Failure> {
    let opened = global.state_root.is_some().then(|| node::state_root(global)).transpose()?;
    if let (Some(svg), Some((_, path))) = (&args.svg, &opened)
        && node::lies_inside(svg, path)?
    {
        return Err(Failure::Usage(format!("{} lies in the state root; draw it elsewhere", svg.display())));
    }
    let root = opened.as_ref().map(|(root, path)| (root, path.as_path()));
    let nodes = known_nodes(root.map(|(root, _)| root), args.keys.as_deref())?;
    let Traced { chain, warnings, refused } = autonomy_reconciler::trace(root, &args.receipts, &nodes, &args.manifest)?;
    for warning in &warnings {
        ui::warn(Some(warning));
    }
    if args.output == Output::Json {
        ui::out(&format!("{}\n", as_json(&chain, &warnings, &refused)));
    } else {
        ui::out(&ui::printable(&as_text(&chain)));
    }
    if let Some(svg) = &args.svg {
        files::replace(svg, svg::draw(&chain).as_bytes())?;
    }
    match Reasons::new(refused) {
        None => Ok(exit::DONE),
        Some(reasons) => Err(Failure::Refused { reasons, json: false, exit: None, told: args.output == Output::Json }),
    }
}

fn as_text(chain: &Chain) -> String {
    let mut text = format!("Manifest   {}\n", chain.manifest);
    if let Some(told) = &chain.told {
        writeln!(text, "Release    {} {}, serial {}", told.stream, told.release, told.serial).ok();
    }
    if chain.stops.is_empty() {
        text.push_str("\nno receipts\n");
    }
    let width = chain.stops.iter().map(|stop| stop.node.as_str().len()).max().unwrap_or(0);
    for stop in &chain.stops {
        let hop = stop.hop.map_or_else(|| "hop ?".to_owned(), |hop| format!("hop {hop}"));
        writeln!(text, "\n{hop}  {:width$}  {}", stop.node.as_str(), came_from(stop, chain)).ok();
        for witness in &stop.receipts {
            writeln!(text, "       {}", said(witness)).ok();
        }
    }
    if !chain.gaps.is_empty() {
        text.push_str("\nNot known from these receipts:\n");
        for gap in &chain.gaps {
            writeln!(text, "  {gap}").ok();
        }
    }
    text
}

/// Where a node has it from, in words.
fn came_from(stop: &Stop, chain: &Chain) -> String {
    let givers: Vec<&str> = chain.hops.iter().filter(|hop| hop.to == stop.node).map(|hop| hop.from.as_str()).collect();
    if stop.receipts.is_empty() {
        return "no receipt of it is here".to_owned();
    }
    let brought = stop.receipts.iter().all(|witness| witness.receipt.from.is_none());
    if givers.is_empty() || brought {
        return "from no peer: a medium, a registry, git or a folder brought it".to_owned();
    }
    format!("from {}", givers.join(", "))
}

fn said(witness: &Witness) -> String {
    let receipt = &witness.receipt;
    let by = match &witness.key {
        Some(key) => format!("verified, key {}", &key.hex()[..8]),
        None => "key not known".to_owned(),
    };
    let (word, time) = (receipt.result.as_str(), receipt.time);
    format!("{word:<6}  {time}  boot epoch {}, receipt {}, {by}", receipt.boot_epoch, receipt.counter)
}

fn as_json(chain: &Chain, warnings: &[String], refused: &[autonomy_schema::Reason]) -> Value {
    let entry = |witness: &Witness| {
        let receipt = &witness.receipt;
        json!({
            "result": receipt.result, "from": receipt.from, "bootEpoch": receipt.boot_epoch, "counter": receipt.counter,
            "time": receipt.time, "verified": witness.key.is_some(), "key": witness.key,
        })
    };
    let stop = |stop: &Stop| {
        json!({
            "node": stop.node, "hop": stop.hop,
            "stored": stop.stored().map(|witness| witness.receipt.time),
            "active": stop.active().map(|witness| witness.receipt.time),
            "receipts": stop.receipts.iter().map(entry).collect::<Vec<_>>(),
        })
    };
    let hops = chain.hops.iter().map(|hop| json!({ "from": hop.from, "to": hop.to, "time": hop.time }));
    json!({
        "manifest": chain.manifest, "release": chain.told,
        "nodes": chain.stops.iter().map(stop).collect::<Vec<_>>(),
        "hops": hops.collect::<Vec<_>>(),
        "gaps": chain.gaps, "warnings": warnings, "reasons": refused,
    })
}
