//! `autonomy policy verify`: everything that is asked of a bundle before it may decide, away from any node.

use std::path::{Path, PathBuf};

use autonomy_policy::slots::judge_tests;
use autonomy_reconciler::Loaded;
use autonomy_schema::{Code, Reason, Sha256, Time, set};
use autonomy_trust::{Purpose, verify_policy_bundle};
use serde_json::json;

use super::source;
use crate::commands::init;
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::{keys, ui};

/// Verify a policy bundle: archive, hash, rules, version, its own tests; with `--trust-root` also that role `policy` signed
/// it. Writes nothing.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The bundle, ours or a plain one of OPA.
    #[arg(value_name = "FILE")]
    bundle: PathBuf,
    /// The trust root whose role `policy` must have signed it (`FILE.sigstore.jsonl`).
    #[arg(long, value_name = "FILE")]
    trust_root: Option<PathBuf>,
    /// The public key (PEM) that must have signed the `.signatures.json` of an OPA bundle, by ES256.
    #[arg(long, value_name = "FILE")]
    verification_key: Option<PathBuf>,
    /// The clock to use.
    #[arg(long, value_name = "TIME")]
    now: Option<Time>,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    verify(args).map_err(|failure| failure.with_json(args.output == Output::Json))
}

fn verify(args: &Args) -> Result<u8, Failure> {
    let file = node::signed_file(&args.bundle, set::MAX_POLICY_BYTES)?;
    // Who signed comes first: nothing of it is read before.
    let signers = match &args.trust_root {
        Some(path) => {
            let loaded = Loaded::away(init::trust_root(path)?.0);
            let context = loaded.context(args.now.unwrap_or_else(node::clock), Purpose::Change);
            Some(verify_policy_bundle(file.signed(), &context)?)
        }
        None => None,
    };
    let bundle = source::loaded(&args.bundle, &file.bytes)?;
    let tests = judge_tests(&bundle)?;
    let opa_signer = args.verification_key.as_ref().map(|key| signer(args, key, &bundle)).transpose()?;
    let manifest = bundle.manifest();
    let opa = match (bundle.opa().map(|opa| opa.signature.is_some()), opa_signer) {
        (None | Some(false), _) => None,
        (Some(true), None) => Some("unverified"),
        (Some(true), Some(_)) => Some("verified"),
    };
    if args.output == Output::Json {
        let told = json!({
            "name": manifest.name, "version": manifest.policy_bundle_version, "digest": bundle.digest(), "tests": tests,
            "signers": signers, "opa_signature": opa, "opa_signer": opa_signer,
        });
        ui::out(&format!("{told}\n"));
        return Ok(exit::DONE);
    }
    let signed = match &signers {
        Some(signers) => signers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        None => "not looked at (no --trust-root)".to_owned(),
    };
    let opa = opa.map_or_else(String::new, |opa| format!("  OPA signature {opa}; its hashes match\n"));
    ui::out(&format!(
        "Verified policy {} {}.\n  digest    {}\n  signed by {signed}\n{opa}  tests     {tests} passed\n",
        manifest.name,
        manifest.policy_bundle_version,
        bundle.digest(),
    ));
    Ok(exit::DONE)
}

/// The key, when it signed the OPA bundle.
fn signer(args: &Args, key: &Path, bundle: &autonomy_policy::Bundle) -> Result<Sha256, Failure> {
    let public = keys::public(key)?;
    let refuse = |message: &str| source::at(&args.bundle, Reason::new(Code::BelowThreshold, message));
    let signature = bundle.opa().and_then(|opa| opa.signature.as_ref());
    let signature = signature.ok_or_else(|| refuse("it holds no `.signatures.json` that the key could have signed"))?;
    if signature.is_by(&public) {
        Ok(public.id())
    } else {
        Err(refuse("its `.signatures.json` is not signed by that key"))
    }
}
