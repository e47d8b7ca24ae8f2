//! Signatures, and what they open the way to.
//!
//! A fuzzer cannot forge a signature, so two keys do it: `ours` signs whatever comes, to reach what lies behind a good
//! signature; `stranger` signs nothing, so that whatever counts as its signature is a forgery.

use std::sync::LazyLock;

use autonomy_schema::document::parse;
use autonomy_schema::floors::Floors;
use autonomy_schema::lock::Lock;
use autonomy_schema::policy_override::PolicyOverride;
use autonomy_schema::revocation::Revocation;
use autonomy_schema::root::TrustRoot;
use autonomy_schema::{Blake3, Code, Document as _, Sha256, StateManifest, Time, canonical};
use autonomy_trust::{
    AttestKey, Context, PinnedRoot, PublicKey, Purpose, Signed, bundle, verify_lock, verify_manifest, verify_override,
    verify_revocation,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::documents::document;
use crate::told;

/// The bytes that the signature files of [`lines`] are read for.
const MESSAGE: &[u8] = include_bytes!("../../../docs/formats/samples/manifest.json");
/// PKCS#8 of a P-256 key, up to the secret (RFC 5915, RFC 5958).
const PKCS8: [u8; 35] = [
    0x30, 0x41, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x27, 0x30, 0x25, 0x02, 0x01, 0x01, 0x04, 0x20,
];
/// An Ed25519 key that signs nothing: the first test vector of RFC 8032 §7.1.
const ED25519: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
-----END PUBLIC KEY-----
";
const PURPOSES: [Purpose; 5] = [Purpose::Change, Purpose::Repair, Purpose::Recover, Purpose::Rollback, Purpose::Relay];

struct World {
    ours: AttestKey,
    /// Every role is ours.
    root: PinnedRoot,
    /// Role `manifest` is the stranger's: a P-256 key and an Ed25519 key.
    strange: PinnedRoot,
    now: Time,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let (ours, stranger) = (secret(1), secret(2));
    let other = PublicKey::parse_pem(ED25519).expect("a key");
    let root = |manifest: Value, keys: Value| {
        let root = json!({
            "apiVersion": "autonomy/v1", "kind": "TrustRoot", "version": 1, "expiresAt": "2030-01-01T00:00:00Z",
            "keys": keys, "maxSerialStep": 1000, "maxTimeStep": "365d",
            "roles": {"root": {"keys": [ours.id()], "threshold": 1}, "manifest": manifest,
                      "artifact": {"keys": [ours.id()], "threshold": 1}},
        });
        let bytes = canonical::to_bytes(&root).expect("canonical");
        let line = ours.sign_line(&bytes).expect("signs");
        PinnedRoot::first(Signed { bytes: &bytes, signatures: line.as_bytes() }).expect("a root")
    };
    let own = root(json!({"keys": [ours.id()], "threshold": 1}), json!({ours.id().to_string(): ours.public_pem()}));
    let strange = root(
        json!({"keys": [stranger.id(), other.id()], "threshold": 1}),
        json!({ours.id().to_string(): ours.public_pem(), stranger.id().to_string(): stranger.public_pem(),
               other.id().to_string(): other.pem()}),
    );
    World { ours, root: own, strange, now: "2026-11-21T00:00:00Z".parse().expect("a time") }
});

fn secret(byte: u8) -> AttestKey {
    let der = [PKCS8.as_slice(), &[byte; 32]].concat();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", wrapped(&STANDARD.encode(der)));
    AttestKey::from_pem(&pem).expect("a key")
}

fn wrapped(text: &str) -> String {
    text.as_bytes().chunks(64).map(|row| String::from_utf8_lossy(row).into_owned()).collect::<Vec<_>>().join("\n")
}

fn context<'a>(root: &'a PinnedRoot, floors: &'a Floors, purpose: Purpose) -> Context<'a> {
    Context { root, floors, clock: WORLD.now, released: WORLD.now, node: None, purpose }
}

/// A manifest that we signed, for every purpose; what was admitted once is admitted again by the floors it raised.
pub(crate) fn manifest(bytes: &[u8]) {
    let line = WORLD.ours.sign_line(bytes).expect("signs");
    let signed = Signed { bytes, signatures: line.as_bytes() };
    let fresh = Floors::default();
    for purpose in PURPOSES {
        match verify_manifest(signed, &context(&WORLD.root, &fresh, purpose)) {
            Ok(verified) => {
                assert_eq!((verified.bytes(), verified.signers()), (bytes, [WORLD.ours.id()].as_slice()));
                let raised = fresh.raised_by(verified.document(), verified.fingerprint());
                let again = verify_manifest(signed, &context(&WORLD.root, &raised, purpose));
                assert!(again.is_ok(), "{purpose:?}: {:?}", again.err());
            }
            Err(reasons) => told::refusal(&reasons, bytes.len()),
        }
    }
}

