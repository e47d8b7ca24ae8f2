//! Verification of a revocation list that comes by itself.

use std::collections::BTreeSet;

use autonomy_schema::document::parse;
use autonomy_schema::revocation::Revocation;
use autonomy_schema::root::Role;
use autonomy_schema::version::Kind;
use autonomy_schema::{Code, Reason, Reasons, Sha256};

use crate::rules;
use crate::threshold::{Demand, Signers};
use crate::verified::{Context, Signed, Verified};

/// Verifies `signed` as a revocation list: a threshold of role `manifest`, or of role `root`, over the raw bytes, then the
/// document. Its number is above the one that the node has seen, or it is that very list again. Keys that it revokes do
/// not count for it, save root keys, which a list never binds.
pub fn verify_revocation(signed: Signed<'_>, context: &Context<'_>) -> Result<Verified<Revocation>, Reasons> {
    let judge = |revoked: &BTreeSet<Sha256>| {
        let (what, code) = (Kind::Revocation.as_str(), Code::BelowThreshold);
        Demand { what, code, root: context.root, any_of: &[Role::Manifest, Role::Root], revoked }.judge(signed)
    };
    let seen = &context.floors.revoked;
    judge(&seen.keys.iter().copied().collect())?;
    let list: Revocation = parse(signed.bytes)?;
    let found = &list.revoked;
    let mut reasons = Vec::new();
    let mut lowered = |message: String| reasons.push(Reason::new(Code::RevocationNumberLowered, message));
    if found.number < seen.number {
        lowered(format!("the list is number {}; this node has seen {}", found.number, seen.number));
    } else if found.number == seen.number && found != seen {
        lowered(format!("the list is number {}, and this node has seen another one of that number", found.number));
    }
    reasons.extend(rules::revocation_step(found.number, context));
    let own: BTreeSet<Sha256> = found.keys.iter().copied().collect();
    let signers = judge(&own).unwrap_or_else(|refusal| {
        reasons.extend(refusal.into_vec());
        Signers::default()
    });
    Reasons::check(reasons)?;
    Ok(Verified::new(list, signed, signers))
}
