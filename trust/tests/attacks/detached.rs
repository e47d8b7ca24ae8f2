//! Signatures that were made elsewhere.

use autonomy_schema::bundle::Bundle;
use autonomy_trust::{DetachedError, MAX_DETACHED_BYTES, PublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::{Key, World, ed25519_key, p256_key};

const BYTES: &[u8] = b"a document";

fn public(key: &Key) -> PublicKey {
    PublicKey::parse_pem(&key.pem()).expect("a key")
}

/// Base64 as openssl wraps it.
fn wrapped(bytes: &[u8]) -> Vec<u8> {
    let text = STANDARD.encode(bytes).into_bytes();
    text.chunks(64).flat_map(|row| [row, b"\n"].concat()).collect()
}

/// `r ‖ s`, as `CKM_ECDSA` gives it.
fn fixed(der: &[u8]) -> Vec<u8> {
    p256::ecdsa::Signature::from_der(der).expect("DER").to_bytes().to_vec()
}

#[test]
fn every_form_of_a_signature_gives_the_line_that_is_written_here() {
    for key in [p256_key(1), ed25519_key(1)] {
        let signature = key.sign(BYTES);
        let mut forms = vec![signature.clone(), STANDARD.encode(&signature).into_bytes(), wrapped(&signature)];
        if matches!(key, Key::P256(_)) {
            forms.extend([fixed(&signature), wrapped(&fixed(&signature))]);
        }
        for form in forms {
            assert_eq!(public(&key).detached_line(BYTES, &form), Ok(key.line(BYTES)), "{form:?}");
        }
    }
}

/// As many as openssl or a token would make until one has short integers: none may be taken for the other form.
#[test]
fn der_and_fixed_length_are_never_confused() {
    let key = p256_key(1);
    for number in 0..500_u32 {
        let bytes = number.to_le_bytes();
        let der = key.sign(&bytes);
        for form in [der.clone(), fixed(&der)] {
            let line = public(&key).detached_line(&bytes, &form).expect("the same signature");
            let bundle: Bundle = serde_json::from_str(&line).expect("a bundle");
            assert_eq!(STANDARD.decode(bundle.message_signature.signature).expect("base64"), der);
        }
    }
}

#[test]
fn a_signature_that_does_not_verify_makes_no_line() {
    for key in [p256_key(1), ed25519_key(1)] {
        let public = public(&key);
        let wrong = Err(DetachedError::Wrong { key: key.id() });
        let signature = key.sign(BYTES);
        assert_eq!(public.detached_line(b"another document", &signature), wrong);
        for other in [p256_key(2), ed25519_key(2), p256_key(1), ed25519_key(1)] {
            if other.id() != key.id() {
                assert_eq!(public.detached_line(BYTES, &other.sign(BYTES)), wrong);
            }
        }
        for at in 0..signature.len() {
            let mut flipped = signature.clone();
            flipped[at] ^= 1;
            assert!(public.detached_line(BYTES, &flipped).is_err(), "byte {at}");
        }
        assert_eq!(public.detached_line(BYTES, &[1; 64]), wrong);
        for none in [&b""[..], b"\n", b"hello", &[0; 64][1..], &signature[1..], key.line(BYTES).as_bytes()] {
            assert_eq!(public.detached_line(BYTES, none), Err(DetachedError::NotASignature), "{none:?}");
        }
        let long = [signature.as_slice(), &[b'\n'; MAX_DETACHED_BYTES]].concat();
        assert_eq!(public.detached_line(BYTES, &long), Err(DetachedError::TooLarge(long.len())));
    }
}

/// A low and a high S are two signatures; a digest that was signed instead of the document is none.
#[test]
fn high_s_counts_and_a_hash_of_the_hash_does_not() {
    use p256::ecdsa::signature::hazmat::PrehashSigner as _;
    let Key::P256(secret) = p256_key(1) else { panic!("P-256") };
    let key = public(&p256_key(1));
    let signature: p256::ecdsa::Signature =
        secret.sign_prehash(autonomy_schema::Sha256::of(BYTES).as_bytes()).expect("signs");
    let high = p256::ecdsa::Signature::from_scalars(signature.r(), -signature.s()).expect("scalars");
    assert!(key.detached_line(BYTES, high.to_der().as_bytes()).is_ok());
    let twice = p256_key(1).sign(autonomy_schema::Sha256::of(BYTES).as_bytes());
    assert!(key.detached_line(BYTES, &twice).is_err());
}

#[test]
fn a_node_takes_the_line() {
    let world = World::new();
    let bytes = world.bytes();
    let lines: Vec<String> =
        world.signers.iter().map(|key| public(key).detached_line(&bytes, &key.sign(&bytes)).expect("right")).collect();
    assert!(world.verify_bytes(&bytes, lines.join("\n").as_bytes()).is_ok());
}
