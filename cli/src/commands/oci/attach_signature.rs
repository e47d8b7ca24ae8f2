//! `autonomy oci attach-signature`: a manifest signed as cosign does.

use std::path::PathBuf;

use autonomy_oci::SimpleSignature;
use autonomy_schema::{Code, Reason};
use autonomy_signing::{SignError, dsse_bundle, sign_payload, simple_signing_payload};
use serde_json::json;

use super::{Common, named};
use crate::failure::{Failure, exit};
use crate::keys;

/// Sign a manifest as cosign does: under the tag `sha256-….sig`, and as a bundle that refers to it. Nothing is sent to a
/// transparency log.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The manifest: `oci://HOST[:PORT]/REPOSITORY:TAG` or `…@sha256:DIGEST`.
    reference: String,
    /// The private key, as `autonomy keygen` or cosign make it.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    #[command(flatten)]
    pub(super) common: Common,
}

pub(super) fn run(args: &Args) -> Result<u8, Failure> {
    let registry = args.common.connect(&args.reference)?;
    let (subject, _) = named(&registry)?;
    let signer = keys::signer(&args.key)?;
    let unsigned = |error: SignError| Failure::because(Code::WrongKey, error.to_string());
    let refused = |reason: Reason| Failure::refused(reason, false);
    let reference = registry.reference();
    let name = format!("{}/{}", reference.authority(), reference.repository());
    let payload = simple_signing_payload(&name, subject.digest);
    // A signature that is there is not made again: ECDSA would give another one each time.
    let key = autonomy_trust::PublicKey::parse_pem(signer.public_pem())
        .map_err(|error| Failure::because(Code::WrongKey, error.to_string()))?;
    let there = registry.simple_signatures(subject.digest).map_err(refused)?;
    let holds = |it: &SimpleSignature| {
        autonomy_trust::verify_simple_signing(&it.payload, &it.signature, subject.digest, &key).is_ok()
    };
    if !there.iter().any(holds) {
        let signature = sign_payload(&signer, &payload).map_err(unsigned)?;
        let signature = SimpleSignature { payload, signature };
        registry.add_simple_signature(subject.digest, &signature).map_err(refused)?;
    }
    let bundles = registry.bundles(subject.digest).map_err(refused)?;
    if !bundles.iter().any(|it| autonomy_trust::verify_statement_bundle(it, subject.digest, &key).is_ok()) {
        let bundle = dsse_bundle(&signer, subject.digest).map_err(unsigned)?;
        registry.add_bundle(&subject, &bundle).map_err(|error| refused(error.to_reason()))?;
    }
    let (digest, key) = (subject.digest, signer.key_id());
    let tag = autonomy_oci::signature_tag(digest);
    let value = json!({ "subject": digest, "key": key, "tag": tag });
    args.common.show(
        &value,
        &format!("Signed {}.\n  manifest {digest}\n  key      {key}\n  tag      {tag}\n", args.reference),
    );
    Ok(exit::DONE)
}
