//! `autonomy verify`: is this set what its signers signed, and is it for this node?

use std::path::PathBuf;

use autonomy_reconciler::{SetCheck, floors_of, node_of, verify_set};
use autonomy_schema::Time;
use autonomy_schema::floors::Floors;
use autonomy_schema::version::released_at;
use autonomy_stateroot::StatCache;
use autonomy_trust::{Context, Purpose};
use serde_json::json;

use crate::Global;
use crate::commands::init;
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::ui;

/// Verify a set: signatures, scope, floors, and every byte. Writes nothing.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The set.
    source: String,
    /// The trust root; the node's own when absent.
    #[arg(long, value_name = "FILE")]
    trust_root: Option<PathBuf>,
    /// Facts of the node that the set is meant for (`autonomy facts --output json`).
    #[arg(long, value_name = "FILE", requires = "trust_root")]
    node_facts: Option<PathBuf>,
    /// The clock to use.
    #[arg(long, value_name = "TIME")]
    now: Option<Time>,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    reach: node::ReachArgs,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    let json = args.output == Output::Json;
    verify(args, global).map_err(|failure| failure.with_json(json))
}

fn verify(args: &Args, global: &Global) -> Result<u8, Failure> {
    let (root, floors, node) = if let Some(path) = &args.trust_root {
        let (pinned, ..) = init::trust_root(path)?;
        let facts = args.node_facts.as_deref().map(node::facts_file).transpose()?;
        let floors = facts.as_ref().map_or_else(Floors::default, floors_of);
        (pinned, floors, facts.as_ref().map(node_of))
    } else {
        let loaded = autonomy_reconciler::load(&node::state_root(global)?.0)?;
        (loaded.root, loaded.floors, Some(loaded.node))
    };
    let source = node::source(&args.source, &args.reach)?;
    let context = Context {
        root: &root,
        floors: &floors,
        clock: args.now.unwrap_or_else(node::clock),
        released: released_at(),
        node: node.as_ref(),
        purpose: Purpose::Change,
    };
    let bar = node::hashing();
    let progress = |done, total| node::advance(&bar, done, total);
    let check = SetCheck { set: source.set(), context: &context, cache: &StatCache::default(), progress: &progress };
    let verified = verify_set(&check);
    bar.finish_and_clear();
    let set = verified?;
    let manifest = set.manifest.document();
    let signers: Vec<String> = set.manifest.signers().iter().map(ToString::to_string).collect();
    if args.output == Output::Json {
        let value = json!({
            "verified": true, "manifest": set.manifest.fingerprint(), "stream": manifest.metadata.name,
            "serial": manifest.metadata.serial, "release": manifest.spec.release.version, "signers": signers,
            "scopeChecked": node.is_some(),
        });
        ui::out(&format!("{value}\n"));
        return Ok(exit::DONE);
    }
    let scope = if node.is_some() { "and is for this node" } else { "(scope not checked: no node facts given)" };
    ui::out(&format!(
        "Verified {} {} (serial {}) {scope}.\n  manifest {}\n  expires  {}\n  signed by {}\n  {} artifacts, {} bytes of policy\n",
        manifest.metadata.name,
        manifest.spec.release.version,
        manifest.metadata.serial,
        set.manifest.fingerprint(),
        manifest.metadata.expires_at,
        signers.join(",\n            "),
        manifest.spec.artifacts.len(),
        set.policy.len(),
    ));
    Ok(exit::DONE)
}
