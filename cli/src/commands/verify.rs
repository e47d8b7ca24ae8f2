//! `autonomy verify`: is this set what its signers signed, and is it for this node?

use std::path::PathBuf;

use autonomy_reconciler::{Loaded, SetCheck, VerifiedSet, floors_of, node_of, verify_set};
use autonomy_schema::Time;
use autonomy_stateroot::{SetSource, StatCache};
use autonomy_trust::Purpose;
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
    let mut loaded = match (&args.trust_root, &args.node_facts) {
        (Some(path), facts) => {
            let away = Loaded::away(init::trust_root(path)?.0);
            match facts.as_deref().map(node::facts_file).transpose()? {
                Some(facts) => away.of_node(node_of(&facts), floors_of(&facts)),
                None => away,
            }
        }
        (None, _) => autonomy_reconciler::load(&node::state_root(global)?.0)?,
    };
    let source = node::source(&args.source, &args.reach, global)?;
    let pinned = loaded.root.document().version;
    let set = judged(&mut loaded, source.set(), args.now)?;
    let (node, judge) = (&loaded.node, loaded.root.document().version);
    let manifest = set.manifest.document();
    let signers: Vec<String> = set.manifest.signers().iter().map(ToString::to_string).collect();
    if args.output == Output::Json {
        let value = json!({
            "verified": true, "manifest": set.manifest.fingerprint(), "stream": manifest.metadata.name,
            "serial": manifest.metadata.serial, "release": manifest.spec.release.version, "signers": signers,
            "scopeChecked": node.is_some(), "rootVersion": judge, "offline": set.manifest.is_offline(),
        });
        ui::out(&format!("{value}\n"));
        return Ok(exit::DONE);
    }
    let scope = if node.is_some() { "and is for this node" } else { "(scope not checked: no node facts given)" };
    ui::out(&format!(
        "Verified {} {} (serial {}) {scope}.\n  root     {}\n  manifest {}\n  expires  {}\n  signed by {}\n  {} artifacts, {} bytes of policy\n",
        manifest.metadata.name,
        manifest.spec.release.version,
        manifest.metadata.serial,
        if judge > pinned { format!("{judge}, which the set brings after {pinned}") } else { judge.to_string() },
        set.manifest.fingerprint(),
        manifest.metadata.expires_at,
        signers.join(",\n            "),
        manifest.spec.artifacts.len(),
        set.policy.len(),
    ));
    Ok(exit::DONE)
}

/// Judges a set as `loaded` would admit it as a change.
pub(crate) fn judged(loaded: &mut Loaded, set: &dyn SetSource, now: Option<Time>) -> Result<VerifiedSet, Failure> {
    loaded.adopt_from(set)?;
    let context = loaded.context(now.unwrap_or_else(node::clock), Purpose::Change);
    let bar = node::hashing();
    let progress = |done, total| node::advance(&bar, done, total);
    let check = SetCheck { set, context: &context, cache: &StatCache::default(), progress: &progress };
    let verified = verify_set(&check);
    bar.finish_and_clear();
    let set = verified?;
    loaded.check_offline(&set.manifest)?;
    Ok(set)
}
