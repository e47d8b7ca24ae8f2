//! Signatures that other programs make and check: openssl, and a PKCS#11 token through `pkcs11-tool`.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::node::Site;
use crate::world::World;

const MANIFEST: &str = "set/manifest.json";
const LOCK: &str = "set/autonomy.lock.json";
const SIGNATURES: &str = "set/manifest.json.sigstore.jsonl";

/// Runs a shell command in the world's folder, as the page says it.
#[track_caller]
pub(crate) fn shell(world: &World, script: &str) -> bool {
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", script]).current_dir(world.path(""));
    bash.env("SOFTHSM2_CONF", world.path("softhsm2.conf"));
    let output = bash.output().expect("bash");
    if !output.status.success() {
        eprintln!("{script}: {}", String::from_utf8_lossy(&output.stderr));
    }
    output.status.success()
}

/// An openssl key pair `NAME.pem`, `NAME.pub`.
fn openssl_key(world: &World, name: &str, algorithm: &str) {
    let kind =
        if algorithm == "ed25519" { "-algorithm ed25519" } else { "-algorithm EC -pkeyopt ec_paramgen_curve:P-256" };
    assert!(shell(
        world,
        &format!("openssl genpkey {kind} -out {name}.pem && openssl pkey -in {name}.pem -pubout -out {name}.pub")
    ));
}

fn rendered() -> World {
    let world = World::fleet();
    world.run("render manifests/overlays/pier-7 --out set").exits(0);
    world
}

#[test]
fn what_openssl_signs_is_checked_and_becomes_a_line() {
    let world = rendered();
    openssl_key(&world, "p", "p256");
    openssl_key(&world, "e", "ed25519");
    assert!(shell(
        &world,
        &format!("openssl dgst -sha256 -sign p.pem -out p.sig {MANIFEST}; openssl base64 -in p.sig -out p.b64")
    ));
    assert!(shell(
        &world,
        &format!(
            "openssl pkeyutl -sign -inkey e.pem -rawin -in {MANIFEST} -out e.sig; openssl base64 -in e.sig -out e.b64"
        )
    ));
    let mut files = Vec::new();
    for (signature, key) in [("p.sig", "p.pub"), ("p.b64", "p.pub"), ("e.sig", "e.pub"), ("e.b64", "e.pub")] {
        let ran = world.run(&format!("sign {MANIFEST} --detached-signature {signature} --public-key {key}")).exits(0);
        assert!(ran.stdout().contains("harbor-gateways serial 1"), "{}", ran.stdout());
        files.push(world.read(SIGNATURES));
    }
    // The second form of each gave the line of the first again.
    assert_eq!(files[0], files[1]);
    assert_eq!(files[2], files[3]);
    assert_eq!(String::from_utf8_lossy(&files[3]).lines().count(), 2);
    // A key file of our own signs beside them.
    world.keys(&["a"]);
    world.run(&format!("sign {MANIFEST} --key a.key")).exits(0);
    assert_eq!(String::from_utf8_lossy(&world.read(SIGNATURES)).lines().count(), 3);
}

#[test]
fn a_detached_signature_that_does_not_fit_writes_nothing() {
    let world = rendered();
    openssl_key(&world, "p", "p256");
    openssl_key(&world, "q", "p256");
    openssl_key(&world, "e", "ed25519");
    assert!(shell(&world, &format!("openssl dgst -sha256 -sign p.pem -out p.sig {MANIFEST}")));
    assert!(shell(&world, "openssl dgst -sha256 -sign p.pem -out lock.sig set/autonomy.lock.json; echo hello >note"));
    assert!(shell(
        &world,
        &format!(
            "openssl dgst -sha256 -binary {MANIFEST} >digest; openssl dgst -sha256 -sign p.pem -out twice.sig digest"
        )
    ));
    world.write("empty", "");
    world.write("long", [b'A'; 2000]);
    let before = world.tree("");
    let sign = |file: &str, signature: &str, key: &str| {
        world.run(&format!("sign {file} --detached-signature {signature} --public-key {key}"))
    };
    sign(MANIFEST, "p.sig", "q.pub")
        .exits(3)
        .warns("bad_signature_line: p.sig: the signature is not that of key sha256:");
    sign(MANIFEST, "p.sig", "e.pub").exits(3).warns("bad_signature_line");
    sign(MANIFEST, "lock.sig", "p.pub").exits(3).warns("bad_signature_line");
    sign(MANIFEST, "twice.sig", "p.pub").exits(3).warns("bad_signature_line");
    sign(MANIFEST, "note", "p.pub").exits(3).warns("the file is no signature");
    sign(MANIFEST, "empty", "p.pub").exits(3).warns("the file is no signature");
    sign(MANIFEST, "long", "p.pub").exits(3).warns("document_too_large");
    sign(MANIFEST, "absent", "p.pub").exits(1).warns("source_not_found");
    sign(MANIFEST, "p.sig", "p.pem").exits(1).warns("wrong_key");
    sign("set/absent.json", "p.sig", "p.pub").exits(1).warns("source_not_found");
    // What no reader would take is not signed, whoever made the signature.
    assert!(shell(&world, "openssl dgst -sha256 -sign p.pem -out note.sig note"));
    sign("note", "note.sig", "p.pub").exits(3).warns("syntax");
    for wrong in [
        String::new(),
        "--key p.pem --detached-signature p.sig --public-key p.pub".to_owned(),
        "--key p.pem --public-key p.pub".to_owned(),
        "--detached-signature p.sig".to_owned(),
        "--public-key p.pub".to_owned(),
    ] {
        world.run(&format!("sign {MANIFEST} {wrong}")).exits(64);
    }
    std::fs::remove_file(world.path("note.sig")).expect("removes");
    assert_eq!(world.tree(""), before);
}

