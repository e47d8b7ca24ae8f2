//! Who signed. A threshold counts distinct public keys of one role: not lines, not spellings, not roles together.

use crate::Made;
use crate::case::{Case, attack, control};
use crate::keys::{high_s, line, twin};
use crate::world::{World, lines};

const FEW: &[&str] = &["below_threshold"];

pub(crate) fn cases(world: &World) -> Made<Vec<Case>> {
    let mut cases = too_few(world)?;
    cases.extend(counted_twice(world)?);
    cases.extend(wrong_role(world)?);
    cases.extend(enough(world)?);
    Ok(cases)
}

fn too_few(world: &World) -> Made<Vec<Case>> {
    let (next, bytes) = (&world.next, world.manifest());
    let [one, ..] = &world.keys.manifest;
    let [stranger, other] = &world.keys.stranger;
    let mut unsigned = next.clone();
    unsigned.remove("manifest.json.sigstore.jsonl");
    let mut unsigned_lock = next.clone();
    unsigned_lock.remove("autonomy.lock.json.sigstore.jsonl");
    let flipped = {
        let mut signature = one.sign(bytes)?;
        if let Some(last) = signature.last_mut() {
            *last ^= 1;
        }
        line(&signature, bytes, one.id())
    };
    let second = world.keys.manifest[1].line(bytes)?;
    Ok(vec![
        attack(
            "no-signatures",
            3,
            FEW,
            "The signatures of the manifest are left out, in the hope that a node verifies only what is there. There \
             is no \"verify if possible\".",
        )
        .set(next, unsigned),
        attack("empty-signatures", 3, FEW, "The signature file is there and empty.").set(next, world.signed_with(&[])),
        attack("one-signer-of-two", 3, FEW, "One key was stolen. The trust root demands two.")
            .set(next, world.signed_with(&[one.line(bytes)?])),
        attack(
            "strangers-sign",
            3,
            FEW,
            "Arbitrary software: two sound signatures, by keys that the trust root does not name.",
        )
        .set(next, world.signed_with(&[stranger.line(bytes)?, other.line(bytes)?])),
        attack("stranger-fills-up", 3, FEW, "One stolen key, and the attacker's own key to make it two.")
            .set(next, world.signed_with(&[one.line(bytes)?, stranger.line(bytes)?])),
        attack(
            "stranger-claims-a-key",
            3,
            FEW,
            "The attacker's signature carries the hint of a pinned key. A hint says which key to try first, and \
             proves nothing.",
        )
        .set(
            next,
            world.signed_with(&[one.line(bytes)?, line(&stranger.sign(bytes)?, bytes, world.keys.manifest[1].id())]),
        ),
        attack("flipped-signature", 3, FEW, "One bit of one of the two signatures is another.")
            .set(next, world.signed_with(&[flipped, second])),
        attack("lock-unsigned", 3, FEW, "The manifest is signed, the lock is not.").set(next, unsigned_lock),
    ])
}

fn counted_twice(world: &World) -> Made<Vec<Case>> {
    let (next, bytes) = (&world.next, world.manifest());
    let [one, two, three] = &world.keys.manifest;
    let signature = one.ecdsa(bytes)?;
    let again = one.ecdsa_again(bytes)?;
    let twin = line(twin(&signature)?.as_bytes(), bytes, one.id());
    let claimed = line(signature.to_der().as_bytes(), bytes, two.id());
    Ok(vec![
        attack("one-key-twice-by-line", 3, FEW, "The same line twice: one of the four threshold bugs that others had.")
            .set(next, world.signed_with(&[one.line(bytes)?, one.line(bytes)?])),
        attack(
            "one-key-twice-by-signature",
            3,
            FEW,
            "One key signs twice with different nonces, so that the two signatures have nothing in common but the \
             key.",
        )
        .set(next, world.signed_with(&[one.line(bytes)?, line(again.to_der().as_bytes(), bytes, one.id())])),
        attack(
            "one-key-twice-by-malleability",
            3,
            FEW,
            "From a valid ECDSA signature (r, s) anybody can compute another, (r, n-s). The twin holds, and adds no \
             signer.",
        )
        .set(next, world.signed_with(&[one.line(bytes)?, twin])),
        attack(
            "one-key-twice-by-encoding",
            3,
            FEW,
            "The signature of one key as a Sigstore bundle and once more as bare base64, which names no key.",
        )
        .set(next, world.signed_with(&[one.line(bytes)?, one.bare(bytes)?])),
        attack(
            "one-key-twice-by-hint",
            3,
            FEW,
            "The signature of one key twice, the second time under the key id of another signer.",
        )
        .set(next, world.signed_with(&[one.line(bytes)?, claimed])),
        attack(
            "one-ed25519-key-twice",
            3,
            FEW,
            "An Ed25519 signature (R, s) and (R, s+L), which a lax verifier takes for a second one.",
        )
        .set(next, world.signed_with(&[three.line(bytes)?, line(&plus_order(&three.sign(bytes)?), bytes, three.id())])),
    ])
}

