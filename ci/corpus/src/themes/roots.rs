//! Trust roots that somebody hands to an operator, who runs `autonomy init`. Each would count one key as two, or let
//! nobody's word suffice.

use autonomy_schema::{Sha256, canonical};
use serde_json::{Value, json};

use crate::Made;
use crate::case::{Case, attack, control};
use crate::keys::pem;
use crate::world::{World, lines};

const INIT: &[&str] = &["init", "--node-id", "node-a", "--fleet", "harbor", "--trust-root", "root.json"];
const BAD: &[&str] = &["bad_value"];

fn handed(world: &World, case: Case, change: impl FnOnce(&mut Value) -> Made<()>) -> Made<Case> {
    let mut root = world.root();
    change(&mut root)?;
    let mut case = case.given("nothing").run(INIT);
    for (path, bytes) in world.signed_root(&root)? {
        case = case.file(path, bytes);
    }
    Ok(case)
}

pub(crate) fn cases(world: &World) -> Made<Vec<Case>> {
    let mut cases = spellings(world)?;
    cases.extend(kinds(world)?);
    cases.extend(roles(world)?);
    cases.extend(signatures(world)?);
    Ok(cases)
}

/// Another spelling of the first manifest key, under its own id and in the role.
fn add_key(root: &mut Value, id: Sha256, pem: &str) -> Made<()> {
    root["keys"][id.to_string()] = json!(pem);
    let list = root["roles"]["manifest"]["keys"].as_array_mut().ok_or("the role has no keys")?;
    list.push(json!(id));
    list.sort_by_key(ToString::to_string);
    Ok(())
}

/// The fleet's root with one more manifest key, under the id that its DER has.
fn added(world: &World, name: &'static str, says: &'static str, story: &'static str, der: &[u8]) -> Made<Case> {
    let case = attack(name, 3, BAD, story).says(says);
    handed(world, case, |root| add_key(root, Sha256::of(der), &pem("PUBLIC KEY", der)))
}

/// One key in two spellings would be two signers.
fn spellings(world: &World) -> Made<Vec<Case>> {
    let one = &world.keys.manifest[0];
    let compressed = one.compressed_spki()?;
    let trailing = [one.spki(), b"more"].concat();
    Ok(vec![
        handed(
            world,
            attack(
                "root-lists-one-key-under-two-ids",
                3,
                BAD,
                "The root lists one public key under its own id and under a made-up one, so that its owner alone \
                 would be two signers.",
            )
            .says("its id is"),
            |root| add_key(root, Sha256::of(b"made up"), &one.public_pem()),
        )?,
        added(
            world,
            "root-lists-one-key-in-two-encodings",
            "not in the one form",
            "The root lists one public key with an uncompressed and a compressed point. Both are read by openssl, \
             and each has its own id.",
            &compressed,
        )?,
        added(
            world,
            "key-with-bytes-behind-its-der",
            "not PEM",
            "Four bytes follow the DER of a key inside its PEM: the same key to whoever stops reading, with another \
             id.",
            &trailing,
        )?,
        handed(
            world,
            attack(
                "pem-with-trailing-data",
                3,
                BAD,
                "A second key follows the first in its PEM: which of them was meant depends on the reader.",
            )
            .says("not PEM"),
            |root| {
                root["keys"][one.id().to_string()] = json!(one.public_pem() + &world.keys.stranger[0].public_pem());
                Ok(())
            },
        )?,
        handed(
            world,
            attack("private-label-on-a-key", 3, BAD, "A key whose PEM has another label than `PUBLIC KEY`."),
            |root| {
                root["keys"][one.id().to_string()] = json!(one.public_pem().replace("PUBLIC KEY", "CERTIFICATE"));
                Ok(())
            },
        )?,
    ])
}