/// A lock that we signed, under a manifest that pins it.
pub(crate) fn lock(bytes: &[u8], lock: &Lock) {
    let mut manifest: StateManifest = parse(MESSAGE).expect("the sample");
    manifest.spec.lock.size = bytes.len() as u64;
    manifest.spec.lock.digest = Sha256::of(bytes);
    manifest.spec.lock.fingerprint = lock.behavioral_fingerprint;
    manifest.spec.release.target_lock_fingerprint = lock.behavioral_fingerprint;
    let written = manifest.to_canonical().expect("canonical");
    let line = WORLD.ours.sign_line(&written).expect("signs");
    let floors = Floors::default();
    let context = context(&WORLD.root, &floors, Purpose::Recover);
    let signed = Signed { bytes: &written, signatures: line.as_bytes() };
    let manifest = verify_manifest(signed, &context).expect("the sample, signed");
    let line = WORLD.ours.sign_line(bytes).expect("signs");
    match verify_lock(Signed { bytes, signatures: line.as_bytes() }, &manifest, &context) {
        Ok(verified) => assert_eq!(verified.document(), lock),
        Err(reasons) => told::refusal(&reasons, bytes.len()),
    }
}

/// A revocation list that we signed. One that was admitted to empty floors is the node's own and passes again.
pub(crate) fn revocation(bytes: &[u8], list: &Revocation) {
    let line = WORLD.ours.sign_line(bytes).expect("signs");
    let signed = Signed { bytes, signatures: line.as_bytes() };
    let mut floors = Floors::default();
    match verify_revocation(signed, &context(&WORLD.root, &floors, Purpose::Change)) {
        Ok(verified) => {
            assert_eq!(verified.document(), list);
            floors.revoked = list.revoked.clone();
            let again = verify_revocation(signed, &context(&WORLD.root, &floors, Purpose::Change));
            // A list that revokes its own signer was signed by a root key, and those a list never binds.
            assert!(again.is_ok(), "{:?}", again.err());
        }
        Err(reasons) => told::refusal(&reasons, bytes.len()),
    }
}

/// A policy override that we signed, for the manifest that it names and for none else.
pub(crate) fn policy_override(bytes: &[u8], paper: &PolicyOverride) {
    let line = WORLD.ours.sign_line(bytes).expect("signs");
    let signed = Signed { bytes, signatures: line.as_bytes() };
    let floors = Floors::default();
    let context = context(&WORLD.root, &floors, Purpose::Change);
    if let Err(reasons) = verify_override(signed, paper.manifest, &context) {
        told::refusal(&reasons, bytes.len());
    }
    assert!(verify_override(signed, Blake3::of(bytes), &context).is_err());
}

/// A trust root, by itself and as the one after ours, both signed by us.
pub(crate) fn root(bytes: &[u8]) -> bool {
    // Signing is the slow part, and what does not parse is no root, whoever signs it.
    if document::<TrustRoot>(bytes).is_none() {
        return false;
    }
    let line = WORLD.ours.sign_line(bytes).expect("signs");
    let signed = Signed { bytes, signatures: line.as_bytes() };
    let first = match PinnedRoot::first(signed) {
        Ok(first) => {
            assert_eq!(first.successor(signed).map(|same| same.fingerprint()).ok(), Some(first.fingerprint()));
            true
        }
        Err(reasons) => {
            told::refusal(&reasons, bytes.len());
            false
        }
    };
    match WORLD.root.successor(signed) {
        Ok(next) => assert!(first && (next.document().version == 2 || bytes == WORLD.root.bytes())),
        Err(reasons) => told::refusal(&reasons, bytes.len()),
    }
    first
}

/// A signature file: no line of it is the stranger's.
pub(crate) fn lines(file: &[u8]) -> bool {
    let (lines, reasons) = bundle::parse(file, Sha256::of(MESSAGE));
    assert!(lines.len() <= bundle::MAX_LINES);
    told::sentences(&reasons, file.len());
    let signed = Signed { bytes: MESSAGE, signatures: file };
    let floors = Floors::default();
    let reasons = verify_manifest(signed, &context(&WORLD.strange, &floors, Purpose::Recover)).expect_err("a forgery");
    assert!(reasons.has(Code::BelowThreshold), "{reasons}");
    told::refusal(&reasons, file.len());
    !lines.is_empty()
}

/// A byte that no text holds: it parts a document from its signature file.
const PART: u8 = 0xff;

/// A document and its signature file, as they come; accepted when we signed it.
pub(crate) fn verify(bytes: &[u8]) -> bool {
    let mut parts = bytes.splitn(2, |byte| *byte == PART);
    let document = parts.next().unwrap_or_default();
    let signed = Signed { bytes: document, signatures: parts.next().unwrap_or_default() };
    let floors = Floors::default();
    assert!(verify_manifest(signed, &context(&WORLD.strange, &floors, Purpose::Recover)).is_err(), "a forgery");
    match verify_manifest(signed, &context(&WORLD.root, &floors, Purpose::Recover)) {
        Ok(verified) => verified.bytes() == document,
        Err(reasons) => {
            told::refusal(&reasons, bytes.len());
            false
        }
    }
}

/// A public key, a private key, and a signature from elsewhere.
pub(crate) fn keys(bytes: &[u8]) -> bool {
    for pem in [ED25519, WORLD.strange.document().keys.values().next().map_or("", String::as_str)] {
        let key = PublicKey::parse_pem(pem).expect("a key");
        let made = key.detached_line(MESSAGE, bytes);
        assert!(made.is_err() || key.id() == WORLD.ours.id(), "a forgery: {made:?}");
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let public = PublicKey::parse_pem(text);
    if let Ok(key) = &public {
        assert_eq!(PublicKey::parse_pem(key.pem()).as_ref(), Ok(key));
    }
    let private = AttestKey::from_pem(text);
    if let Ok(key) = &private {
        let public = PublicKey::parse_pem(key.public_pem()).expect("its public half");
        assert_eq!(public.id(), key.id());
    }
    public.is_ok() | private.is_ok()
}
