//! What is told, and what is handed on: the words and bytes that other rooms build on.

use autonomy_schema::{Code, Sha256};
use autonomy_trust::bundle::{LineError, parse_line};
use autonomy_trust::{AttestKey, Purpose, Signed, draft_reasons, scope_reasons};
use p256::ecdsa::SigningKey;
use p256::pkcs8::{EncodePrivateKey as _, LineEnding};

use crate::support::{World, lines, manifest_keys, node, pin, root_keys, signed_root, time, trust_root};

#[test]
fn a_root_hands_on_its_bytes_and_its_lines() {
    let root = pin(&trust_root(), &root_keys()[..2]).expect("pinned");
    let (bytes, signatures) = signed_root(&trust_root(), &root_keys()[..2]);
    assert_eq!((root.bytes(), root.signatures()), (&bytes[..], &signatures[..]));
    let mut next = trust_root();
    next.version = 4;
    let (bytes, signatures) = signed_root(&next, &root_keys()[1..]);
    // Lines that count for nothing: of manifest keys, and one of the signers again.
    let added = [&lines(&manifest_keys(), &bytes)[..], &signatures, &lines(&root_keys()[1..2], &bytes)].concat();
    let next = root.successor(Signed { bytes: &bytes, signatures: &added }).expect("signed by both");
    assert_eq!(
        (next.bytes(), next.signatures()),
        (&bytes[..], &signatures[..]),
        "the lines that counted, in their order"
    );
    assert_eq!(next.earlier()[0].signatures(), root.signatures());
}

#[test]
fn what_was_verified_hands_on_these_very_bytes_lines_and_signers() {
    let world = World::new();
    let bytes = world.bytes();
    let signatures = lines(&world.signers, &bytes);
    let verified = world.verify_bytes(&bytes, &signatures).expect("in order");
    assert_eq!((verified.bytes(), verified.signatures()), (&bytes[..], &signatures[..]));
    let mut signers: Vec<Sha256> = world.signers.iter().map(crate::support::Key::id).collect();
    signers.sort_unstable();
    assert_eq!(verified.signers(), signers);
    assert_eq!(verified.fingerprint(), autonomy_schema::Blake3::of(&bytes));
}

#[test]
fn a_shortfall_names_the_keys_that_did_sign() {
    let mut world = World::new();
    world.signers.truncate(1);
    let refusal = world.verify().expect_err("one of two").into_vec();
    let shown = format!("1 of the 2 keys that role `manifest` demands (sha256:{}…)", world.signers[0].id().short());
    assert!(refusal[0].message.contains(&shown), "{refusal:?}");
    world.signers.clear();
    let refusal = world.verify().expect_err("none").into_vec();
    assert!(refusal[0].message.contains("0 of the 2 keys that role `manifest` demands, "), "{refusal:?}");
}

#[test]
fn only_an_older_root_is_said_to_be_one_that_the_node_has_outgrown() {
    let remedy = |version: u64| {
        let mut other = trust_root();
        other.version = version;
        let (bytes, signatures) = signed_root(&other, &root_keys());
        let pinned = pin(&trust_root(), &root_keys()).expect("pinned");
        let refusal = pinned.successor(Signed { bytes: &bytes, signatures: &signatures }).expect_err("a gap");
        assert!(refusal.has(Code::RootGap));
        refusal.as_slice()[0].remedy.clone()
    };
    assert_eq!(remedy(2), "leave it out: the node has a newer one");
    assert_eq!(remedy(5), Code::RootGap.remedy());
}

#[test]
fn a_draft_is_judged_by_all_that_needs_no_signature() {
    let world = World::new();
    let manifest = world.verify().expect("in order");
    let (document, fingerprint) = (manifest.document(), manifest.fingerprint());
    assert!(scope_reasons(document, &node()).is_empty());
    assert!(draft_reasons(document, fingerprint, &world.floors, &node(), world.clock).is_empty());
    let mut other = node();
    other.fleet = "desert".parse().expect("a name");
    let told = |reasons: Vec<autonomy_schema::Reason>| reasons.iter().map(|reason| reason.code).collect::<Vec<_>>();
    assert_eq!(told(scope_reasons(document, &other)), [Code::ScopeMismatch]);
    let late = time("2040-01-01T00:00:00Z");
    let found = told(draft_reasons(document, fingerprint, &world.floors, &other, late));
    assert_eq!(found, [Code::Expired, Code::ScopeMismatch]);
}

