//! Newer trust roots, revocation lists, sets from the field and policy overrides: whatever moves the trust of a node that
//! runs.

use autonomy_schema::{Blake3, canonical};
use serde_json::{Value, json};

use crate::Made;
use crate::case::{Case, attack, control};
use crate::keys::Key;
use crate::world::{EXPIRES, ISSUED, World, lines};

const IMPORT: &[&str] = &["trust", "import", "medium"];
const OVERRIDE: &[&str] = &["apply", "set", "--auto-approve", "--override", "override.json"];
const SIGNATURE: &[&str] = &["root_signature"];
const GAP: &[&str] = &["root_gap"];
const BELOW: &[&str] = &["below_threshold"];
const LOWERED: &[&str] = &["revocation_number_lowered"];

pub(crate) fn cases(world: &World) -> Made<Vec<Case>> {
    let mut cases = roots(world)?;
    cases.extend(versions(world)?);
    cases.extend(media(world)?);
    cases.extend(with_sets(world)?);
    cases.extend(lists(world)?);
    cases.extend(from_the_field(world)?);
    cases.extend(overrides(world)?);
    Ok(cases)
}

/// The root after the pinned one, which is version 3.
fn next(world: &World) -> Value {
    let mut root = world.root();
    root["version"] = json!(4);
    root
}

/// These keys in this role, two of them needed.
fn give(root: &mut Value, role: &str, keys: &[&Key]) {
    let mut ids: Vec<String> = keys.iter().map(|key| key.id().to_string()).collect();
    ids.sort();
    for key in keys {
        root["keys"][key.id().to_string()] = json!(key.public_pem());
    }
    root["roles"][role] = json!({ "keys": ids, "threshold": 2 });
}

/// A document and its lines, as files of the case.
fn signed(case: Case, path: &str, document: &Value, keys: &[&Key]) -> Made<Case> {
    let bytes = canonical::to_bytes(document)?;
    let signatures = lines(keys, &bytes)?;
    Ok(case.file(format!("{path}.sigstore.jsonl"), signatures).file(path, bytes))
}

/// A medium with one root.
fn imported(case: Case, version: u64, root: &Value, keys: &[&Key]) -> Made<Case> {
    signed(case.run(IMPORT), &format!("medium/roots/{version}.root.json"), root, keys)
}

fn roots(world: &World) -> Made<Vec<Case>> {
    let [one, two, three] = &world.keys.root;
    let strangers = world.keys.stranger.each_ref();
    let old = [one, two];
    let mut theirs = next(world);
    give(&mut theirs, "root", &strangers);
    Ok(vec![
        imported(
            control("newer-root", "The root after the pinned one, signed by two of its three keys."),
            4,
            &next(world),
            &[one, three],
        )?,
        imported(
            attack("newer-root-by-its-own-keys-alone", 3, SIGNATURE, "Strangers name themselves as the new root keys."),
            4,
            &theirs,
            &strangers,
        )?,
        imported(
            attack(
                "newer-root-by-the-old-keys-alone",
                3,
                SIGNATURE,
                "The old keys sign a root whose new keys nobody has shown to exist: the node could never leave it.",
            ),
            4,
            &theirs,
            &old,
        )?,
        imported(
            attack("newer-root-by-one-old-key", 3, SIGNATURE, "One stolen root key of three, where two are needed."),
            4,
            &next(world),
            &[one],
        )?,
        imported(
            attack(
                "newer-root-by-manifest-keys",
                3,
                SIGNATURE,
                "All manifest keys are stolen, and sign a root that makes them root keys.",
            ),
            4,
            &next(world),
            &world.keys.manifest.each_ref(),
        )?,
    ])
}

/// One version at a time, and one root of each.
fn versions(world: &World) -> Made<Vec<Case>> {
    let [one, two, _] = &world.keys.root;
    let old = [one, two];
    let mut fifth = next(world);
    fifth["version"] = json!(5);
    let mut fork = world.root();
    fork["maxSerialStep"] = json!(7);
    Ok(vec![
        imported(
            attack("root-beyond-a-gap", 3, GAP, "Root 5 is sound, and root 4, which leads to it, is left out."),
            5,
            &fifth,
            &old,
        )?,
        imported(
            attack("root-5-named-root-4", 3, GAP, "Root 5 lies there as root 4, so that a step is jumped over."),
            4,
            &fifth,
            &old,
        )?,
        imported(
            attack("pinned-root-named-root-4", 3, GAP, "The pinned root lies there as its own successor, for ever."),
            4,
            &world.root(),
            &old,
        )?,
        imported(
            attack(
                "forked-root",
                3,
                &["root_forked"],
                "The root keys signed a second root under the version of the pinned one: two halves of a fleet, each \
                 with another truth.",
            ),
            3,
            &fork,
            &old,
        )?,
        imported(
            attack("claimed-fork", 3, SIGNATURE, "Somebody without root keys claims a fork, to raise an alarm."),
            3,
            &fork,
            &world.keys.stranger.each_ref(),
        )?,
    ])
}

