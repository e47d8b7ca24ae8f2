//! Verification of a policy bundle that comes by itself, without a manifest that pins it.

use autonomy_schema::root::Role;
use autonomy_schema::{Code, Reason, Reasons, Sha256, set};

use crate::rules;
use crate::threshold::Demand;
use crate::verified::{Context, Purpose, Signed};

/// Verifies `signed` as the bytes of a policy bundle: a threshold of role `policy` over them, and for
/// [`Purpose::Change`] a trust root that has not expired. Gives the keys that counted. What is in the bundle is not looked
/// at, as nothing of it decides whether it may be believed.
pub fn verify_policy_bundle(signed: Signed<'_>, context: &Context<'_>) -> Result<Vec<Sha256>, Reasons> {
    let revoked = rules::revoked_keys(context, None);
    let judged = rules::under_any_root(context, |root| {
        let (what, code) = ("policy bundle", Code::BelowThreshold);
        let demand = Demand { what, code, root, any_of: &[Role::Policy], revoked: &revoked };
        demand.judge_within(signed, set::MAX_POLICY_BYTES)
    });
    let document = context.root.document();
    let fresh = matches!(context.purpose, Purpose::Change);
    let expired: Option<Reason> = fresh
        .then(|| rules::expired(&format!("trust root version {}", document.version), document.expires_at, context))
        .flatten();
    match (judged, expired) {
        (Ok(signers), None) => Ok(signers.keys.into_iter().collect()),
        (Ok(_), Some(expired)) => Err(expired.into()),
        (Err(reasons), expired) => {
            let all = reasons.as_slice().iter().cloned().chain(expired).collect();
            Err(Reasons::new(all).unwrap_or(reasons))
        }
    }
}
