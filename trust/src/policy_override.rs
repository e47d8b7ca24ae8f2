//! Verification of a policy override.

use std::collections::BTreeSet;

use autonomy_schema::document::parse;
use autonomy_schema::policy_override::PolicyOverride;
use autonomy_schema::root::Role;
use autonomy_schema::version::Kind;
use autonomy_schema::{Blake3, Code, Reason, Reasons};

use crate::rules;
use crate::threshold::Demand;
use crate::verified::{Context, Signed, Verified};

/// Verifies `signed` as an override for `manifest`: a threshold of role `root` over the raw bytes, then the document, which
/// is for this manifest and for this time.
pub fn verify_override(
    signed: Signed<'_>,
    manifest: Blake3,
    context: &Context<'_>,
) -> Result<Verified<PolicyOverride>, Reasons> {
    let (what, code) = (Kind::PolicyOverride.as_str(), Code::BelowThreshold);
    let demand = Demand { what, code, root: context.root, any_of: &[Role::Root], revoked: &BTreeSet::new() };
    let signers = demand.judge(signed)?;
    let found: PolicyOverride = parse(signed.bytes)?;
    let mut reasons: Vec<Reason> =
        rules::expired("the policy override", found.expires_at, context).into_iter().collect();
    reasons.extend(rules::issued_in_future("the policy override", found.issued_at, context));
    if found.manifest != manifest {
        let message = format!("the policy override is for manifest {}; this one is {manifest}", found.manifest);
        reasons.push(Reason::new(Code::ScopeMismatch, message));
    }
    Reasons::check(reasons)?;
    Ok(Verified::new(found, signed, signers))
}