/// What `keygen`, `trust new`, `render` and `sign` make is checked by openssl alone, line by line.
#[test]
fn openssl_alone_checks_every_document_that_is_signed() {
    let world = rendered();
    world.keys(&["a"]);
    world.run("keygen --output-key-prefix e --type ed25519").exits(0);
    let roles = "--role root=a.pub,e.pub:2 --role manifest=a.pub,e.pub:2 --role artifact=a.pub:1";
    world.run(&format!("trust new {roles} --expires 2y --sign a.key --sign e.key --out root.json")).exits(0);
    for file in [MANIFEST, LOCK, "set/policy.tar.gz"] {
        world.run(&format!("sign {file} --key a.key")).exits(0);
        world.run(&format!("sign {file} --key e.key")).exits(0);
    }
    for file in ["root.json", MANIFEST, LOCK, "set/policy.tar.gz"] {
        let mut checked = Vec::new();
        let text = String::from_utf8(world.read(&format!("{file}.sigstore.jsonl"))).expect("UTF-8");
        for line in text.lines() {
            let bundle: serde_json::Value = serde_json::from_str(line).expect("a bundle");
            let signature = bundle["messageSignature"]["signature"].as_str().expect("a signature");
            world.write("sig", STANDARD.decode(signature).expect("base64"));
            let p256 = format!("openssl dgst -sha256 -verify a.pub -signature sig {file}");
            let ed25519 = format!("openssl pkeyutl -verify -pubin -inkey e.pub -rawin -sigfile sig -in {file}");
            checked.push((shell(&world, &p256), shell(&world, &ed25519)));
        }
        checked.sort_unstable();
        assert_eq!(checked, [(false, true), (true, false)], "{file}");
    }
}

/// The key never leaves the token; the node runs what it signed. The commands are those of docs/formats/signatures.md.
#[test]
fn a_token_signs_and_the_node_runs_it() {
    let site = Site::bare();
    let world = &site.world;
    std::fs::create_dir(world.path("tokens")).expect("folder");
    world.write("softhsm2.conf", format!("directories.tokendir = {}\n", world.path("tokens").display()));
    let module = softhsm();
    let tool = format!("pkcs11-tool --module {module} --token-label release --login --pin 1234");
    assert!(shell(world, "softhsm2-util --init-token --free --label release --so-pin 12345678 --pin 1234"));
    assert!(shell(world, &format!("{tool} --keypairgen --key-type EC:prime256v1 --id 01 --label p")));
    assert!(shell(world, &format!("{tool} --keypairgen --key-type EC:edwards25519 --id 02 --label e")));
    assert!(shell(
        world,
        &format!(
            "{tool} --read-object --type pubkey --id 01 --output-file p.der
             openssl pkey -pubin -inform DER -in p.der -out p.pub
             {tool} --read-object --type pubkey --id 02 --output-file e.pub"
        )
    ));
    let sign = |file: &str, id: &str, how: &str, key: &str| {
        let digest = format!("openssl dgst -sha256 -binary -out digest {file}");
        assert!(shell(world, &format!("{digest}; {tool} --sign --id {id} {how} --output-file sig")));
        world.run(&format!("sign {file} --detached-signature sig --public-key {key}")).exits(0);
    };
    let (fixed, der) =
        ("--mechanism ECDSA --input-file digest", "--mechanism ECDSA --signature-format openssl --input-file digest");
    let roles = "--role root=a.pub:1 --role manifest=p.pub:1 --role artifact=p.pub,e.pub:2";
    world.run(&format!("trust new {roles} --expires 2y --sign a.key --out token.json")).exits(0);
    world.run("render manifests/overlays/pier-7 --out set").exits(0);
    sign(MANIFEST, "01", fixed, "p.pub");
    sign(LOCK, "01", der, "p.pub");
    sign(LOCK, "02", &format!("--mechanism EDDSA --input-file {LOCK}"), "e.pub");
    world.run("verify set --trust-root token.json").exits(0);
    let init = "init --node-id node-b --fleet harbor --label site=pier-7 --hardware x86_64 --trust-root token.json";
    world.run(&format!("{init} --state-root token-node")).exits(0);
    world.run("apply set --auto-approve --state-root token-node").exits(0);
    // Another root's node does not.
    site.refuses("set", 3, "below_threshold");
    // Signing again replaces the token's line.
    sign(MANIFEST, "01", der, "p.pub");
    assert_eq!(String::from_utf8_lossy(&world.read(SIGNATURES)).lines().count(), 1);
    world.run("verify set --trust-root token.json").exits(0);
}

/// Where the distribution put the module.
fn softhsm() -> &'static str {
    let places = ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so", "/usr/lib/libsofthsm2.so"];
    places
        .into_iter()
        .find(|path| std::path::Path::new(path).exists())
        .expect("softhsm2 is installed: run ci/setup-tests")
}