fn media(world: &World) -> Made<Vec<Case>> {
    let [one, two, _] = &world.keys.root;
    let good = |case: Case| imported(case, 4, &next(world), &[one, two]);
    Ok(vec![
        good(attack("newer-root-is-endless", 3, &["document_too_large"], "A root that never ends."))?
            .step("grow", json!({ "path": "medium/roots/4.root.json", "bytes": 1_u64 << 30 })),
        good(attack("newer-root-is-a-link", 3, &["symlink_refused"], "A root that is a link to somewhere else."))?
            .step("remove", "medium/roots/4.root.json")
            .step("symlink", json!({ "path": "medium/roots/4.root.json", "to": "../../root.json" })),
        good(attack("newer-root-is-a-pipe", 3, &["symlink_refused"], "A root that is a pipe nobody writes to."))?
            .step("remove", "medium/roots/4.root.json")
            .step("fifo", "medium/roots/4.root.json"),
        good(attack("newer-root-without-signatures", 3, SIGNATURE, "The signatures of a root are left out."))?
            .step("remove", "medium/roots/4.root.json.sigstore.jsonl"),
        attack("medium-without-roots", 9, &["missing_file"], "A medium with nothing on it that a node could take.")
            .run(IMPORT)
            .file("medium/roots/readme.txt", "trust me"),
    ])
}

fn with_sets(world: &World) -> Made<Vec<Case>> {
    let [one, two, _] = &world.keys.root;
    let root = |case: Case, root: &Value, keys: &[&Key]| signed(case, "set/roots/4.root.json", root, keys);
    let mut retired = next(world);
    give(&mut retired, "manifest", &world.keys.stranger.each_ref());
    let retired_first = signed(
        attack(
            "retired-keys-sign-the-next-release",
            3,
            BELOW,
            "Root 4 gave the manifests to other people. Those who signed under root 3 go on, with a serial that is due.",
        ),
        "medium/roots/4.root.json",
        &retired,
        &[one, two],
    )?;
    Ok(vec![
        root(
            control(
                "set-that-brings-a-newer-root",
                "A medium carries every root, and the set is signed under the newest.",
            ),
            &next(world),
            &[one, two],
        )?,
        root(
            attack(
                "set-that-brings-a-forged-root",
                3,
                SIGNATURE,
                "A good set, and a root beside it that strangers made.",
            ),
            &next(world),
            &world.keys.stranger.each_ref(),
        )?,
        root(
            attack(
                "set-whose-root-takes-its-signers-away",
                3,
                BELOW,
                "The set is judged under the newest root that it brings, and by that one its signers sign nothing.",
            ),
            &retired,
            &[one, two],
        )?,
        retired_first.step("run", json!(["trust", "import", "medium"])),
    ])
}

fn list(number: u64, keys: &[&Key]) -> Value {
    let mut ids: Vec<String> = keys.iter().map(|key| key.id().to_string()).collect();
    ids.sort();
    json!({
        "apiVersion": "autonomy/v1", "kind": "Revocation", "reason": "a laptop was stolen",
        "revoked": { "number": number, "keys": ids },
    })
}