/// Keys of kinds that prove nothing.
fn kinds(world: &World) -> Made<Vec<Case>> {
    // rsaEncryption with a tiny modulus, and the identity point of Ed25519.
    let rsa = [
        0x30, 0x1b, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00, 0x03,
        0x0a, 0x00, 0x30, 0x07, 0x02, 0x02, 0x0c, 0xa1, 0x02, 0x01, 0x03,
    ];
    let weak = [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00, 0x01][..], &[0; 31]].concat();
    let high =
        [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00, 0xf0][..], &[0xff; 30], &[0x7f]]
            .concat();
    Ok(vec![
        added(
            world,
            "rsa-key-in-the-root",
            "neither ECDSA P-256 nor Ed25519",
            "An RSA key with a modulus that a child can factor.",
            &rsa,
        )?,
        added(
            world,
            "weak-ed25519-key-in-the-root",
            "weak Ed25519 point",
            "The identity of the curve as a public key: the signature of nobody holds for every message.",
            &weak,
        )?,
        added(
            world,
            "ed25519-key-beyond-the-field",
            "not in the one form",
            "A coordinate above the prime of the field: a second spelling of another point.",
            &high,
        )?,
    ])
}

fn roles(world: &World) -> Made<Vec<Case>> {
    let role = |name, codes: &[&'static str], story, change: &dyn Fn(&mut Value)| {
        handed(world, attack(name, 3, codes, story), |root| {
            change(root);
            Ok(())
        })
    };
    Ok(vec![
        role("threshold-of-zero", BAD, "Nobody has to sign a manifest.", &|root| {
            root["roles"]["manifest"]["threshold"] = json!(0);
        })?,
        role(
            "threshold-above-the-keys",
            BAD,
            "A role that takes more keys than it has could never sign again.",
            &|root| {
                root["roles"]["root"]["threshold"] = json!(4);
            },
        )?,
        role("role-without-its-key", BAD, "A role names a key id that the root does not hold.", &|root| {
            root["roles"]["artifact"] = json!({ "keys": [Sha256::of(b"nobody")], "threshold": 1 });
        })?,
        role("root-without-root-keys", BAD, "A root that no newer root could ever follow.", &|root| {
            if let Some(roles) = root["roles"].as_object_mut() {
                roles.remove("root");
            }
        })?,
        role("unknown-role", BAD, "A role that this version does not know must not be ignored.", &|root| {
            root["roles"]["boss"] = root["roles"]["manifest"].clone();
        })?,
        role(
            "manifest-as-a-root",
            &["role_mismatch"],
            "A document of kind StateManifest, signed by root keys.",
            &|root| {
                root["kind"] = json!("StateManifest");
            },
        )?,
    ])
}

fn signatures(world: &World) -> Made<Vec<Case>> {
    let root = canonical::to_bytes(&world.root())?;
    let [one, ..] = &world.keys.root;
    let given = |name, codes: &[&'static str], story, bytes: &[u8], signatures: Vec<u8>| {
        let case = attack(name, 3, codes, story).given("nothing").run(INIT);
        case.file("root.json", bytes).file("root.json.sigstore.jsonl", signatures)
    };
    let text = String::from_utf8(root.clone())?;
    let twice = text.replacen("\"version\":3", "\"version\":3,\"version\":3", 1);
    let both = |bytes: &str| -> Made<Vec<u8>> { lines(&[one, &world.keys.root[1]], bytes.as_bytes()) };
    let spaced = format!("{text}\n");
    Ok(vec![
        given(
            "root-signed-once",
            &["root_signature"],
            "One of the two root keys signed.",
            &root,
            lines(&[one], &root)?,
        ),
        given(
            "root-signed-twice-by-one-key",
            &["root_signature"],
            "One root key signed twice.",
            &root,
            lines(&[one, one], &root)?,
        ),
        given(
            "root-signed-by-manifest-keys",
            &["root_signature"],
            "Keys of the root, but not its root keys.",
            &root,
            lines(&[&world.keys.manifest[0], &world.keys.manifest[1]], &root)?,
        ),
        given(
            "root-with-a-key-twice",
            &["duplicate_key"],
            "The root says its version twice.",
            twice.as_bytes(),
            both(&twice)?,
        ),
        given(
            "root-not-canonical",
            &["not_canonical"],
            "The root ends with a newline: two sets of bytes with one meaning.",
            spaced.as_bytes(),
            both(&spaced)?,
        ),
        control("good-root", "The root of the fleet, as it is.").given("nothing").run(INIT),
    ])
}
