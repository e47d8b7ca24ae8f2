//! Bytes that enough keys signed, and that two parsers could read as two documents. The signers made a mistake, or
//! their tools were turned against them.

use autonomy_schema::canonical;
use serde_json::{Value, json};

use crate::Made;
use crate::case::{Case, attack, control};
use crate::world::World;

pub(crate) fn cases(world: &World) -> Made<Vec<Case>> {
    let mut cases = text(world)?;
    cases.extend(characters(world)?);
    cases.extend(numbers(world)?);
    cases.extend(shape(world)?);
    cases.extend(kinds(world)?);
    cases.extend(sizes(world)?);
    Ok(cases)
}

/// The text of the next manifest.
fn manifest(world: &World) -> Made<String> {
    Ok(String::from_utf8(world.manifest().to_vec())?)
}

fn text(world: &World) -> Made<Vec<Case>> {
    let next = &world.next;
    let raw = |bytes: Vec<u8>| world.with_manifest(next.clone(), bytes);
    let text = manifest(world)?;
    let value: Value = serde_json::from_str(&text)?;
    let spaced = serde_json::to_vec_pretty(&value)?;
    let escaped = text.replacen("\"stable\"", "\"\\u0073table\"", 1);
    let swapped = text.replacen(
        "{\"apiVersion\":\"autonomy/v1\",\"kind\":\"StateManifest\"",
        "{\"kind\":\"StateManifest\",\"apiVersion\":\"autonomy/v1\"",
        1,
    );
    Ok(vec![
        attack(
            "duplicate-key",
            3,
            &["duplicate_key"],
            "The serial stands there twice. One parser takes the first, another the last.",
        )
        .set(next, world.edited("\"serial\":43", "\"serial\":9,\"serial\":43")?),
        attack(
            "duplicate-key-by-escape",
            3,
            &["duplicate_key"],
            "The second `serial` is written with an escape, so that the two keys differ as bytes and not as text.",
        )
        .set(next, world.edited("\"serial\":43", "\"serial\":43,\"seri\\u0061l\":9")?),
        attack(
            "duplicate-key-deep-down",
            3,
            &["duplicate_key"],
            "A key occurs twice in the scope: this node to one reader, another to the next.",
        )
        .set(next, world.edited("\"site\":\"pier-7\"", "\"site\":\"pier-7\",\"site\":\"pier-9\"")?),
        attack(
            "white-space",
            3,
            &["not_canonical"],
            "The same meaning in other bytes would be the same manifest with two fingerprints.",
        )
        .set(next, raw(spaced)?),
        attack("keys-in-another-order", 3, &["not_canonical"], "The same fields, and the first two change places.")
            .set(next, raw(swapped.into_bytes())?),
        attack("needless-escape", 3, &["not_canonical"], "A letter is written as an escape.")
            .set(next, raw(escaped.into_bytes())?),
        attack("trailing-newline", 3, &["not_canonical"], "A newline that some editor added.")
            .set(next, raw(format!("{text}\n").into_bytes())?),
    ])
}

/// Bytes that are no text, or more text than one document.
fn characters(world: &World) -> Made<Vec<Case>> {
    let next = &world.next;
    let raw = |bytes: Vec<u8>| world.with_manifest(next.clone(), bytes);
    let text = manifest(world)?;
    let surrogate = text.replacen("\"stable\"", "\"\\ud800\"", 1);
    let broken = text.replacen("stable", "st\u{1}ble", 1).into_bytes();
    let invalid: Vec<u8> = broken.iter().map(|byte| if *byte == 1 { 0xff } else { *byte }).collect();
    let overlong = {
        let (head, tail) = text.split_once("stable").ok_or("no channel")?;
        [head.as_bytes(), &[0xc1, 0xb3], b"table", tail.as_bytes()].concat()
    };
    Ok(vec![
        attack("second-document", 3, &["syntax"], "Another document follows the first.")
            .set(next, raw(format!("{text}{text}").into_bytes())?),
        attack("byte-order-mark", 3, &["syntax"], "A byte-order mark, which some readers skip.")
            .set(next, raw(format!("\u{feff}{text}").into_bytes())?),
        attack("not-utf8", 3, &["not_utf8"], "A byte that is no UTF-8, which some readers replace.")
            .set(next, raw(invalid)?),
        attack(
            "overlong-utf8",
            3,
            &["not_utf8"],
            "A letter in two bytes where one is right: a second spelling that old decoders accept.",
        )
        .set(next, raw(overlong)?),
        attack(
            "lone-surrogate",
            3,
            &["syntax"],
            "Half of a surrogate pair: no text at all, and languages disagree what to make of it.",
        )
        .set(next, raw(surrogate.into_bytes())?),
        attack("comment", 3, &["syntax"], "A comment, which some JSON parsers read over.")
            .set(next, world.edited("\"serial\":43", "\"serial\":43/*9*/")?),
    ])
}

