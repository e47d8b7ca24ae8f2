//! Our signature lines, judged by Sigstore's own npm package with our key as all its trust, and where the two differ.

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::world::World;

const MANIFEST: &str = "set/manifest.json";
const SIGNATURES: &str = "set/manifest.json.sigstore.jsonl";

/// Whether `@sigstore/verify` takes `bundle` over `file` with the public key `key`; else what it says.
fn judged(world: &World, key: &str, file: &str, bundle: &Value) -> Result<(), String> {
    let modules = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../sigstore-js");
    assert!(modules.join("node_modules").exists(), "@sigstore/verify is not installed: run ci/setup-tests");
    world.write("bundle.json", bundle.to_string());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/sigstore-js/check.js");
    let mut node = Command::new("node");
    node.arg(script).arg(modules).args([key, file, "bundle.json"]).current_dir(world.path(""));
    let output = node.output().expect("node is installed");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// A rendered set whose manifest `key` signed, under a root that names it; and the line.
fn signed(kind: &str) -> (World, Value) {
    let world = World::fleet();
    world.run(&format!("keygen --output-key-prefix k --type {kind}")).exits(0);
    world.run("render manifests/overlays/pier-7 --out set").exits(0);
    for file in [MANIFEST, "set/autonomy.lock.json"] {
        world.run(&format!("sign {file} --key k.key")).exits(0);
    }
    let roles = "--role root=k.pub:1 --role manifest=k.pub:1 --role artifact=k.pub:1";
    world.run(&format!("trust new {roles} --expires 2y --sign k.key --out root.json")).exits(0);
    let line = serde_json::from_slice(&world.read(SIGNATURES)).expect("one line");
    (world, line)
}

/// Whether a node takes `bundle` as the line.
fn ours(world: &World, bundle: &Value, exit: i32, says: &str) {
    world.write(SIGNATURES, bundle.to_string());
    world.run("verify set --trust-root root.json").exits(exit).warns(says);
}

#[test]
fn sigstore_js_takes_our_p256_lines_and_no_others() {
    let (world, line) = signed("ecdsa-p256");
    assert_eq!(judged(&world, "k.pub", MANIFEST, &line), Ok(()));
    ours(&world, &line, 0, "");
    let mut other = world.read(MANIFEST);
    other[20] ^= 1;
    world.write("other.json", other);
    let said = judged(&world, "k.pub", "other.json", &line).expect_err("other bytes");
    assert!(said.contains("SIGNATURE_ERROR"), "{said}");
    world.keys(&["b"]);
    let said = judged(&world, "b.pub", MANIFEST, &line).expect_err("another key");
    assert!(said.contains("PUBLIC_KEY_ERROR"), "{said}");
    let mut flipped = line.clone();
    let signature = &mut flipped["messageSignature"]["signature"];
    let mut der = STANDARD.decode(signature.as_str().expect("text")).expect("base64");
    der[40] ^= 1;
    *signature = json!(STANDARD.encode(der));
    assert!(judged(&world, "k.pub", MANIFEST, &flipped).is_err());
    ours(&world, &flipped, 3, "below_threshold");
}

/// A signature over the right bytes beside the digest of others: theirs passes it over, ours refuses the file.
#[test]
fn a_wrong_message_digest_is_taken_by_sigstore_js_and_refused_here() {
    let (world, mut line) = signed("ecdsa-p256");
    let digest = line.pointer_mut("/messageSignature/messageDigest/digest").expect("a digest");
    *digest = json!(STANDARD.encode([7; 32]));
    assert_eq!(judged(&world, "k.pub", MANIFEST, &line), Ok(()));
    ours(&world, &line, 3, "bad_signature_line");
    // Without a digest both refuse.
    line["messageSignature"].as_object_mut().expect("an object").remove("messageDigest");
    assert!(judged(&world, "k.pub", MANIFEST, &line).is_err());
    ours(&world, &line, 3, "bad_signature_line");
}

/// Their verifier hashes first, which pure Ed25519 does not: openssl checks these lines (`elsewhere`).
#[test]
fn ed25519_message_signatures_are_beyond_sigstore_js() {
    let (world, line) = signed("ed25519");
    ours(&world, &line, 0, "");
    let said = judged(&world, "k.pub", MANIFEST, &line).expect_err("not supported there");
    assert!(said.contains("SIGNATURE_ERROR"), "{said}");
}
