//! What a line of a `.sigstore.jsonl` file may be.

use autonomy_schema::Sha256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::Made;
use crate::case::{Case, attack, control};
use crate::keys::line;
use crate::world::World;

const BAD: &[&str] = &["bad_signature_line"];
/// A line that cannot be read, and without it too few.
const BAD_AND_FEW: &[&str] = &["bad_signature_line", "below_threshold"];

/// The lines of both signers: the first as a tree that can be spoilt, the second as it is.
struct Two {
    first: Value,
    second: String,
}

impl Two {
    fn new(world: &World) -> Made<Self> {
        let bytes = world.manifest();
        let [one, two, _] = &world.keys.manifest;
        Ok(Self { first: serde_json::from_str(&one.line(bytes)?)?, second: two.line(bytes)? })
    }

    /// The first line spoilt by `change`, and the second.
    fn spoilt(&self, change: impl FnOnce(&mut Value)) -> [String; 2] {
        let mut first = self.first.clone();
        change(&mut first);
        [first.to_string(), self.second.clone()]
    }
}

pub(crate) fn cases(world: &World) -> Made<Vec<Case>> {
    let two = Two::new(world)?;
    let mut cases = payloads(world, &two)?;
    cases.extend(other_bytes(world, &two)?);
    cases.extend(fields(world, &two));
    cases.extend(spellings(world, &two)?);
    cases.extend(floods(world, &two));
    cases.extend(accepted(world, &two));
    Ok(cases)
}

fn payloads(world: &World, two: &Two) -> Made<Vec<Case>> {
    let (next, bytes) = (&world.next, world.manifest());
    let [one, ..] = &world.keys.manifest;
    let text = two.first.to_string();
    let payload = json!({ "payload": STANDARD.encode(bytes), "payloadType": "application/json", "signatures": [] });
    let other = {
        let evil = b"{\"anything\":\"else\"}";
        let line: Value = serde_json::from_str(&one.line(evil)?)?;
        line["messageSignature"].to_string()
    };
    let twice =
        text.replacen("\"messageSignature\":", &format!("\"messageSignature\":{other},\"messageSignature\":"), 1);
    let set = |lines: &[String]| world.signed_with(lines);
    Ok(vec![
        attack(
            "two-payloads-of-one-kind",
            3,
            BAD_AND_FEW,
            "A bundle with `messageSignature` twice, over other bytes and over these: two readers may each take \
             another one.",
        )
        .set(next, set(&[twice, two.second.clone()])),
        attack(
            "two-payloads-of-two-kinds",
            3,
            BAD_AND_FEW,
            "A bundle with a `messageSignature` and a `dsseEnvelope`. The format allows one of them, so readers \
             would disagree about what was signed.",
        )
        .set(next, set(&two.spoilt(|line| line["dsseEnvelope"] = payload.clone()))),
        attack(
            "payload-is-an-envelope",
            3,
            BAD_AND_FEW,
            "A bundle with a `dsseEnvelope` alone: its signatures are over something that is not the file.",
        )
        .set(
            next,
            set(&two.spoilt(|line| {
                line["dsseEnvelope"] = payload.clone();
                if let Some(fields) = line.as_object_mut() {
                    fields.remove("messageSignature");
                }
            })),
        ),
        attack(
            "two-bundles-in-one-line",
            3,
            BAD_AND_FEW,
            "Two JSON objects in one line: a reader that stops after the first never sees the rest.",
        )
        .set(next, set(&[format!("{text}{text}"), two.second.clone()])),
        attack(
            "not-a-bundle",
            3,
            BAD,
            "Two good lines and a third that is neither JSON nor base64. A file is whole or refused.",
        )
        .set(next, set(&[text, two.second.clone(), "{]".to_owned()])),
    ])
}

