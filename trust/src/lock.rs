//! Verification of the lock that a verified manifest pins.

use autonomy_schema::document::parse;
use autonomy_schema::lock::Lock;
use autonomy_schema::root::Role;
use autonomy_schema::version::Kind;
use autonomy_schema::{Code, Reason, Reasons, Sha256, StateManifest};

use crate::rules;
use crate::threshold::{Demand, Signers};
use crate::verified::{Context, Signed, Verified};

/// The artifact that a lock speaks of.
const AGENT: &str = "agent";

/// Verifies `signed` as the lock of `manifest`: size and digest that the manifest pins, a threshold of role
/// `artifact` over the raw bytes, then the document: its fingerprint, agent and policy are the manifest's.
pub fn verify_lock(
    signed: Signed<'_>,
    manifest: &Verified<StateManifest>,
    context: &Context<'_>,
) -> Result<Verified<Lock>, Reasons> {
    let manifest = manifest.document();
    let revoked = rules::revoked_keys(context, Some(manifest));
    let mut reasons = pinned_bytes(signed.bytes, manifest);
    let judged = rules::under_any_root(context, |root| {
        let (what, code) = (Kind::Lock.as_str(), Code::BelowThreshold);
        Demand { what, code, root, any_of: &[Role::Artifact], revoked: &revoked }.judge(signed)
    });
    let signers = judged.unwrap_or_else(|refusal| {
        reasons.extend(refusal.into_vec());
        Signers::default()
    });
    Reasons::check(reasons)?;
    let lock: Lock = parse(signed.bytes)?;
    Reasons::check(pinned_meaning(&lock, manifest))?;
    Ok(Verified::new(lock, signed, signers))
}

/// Verifies `signed` as a lock by itself, on a node that no manifest manages: a threshold of role `artifact` over the raw
/// bytes, then the document and its fingerprint. Whether agent and policy are those that it binds is the caller's to ask.
pub fn verify_lock_alone(signed: Signed<'_>, context: &Context<'_>) -> Result<Verified<Lock>, Reasons> {
    let revoked = rules::revoked_keys(context, None);
    let signers = rules::under_any_root(context, |root| {
        let (what, code) = (Kind::Lock.as_str(), Code::BelowThreshold);
        Demand { what, code, root, any_of: &[Role::Artifact], revoked: &revoked }.judge(signed)
    })?;
    let lock: Lock = parse(signed.bytes)?;
    Ok(Verified::new(lock, signed, signers))
}

fn pinned_bytes(bytes: &[u8], manifest: &StateManifest) -> Vec<Reason> {
    let pinned = &manifest.spec.lock;
    if bytes.len() as u64 != pinned.size {
        let message = format!("the lock has {} bytes; the manifest pins {}", bytes.len(), pinned.size);
        return vec![Reason::new(Code::SizeMismatch, message)];
    }
    let found = Sha256::of(bytes);
    if found != pinned.digest {
        let message = format!("the lock hashes to {found}; the manifest pins {}", pinned.digest);
        return vec![Reason::new(Code::DigestMismatch, message)];
    }
    Vec::new()
}

fn pinned_meaning(lock: &Lock, manifest: &StateManifest) -> Vec<Reason> {
    let spec = &manifest.spec;
    let mut reasons = Vec::new();
    let mut mismatch = |message: String| reasons.push(Reason::new(Code::DigestMismatch, message));
    if lock.behavioral_fingerprint != spec.lock.fingerprint {
        mismatch(format!(
            "the lock's `behavioral_fingerprint` is {}; the manifest pins {}",
            lock.behavioral_fingerprint, spec.lock.fingerprint
        ));
    }
    let agent = spec.artifacts.iter().find(|artifact| artifact.name.as_str() == AGENT).and_then(|agent| agent.digest);
    match agent {
        Some(pinned) if pinned == lock.agent_artifact.digest => {}
        Some(pinned) => mismatch(format!(
            "the lock's `agent_artifact.digest` is {}; the manifest pins {pinned}",
            lock.agent_artifact.digest
        )),
        None => mismatch(format!(
            "the lock's `agent_artifact.digest` is {}; the manifest has no file artifact named `{AGENT}`",
            lock.agent_artifact.digest
        )),
    }
    if lock.policy_bundle.digest != spec.policy.digest {
        mismatch(format!(
            "the lock's `policy_bundle.digest` is {}; the manifest pins {}",
            lock.policy_bundle.digest, spec.policy.digest
        ));
    }
    reasons
}
