//! Policy bundles that enough keys signed. The archive comes from outside, so it is read like everything from outside;
//! and a policy decides on the node that it is active on, not about itself.

use std::collections::BTreeMap;
use std::io::Write as _;

use autonomy_schema::{Sha256, canonical};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use crate::Made;
use crate::case::{Case, Files, attack};
use crate::world::{ISSUED, POLICY, World, policy};

const ERROR: &[&str] = &["policy_error"];
/// Type flags of ustar.
const FILE: u8 = b'0';
const HARD_LINK: u8 = b'1';
const LINK: u8 = b'2';
const DEVICE: u8 = b'3';
const FOLDER: u8 = b'5';
const PAX: u8 = b'x';
/// Bytes of a header, and of a block.
const BLOCK: usize = 512;
/// The name of the only module.
const MODULE: &str = "update.rego";

/// One ustar entry with a raw name, as no honest tool writes it.
fn entry(archive: &mut Vec<u8>, name: &str, kind: u8, size: u64, content: &[u8]) -> Made<()> {
    let mut header = [0_u8; BLOCK];
    let mut put = |at: usize, text: &[u8]| -> Made<()> {
        header.get_mut(at..at + text.len()).ok_or("a field is too long")?.copy_from_slice(text);
        Ok(())
    };
    put(0, name.as_bytes())?;
    put(100, b"0000644\0")?;
    put(108, b"0000000\0")?;
    put(116, b"0000000\0")?;
    put(124, format!("{size:011o}\0").as_bytes())?;
    put(136, b"00000000000\0")?;
    put(148, b"        ")?;
    put(156, &[kind])?;
    put(257, b"ustar\x0000")?;
    if kind == LINK || kind == HARD_LINK {
        put(157, b"/etc/passwd")?;
    }
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    archive.extend(header);
    archive.extend(content);
    archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    Ok(())
}

/// A sound archive with one more entry, which its manifest covers.
fn with_entry(name: &str, kind: u8, content: &[u8]) -> Made<Vec<u8>> {
    let list = BTreeMap::from([(MODULE, Sha256::of(POLICY.as_bytes())), (name, Sha256::of(content))]);
    let manifest = json!({
        "name": "harbor", "policy_bundle_version": "1.5.0", "bundle_hash": Sha256::of(&canonical::to_bytes(&list)?),
        "created_at": ISSUED,
    });
    let mut archive = Vec::new();
    let manifest = canonical::to_bytes(&manifest)?;
    entry(&mut archive, "manifest.json", FILE, manifest.len() as u64, &manifest)?;
    entry(&mut archive, MODULE, FILE, POLICY.len() as u64, POLICY.as_bytes())?;
    entry(&mut archive, name, kind, content.len() as u64, content)?;
    archive.resize(archive.len() + 2 * BLOCK, 0);
    Ok(archive)
}

fn gzip(bytes: &[u8]) -> Made<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// The next set with these bytes as its policy, bound by the lock, pinned and signed.
fn with_policy(world: &World, bytes: Vec<u8>) -> Made<Files> {
    world.signed(&world.draft.clone().with_policy(bytes)?)
}

pub(crate) fn cases(world: &World) -> Made<Vec<Case>> {
    let mut cases = members(world)?;
    cases.extend(doubles(world)?);
    cases.extend(frames(world)?);
    cases.extend(bombs(world)?);
    cases.extend(rules(world)?);
    Ok(cases)
}

/// The next set with these bytes as its policy: refused with `policy_error` and a reason that says so.
fn refused(world: &World, name: &'static str, says: &'static str, story: &'static str, bytes: Vec<u8>) -> Made<Case> {
    Ok(attack(name, 4, ERROR, story).says(says).set(&world.next, with_policy(world, bytes)?))
}

/// Members that no bundle may have.
fn members(world: &World) -> Made<Vec<Case>> {
    let member = |name, says, story, path: &str, kind: u8, content: &[u8]| {
        refused(world, name, says, story, gzip(&with_entry(path, kind, content)?)?)
    };
    let pax = b"30 path=../../etc/cron.d/agent\n";
    Ok(vec![
        member(
            "zip-slip",
            "is not safe",
            "A member of the bundle climbs out of the folder that somebody might unpack it into.",
            "../../current/evil.rego",
            FILE,
            b"package evil",
        )?,
        member(
            "zip-slip-absolute",
            "is not safe",
            "A member of the bundle with an absolute path.",
            "/etc/evil.rego",
            FILE,
            b"package evil",
        )?,
        member(
            "zip-slip-by-extension-header",
            "no regular file",
            "An extension header gives the next member another path than its own header.",
            "path",
            PAX,
            pax,
        )?,
        member(
            "bundle-with-a-link",
            "no regular file",
            "A member is a symbolic link to a file of the node.",
            "link.rego",
            LINK,
            b"",
        )?,
        member(
            "bundle-with-a-hard-link",
            "no regular file",
            "A member is a hard link to a file of the node.",
            "hard.rego",
            HARD_LINK,
            b"",
        )?,
        member("bundle-with-a-device", "no regular file", "A member is a device.", "device.rego", DEVICE, b"")?,
        member(
            "bundle-with-a-folder",
            "no regular file",
            "A member is a folder, which could carry a mode.",
            "folder",
            FOLDER,
            b"",
        )?,
    ])
}