/// Signatures over something else than the bytes at hand.
fn other_bytes(world: &World, two: &Two) -> Made<Vec<Case>> {
    let (next, bytes) = (&world.next, world.manifest());
    let [one, ..] = &world.keys.manifest;
    let set = |lines: &[String]| world.signed_with(lines);
    let part = bytes.get(..bytes.len() / 2).unwrap_or_default();
    Ok(vec![
        attack(
            "signature-over-a-part",
            3,
            &["below_threshold"],
            "The signature is over the first half of the manifest; the digest beside it is that of the whole.",
        )
        .set(next, set(&[line(&one.sign(part)?, bytes, one.id()), two.second.clone()])),
        attack(
            "signature-over-the-digest",
            3,
            &["below_threshold"],
            "The signature is over the digest of the manifest instead of its bytes, so that it would be hashed \
             twice.",
        )
        .set(next, set(&[line(&one.sign(Sha256::of(bytes).as_bytes())?, bytes, one.id()), two.second.clone()])),
        attack(
            "signature-of-another-file",
            3,
            BAD_AND_FEW,
            "A sound line over other bytes, taken from another release.",
        )
        .set(next, set(&[one.line(part)?, two.second.clone()])),
        attack(
            "signatures-of-the-release-before",
            3,
            BAD_AND_FEW,
            "Mix-and-match: the manifest of one release under the signatures of another.",
        )
        .set(next, world.with("manifest.json.sigstore.jsonl", world.first["manifest.json.sigstore.jsonl"].clone())),
    ])
}

fn fields(world: &World, two: &Two) -> Vec<Case> {
    let (next, bytes) = (&world.next, world.manifest());
    let set = |lines: [String; 2]| world.signed_with(&lines);
    vec![
        attack(
            "digest-algorithm-confusion",
            3,
            BAD_AND_FEW,
            "The bundle says SHA2_512 about a SHA-256 digest, for a reader that believes the name and another that \
             believes the length.",
        )
        .set(next, set(two.spoilt(|line| line["messageSignature"]["messageDigest"]["algorithm"] = json!("SHA2_512")))),
        attack(
            "digest-cut-short",
            3,
            BAD_AND_FEW,
            "The digest in the bundle is the first eight bytes of the right one.",
        )
        .set(
            next,
            set(two.spoilt(|line| {
                let digest = STANDARD.encode(&Sha256::of(bytes).as_bytes()[..8]);
                line["messageSignature"]["messageDigest"]["digest"] = json!(digest);
            })),
        ),
        attack("digest-left-out", 3, BAD_AND_FEW, "The bundle has no `messageDigest`.").set(
            next,
            set(two.spoilt(|line| {
                if let Some(fields) = line["messageSignature"].as_object_mut() {
                    fields.remove("messageDigest");
                }
            })),
        ),
        attack(
            "media-type-of-another-version",
            3,
            BAD_AND_FEW,
            "A bundle of version 0.1, whose fields mean something else.",
        )
        .set(
            next,
            set(two.spoilt(|line| line["mediaType"] = json!("application/vnd.dev.sigstore.bundle+json;version=0.1"))),
        ),
    ]
}

/// Second spellings of a signature, and none at all.
fn spellings(world: &World, two: &Two) -> Made<Vec<Case>> {
    let (next, bytes) = (&world.next, world.manifest());
    let [one, _, ed25519] = &world.keys.manifest;
    let set = |lines: [String; 2]| world.signed_with(&lines);
    let long = long_der(&one.sign(bytes)?);
    // 64 bytes, whatever they are, and so two characters of padding.
    let padded = STANDARD.encode(ed25519.sign(bytes)?);
    let unpadded = ed25519.line(bytes)?.replace(&padded, padded.trim_end_matches('='));
    Ok(vec![
        attack(
            "base64-without-padding",
            3,
            BAD_AND_FEW,
            "The signature in base64 without padding: a second spelling of the same bytes.",
        )
        .set(next, set([unpadded, two.second.clone()])),
        attack(
            "signature-in-long-der",
            3,
            BAD_AND_FEW,
            "The signature in BER, with a length that is longer than it need be: a second spelling of the same \
             numbers.",
        )
        .set(next, set([line(&long, bytes, one.id()), two.second.clone()])),
        attack(
            "signature-of-zeros",
            3,
            BAD_AND_FEW,
            "r and s are zero, which a verifier without a range check accepts for every key (CVE-2022-21449).",
        )
        .set(next, set([line(&[0x30, 6, 2, 1, 0, 2, 1, 0], bytes, one.id()), two.second.clone()])),
        attack(
            "certificate-instead-of-a-key",
            3,
            &["below_threshold"],
            "The stranger's bundle brings a certificate of its own. Only pinned keys count.",
        )
        .set(
            next,
            set({
                let mut line: Value = serde_json::from_str(&world.keys.stranger[0].line(bytes)?)?;
                line["verificationMaterial"] =
                    json!({ "certificate": { "rawBytes": STANDARD.encode(b"certificate") } });
                [line.to_string(), two.second.clone()]
            }),
        ),
    ])
}

