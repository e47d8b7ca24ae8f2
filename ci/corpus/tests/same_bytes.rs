//! What is checked in is what the program writes, on this machine too.
#![expect(clippy::expect_used, reason = "a failed helper fails its test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a case begins with that the program wrote.
const MARK: &str = "# Written by examples/hostile/generate";

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hostile")
}

fn generate(folder: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_autonomy-hostile-corpus")).arg(folder).output().expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Every file below `folder` that the program answers for.
fn written(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files =
        BTreeMap::from([("README.md".to_owned(), std::fs::read(folder.join("README.md")).expect("README"))]);
    for entry in std::fs::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        let name = path.file_name().expect("name").to_string_lossy().into_owned();
        let marked = std::fs::read_to_string(path.join("case.yaml")).is_ok_and(|text| text.starts_with(MARK));
        if marked || name == "_world" {
            collect(&path, &name, &mut files);
        }
    }
    files
}

fn collect(folder: &Path, name: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        let below = format!("{name}/{}", path.file_name().expect("name").to_string_lossy());
        if path.is_dir() {
            collect(&path, &below, files);
        } else {
            files.insert(below, std::fs::read(&path).expect("file"));
        }
    }
}

#[test]
fn what_is_checked_in_is_what_the_program_writes() {
    let folder = tempfile::tempdir().expect("folder");
    generate(folder.path());
    let (now, recorded) = (written(folder.path()), written(&corpus()));
    let names = now.keys().chain(recorded.keys());
    let differ: std::collections::BTreeSet<_> = names.filter(|name| now.get(*name) != recorded.get(*name)).collect();
    assert!(differ.is_empty(), "run examples/hostile/generate; these differ: {differ:#?}");
}

#[test]
fn a_second_run_replaces_what_was_written_and_leaves_alone_what_others_added() {
    let folder = tempfile::tempdir().expect("folder");
    let said = generate(folder.path());
    let own = folder.path().join("my-attack/case.yaml");
    std::fs::create_dir(own.parent().expect("folder")).expect("folder");
    std::fs::write(&own, "story: mine\n").expect("writes");
    let stale = folder.path().join("renamed-since/case.yaml");
    std::fs::create_dir(stale.parent().expect("folder")).expect("folder");
    std::fs::write(&stale, format!("{MARK}: change ci/corpus, and run it again.\n")).expect("writes");
    let before = written(folder.path());
    assert_eq!(said, generate(folder.path()));
    let after = written(folder.path());
    assert!(own.is_file() && !stale.exists());
    assert_eq!(before.len() - 1, after.len(), "the stale case alone is gone");
}

#[test]
fn without_a_folder_it_says_how_it_is_run() {
    let output = Command::new(env!("CARGO_BIN_EXE_autonomy-hostile-corpus")).output().expect("runs");
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("usage: "));
}