fn lists(world: &World) -> Made<Vec<Case>> {
    let [one, two, three] = &world.keys.manifest;
    let file = |case: Case, list: &Value, keys: &[&Key]| signed(case.run(IMPORT), "medium/revocation.json", list, keys);
    let offline = world.keys.offline.each_ref();
    Ok(vec![
        file(
            control("revocation-list", "A newer list by itself, signed by two manifest keys that it does not name."),
            &list(5, &[three]),
            &[one, two],
        )?,
        file(
            control("revocation-list-by-root-keys", "The manifest keys are lost: the root keys revoke them."),
            &list(5, &[one, two, three]),
            &[&world.keys.root[0], &world.keys.root[1]],
        )?,
        file(
            attack("revocation-list-by-one-key", 3, BELOW, "One stolen manifest key would revoke the other two."),
            &list(5, &[two, three]),
            &[one],
        )?,
        file(
            attack(
                "revocation-list-from-the-field",
                3,
                BELOW,
                "Keys of role offline would lock out the manifest keys.",
            ),
            &list(5, &[one, two, three]),
            &offline,
        )?,
        file(
            attack(
                "revocation-list-by-keys-that-it-revokes",
                3,
                &["revoked"],
                "A list that its own entries leave without a threshold could never be followed by another one.",
            ),
            &list(5, &[one]),
            &[one, two],
        )?,
        file(
            attack("revocation-list-of-yesterday", 3, LOWERED, "An older list, to bring a revoked key back to life."),
            &list(3, &[]),
            &[one, two],
        )?,
        file(
            attack("revocation-list-of-the-same-number", 3, LOWERED, "Another list under a number that was seen."),
            &list(4, &[]),
            &[one, two],
        )?,
    ])
}

fn from_the_field(world: &World) -> Made<Vec<Case>> {
    let offline = world.keys.offline.each_ref();
    let by_field = |case: Case, change: &dyn Fn(&mut Value)| -> Made<Case> {
        let mut set = world.doctored(change)?;
        let signatures = lines(&offline, set.get("manifest.json").map(Vec::as_slice).unwrap_or_default())?;
        set.insert("manifest.json.sigstore.jsonl".to_owned(), signatures);
        Ok(case.set(&world.next, set))
    };
    let revoke = |manifest: &mut Value| {
        manifest["spec"]["revoked"] = json!({ "number": 5, "keys": [world.keys.manifest[0].id()] });
    };
    let brings_root = by_field(
        attack(
            "field-set-that-brings-a-root",
            3,
            &["role_mismatch"],
            "A set that role offline alone signed brings a root, however sound: whom the node trusts is not its business.",
        ),
        &|_| {},
    )?;
    let [one, two, _] = &world.keys.root;
    Ok(vec![
        by_field(
            attack(
                "field-set-that-revokes",
                3,
                &["role_mismatch"],
                "Whoever holds the keys of the field locks out a manifest key.",
            ),
            &revoke,
        )?,
        by_field(
            attack("field-set-with-an-older-list", 3, LOWERED, "A set from the field that would lower a floor."),
            &|manifest| manifest["spec"]["revoked"] = json!({ "number": 3 }),
        )?,
        signed(brings_root, "set/roots/4.root.json", &next(world), &[one, two])?,
    ])
}

fn overrides(world: &World) -> Made<Vec<Case>> {
    let denied = world.doctored(|manifest| manifest["metadata"]["channel"] = json!("beta"))?;
    let fingerprint = Blake3::of(denied.get("manifest.json").map(Vec::as_slice).unwrap_or_default());
    let document = |manifest: Blake3, expires: &str| {
        json!({
            "apiVersion": "autonomy/v1", "kind": "PolicyOverride", "manifest": manifest, "reason": "the policy is stuck",
            "issuedAt": ISSUED, "expiresAt": expires,
        })
    };
    let [one, two, _] = &world.keys.root;
    let make = |case: Case, document: &Value, keys: &[&Key]| -> Made<Case> {
        signed(case.set(&world.next, denied.clone()).run(OVERRIDE), "override.json", document, keys)
    };
    let good = document(fingerprint, EXPIRES);
    Ok(vec![
        make(control("override", "Two root keys let one manifest pass that the policy denies."), &good, &[one, two])?,
        make(attack("override-by-one-root-key", 3, BELOW, "One stolen root key overrides the policy."), &good, &[one])?,
        make(
            attack("override-by-manifest-keys", 3, BELOW, "Whoever signs manifests would not need to ask the policy."),
            &good,
            &world.keys.manifest.each_ref(),
        )?,
        make(
            attack(
                "override-for-another-manifest",
                3,
                &["scope_mismatch"],
                "An override that was meant for another one.",
            ),
            &document(Blake3::of(b"another"), EXPIRES),
            &[one, two],
        )?,
        make(
            attack("override-that-is-over", 3, &["expired"], "An override that was kept for later."),
            &document(fingerprint, "2026-11-20T10:00:00Z"),
            &[one, two],
        )?,
        make(
            attack(
                "revocation-list-as-an-override",
                3,
                &["role_mismatch"],
                "The root keys signed a list, and no override.",
            ),
            &list(5, &[]),
            &[one, two],
        )?,
    ])
}