fn numbers(world: &World) -> Made<Vec<Case>> {
    let next = &world.next;
    let serial = |text: &str| world.edited("\"serial\":43", &format!("\"serial\":{text}"));
    Ok(vec![
        attack("number-with-a-fraction", 3, &["wrong_type"], "43.0 is 43 to some and no integer to others.")
            .set(next, serial("43.0")?),
        attack("number-with-an-exponent", 3, &["wrong_type"], "A serial of 43e0.").set(next, serial("43e0")?),
        attack(
            "number-beyond-exactness",
            3,
            &["bad_value"],
            "2^53+1, which a reader with floating point takes for 2^53.",
        )
        .set(next, serial("9007199254740993")?),
        attack("number-beyond-64-bits", 3, &["wrong_type"], "2^64+43, which wraps around to 43.")
            .set(next, serial("18446744073709551659")?),
        attack("negative-serial", 3, &["wrong_type"], "A serial below zero, which is huge without its sign.")
            .set(next, serial("-1")?),
        attack("serial-zero", 3, &["bad_value"], "Serials start at one.")
            .set(next, world.doctored(|m| m["metadata"]["serial"] = json!(0))?),
        attack("serial-as-text", 3, &["wrong_type"], "A serial in quotes, which some languages compare as text.")
            .set(next, serial("\"43\"")?),
    ])
}

fn shape(world: &World) -> Made<Vec<Case>> {
    let next = &world.next;
    let doctored = |change: &dyn Fn(&mut Value)| world.doctored(change);
    Ok(vec![
        attack(
            "unknown-field",
            3,
            &["unknown_field"],
            "A field that this version does not know. A misspelt limit must not be no limit.",
        )
        .set(next, doctored(&|m| m["spec"]["scopes"] = json!({ "fleet": "other" }))?),
        attack(
            "unknown-critical-field",
            3,
            &["unknown_critical", "unknown_field"],
            "The document says itself that it must not be acted on without this field.",
        )
        .set(
            next,
            doctored(&|m| {
                m["spec"]["quorum"] = json!(3);
                m["metadata"]["critical"] = json!(["spec.quorum"]);
            })?,
        ),
        attack(
            "unknown-critical-field-of-a-minor",
            3,
            &["unknown_critical"],
            "A newer minor version may bring unknown fields, but not critical ones.",
        )
        .set(
            next,
            doctored(&|m| {
                m["apiVersion"] = json!("autonomy/v1.7");
                m["spec"]["quorum"] = json!(3);
                m["metadata"]["critical"] = json!(["spec.quorum"]);
            })?,
        ),
        attack("unknown-major-version", 3, &["unknown_version"], "A major version that this tool does not know.")
            .set(next, doctored(&|m| m["apiVersion"] = json!("autonomy/v2"))?),
        attack("missing-scope", 3, &["missing_field"], "Without a scope the manifest would be for everybody.").set(
            next,
            doctored(&|m| {
                if let Some(spec) = m["spec"].as_object_mut() {
                    spec.remove("scope");
                }
            })?,
        ),
    ])
}

