//! `autonomy oci verify`: who signed a manifest.

use std::path::PathBuf;

use autonomy_reconciler::Loaded;
use autonomy_schema::{Code, Reason, Sha256, Time};
use autonomy_trust::{ImageSignature, PublicKey, Purpose, verify_image, verify_image_by};
use serde_json::json;

use super::{Common, named};
use crate::Global;
use crate::commands::init;
use crate::failure::{Failure, exit};
use crate::{keys, node};

/// Verify cosign's signatures of a manifest, under its tag and as bundles: with one key, or by the threshold of role
/// `artifact` of a trust root. Writes nothing; no transparency log is asked.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The manifest: `oci://HOST[:PORT]/REPOSITORY:TAG` or `…@sha256:DIGEST`.
    reference: String,
    /// The public key that must have signed.
    #[arg(long, value_name = "FILE", conflicts_with = "trust_root")]
    key: Option<PathBuf>,
    /// The trust root; the node's own when absent.
    #[arg(long, value_name = "FILE")]
    trust_root: Option<PathBuf>,
    /// The clock to use.
    #[arg(long, value_name = "TIME")]
    now: Option<Time>,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Who must have signed.
enum Judge {
    Key(Box<PublicKey>),
    Root(Box<Loaded>),
}

pub(super) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    let judge = match (&args.key, &args.trust_root) {
        (Some(path), _) => Judge::Key(Box::new(keys::public(path)?)),
        (None, Some(path)) => Judge::Root(Box::new(Loaded::away(init::trust_root(path)?.0))),
        (None, None) => Judge::Root(Box::new(autonomy_reconciler::load(&node::state_root(global)?.0)?)),
    };
    let registry = args.common.connect(&args.reference)?;
    let (subject, bytes) = named(&registry)?;
    let refused = |reason: Reason| Failure::refused(reason, false);
    let simple = registry.simple_signatures(subject.digest).map_err(refused)?;
    let bundles = registry.bundles(subject.digest).map_err(refused)?;
    let mut signatures: Vec<ImageSignature<'_>> = Vec::new();
    signatures
        .extend(simple.iter().map(|it| ImageSignature::Simple { payload: &it.payload, signature: &it.signature }));
    signatures.extend(bundles.iter().map(|bundle| ImageSignature::Bundle(bundle)));
    if signatures.is_empty() {
        let message = format!("nobody signed {} in {}", subject.digest, registry.reference());
        let reason = Reason::new(Code::BelowThreshold, message);
        return Err(refused(reason.with_remedy("sign it: `autonomy oci attach-signature REF --key KEY`")));
    }
    let signers = match &judge {
        Judge::Key(key) => verify_image_by(&bytes, &signatures, key).map(|()| vec![key.id()])?,
        Judge::Root(loaded) => {
            let context = loaded.context(args.now.unwrap_or_else(node::clock), Purpose::Change);
            verify_image(&bytes, &signatures, &context)?
        }
    };
    tell(args, subject.digest, &signers);
    Ok(exit::DONE)
}

fn tell(args: &Args, digest: Sha256, signers: &[Sha256]) {
    let listed = signers.iter().map(Sha256::to_string).collect::<Vec<_>>().join(",\n            ");
    let value = json!({ "verified": true, "digest": digest, "signers": signers });
    args.common.show(&value, &format!("Verified {}.\n  manifest {digest}\n  signed by {listed}\n", args.reference));
}
