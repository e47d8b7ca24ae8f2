//! Bundles that an attacker might make: each is refused for what is wrong with it.

use std::collections::BTreeMap;
use std::io::Write as _;

use autonomy_policy::{Bundle, build};
use autonomy_schema::reason::Code;
use autonomy_schema::{Sha256, canonical};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use tar::{EntryType, Header};

use crate::fixture::{UPDATE, files, options};

const MODULE: &str = "update.rego";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// One entry with a raw name, as no honest tool would write it.
fn entry(archive: &mut Vec<u8>, name: &[u8], kind: EntryType, content: &[u8]) {
    let mut header = Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    archive.extend(header.as_bytes());
    archive.extend(content);
    archive.resize(archive.len().next_multiple_of(512), 0);
}

fn manifest_for(contents: &[(&str, &[u8])]) -> Vec<u8> {
    let list: BTreeMap<&str, Sha256> = contents.iter().map(|(path, content)| (*path, Sha256::of(content))).collect();
    let hash = Sha256::of(&canonical::to_bytes(&list).unwrap());
    let manifest = json!({
        "name": "x", "policy_bundle_version": "1.0.0", "bundle_hash": hash, "created_at": "2026-11-20T09:00:00Z",
    });
    canonical::to_bytes(&manifest).unwrap()
}

/// A sound archive, to which a test adds one more entry that its manifest covers.
fn with(name: &[u8], kind: EntryType, content: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(name).into_owned();
    let manifest = manifest_for(&[(MODULE, UPDATE.as_bytes()), (&text, content)]);
    let mut archive = Vec::new();
    entry(&mut archive, b"manifest.json", EntryType::Regular, &manifest);
    entry(&mut archive, MODULE.as_bytes(), EntryType::Regular, UPDATE.as_bytes());
    entry(&mut archive, name, kind, content);
    archive.resize(archive.len() + 1024, 0);
    archive
}

fn refused(bytes: &[u8]) -> Code {
    Bundle::load(bytes).unwrap_err().to_reason().code
}

#[test]
fn the_helper_makes_sound_bundles() {
    assert!(Bundle::load(&gzip(&with(b"other.txt", EntryType::Regular, b"x"))).is_ok());
}

#[test]
fn paths_that_leave_the_folder() {
    for name in [&b"../evil.rego"[..], b"/etc/evil.rego", b"a/../../evil", b"a\\b", b"./x", b"a//b", b"a\x1b[2J", b"a/"]
    {
        assert_eq!(refused(&gzip(&with(name, EntryType::Regular, b"x"))), Code::UnsafePath, "{name:?}");
    }
    assert_eq!(refused(&gzip(&with(b"\xff\xfe", EntryType::Regular, b"x"))), Code::UnsafePath);
}

#[test]
fn what_is_no_regular_file() {
    for kind in [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Directory,
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::GNUSparse,
        EntryType::XHeader,
        EntryType::XGlobalHeader,
    ] {
        assert_eq!(refused(&gzip(&with(b"x", kind, b"30 path=../../etc/passwd\n"))), Code::SymlinkRefused, "{kind:?}");
    }
}

#[test]
fn one_path_twice_and_paths_that_differ_in_case() {
    for name in [MODULE.as_bytes(), b"UPDATE.rego", b"manifest.json"] {
        assert_eq!(refused(&gzip(&with(name, EntryType::Regular, b"x"))), Code::CaseCollision);
    }
}

#[test]
fn a_gzip_bomb_ends_at_the_cap() {
    // 1 GiB of zeros in about 1 MiB (gzip's limit is 1:1032), as the content of one file.
    let mut header = Header::new_ustar();
    header.as_mut_bytes()[..4].copy_from_slice(b"zero");
    header.set_entry_type(EntryType::Regular);
    header.set_size(1 << 30);
    header.set_cksum();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(header.as_bytes()).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..1024 {
        encoder.write_all(&zeros).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 8 << 20);
    assert_eq!(refused(&bomb), Code::LimitExceeded);
}