fn floods(world: &World, two: &Two) -> Vec<Case> {
    let next = &world.next;
    let path = "set/manifest.json.sigstore.jsonl";
    let flood = |text: String, times: u64| json!({ "path": path, "text": text, "times": times });
    let junk = STANDARD.encode([7_u8; 64]) + "\n";
    let deep = format!("{}{}", "[".repeat(3000), "]".repeat(3000));
    let signature = two.first["messageSignature"].to_string();
    let nested = two.first.to_string().replace(&signature, &deep);
    vec![
        attack(
            "endless-lines",
            3,
            &["limit_exceeded"],
            "Three hundred lines after two good ones. What comes after the 256th is not read.",
        )
        .step("append", flood(junk.clone(), 300)),
        attack(
            "endless-checks",
            3,
            &["below_threshold", "limit_exceeded"],
            "Two hundred well-formed lines without hints, each of which would have to be tried with every key.",
        )
        .set(next, world.signed_with(&[]))
        .step("append", flood(junk, 200)),
        attack("endless-line", 3, BAD, "A line of a mebibyte, less one.")
            .step("append", flood("A".to_owned(), 1_000_000)),
        attack(
            "endless-signature-file",
            3,
            &["document_too_large"],
            "A signature file of a gibibyte. Nothing beyond the cap is read.",
        )
        .step("grow", json!({ "path": path, "bytes": 1_u64 << 30 })),
        attack("deep-line", 3, BAD_AND_FEW, "A bundle with lists three thousand deep where the signature should be.")
            .set(next, world.signed_with(&[nested, two.second.clone()])),
    ]
}

fn accepted(world: &World, two: &Two) -> Vec<Case> {
    let next = &world.next;
    let extra = two.spoilt(|line| {
        line["verificationMaterial"]["tlogEntries"] = json!([{ "logIndex": "25", "canonicalizedBody": "e30=" }]);
        line["verificationMaterial"]["timestampVerificationData"] = json!({ "rfc3161Timestamps": [] });
    });
    let old = two.spoilt(|line| line["mediaType"] = json!("application/vnd.dev.sigstore.bundle+json;version=0.3"));
    let deep = format!("{}{}", "[".repeat(3000), "]".repeat(3000));
    let unused = two.first.to_string().replacen('{', &format!("{{\"later\":{deep},"), 1);
    let crlf = format!("\r\n{}\r\n\r\n  {}  \r\n", two.first, two.second);
    vec![
        control(
            "transparency-log-entries",
            "Log entries and time stamps, as cosign writes them online. A node without a network cannot judge them, \
             and they do no harm.",
        )
        .set(next, world.signed_with(&extra)),
        control("old-media-type", "The media type in the spelling that bundles had before.")
            .set(next, world.signed_with(&old)),
        control(
            "deep-field-that-nobody-reads",
            "Lists three thousand deep in a field that this version does not know: passed over without a stack.",
        )
        .set(next, world.signed_with(&[unused, two.second.clone()])),
        control("blank-lines-and-crlf", "The same lines after an editor of another system.")
            .set(next, world.with("manifest.json.sigstore.jsonl", crlf)),
    ]
}

/// A DER sequence with its length in two bytes where one would do.
fn long_der(signature: &[u8]) -> Vec<u8> {
    let (head, rest) = signature.split_at(2);
    [&head[..1], &[0x81], &head[1..], rest].concat()
}
