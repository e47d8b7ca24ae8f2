//! Verification of a state manifest.

use autonomy_schema::document::parse;
use autonomy_schema::root::Role;
use autonomy_schema::version::Kind;
use autonomy_schema::{Code, Reasons, StateManifest};

use crate::rules;
use crate::threshold::Demand;
use crate::verified::{Context, Signed, Verified};

/// Verifies `signed` as a state manifest: caps, signatures over the raw bytes (a threshold of role `manifest`, or
/// of role `offline`), only then the document, and the rules that the purpose binds.
pub fn verify_manifest(signed: Signed<'_>, context: &Context<'_>) -> Result<Verified<StateManifest>, Reasons> {
    let judge = |manifest: Option<&StateManifest>| {
        let revoked = rules::revoked_keys(context, manifest);
        rules::under_any_root(context, |root| {
            let (what, code) = (Kind::StateManifest.as_str(), Code::BelowThreshold);
            Demand { what, code, root, any_of: &[Role::Manifest, Role::Offline], revoked: &revoked }.judge(signed)
        })
    };
    let mut signers = judge(None)?;
    let manifest: StateManifest = parse(signed.bytes)?;
    let mut reasons = rules::judge(&manifest, autonomy_schema::document::fingerprint(signed.bytes), context);
    if rules::brings_revocations(context, &manifest) {
        // A manifest that revokes a key it needs itself would verify now and never again.
        match judge(Some(&manifest)) {
            Ok(remaining) => signers = remaining,
            Err(refusal) => reasons.extend(refusal.into_vec()),
        }
    }
    reasons.extend(rules::offline(&manifest, &signers.roles, context));
    Reasons::check(reasons)?;
    Ok(Verified::new(manifest, signed, signers))
}
