//! Certificates through the binary: a CA of our own, one of somebody else's, and everything that can be wrong; stock
//! openssl is the second judge.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use serde_json::Value;

use crate::node::Site;
use crate::world::{Ran, World};

/// The three extensions of an existing PKI.
const CONFIG: &str = "
[req]
distinguished_name = dn
prompt = no
[dn]
CN = unused
[ca]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
[node]
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth,clientAuth
subjectAltName = URI:spiffe://elsewhere/domains/harbor/peers/node-a,DNS:node-a.example
[lists]
database = index
crlnumber = number
default_md = sha256
default_crl_days = 30
";

fn openssl(world: &World, args: &str) -> Output {
    Command::new("openssl").args(args.split(' ')).current_dir(world.path(".")).output().expect("openssl runs")
}

#[track_caller]
fn openssl_does(world: &World, args: &str) -> String {
    let done = openssl(world, args);
    assert!(done.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout()).expect("JSON")
}

fn codes(told: &Value, list: &str) -> Vec<String> {
    let list = told[list].as_array().expect("a list");
    list.iter().map(|finding| finding["code"].as_str().expect("a code").to_owned()).collect()
}

/// A CA in `ca` and the certificates of `node-a` in `a`.
fn fleet() -> World {
    let world = World::empty();
    world.run("cert ca init --dir ca --fleet harbor").exits(0);
    world.run("cert issue --ca ca --id node-a --out a").exits(0);
    world
}

/// Demands the codes of `cert check` on the folder `a`, and exit 3.
#[track_caller]
fn finds(world: &World, options: &str, expected: &[&str]) -> Value {
    let line = format!("cert check --dir a --id node-a --fleet harbor --output json {options}");
    let ran = world.run(&line).exits(if expected.is_empty() { 0 } else { 3 });
    let told = json(&ran);
    assert_eq!(codes(&told, "findings"), expected, "{told:#}");
    for code in expected {
        assert!(ran.stderr().contains(&format!("{code}: ")), "{}", ran.stderr());
    }
    told
}

#[test]
fn openssl_accepts_what_is_issued_and_refuses_what_is_revoked() {
    let world = fleet();
    let verify = "verify -x509_strict -CAfile a/ca.crt -crl_check -CRLfile";
    openssl_does(&world, &format!("{verify} a/crl.pem a/node.crt"));
    let text = openssl_does(&world, "x509 -in a/node.crt -noout -text");
    assert!(text.contains("URI:spiffe://harbor/domains/harbor/peers/node-a"), "{text}");
    assert!(text.contains("TLS Web Server Authentication, TLS Web Client Authentication"), "{text}");
    assert!(text.contains("CN = node-a"), "{text}");
    let keys = ["x509 -in a/node.crt -noout -pubkey", "pkey -in a/node.key -pubout"];
    let keys = keys.map(|args| openssl_does(&world, args));
    assert_eq!(keys[0], keys[1]);
    finds(&world, "", &[]);

    world.run("cert revoke --ca ca a/node.crt").exits(0);
    world.run("cert crl --ca ca --out a/crl.pem").exits(0);
    let refused = openssl(&world, &format!("{verify} a/crl.pem a/node.crt"));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("certificate revoked"), "{refused:?}");
    finds(&world, "", &["certificate_revoked"]);
    let text = openssl_does(&world, "crl -in a/crl.pem -noout -text");
    assert!(text.contains("Revoked Certificates"), "{text}");
}

#[test]
fn keys_are_private_and_a_ca_is_never_overwritten() {
    let world = fleet();
    for key in ["ca/ca.key", "a/node.key", "ca/ca.json"] {
        let mode = world.path(key).metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{key}");
    }
    for folder in ["ca", "a"] {
        let mode = world.path(folder).metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{folder}");
    }
    let before = world.read("ca/ca.key");
    world.run("cert ca init --dir ca --fleet harbor").exits(64).warns("never overwritten");
    assert_eq!(world.read("ca/ca.key"), before);
    world.run("cert issue --ca ca --id node-a --out a").exits(64).warns("cert renew");
}

#[test]
fn the_numbers_of_revocation_lists_rise() {
    let world = fleet();
    let mut last = 0;
    for _ in 0..3 {
        let told = json(&world.run("cert crl --ca ca --out list.pem --output json").exits(0));
        let number = told["crlNumber"].as_u64().expect("a number");
        assert!(number > last, "{number} after {last}");
        last = number;
        let shown = json(&world.run("cert show list.pem --output json").exits(0));
        assert_eq!(shown["revocationLists"][0]["number"], number);
    }
}

#[test]
fn renewal_keeps_the_key_unless_a_new_one_is_wanted() {
    let world = fleet();
    let (key, first) = (world.read("a/node.key"), finds(&world, "", &[])["identity"].clone());
    world.run("cert renew --ca ca --dir a").exits(0);
    let second = finds(&world, "", &[])["identity"].clone();
    assert_eq!((world.read("a/node.key"), &second["keyId"]), (key, &first["keyId"]));
    assert_ne!(second["serial"], first["serial"]);
    world.run("cert renew --ca ca --dir a --new-key --valid-for 30d").exits(0);
    let third = finds(&world, "", &[])["identity"].clone();
    assert_ne!(third["keyId"], first["keyId"]);
    assert!(third["expires"].as_str() < second["expires"].as_str());
}