/// Members that two readers would read differently.
fn doubles(world: &World) -> Made<Vec<Case>> {
    let member = |name, says, story, path: &str, content: &[u8]| {
        refused(world, name, says, story, gzip(&with_entry(path, FILE, content)?)?)
    };
    let mut renamed = with_entry("data.json", FILE, b"{}")?;
    // The module is another than the one that was hashed.
    if let Some(at) = renamed.windows(6).rposition(|window| window == b"harbor") {
        renamed.swap(at, at + 1);
    }
    Ok(vec![
        member(
            "bundle-with-a-module-twice",
            "twice",
            "Two members with one path: one is hashed, the other evaluated.",
            MODULE,
            b"package autonomy.update\nallow := true\n",
        )?,
        member(
            "bundle-with-a-module-twice-by-case",
            "twice",
            "Two members whose paths differ in case alone.",
            "UPDATE.rego",
            b"package autonomy.update\nallow := true\n",
        )?,
        member(
            "bundle-with-ignored-data",
            "would be ignored",
            "Data in a form that other evaluators read and this one does not: the same bundle would decide \
             differently.",
            "data.yaml",
            b"allow: true\n",
        )?,
        refused(
            world,
            "bundle-with-another-module",
            "hash to",
            "A module is another than the one that the bundle's own hash is over.",
            gzip(&renamed)?,
        )?,
    ])
}

/// What is wrong with the frame around the members.
fn frames(world: &World) -> Made<Vec<Case>> {
    let case = |name, says, story, bytes: Vec<u8>| refused(world, name, says, story, bytes);
    let sound = gzip(&with_entry("data.json", FILE, b"{}")?)?;
    let mut hidden = with_entry("data.json", FILE, b"{}")?;
    entry(&mut hidden, "hidden.rego", FILE, 14, b"package hidden")?;
    Ok(vec![
        case(
            "bundle-with-a-second-member-of-gzip",
            "bytes follow",
            "A second gzip member, which some tools unpack as well.",
            [sound.as_slice(), &gzip(b"more")?].concat(),
        )?,
        case(
            "bundle-with-bytes-behind-it",
            "bytes follow",
            "Bytes behind the end of the gzip file.",
            [sound.as_slice(), b"#!/bin/sh\n"].concat(),
        )?,
        case(
            "bundle-with-a-member-behind-its-end",
            "bytes follow",
            "A member behind the end of the archive, where some tools go on reading.",
            gzip(&hidden)?,
        )?,
        case("bundle-cut-short", "damaged", "The bundle ends in the middle.", sound[..sound.len() / 2].to_vec())?,
        case(
            "bundle-is-no-archive",
            "no gzip file",
            "Something that is no archive at all.",
            b"allow := true\n".to_vec(),
        )?,
    ])
}

fn bombs(world: &World) -> Made<Vec<Case>> {
    let case = |name, says, story, bytes: Vec<u8>| refused(world, name, says, story, bytes);
    let mut archive = Vec::new();
    entry(&mut archive, "zeros", FILE, 80 << 20, b"")?;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&archive)?;
    let zeros = vec![0; 1 << 20];
    for _ in 0..80 {
        encoder.write_all(&zeros)?;
    }
    let bomb = encoder.finish()?;
    let mut lying = Vec::new();
    entry(&mut lying, "huge", FILE, 1 << 32, b"little")?;
    lying.resize(lying.len() + 2 * BLOCK, 0);
    Ok(vec![
        case(
            "bundle-is-a-bomb",
            "unpacks to more than",
            "A bomb: 80 MiB of zeros in 80 KiB, where 64 MiB are read.",
            bomb,
        )?,
        case(
            "bundle-lies-about-a-size",
            "damaged",
            "A member of a few bytes says that it has four gibibytes.",
            gzip(&lying)?,
        )?,
    ])
}

fn rules(world: &World) -> Made<Vec<Case>> {
    let next = &world.next;
    let rego = |rego: &str| -> Made<Files> { with_policy(world, policy(rego, "1.5.0")?) };
    let on_fresh = |name, codes: &[&'static str], story, text: &str| -> Made<Case> {
        Ok(attack(name, 4, codes, story).given("fresh").set(next, rego(text)?))
    };
    let mut bribe = world
        .draft
        .clone()
        .with_policy(policy("package autonomy.update\n\nimport rego.v1\n\nallow := true\n", "1.5.0")?)?;
    bribe.manifest["metadata"]["channel"] = json!("beta");
    let denied = "package autonomy.update\n\nimport rego.v1\n\nallow := true\n\ndeny contains \"never\"\n";
    let numbers = "numbers.range(1, 100000)";
    let slow = format!(
        "package autonomy.update\n\nimport rego.v1\n\nallow if count([1 | some a in {numbers}; some b in {numbers}; \
         a * b < 0]) == 0\n"
    );
    Ok(vec![
        attack(
            "policy-brings-its-own-permission",
            4,
            &["policy_denied"],
            "The release is on a channel that the active policy denies, and brings a policy that would allow it. The \
             active one is asked.",
        )
        .set(next, world.signed(&bribe)?),
        on_fresh(
            "policy-without-allow",
            &["policy_denied"],
            "In the first activation the incoming policy is asked, and no rule of it allows anything.",
            "package autonomy.update\n\nimport rego.v1\n\ndefault allow := false\n",
        )?,
        on_fresh(
            "policy-that-allows-and-denies",
            &["policy_denied"],
            "A policy that says yes and no: no wins.",
            denied,
        )?,
        on_fresh(
            "policy-of-another-package",
            ERROR,
            "The bundle answers another question. An unanswered question is a no.",
            "package autonomy.other\n\nimport rego.v1\n\nallow := true\n",
        )?,
        on_fresh("policy-that-never-ends", ERROR, "A policy that would compute for a day. Its budget ends it.", &slow)?,
        on_fresh(
            "policy-that-answers-with-text",
            ERROR,
            "`allow` is a text, which is neither yes nor no.",
            "package autonomy.update\n\nimport rego.v1\n\nallow := \"true\"\n",
        )?,
    ])
}