/// Documents of another kind, type or minor version.
fn kinds(world: &World) -> Made<Vec<Case>> {
    let next = &world.next;
    let lock: Value = serde_json::from_slice(world.lock())?;
    let doctored = |change: &dyn Fn(&mut Value)| world.doctored(change);
    Ok(vec![
        attack(
            "lock-as-a-manifest",
            3,
            &["role_mismatch"],
            "The signers of manifests signed a lock. The payload says what it is, and that must be what is expected \
             here.",
        )
        .set(next, world.with_manifest(next.clone(), canonical::to_bytes(&lock)?)?),
        attack("root-as-a-manifest", 3, &["role_mismatch"], "The signers of manifests signed a trust root.")
            .set(next, world.with_manifest(next.clone(), canonical::to_bytes(&world.root())?)?),
        attack("list-as-a-manifest", 3, &["wrong_type"], "The document is a list that holds the manifest.")
            .set(next, world.with_manifest(next.clone(), [b"[", world.manifest(), b"]"].concat())?),
        attack(
            "null-where-a-list-is",
            3,
            &["wrong_type"],
            "The list of artifacts is null, which some readers take for empty.",
        )
        .set(next, doctored(&|m| m["spec"]["artifacts"] = Value::Null)?),
        control(
            "newer-minor-version",
            "A newer minor version with a field that this version does not know, and that is not critical.",
        )
        .set(
            next,
            doctored(&|m| {
                m["apiVersion"] = json!("autonomy/v1.7");
                m["spec"]["weather"] = json!("fair");
            })?,
        ),
    ])
}

fn sizes(world: &World) -> Made<Vec<Case>> {
    let next = &world.next;
    let deep = format!("{{\"a\":{}{}", "[".repeat(2000), "]".repeat(2000));
    let many: Vec<String> = (0..1001).map(|n| format!("h{n}")).collect();
    Ok(vec![
        attack("deep-nesting", 3, &["limit_exceeded"], "Lists two thousand deep, against the stack of the parser.")
            .set(next, world.with_manifest(next.clone(), format!("{deep}}}").into_bytes())?),
        attack("huge-list", 3, &["limit_exceeded"], "A list with more entries than any honest one.")
            .set(next, world.doctored(|m| m["spec"]["scope"]["hardware"] = json!(many))?),
        attack(
            "huge-segment-count",
            3,
            &["bad_value"],
            "A segment count whose index size overflows 64 bits: an allocation that wraps around, elsewhere.",
        )
        .set(
            next,
            world.doctored(|m| {
                let segments = &mut m["spec"]["artifacts"][0]["segments"];
                segments["count"] = json!((1_u64 << 53) - 1);
                segments["size"] = json!(24);
            })?,
        ),
        attack(
            "huge-artifact-size",
            3,
            &["bad_value", "size_mismatch"],
            "The manifest pins eight pebibytes for a small file. Nobody may set them aside before looking.",
        )
        .set(next, world.doctored(|m| m["spec"]["artifacts"][0]["size"] = json!((1_u64 << 53) - 1))?),
        attack("huge-policy-size", 3, &["document_too_large"], "The manifest pins a policy bundle of a tebibyte.")
            .set(next, world.doctored(|m| m["spec"]["policy"]["size"] = json!(1_u64 << 40))?),
        attack(
            "endless-manifest",
            3,
            &["document_too_large"],
            "A manifest of a gibibyte. Nothing beyond the cap is read, and nothing of it before its signatures hold.",
        )
        .step("grow", json!({ "path": "set/manifest.json", "bytes": 1_u64 << 30 })),
        attack("endless-lock", 3, &["document_too_large"], "A lock of a gibibyte.")
            .step("grow", json!({ "path": "set/autonomy.lock.json", "bytes": 1_u64 << 30 })),
        attack("endless-policy", 3, &["size_mismatch"], "A policy bundle of a tebibyte.")
            .step("grow", json!({ "path": "set/policy.tar.gz", "bytes": 1_u64 << 40 })),
        attack(
            "endless-artifact",
            3,
            &["size_mismatch"],
            "Endless data: an artifact of a tebibyte where a few bytes are signed.",
        )
        .step("grow", json!({ "path": "set/artifacts/bin/agent", "bytes": 1_u64 << 40 })),
    ])
}
