//! Every cap, at its last byte and one beyond.

use autonomy_schema::document::MAX_DOCUMENT_BYTES;
use autonomy_schema::root::{MAX_KEY_PEM, Role};
use autonomy_schema::set::MAX_SIGNATURES_BYTES;
use autonomy_schema::{Code, Sha256};
use autonomy_trust::bundle::{LineError, MAX_LINE_BYTES, parse_line};
use autonomy_trust::{AttestKey, DetachedError, KeyError, MAX_DETACHED_BYTES, PublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::SigningKey;
use p256::pkcs8::{EncodePrivateKey as _, LineEnding};

use crate::support::{Key, World, codes, ed25519_key, junk, lines, p256_key, role};

/// `text` with line ends behind it, `len` bytes in all.
fn padded(text: &str, len: usize) -> String {
    format!("{text}{}", "\n".repeat(len - text.len()))
}

#[test]
fn keys_end_at_their_caps() {
    let pem = p256_key(7).pem();
    assert!(PublicKey::parse_pem(&padded(&pem, MAX_KEY_PEM)).is_ok());
    assert_eq!(PublicKey::parse_pem(&padded(&pem, MAX_KEY_PEM + 1)), Err(KeyError::TooLarge(MAX_KEY_PEM + 1)));
    let secret = SigningKey::from_slice(&[7; 32]).expect("a scalar").to_pkcs8_pem(LineEnding::LF).expect("PEM");
    assert!(AttestKey::from_pem(&padded(&secret, 4096)).is_ok());
    assert!(AttestKey::from_pem(&padded(&secret, 4097)).is_err());
}

#[test]
fn lines_and_files_of_lines_end_at_their_caps() {
    let world = World::new();
    let bytes = world.bytes();
    let line = world.signers[0].line(&bytes);
    let long = |len: usize| format!("{line}{}", " ".repeat(len - line.len()));
    assert!(parse_line(long(MAX_LINE_BYTES).as_bytes(), Sha256::of(&bytes)).is_ok());
    let refused = parse_line(long(MAX_LINE_BYTES + 1).as_bytes(), Sha256::of(&bytes));
    assert!(matches!(refused, Err(LineError::TooLong(_))), "{refused:?}");

    let cap = usize::try_from(MAX_SIGNATURES_BYTES).expect("fits");
    let good = String::from_utf8(lines(&world.signers, &bytes)).expect("text");
    assert!(world.verify_bytes(&bytes, padded(&good, cap).as_bytes()).is_ok());
    let refused = codes(world.verify_bytes(&bytes, padded(&good, cap + 1).as_bytes()));
    assert_eq!(refused, [Code::BelowThreshold, Code::DocumentTooLarge]);
}

#[test]
fn documents_end_at_their_cap_before_anything_is_hashed() {
    let world = World::new();
    assert_eq!(codes(world.verify_bytes(&vec![b' '; MAX_DOCUMENT_BYTES], b"")), [Code::BelowThreshold]);
    assert_eq!(codes(world.verify_bytes(&vec![b' '; MAX_DOCUMENT_BYTES + 1], b"")), [Code::DocumentTooLarge]);
}

#[test]
fn checks_end_at_their_cap() {
    let mut world = World::new();
    // Sixteen keys, so that a line of junk without a hint costs sixteen checks of the 1,024.
    let keys: Vec<Key> = (100..116).map(ed25519_key).collect();
    world.root.keys.extend(keys.iter().map(|key| (key.id(), key.pem())));
    world.root.roles.insert(Role::Manifest, role(&keys, 2));
    world.root.roles.remove(&Role::Offline);
    let bytes = world.bytes();
    let junk = |count: u64| (0..count).map(|seed| STANDARD.encode(junk(seed + 1, 64)) + "\n").collect::<String>();
    let good = String::from_utf8(lines(&keys[..2], &bytes)).expect("text");
    let verdict = |text: String| codes(world.verify_bytes(&bytes, text.as_bytes()));
    assert!(verdict(junk(63) + &good).is_empty(), "1,010 checks");
    assert_eq!(verdict(junk(64)), [Code::BelowThreshold], "1,024, and nothing was left out");
    assert_eq!(verdict(junk(64) + &good), [Code::BelowThreshold, Code::LimitExceeded], "one more");
}

#[test]
fn detached_signatures_end_at_their_cap() {
    let key = p256_key(7);
    let public = PublicKey::parse_pem(&key.pem()).expect("a key");
    let signature = key.bare(b"document");
    let read = |len: usize| public.detached_line(b"document", padded(&signature, len).as_bytes());
    assert!(read(MAX_DETACHED_BYTES).is_ok());
    assert_eq!(read(MAX_DETACHED_BYTES + 1), Err(DetachedError::TooLarge(MAX_DETACHED_BYTES + 1)));
}
