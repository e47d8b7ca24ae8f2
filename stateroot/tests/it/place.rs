//! INV-01: where a state root may lie.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use autonomy_schema::Code;
use autonomy_stateroot::place::REFUSED_FILE_SYSTEMS;
use autonomy_stateroot::{StateRoot, init};

use crate::fixture::{ATTEST, SIGNATURES, node, trust_root};

const EXT4: u64 = 0xEF53;

fn root() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    init(&folder.path().join("s"), &node(), &trust_root(), SIGNATURES, &ATTEST).expect("initialized");
    folder
}

fn codes(path: &Path) -> Vec<Code> {
    let reasons = StateRoot::open(path).expect_err("refused");
    reasons.as_slice().iter().map(|reason| reason.code).collect()
}

#[test]
fn network_and_cluster_file_systems_are_refused_by_name() {
    let folder = root();
    let path = folder.path().join("s");
    for (magic, name) in REFUSED_FILE_SYSTEMS {
        let reasons = StateRoot::open_with(&path, Some(magic)).expect_err("refused");
        assert!(reasons.has(Code::StateRootUnsafe), "{reasons}");
        assert!(reasons.to_string().contains(&format!("is on {name};")), "{reasons}");
    }
    assert!(StateRoot::open_with(&path, Some(EXT4)).is_ok());
    assert!(StateRoot::open(&path).is_ok(), "the tests run on a local file system");
}

#[test]
fn a_folder_that_others_may_write_to_is_refused() {
    let folder = root();
    let path = folder.path().join("s");
    for mode in [0o770, 0o702, 0o777] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("changed");
        assert_eq!(codes(&path), [Code::StateRootUnsafe], "{mode:o}");
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("changed");
    assert!(StateRoot::open(&path).is_ok(), "others may look at the top");
}

#[test]
fn a_folder_of_another_user_is_refused() {
    let folder = root();
    let ours = folder.path().join("s");
    // Only root can give a folder away; everybody else has one of root's at hand.
    let path = if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&ours, Some(12345), None).expect("given away");
        ours.as_path()
    } else {
        Path::new("/usr")
    };
    let reasons = StateRoot::open(path).expect_err("refused");
    assert!(reasons.has(Code::StateRootUnsafe) && reasons.to_string().contains("belongs to user"), "{reasons}");
}

#[test]
fn a_link_to_a_state_root_is_refused_and_the_real_path_named() {
    let folder = root();
    let link = folder.path().join("link");
    symlink("s", &link).expect("linked");
    let reasons = StateRoot::open(&link).expect_err("refused");
    assert!(reasons.has(Code::StateRootUnsafe), "{reasons}");
    assert!(reasons.as_slice()[0].remedy.contains("/s` itself"), "{reasons:?}");
}

#[test]
fn what_is_no_state_root_is_not_initialized() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(codes(&folder.path().join("none")), [Code::NotInitialized]);
    assert_eq!(codes(folder.path()), [Code::NotInitialized]);
    std::fs::write(folder.path().join("file"), "x").expect("written");
    assert_eq!(codes(&folder.path().join("file")), [Code::StateRootUnsafe]);
}

#[test]
fn well_known_folders_must_be_folders() {
    for folder_name in ["objects", "generations", "trust", "trust/nodes", "telemetry"] {
        let folder = root();
        let inside = folder.path().join("s").join(folder_name);
        let outside = folder.path().join("outside");
        std::fs::rename(&inside, &outside).expect("moved");
        symlink(&outside, &inside).expect("linked");
        let reasons = StateRoot::open(&folder.path().join("s")).expect_err("refused");
        assert!(reasons.to_string().contains(&format!("`{folder_name}` is not a folder")), "{reasons}");
        assert!(reasons.has(Code::StateRootUnsafe));
    }
}
