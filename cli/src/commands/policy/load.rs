//! `autonomy policy load`: a signed bundle becomes the policy of a node that no manifest gave one.

use std::path::PathBuf;

use autonomy_reconciler::PolicyChange;
use autonomy_schema::set;
use serde_json::json;

use crate::Global;
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::ui;

/// Load a signed policy bundle into the node's slots. It must be signed by role `policy` (`FILE.sigstore.jsonl`), compile,
/// have `data.autonomy.tool.allow`, fit this version and pass its own tests; else the old one stays. A node with an active
/// generation has that one's policy, and refuses.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The bundle.
    #[arg(value_name = "FILE")]
    bundle: PathBuf,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    load(args, global).map_err(|failure| failure.with_json(args.output == Output::Json))
}

fn load(args: &Args, global: &Global) -> Result<u8, Failure> {
    let (root, path) = node::state_root(global)?;
    let file = node::signed_file(&args.bundle, set::MAX_POLICY_BYTES)?;
    let actor = node::actor("policy load", node::clock());
    let runner = node::runner(global, &path);
    let noted = autonomy_reconciler::load_policy(&root, &actor, &runner, file.signed())?;
    ui::warn(noted.warning.as_deref());
    let verb = if noted.result.slots.changed { "Loaded" } else { "Loaded already:" };
    show(&noted.result, verb, args.output);
    Ok(exit::DONE)
}

/// Prints what decides now.
pub(super) fn show(change: &PolicyChange, verb: &str, output: Output) {
    let PolicyChange { bundle, tests, slots } = change;
    let manifest = bundle.bundle.manifest();
    if output == Output::Json {
        let told = json!({
            "name": manifest.name, "version": manifest.policy_bundle_version, "digest": bundle.bundle.digest(),
            "signers": bundle.signers, "tests": tests, "changed": slots.changed, "current": slots.current, "lkg": slots.lkg,
        });
        ui::out(&format!("{told}\n"));
        return;
    }
    let signers: Vec<String> = bundle.signers.iter().map(ToString::to_string).collect();
    let tests = tests.map_or_else(String::new, |tests| format!("  tests     {tests} passed\n"));
    let lkg = slots.lkg.map_or_else(|| "none".to_owned(), |lkg| lkg.to_string());
    ui::out(&format!(
        "{verb} policy {} {}.\n  digest    {}\n  signed by {}\n{tests}  before it {lkg}\n",
        manifest.name,
        manifest.policy_bundle_version,
        slots.current,
        signers.join(",\n            "),
    ));
}