#[test]
fn a_revoked_signer_is_told_before_a_missing_one_whichever_root_says_so() {
    // Under the pinned root the signers are revoked, under the earlier one too few: the graver cause stays.
    let mut newer = trust_root();
    newer.version = 4;
    let mut older = trust_root();
    older.roles.remove(&autonomy_schema::root::Role::Manifest);
    older.roles.remove(&autonomy_schema::root::Role::Offline);
    let (bytes, signatures) = signed_root(&newer, &root_keys());
    let old = pin(&older, &root_keys()).expect("pinned");
    let root = old.successor(Signed { bytes: &bytes, signatures: &signatures }).expect("signed by both");
    let mut world = World::new();
    world.purpose = Purpose::Rollback;
    world.floors.revoked.keys.push(manifest_keys()[0].id());
    let manifest = world.bytes();
    let signatures = lines(&world.signers, &manifest);
    let verdict = |root: &autonomy_trust::PinnedRoot| {
        world.with_context(|context| {
            let signed = Signed { bytes: &manifest, signatures: &signatures };
            let refused = autonomy_trust::verify_manifest(signed, &autonomy_trust::Context { root, ..*context });
            refused.expect_err("refused").into_vec()
        })
    };
    let refusal = verdict(&root);
    assert_eq!((refusal.len(), refusal[0].code), (1, Code::Revoked));
    assert_eq!(refusal[0].remedy, Code::Revoked.remedy());
    // Neither root knows them, and nothing is revoked that they need: too few.
    let mut strange = trust_root();
    strange.version = 4;
    strange.roles.remove(&autonomy_schema::root::Role::Manifest);
    strange.roles.remove(&autonomy_schema::root::Role::Offline);
    let (bytes, signatures) = signed_root(&strange, &root_keys());
    let root = old.successor(Signed { bytes: &bytes, signatures: &signatures }).expect("signed by both");
    let refusal = verdict(&root);
    assert_eq!((refusal.len(), refusal[0].code), (1, Code::BelowThreshold));
    // It is the pinned root that speaks, and the root that once admitted it may be lost.
    let mut thin = world.signers.clone();
    thin.truncate(1);
    let signatures = lines(&thin, &manifest);
    let (bytes, root_signatures) = signed_root(&newer, &root_keys());
    let older = pin(&trust_root(), &root_keys()).expect("pinned");
    let root = older.successor(Signed { bytes: &bytes, signatures: &root_signatures }).expect("signed by both");
    let refusal = world.with_context(|context| {
        let signed = Signed { bytes: &manifest, signatures: &signatures };
        autonomy_trust::verify_manifest(signed, &autonomy_trust::Context { root: &root, ..*context })
    });
    let refusal = refusal.expect_err("one signature").into_vec();
    assert!(refusal[0].message.starts_with("by trust root version 4, "), "{refusal:?}");
    assert!(refusal[0].remedy.contains("`autonomy trust import`"), "{refusal:?}");
}

#[test]
fn a_line_that_is_refused_is_quoted_in_words_that_move_no_cursor() {
    let message = Sha256::of(b"x");
    let line = |media: &str, algorithm: &str| {
        format!(
            r#"{{"mediaType":{},"verificationMaterial":{{}},"messageSignature":{{"messageDigest":{{"algorithm":"{algorithm}","digest":""}},"signature":""}}}}"#,
            serde_json::Value::from(media)
        )
    };
    let refused = parse_line(line("other\u{1b}[31m", "SHA2_256").as_bytes(), message).expect_err("another type");
    assert!(matches!(&refused, LineError::MediaType(shown) if shown == "other\\u{1b}[31m"), "{refused}");
    let good = "application/vnd.dev.sigstore.bundle.v0.3+json";
    let refused = parse_line(line(good, "SHA1").as_bytes(), message).expect_err("another digest");
    assert!(matches!(&refused, LineError::Algorithm(shown) if shown == "SHA1"), "{refused}");
}

#[test]
fn an_attest_key_is_shown_by_its_id_alone() {
    let secret = SigningKey::from_slice(&[7; 32]).expect("a scalar").to_pkcs8_pem(LineEnding::LF).expect("PEM");
    let key = AttestKey::from_pem(&secret).expect("a key");
    let shown = format!("{key:?}");
    assert!(shown.starts_with("AttestKey") && shown.contains(&format!("{:?}", key.id())), "{shown}");
}
