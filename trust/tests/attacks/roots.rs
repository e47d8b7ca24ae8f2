//! The trust root: pinning, keys and their ids, rotation step by step.

use autonomy_schema::root::{Role, TrustRoot};
use autonomy_schema::{Code, Reasons, Sha256};
use autonomy_trust::{KeyError, PinnedRoot, PublicKey, Signed, key_id};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::pkcs8::{Document, EncodePublicKey as _};

use crate::support::{
    Key, codes, ed25519_key, lines, manifest_keys, p256_key, pin, role, root_keys, signed_root, time, trust_root,
};

/// Made by openssl.
const P384: &str = "-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEcV8cwW4WV/b0mReufvveMN6si+uswEXU
V77K8MwwpnuGuyygmWA2CuqaBo/ibEXjo2RcDGVl5Aw8aHAYmLomJmzYmRslxcdX
7K5kkylDJaa1viGa1SCRxXNiVfOunzkh
-----END PUBLIC KEY-----";

fn pinned() -> PinnedRoot {
    pin(&trust_root(), &root_keys()[..2]).expect("in order")
}

fn succeed(root: &TrustRoot, signers: &[Key]) -> Result<PinnedRoot, Reasons> {
    let (bytes, signatures) = signed_root(root, signers);
    pinned().successor(Signed { bytes: &bytes, signatures: &signatures })
}

/// Version 4, whose root keys are one old and two new ones.
fn next() -> (TrustRoot, Vec<Key>) {
    let keys = vec![root_keys()[2].clone(), p256_key(4), ed25519_key(5)];
    let mut root = trust_root();
    root.version = 4;
    root.keys.extend(keys.iter().map(|key| (key.id(), key.pem())));
    root.roles.insert(Role::Root, role(&keys, 2));
    (root, keys)
}

#[test]
fn a_first_root_needs_a_threshold_of_its_own_keys() {
    assert!(pin(&trust_root(), &root_keys()).is_ok());
    assert_eq!(codes(pin(&trust_root(), &root_keys()[..1])), [Code::RootSignature]);
    assert_eq!(codes(pin(&trust_root(), &manifest_keys())), [Code::RootSignature]);
    let twice = [root_keys()[0].clone(), root_keys()[0].clone()];
    assert_eq!(codes(pin(&trust_root(), &twice)), [Code::RootSignature]);
}

#[test]
fn a_flipped_byte_in_a_root_is_refused() {
    let (bytes, signatures) = signed_root(&trust_root(), &root_keys());
    for at in (0..bytes.len()).step_by(13) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        assert!(PinnedRoot::pinned(Signed { bytes: &flipped, signatures: &signatures }).is_err(), "{at}");
    }
}

#[test]
fn the_same_key_under_two_ids_is_refused() {
    let mut root = trust_root();
    let second = Sha256::of(b"a second name for the first key");
    root.keys.insert(second, root_keys()[0].pem());
    let keys = [root_keys()[0].id(), second].into_iter().collect();
    root.roles.insert(Role::Root, autonomy_schema::root::RoleKeys { keys, threshold: 2 });
    let bytes = autonomy_schema::canonical::to_bytes(&root).expect("canonical");
    let line = root_keys()[0].line(&bytes);
    let signatures = format!("{line}\n{line}\n");
    let refused = PinnedRoot::first(Signed { bytes: &bytes, signatures: signatures.as_bytes() });
    assert_eq!(codes(refused), [Code::BadValue]);
}

/// The other ways to give one key two ids: another spelling of the same point.
#[test]
fn another_spelling_of_a_key_is_refused() {
    let Key::P256(key) = p256_key(1) else { panic!("P-256") };
    let spki = key.verifying_key().to_public_key_der().expect("DER");
    let point = key.verifying_key().to_sec1_point(true);
    // SEQUENCE { SEQUENCE { ecPublicKey, prime256v1 }, BIT STRING of the compressed point }.
    let mut compressed = vec![0x30, 0x39];
    compressed.extend_from_slice(&spki.as_bytes()[2..23]);
    compressed.extend_from_slice(&[0x03, 0x22, 0x00]);
    compressed.extend_from_slice(point.as_bytes());
    assert_eq!(PublicKey::parse_pem(&pem("PUBLIC KEY", &compressed)), Err(KeyError::NotCanonical));
    assert!(PublicKey::parse_pem(&pem("PUBLIC KEY", spki.as_bytes())).is_ok());
}

