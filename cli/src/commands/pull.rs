//! `autonomy pull`: a set from a registry into a folder.

use std::path::PathBuf;

use autonomy_oci::{RemoteSet, Strays};
use autonomy_reconciler::{Loaded, VerifiedSet, pull};
use autonomy_schema::{Sha256, Time};
use autonomy_stateroot::Unfolded;
use serde_json::json;

use crate::Global;
use crate::commands::{init, verify};
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::ui;

/// Pull a set from a registry into a folder. What came before, whole or in part, is not fetched again. The set is verified
/// by `--trust-root`, or by the node's own root; with neither, it is said to be unverified.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// `oci://HOST[:PORT]/REPOSITORY:TAG` or `…@sha256:DIGEST`.
    reference: String,
    /// The folder: absent, empty, or an earlier pull.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// The trust root; the node's own when absent.
    #[arg(long, value_name = "FILE")]
    trust_root: Option<PathBuf>,
    /// The clock to use.
    #[arg(long, value_name = "TIME")]
    now: Option<Time>,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    registry: node::RegistryArgs,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    fetch(args, global).map_err(|failure| failure.with_json(args.output == Output::Json))
}

fn fetch(args: &Args, global: &Global) -> Result<u8, Failure> {
    let reference = node::reference(&args.reference)?;
    // Before anything comes: what cannot be verified as asked for is not fetched either.
    let judge = match (&args.trust_root, &global.state_root) {
        (Some(path), _) => Some(Loaded::away(init::trust_root(path)?.0)),
        (None, Some(_)) => Some(inside(args, global)?),
        (None, None) => None,
    };
    let remote = RemoteSet::open(args.registry.connect(&reference)?)?;
    let bar = ui::progress(Some(0), "pulling");
    let pulled = pull(&remote, &args.to, Strays::Refuse, &|done, total| node::advance(&bar, done, total));
    bar.finish_and_clear();
    let pulled = pulled?;
    let digest = pulled.digest();
    let set = Unfolded::new(Box::new(pulled));
    let verified = judge.map(|mut loaded| verify::judged(&mut loaded, &set, args.now)).transpose()?;
    show(args, digest, verified.as_ref());
    Ok(exit::DONE)
}

fn inside(args: &Args, global: &Global) -> Result<Loaded, Failure> {
    let (root, state_root) = node::state_root(global)?;
    if node::lies_inside(&args.to, &state_root)? {
        let message = format!("{} lies inside the state root; pull to another place", args.to.display());
        return Err(Failure::Usage(message));
    }
    Ok(autonomy_reconciler::load(&root)?)
}

fn show(args: &Args, digest: Sha256, verified: Option<&VerifiedSet>) {
    let signers = verified.map(|set| set.manifest.signers().iter().map(Sha256::to_string).collect::<Vec<_>>());
    if args.output == Output::Json {
        let manifest = verified.map(|set| set.manifest.fingerprint());
        let value = json!({
            "reference": args.reference, "digest": digest, "to": args.to, "verified": verified.is_some(),
            "manifest": manifest, "signers": signers,
        });
        return ui::out(&format!("{value}\n"));
    }
    let to = args.to.display();
    let text = match (verified, signers) {
        (Some(set), Some(signers)) => {
            let metadata = &set.manifest.document().metadata;
            let (name, serial) = (&metadata.name, metadata.serial);
            let signers = signers.join(",\n            ");
            format!(
                "Verified {name} (serial {serial}).\n  manifest {}\n  signed by {signers}",
                set.manifest.fingerprint()
            )
        }
        _ => format!("unverified: no trust root was given\nNext: autonomy verify {to} --trust-root FILE"),
    };
    ui::out(&ui::printable(&format!("Pulled {} to {to}.\n  digest   {digest}\n{text}\n", args.reference)));
}
