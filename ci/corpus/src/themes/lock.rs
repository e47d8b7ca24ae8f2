//! Locks that their signers signed, and that do not bind what the manifest pins.

use autonomy_schema::lock::Lock;
use autonomy_schema::{Document as _, Sha256, canonical, set};
use serde_json::{Value, json};

use crate::Made;
use crate::case::{Case, Files, attack};
use crate::world::{World, lines};

const OTHER: &[&str] = &["digest_mismatch"];

/// The next set with these bytes as its lock, pinned by digest and size, and signed.
fn with_bytes(world: &World, bytes: &[u8], fingerprint: Option<&Lock>) -> Made<Files> {
    let mut draft = world.draft.clone();
    let spec = &mut draft.manifest["spec"];
    spec["lock"]["digest"] = json!(Sha256::of(bytes));
    spec["lock"]["size"] = json!(bytes.len());
    if let Some(lock) = fingerprint {
        spec["lock"]["fingerprint"] = json!(lock.behavioral_fingerprint);
        spec["release"]["targetLockFingerprint"] = json!(lock.behavioral_fingerprint);
    }
    let mut files = world.signed(&draft)?;
    files.insert(set::LOCK_SIGNATURES.to_owned(), lines(&[&world.keys.artifact[0]], bytes)?);
    files.insert(set::LOCK.to_owned(), bytes.to_vec());
    Ok(files)
}

/// The next set with a changed lock, whose fingerprint is right again.
fn bound(world: &World, change: impl FnOnce(&mut Lock)) -> Made<Files> {
    let mut lock = world.draft.lock.clone();
    change(&mut lock);
    lock.behavioral_fingerprint = lock.computed_fingerprint()?;
    with_bytes(world, &lock.to_canonical()?, Some(&lock))
}

/// The next set with a lock that is changed as a tree.
fn raw(world: &World, change: impl FnOnce(&mut Value)) -> Made<Files> {
    let mut lock: Value = serde_json::from_slice(world.lock())?;
    change(&mut lock);
    with_bytes(world, &canonical::to_bytes(&lock)?, None)
}

pub(crate) fn cases(world: &World) -> Made<Vec<Case>> {
    let next = &world.next;
    let mut lied = world.draft.lock.clone();
    lied.inputs.prompt_hash = Sha256::of(b"another prompt");
    let version = "9.9.9".parse()?;
    let text = String::from_utf8(world.lock().to_vec())?;
    let twice = text.replacen("\"kind\":\"Lock\"", "\"kind\":\"Lock\",\"kind\":\"Lock\"", 1);
    Ok(vec![
        attack(
            "lock-lies-about-its-fingerprint",
            3,
            OTHER,
            "The prompt is another, and the fingerprint still that of the honest lock.",
        )
        .set(next, with_bytes(world, &lied.to_canonical()?, None)?),
        attack("lock-of-another-agent", 3, OTHER, "A sound lock that binds an agent which is not in the set.")
            .set(next, bound(world, |lock| lock.agent_artifact.digest = Sha256::of(b"another agent"))?),
        attack("lock-of-another-policy", 3, OTHER, "A sound lock that binds another policy bundle.")
            .set(next, bound(world, |lock| lock.policy_bundle.digest = Sha256::of(b"another policy"))?),
        attack(
            "lock-of-another-policy-version",
            3,
            OTHER,
            "The lock says another version of the policy than the bundle does itself.",
        )
        .set(next, bound(world, |lock| lock.policy_bundle.semver = version)?),
        attack("lock-with-a-key-twice", 3, &["duplicate_key"], "The lock says its kind twice.")
            .set(next, with_bytes(world, twice.as_bytes(), None)?),
        attack("lock-not-canonical", 3, &["not_canonical"], "The lock ends with a newline.")
            .set(next, with_bytes(world, format!("{text}\n").as_bytes(), None)?),
        attack("manifest-as-a-lock", 3, &["role_mismatch"], "The signers of locks signed a manifest.")
            .set(next, with_bytes(world, world.manifest(), None)?),
        attack(
            "lock-with-an-unknown-field",
            3,
            &["unknown_field"],
            "The lock has a field that this version does not know.",
        )
        .set(next, raw(world, |lock| lock["sandbox"] = json!("off"))?),
        attack(
            "lock-with-a-bare-digest",
            3,
            &["bad_digest"],
            "A digest without its algorithm: confusion waits to happen.",
        )
        .set(next, raw(world, |lock| lock["inputs"]["prompt_hash"] = json!(Sha256::of(b"").hex()))?),
        attack("lock-with-a-digest-of-another-kind", 3, &["bad_digest"], "A BLAKE3 digest where SHA-256 is used.").set(
            next,
            raw(world, |lock| {
                lock["agent_artifact"]["digest"] = json!(autonomy_schema::Blake3::of(b"agent"));
            })?,
        ),
        attack("digest-in-capitals", 3, &["bad_digest"], "A digest of the manifest in upper case: a second spelling.")
            .set(
                next,
                world.doctored(|m| {
                    let digest = m["spec"]["artifacts"][0]["digest"].as_str().unwrap_or_default().to_ascii_uppercase();
                    m["spec"]["artifacts"][0]["digest"] = json!(digest.replacen("SHA256", "sha256", 1));
                })?,
            ),
        attack("weak-digest-algorithm", 3, &["bad_digest"], "The manifest pins an artifact by MD5.").set(
            next,
            world.doctored(|m| m["spec"]["artifacts"][0]["digest"] = json!(format!("md5:{}", "0".repeat(32))))?,
        ),
    ])
}