#[test]
fn what_is_no_pinnable_key_is_refused() {
    let spki = Document::from_pem(&p256_key(1).pem()).expect("PEM").1;
    // An Ed25519 point of small order: anyone can make signatures for it.
    let ed25519 = |point: [u8; 32]| {
        let mut der = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        der.extend_from_slice(&point);
        pem("PUBLIC KEY", &der)
    };
    let mut identity = [0; 32];
    identity[0] = 1;
    let refused = [
        (String::new(), KeyError::NotPem),
        ("hello".to_owned(), KeyError::NotPem),
        (pem("PRIVATE KEY", spki.as_bytes()), KeyError::NotPem),
        (pem("PUBLIC KEY", &spki.as_bytes()[..40]), KeyError::NotPem),
        (P384.to_owned(), KeyError::Algorithm),
        (ed25519(identity), KeyError::Weak),
        (ed25519([0; 32]), KeyError::Weak),
        ("A".repeat(1025), KeyError::TooLarge(1025)),
    ];
    for (text, error) in refused {
        assert_eq!(PublicKey::parse_pem(&text), Err(error), "{text}");
    }
    let mut root = trust_root();
    root.keys.insert(Sha256::of(b"x"), ed25519(identity));
    assert_eq!(codes(pin(&root, &root_keys())), [Code::BadValue]);
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let rows: Vec<&str> = (0..body.len()).step_by(64).map(|at| &body[at..body.len().min(at + 64)]).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", rows.join("\n"))
}

#[test]
fn a_key_id_is_the_digest_of_its_spki() {
    for key in [p256_key(7), ed25519_key(7)] {
        let public = PublicKey::parse_pem(&key.pem()).expect("a key");
        let (_, der) = Document::from_pem(public.pem()).expect("PEM");
        assert_eq!(public.id(), key_id(der.as_bytes()));
        assert_eq!(public.pem(), key.pem());
        assert_eq!(PublicKey::parse_pem(&format!("\n{}\n\n", key.pem().replace('\n', "\r\n"))), Ok(public));
    }
}

#[test]
fn a_successor_needs_both_thresholds() {
    let (root, new_keys) = next();
    let old = &root_keys()[..2];
    // Two old keys, and two of the new root's: key 3 would count for both.
    let both = [old, &new_keys[1..]].concat();
    let successor = succeed(&root, &both).expect("both signed");
    assert_eq!(successor.document().version, 4);
    let shared = [&root_keys()[1..], &new_keys[1..2]].concat();
    assert!(succeed(&root, &shared).is_ok());

    assert_eq!(codes(succeed(&root, &new_keys)), [Code::RootSignature], "one old key only");
    assert_eq!(codes(succeed(&root, old)), [Code::RootSignature], "no new key");
    assert_eq!(codes(succeed(&root, &[])), [Code::RootSignature]);
    assert_eq!(codes(succeed(&root, &manifest_keys())), [Code::RootSignature]);
}

#[test]
fn a_gap_between_roots_is_refused() {
    for version in [5, 6, 1000, 2, 1] {
        let mut root = trust_root();
        root.version = version;
        assert_eq!(codes(succeed(&root, &root_keys())), [Code::RootGap], "{version}");
    }
}

#[test]
fn a_fork_of_the_pinned_root_is_an_alarm() {
    let mut root = trust_root();
    root.max_serial_step = 7;
    assert_eq!(codes(succeed(&root, &root_keys())), [Code::RootForked]);
    assert_eq!(codes(succeed(&root, &root_keys()[..1])), [Code::RootSignature], "an unsigned claim is no fork");
}

#[test]
fn the_pinned_root_can_be_imported_again() {
    let again = succeed(&trust_root(), &[]).expect("the same bytes");
    assert_eq!(again.fingerprint(), pinned().fingerprint());
}

#[test]
fn an_expired_root_can_be_succeeded() {
    let mut old = trust_root();
    old.expires_at = time("2020-01-01T00:00:00Z");
    let old = pin(&old, &root_keys()).expect("pinned");
    let (root, new_keys) = next();
    let (bytes, signatures) = signed_root(&root, &[root_keys(), new_keys].concat());
    assert!(old.successor(Signed { bytes: &bytes, signatures: &signatures }).is_ok());
}

#[test]
fn a_successor_is_not_parsed_before_the_old_keys_signed_it() {
    let garbage = b"{\"a\":1,\"a\":2}";
    let old = pinned();
    assert_eq!(codes(old.successor(Signed { bytes: garbage, signatures: b"" })), [Code::RootSignature]);
    let signatures = lines(&root_keys(), garbage);
    assert_eq!(codes(old.successor(Signed { bytes: garbage, signatures: &signatures })), [Code::DuplicateKey]);
}

#[test]
fn a_garbage_line_refuses_a_root_too() {
    let (bytes, mut signatures) = signed_root(&trust_root(), &root_keys());
    signatures.extend_from_slice(b"hello\n");
    assert_eq!(codes(PinnedRoot::first(Signed { bytes: &bytes, signatures: &signatures })), [Code::BadSignatureLine]);
}
