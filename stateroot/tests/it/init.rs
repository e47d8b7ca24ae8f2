//! Making a state root on the real file system. Power cuts are in `crash`.

use std::os::unix::fs::PermissionsExt as _;

use autonomy_schema::{Code, Mode};
use autonomy_stateroot::{LockMode, Query as _, RealDisk, StateRoot, init, layout};

use crate::fixture::{ATTEST, SIGNATURES, node, picture, rel, trust_root};

#[test]
fn everything_is_private_and_node_yaml_is_for_people() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("deep/er/s");
    let root = init(&path, &node(), &trust_root(), SIGNATURES, &ATTEST).expect("initialized");
    for (at, text) in picture(&path) {
        let (mode, _) = text.split_once(' ').expect("a mode");
        let expected = if at.ends_with("attest.pub") { ["100644", "100644"] } else { ["40700", "100600"] };
        assert!(expected.contains(&mode), "{at}: {mode}");
    }
    assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o700);
    assert_eq!(root.node().expect("node"), node());
    let yaml = std::fs::read_to_string(path.join("node.yaml")).expect("read");
    assert!(yaml.contains("\nnodeId: \"node-a\"\n") && yaml.contains("\n  \"site\": \"pier-7\"\n"), "{yaml}");
    assert_eq!(StateRoot::open(&path).expect("opens").node().expect("node"), node());
    assert_eq!(root.disk().stat(&rel("identity/attest.key")).expect("stat").expect("there").mode, Mode::PRIVATE);
}

#[test]
fn a_state_root_is_not_made_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s");
    init(&path, &node(), &trust_root(), SIGNATURES, &ATTEST).expect("initialized");
    let before = picture(&path);
    let reasons = init(&path, &node(), &trust_root(), SIGNATURES, &ATTEST).expect_err("refused");
    assert!(reasons.to_string().contains("state root of node `node-a` already"), "{reasons}");
    assert_eq!(picture(&path), before);
}

#[test]
fn a_folder_of_somebody_else_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("holiday.jpg"), "x").expect("written");
    let before = picture(folder.path());
    let reasons = init(folder.path(), &node(), &trust_root(), SIGNATURES, &ATTEST).expect_err("refused");
    assert!(reasons.has(Code::StateRootUnsafe) && reasons.to_string().contains("holiday.jpg"), "{reasons}");
    assert_eq!(picture(folder.path()), before);
}

#[test]
fn a_bad_trust_root_is_told_before_anything_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s");
    let reasons = init(&path, &node(), b"{}", SIGNATURES, &ATTEST).expect_err("refused");
    assert!(reasons.has(Code::MissingField), "{reasons}");
    assert!(picture(&path).is_empty());
}

#[test]
fn two_inits_do_not_meet() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s");
    std::fs::create_dir(&path).expect("made");
    let other = RealDisk::open(&path).expect("opened");
    let _held = other.try_lock(&layout::lock_file(), LockMode::Exclusive).expect("asked").expect("free");
    let reasons = init(&path, &node(), &trust_root(), SIGNATURES, &ATTEST).expect_err("refused");
    assert!(reasons.has(Code::Locked), "{reasons}");
}