#[test]
fn every_bad_certificate_is_found_with_its_code() {
    let world = fleet();
    world.run("cert issue --ca ca --id node-b --out b").exits(0);
    world.run("cert ca init --dir other --fleet harbor").exits(0);
    let put = |from: &str, to: &str| world.write(to, world.read(from));
    for file in ["node.crt", "node.key", "ca.crt", "crl.pem"] {
        world.write(&format!("{file}.good"), world.read(&format!("a/{file}")));
    }
    let restore = || {
        for file in ["node.crt", "node.key", "ca.crt", "crl.pem"] {
            put(&format!("{file}.good"), &format!("a/{file}"));
        }
    };
    for (file, code) in [
        ("node.crt", "certificate_unreadable"),
        ("node.key", "key_unreadable"),
        ("ca.crt", "ca_unreadable"),
        ("crl.pem", "crl_unreadable"),
    ] {
        world.write(&format!("a/{file}"), "-----BEGIN NOTHING-----");
        finds(&world, "", &[code]);
        restore();
    }
    for (file, code) in [
        ("node.crt", "certificate_missing"),
        ("node.key", "key_missing"),
        ("ca.crt", "ca_missing"),
        ("crl.pem", "crl_missing"),
    ] {
        std::fs::remove_file(world.path(&format!("a/{file}"))).expect("removes");
        finds(&world, "", &[code]);
        put(&format!("{file}.good"), &format!("a/{file}"));
        if file == "node.key" {
            mode(&world, "a/node.key", 0o600);
        }
    }
    put("b/node.key", "a/node.key");
    finds(&world, "", &["certificate_wrong_key"]);
    put("b/node.crt", "a/node.crt");
    finds(&world, "", &["certificate_wrong_name"]);
    restore();
    put("other/ca.crt", "a/ca.crt");
    finds(&world, "", &["certificate_untrusted"]);
    restore();
    put("other/crl.pem", "a/crl.pem");
    finds(&world, "", &["crl_untrusted"]);
    restore();
    world.run("cert check --dir a --id node-a --fleet pier").exits(3).warns("certificate_wrong_name: ");
    finds(
        &world,
        "--now 2001-01-01T00:00:00Z",
        &["ca_not_yet_valid", "certificate_not_yet_valid", "crl_not_yet_valid"],
    );
    finds(&world, "--now 2099-01-01T00:00:00Z", &["ca_expired", "certificate_expired", "crl_expired"]);
    finds(&world, "--window 100d", &["certificate_expiring", "crl_expiring"]);
    mode(&world, "a/node.key", 0o640);
    finds(&world, "", &["key_exposed"]);
    mode(&world, "a/node.key", 0o600);
    put("a/node.key", "attest.key");
    world.write("a/attest.pub", openssl_does(&world, "pkey -in a/node.key -pubout"));
    finds(&world, "", &["key_shared"]);
}

fn mode(world: &World, file: &str, bits: u32) {
    std::fs::set_permissions(world.path(file), std::fs::Permissions::from_mode(bits)).expect("chmod");
}

