//! `autonomy receipts`: what nodes signed for.

use std::path::PathBuf;

use autonomy_reconciler::{Collection, Custody, FoundReceipt, collect_receipts, known_nodes, look_at_receipts};
use autonomy_schema::Reasons;
use clap::Subcommand;
use serde_json::{Value, json};

use crate::Global;
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::ui;

/// `autonomy receipts`.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Verify and list the receipts that nodes left on a medium; keep the verified ones in the state root, if one is given.
    Collect(Args),
}

/// `autonomy receipts collect`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The medium, or a folder with receipts.
    medium: PathBuf,
    /// A folder with the nodes' public keys, `<node id>.pub`: each is the `identity/attest.pub` of its node. Those in
    /// `trust/nodes/` of the state root are known without it.
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(command: &Command, global: &Global) -> Result<u8, Failure> {
    let Command::Collect(args) = command;
    collect(args, global).map_err(|failure| failure.with_json(args.output == Output::Json))
}

fn collect(args: &Args, global: &Global) -> Result<u8, Failure> {
    let collection = if global.state_root.is_some() {
        let (root, path) = node::state_root(global)?;
        let nodes = known_nodes(Some(&root), args.keys.as_deref())?;
        let actor = node::actor("receipts collect", node::clock());
        collect_receipts(&root, &args.medium, &nodes, &actor, &node::runner(global, &path))?
    } else {
        look_at_receipts(&args.medium, &known_nodes(None, args.keys.as_deref())?, &[])?
    };
    for warning in &collection.warnings {
        ui::warn(Some(warning));
    }
    show(args, &collection);
    match collection.refusal() {
        None => Ok(exit::DONE),
        Some(reasons) => Err(Failure::Refused { reasons, json: false, exit: None, told: args.output == Output::Json }),
    }
}

/// The word for how a receipt stands, and why.
fn standing(receipt: &FoundReceipt) -> (&'static str, Option<&Reasons>) {
    match &receipt.custody {
        Custody::New | Custody::Known => ("verified", None),
        Custody::Unverified => ("unverified", None),
        Custody::Bad(reasons) => ("bad", Some(reasons)),
    }
}

fn show(args: &Args, collection: &Collection) {
    if args.output == Output::Json {
        let receipts: Vec<Value> = collection.receipts.iter().map(as_json).collect();
        return ui::out(&format!("{}\n", json!({ "receipts": receipts, "warnings": collection.warnings })));
    }
    if collection.receipts.is_empty() {
        return ui::out("no receipts\n");
    }
    for receipt in &collection.receipts {
        let (word, _) = standing(receipt);
        let what = match &receipt.says {
            Some(says) => {
                let (node, counter, result) = (&says.node_id, says.counter, says.result.as_str());
                let from = says.from.as_ref().map(|from| format!(" from {from}")).unwrap_or_default();
                format!("{node} {counter}: {result} {}{from} at {}", says.manifest, says.time)
            }
            None => receipt.file.clone(),
        };
        let note = match receipt.custody {
            Custody::Known => ", known",
            Custody::Unverified => ", no key of that node is known",
            Custody::New | Custody::Bad(_) => "",
        };
        ui::out(&ui::printable(&format!("{word}: {what}{note}\n")));
    }
}

fn as_json(receipt: &FoundReceipt) -> Value {
    let (word, reasons) = standing(receipt);
    json!({
        "file": receipt.file, "standing": word, "new": matches!(receipt.custody, Custody::New), "receipt": receipt.says,
        "reasons": reasons.map(Reasons::as_slice).unwrap_or_default(),
    })
}