#[test]
fn more_files_than_any_policy_has() {
    let mut archive = Vec::new();
    for n in 0..10_001 {
        entry(&mut archive, format!("f{n}").as_bytes(), EntryType::Regular, b"");
    }
    assert_eq!(refused(&gzip(&archive)), Code::LimitExceeded);
}

#[test]
fn bytes_behind_the_end() {
    let sound = build(&files(&[(MODULE, UPDATE)]), &options()).unwrap();
    assert!(Bundle::load(&sound).is_ok());
    // After the gzip member, as a second member, and after the end of the archive inside of it.
    assert_eq!(refused(&[sound.as_slice(), b"x"].concat()), Code::Syntax);
    assert_eq!(refused(&[sound.as_slice(), &gzip(b"more")].concat()), Code::Syntax);
    let mut archive = with(b"other.txt", EntryType::Regular, b"x");
    entry(&mut archive, b"hidden.rego", EntryType::Regular, b"package hidden");
    assert_eq!(refused(&gzip(&archive)), Code::Syntax);
}

#[test]
fn every_cut_is_refused() {
    let sound = build(&files(&[(MODULE, UPDATE)]), &options()).unwrap();
    for length in 0..sound.len() {
        assert!(Bundle::load(&sound[..length]).is_err(), "{length}");
    }
    // A tar archive that ends early inside a whole gzip file.
    let archive = with(b"other.txt", EntryType::Regular, &[b'x'; 2000]);
    for length in [0, 1, 511, 513, 600, 1024, 1500, 3000] {
        assert!(Bundle::load(&gzip(&archive[..length])).is_err(), "{length}");
    }
}

#[test]
fn every_flipped_byte_is_refused_or_changes_nothing_but_the_digest() {
    let sound = build(&files(&[(MODULE, UPDATE)]), &options()).unwrap();
    let good = Bundle::load(&sound).unwrap();
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        if let Ok(bundle) = Bundle::load(&bytes) {
            assert_eq!(
                (bundle.manifest(), bundle.modules(), bundle.data()),
                (good.manifest(), good.modules(), good.data())
            );
            assert_ne!(bundle.digest(), good.digest());
        }
    }
}

#[test]
fn files_that_are_not_those_that_were_hashed() {
    let manifest = manifest_for(&[(MODULE, UPDATE.as_bytes())]);
    for contents in [
        vec![(MODULE, "package autonomy.update\n\ndefault allow := true\n")],
        vec![("renamed.rego", UPDATE)],
        vec![(MODULE, UPDATE), ("more.rego", "package more\n")],
        vec![],
    ] {
        let mut archive = Vec::new();
        entry(&mut archive, b"manifest.json", EntryType::Regular, &manifest);
        for (path, text) in contents {
            entry(&mut archive, path.as_bytes(), EntryType::Regular, text.as_bytes());
        }
        archive.resize(archive.len() + 1024, 0);
        assert_eq!(refused(&gzip(&archive)), Code::DigestMismatch);
    }
}

#[test]
fn manifests_that_are_not_one() {
    let hash = Sha256::of(b"{}");
    let good = json!({
        "name": "x", "policy_bundle_version": "1.0.0", "bundle_hash": hash, "created_at": "2026-11-20T09:00:00Z",
    });
    let load = |text: &str| {
        let mut archive = Vec::new();
        entry(&mut archive, b"manifest.json", EntryType::Regular, text.as_bytes());
        archive.resize(archive.len() + 1024, 0);
        Bundle::load(&gzip(&archive))
    };
    assert!(load(&good.to_string()).is_ok());
    for (field, value) in [
        ("surprise", json!(1)),
        ("name", json!("../x")),
        ("policy_bundle_version", json!("one")),
        ("bundle_hash", json!("md5:00")),
        ("created_at", json!("yesterday")),
        ("required_runtime_version", json!("not a version")),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        assert!(load(&bad.to_string()).is_err(), "{field}");
    }
    assert!(load(&good.to_string().replacen('{', "{\"name\":\"y\",", 1)).is_err(), "a key twice");
    assert!(load("").is_err());
    assert_eq!(refused(&gzip(&[0; 1024])), Code::MissingFile);
    assert_eq!(refused(b"no gzip at all"), Code::Syntax);
}