/// Root, intermediate and node, by openssl, in `pki`.
fn existing_pki(world: &World) {
    std::fs::create_dir(world.path("pki")).expect("folder");
    world.write("pki/conf", CONFIG);
    world.write("index", "");
    world.write("number", "01\n");
    for key in ["root", "middle", "node"] {
        openssl_does(world, &format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out pki/{key}.key"));
    }
    let request = "req -new -config pki/conf";
    openssl_does(
        world,
        &format!("{request} -x509 -extensions ca -key pki/root.key -subj /CN=root -days 99 -out pki/ca.crt"),
    );
    openssl_does(world, &format!("{request} -key pki/middle.key -subj /CN=middle -out pki/middle.csr"));
    openssl_does(world, &format!("{request} -key pki/node.key -subj /CN=node-a -out pki/node.csr"));
    let sign = "x509 -req -CAcreateserial -extfile pki/conf -days 90";
    openssl_does(
        world,
        &format!("{sign} -in pki/middle.csr -extensions ca -CA pki/ca.crt -CAkey pki/root.key -out pki/middle.crt"),
    );
    openssl_does(
        world,
        &format!("{sign} -in pki/node.csr -extensions node -CA pki/middle.crt -CAkey pki/middle.key -out pki/leaf.crt"),
    );
    openssl_does(
        world,
        "ca -gencrl -config pki/conf -name lists -keyfile pki/middle.key -cert pki/middle.crt -out pki/crl.pem",
    );
    let chain = [world.read("pki/leaf.crt"), world.read("pki/middle.crt")].concat();
    world.write("pki/node.crt", chain);
}

const IMPORT: &str = "cert import --cert pki/node.crt --key pki/node.key --ca pki/ca.crt --crl pki/crl.pem";

#[test]
fn certificates_of_an_existing_pki_are_imported_and_pass() {
    let site = Site::bare();
    existing_pki(&site.world);
    site.node(IMPORT).exits(0);
    let told = json(&site.node("cert check --output json").exits(0));
    assert_eq!(codes(&told, "findings"), Vec::<String>::new(), "{told:#}");
    assert_eq!(told["identity"]["node"], "node-a");
    for file in ["node.crt", "node.key", "ca.crt", "crl.pem"] {
        let installed = format!("node/identity/{file}");
        assert_eq!(site.world.read(&installed), site.world.read(&format!("pki/{file}")), "{file}");
        let bits = site.world.path(&installed).metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!(bits, 0o600, "{file}");
    }
    site.node("fsck").exits(0);
}

#[test]
fn a_bad_import_installs_nothing() {
    let site = Site::bare();
    existing_pki(&site.world);
    let before = site.snapshot();
    // The chain without its intermediate.
    let whole = site.world.read("pki/node.crt");
    site.world.write("pki/node.crt", site.world.read("pki/leaf.crt"));
    site.node(IMPORT).exits(3).warns("certificate_untrusted: ");
    site.world.write("pki/node.crt", whole);
    mode(&site.world, "pki/node.key", 0o644);
    site.node(IMPORT).exits(3).warns("key_exposed: ");
    mode(&site.world, "pki/node.key", 0o600);
    site.node(&IMPORT.replace("pki/crl.pem", "pki/nothing.pem")).exits(1).warns("source_not_found: ");
    assert_eq!(site.snapshot(), before);
    site.node(IMPORT).exits(0);
}

#[test]
fn a_node_gets_its_certificates_from_a_ca_beside_it() {
    let site = Site::bare();
    site.world.run("cert ca init --dir ca --fleet harbor").exits(0);
    let told = json(&site.node("cert check --output json").exits(3));
    assert_eq!(codes(&told, "findings"), ["ca_missing", "certificate_missing", "crl_missing", "key_missing"]);
    site.node("cert issue --ca ca").exits(0);
    site.node("cert check").exits(0);
    let first = json(&site.node("cert check --output json").exits(0));
    site.node("cert renew --ca ca --new-key").exits(0);
    let second = json(&site.node("cert check --output json").exits(0));
    assert_ne!(first["identity"]["keyId"], second["identity"]["keyId"]);
    site.node("cert issue --ca ca --id node-b").exits(64);

    // Another fleet's CA does not get in, and what is there stays.
    site.world.run("cert ca init --dir pier --fleet pier").exits(0);
    site.node("cert renew --ca pier").exits(3).warns("certificate_wrong_name: ");
    let third = json(&site.node("cert check --output json").exits(0));
    assert_eq!(third, second);
}

#[test]
fn a_damaged_ca_says_what_to_do() {
    let world = fleet();
    let record = world.read("ca/ca.json");
    world.write("ca/ca.json", &record[..record.len() / 2]);
    let ran = world.run("cert crl --ca ca --out list.pem --output json").exits(11);
    let told = json(&ran);
    assert_eq!(codes(&told, "reasons"), ["corrupt_state"]);
    assert!(told["reasons"][0]["remedy"].as_str().expect("text").contains("backup"), "{told}");
    assert!(!world.has("list.pem"));
    world.write("ca/ca.json", &record);
    mode(&world, "ca/ca.key", 0o644);
    world.run("cert crl --ca ca --out list.pem").exits(3).warns("key_exposed: ");
    mode(&world, "ca/ca.key", 0o600);
    world.run("cert crl --ca ca --out list.pem").exits(0);
    std::fs::create_dir(world.path("none")).expect("folder");
    world.run("cert issue --ca none --id x --out x").exits(1).warns("not_initialized: ");
}

#[test]
fn only_the_issuer_revokes() {
    let world = fleet();
    world.run("cert ca init --dir other --fleet harbor").exits(0);
    world.run("cert revoke --ca other a/node.crt").exits(3).warns("certificate_untrusted: ");
    let told = json(&world.run("cert revoke --ca ca a/node.crt --output json").exits(0));
    assert_eq!(told["new"], true);
    let told = json(&world.run("cert revoke --ca ca a/node.crt --output json").exits(0));
    assert_eq!(told["new"], false);
}

#[test]
fn show_tells_what_a_file_says_and_takes_no_key() {
    let world = fleet();
    let shown = world.run("cert show a/node.crt").exits(0).stdout();
    assert!(shown.contains("spiffe://harbor/domains/harbor/peers/node-a"), "{shown}");
    let told = json(&world.run("cert show a/ca.crt --output json").exits(0));
    assert_eq!(told["certificates"][0]["ca"], true);
    world.run("cert show a/crl.pem").exits(0);
    let ran = world.run("cert show a/node.key").exits(3).warns("certificate_unreadable: ");
    assert!(!ran.stderr().contains("MIG"), "no part of the key is shown");
}
