//! `autonomy trust verify`: what a node would make of the trust roots of a folder.

use std::path::{Path, PathBuf};

use autonomy_reconciler::{Loaded, Offer};
use autonomy_schema::Time;
use autonomy_stateroot::DirSet;
use serde_json::{Value, json};

use crate::Global;
use crate::commands::init;
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::ui;

/// Walk the trust roots of a folder, one version at a time, as a node would; and judge `revocation.json` beside them.
/// Writes nothing.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A folder with `roots/`, such as a set, or with `<N>.root.json`.
    folder: PathBuf,
    /// The trust root from which to walk, with its signatures beside it; the node's own when absent.
    #[arg(long, value_name = "FILE")]
    trust_root: Option<PathBuf>,
    /// The clock to use.
    #[arg(long, value_name = "TIME")]
    now: Option<Time>,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    let json = args.output == Output::Json;
    walk(args, global).map_err(|failure| failure.with_json(json))
}

fn walk(args: &Args, global: &Global) -> Result<u8, Failure> {
    let loaded = match &args.trust_root {
        Some(path) => Loaded::away(init::trust_root(path)?.0),
        None => autonomy_reconciler::load(&node::state_root(global)?.0)?,
    };
    let medium = open(&args.folder)?;
    let offer = autonomy_reconciler::offer(&medium, &loaded, args.now.unwrap_or_else(node::clock))?;
    let pinned = loaded.root.document().version;
    match args.output {
        Output::Json => ui::out(&format!("{}\n", as_json(pinned, &offer))),
        Output::Text => ui::out(&as_text(pinned, &offer)),
    }
    match offer.refusal {
        None => Ok(exit::DONE),
        Some(reasons) => Err(Failure::Refused { reasons, json: false, exit: None, told: true }),
    }
}

/// Opens a folder with roots.
pub(super) fn open(folder: &Path) -> Result<DirSet, Failure> {
    DirSet::open(folder).map_err(|error| Failure::refused(error.to_reason(), false))
}

fn as_text(pinned: u64, offer: &Offer) -> String {
    let mut lines = vec![format!("from trust root version {pinned}")];
    lines.extend(
        offer
            .roots
            .iter()
            .map(|root| format!("  version {} holds, expires {}  {}", root.version, root.expires_at, root.fingerprint)),
    );
    lines.extend(offer.revocation.map(|number| format!("  revocation list {number} holds")));
    if offer.roots.is_empty() && offer.revocation.is_none() && offer.refusal.is_none() {
        lines.push("  nothing newer".to_owned());
    }
    lines.join("\n") + "\n"
}

fn as_json(pinned: u64, offer: &Offer) -> Value {
    let roots: Vec<Value> = offer
        .roots
        .iter()
        .map(|root| json!({ "version": root.version, "fingerprint": root.fingerprint, "expiresAt": root.expires_at }))
        .collect();
    let reasons = offer.refusal.as_ref().map(autonomy_schema::Reasons::as_slice).unwrap_or_default();
    json!({ "pinned": pinned, "roots": roots, "revocation": offer.revocation, "reasons": reasons })
}