fn wrong_role(world: &World) -> Made<Vec<Case>> {
    let (next, bytes) = (&world.next, world.manifest());
    let keys = &world.keys;
    let signed = |who: &[&crate::keys::Key]| -> Made<_> {
        let mut files = next.clone();
        files.insert("manifest.json.sigstore.jsonl".to_owned(), lines(who, bytes)?);
        Ok(files)
    };
    let mut lock = next.clone();
    let manifest_keys = [&keys.manifest[0], &keys.manifest[1]];
    lock.insert("autonomy.lock.json.sigstore.jsonl".to_owned(), lines(&manifest_keys, world.lock())?);
    let mut foreign = next.clone();
    foreign.insert("autonomy.lock.json.sigstore.jsonl".to_owned(), lines(&[&keys.stranger[0]], world.lock())?);
    Ok(vec![
        attack(
            "roles-added-up",
            3,
            FEW,
            "One key of role `manifest` and one of role `offline`: two keys, and neither role has its two. Keys of \
             different roles never add up.",
        )
        .set(next, signed(&[&keys.manifest[0], &keys.offline[0]])?),
        attack("artifact-keys-sign-the-manifest", 3, FEW, "The keys that sign locks sign a manifest.")
            .set(next, signed(&[&keys.artifact[0], &keys.artifact[1]])?),
        attack(
            "root-keys-sign-the-manifest",
            3,
            FEW,
            "The most powerful keys sign a manifest. They may sign trust roots, and nothing else.",
        )
        .set(next, signed(&[&keys.root[0], &keys.root[1], &keys.root[2]])?),
        attack(
            "manifest-keys-sign-the-lock",
            3,
            FEW,
            "Whoever may say which release runs may not say what the release is made of.",
        )
        .set(next, lock),
        attack("stranger-signs-the-lock", 3, FEW, "The lock is signed by a key that the trust root does not name.")
            .set(next, foreign),
        attack("one-offline-key", 3, FEW, "One of the two keys that it takes in the field.")
            .set(next, signed(&[&keys.offline[0]])?),
        attack(
            "revoked-key-fills-up",
            3,
            &["revoked"],
            "Two keys of the trust root sign, and the release that runs has revoked one of them.",
        )
        .set(next, signed(&[&keys.manifest[0], &keys.revoked])?),
    ])
}

fn enough(world: &World) -> Made<Vec<Case>> {
    let (next, bytes) = (&world.next, world.manifest());
    let keys = &world.keys;
    let [one, two, three] = &keys.manifest;
    let high =
        |key: &crate::keys::Key| -> Made<String> { Ok(line(high_s(&key.ecdsa(bytes)?)?.as_bytes(), bytes, key.id())) };
    let offline = [keys.offline[0].line(bytes)?, keys.offline[1].line(bytes)?];
    Ok(vec![
        control("good-set", "The set as its signers made it. A corpus that refuses everything proves nothing."),
        control(
            "high-s-is-a-signature",
            "Both signatures have the high one of the two values of s, as openssl writes it half of the time.",
        )
        .set(next, world.signed_with(&[high(one)?, high(two)?])),
        control("ed25519-and-p256", "One signature of each algorithm.")
            .set(next, world.signed_with(&[two.line(bytes)?, three.line(bytes)?])),
        control("stranger-beside-enough", "Two signers are enough; a sound line of somebody else does no harm.")
            .set(next, world.signed_with(&[keys.stranger[0].line(bytes)?, one.line(bytes)?, two.line(bytes)?])),
        control("wrong-hint", "Each line names the other signer's key. Hints are for look-up alone.").set(
            next,
            world.signed_with(&[line(&one.sign(bytes)?, bytes, two.id()), line(&two.sign(bytes)?, bytes, one.id())]),
        ),
        control("bare-signatures", "Bare base64, as `cosign sign-blob` prints it without `--bundle`.")
            .set(next, world.signed_with(&[one.bare(bytes)?, two.bare(bytes)?])),
        control("offline-keys-suffice", "Both offline keys, and no other: a manifest made in the field.")
            .set(next, world.signed_with(&offline)),
    ])
}

/// An Ed25519 signature with the group order added to its scalar.
fn plus_order(signature: &[u8]) -> Vec<u8> {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let (point, scalar) = signature.split_at(signature.len() / 2);
    let mut carry = 0;
    let sum = scalar.iter().zip(ORDER).map(|(left, right)| {
        let sum = u16::from(*left) + u16::from(right) + carry;
        carry = sum >> 8;
        sum.to_le_bytes()[0]
    });
    point.iter().copied().chain(sum).collect()
}
