//! The kept inputs of every target, without a fuzzer.
#![expect(clippy::expect_used, reason = "a failed helper fails its test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use autonomy_fuzz::TARGETS;

/// Most inputs kept for one target, and most bytes of them all.
const MAX_FILES: usize = 60;
const MAX_BYTES: u64 = 100 << 10;

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let entries = std::fs::read_dir(&folder).expect("each target has a corpus");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

#[test]
fn every_kept_input_passes_and_each_target_accepts_and_refuses_some() {
    for target in TARGETS {
        let mut seen = BTreeSet::new();
        for path in corpus(target.name) {
            // A panic does not name the input.
            eprintln!("{}", path.display());
            seen.insert((target.run)(&std::fs::read(&path).expect("reads")));
        }
        assert_eq!(seen.len(), 2, "{}: {seen:?}", target.name);
    }
}

#[test]
fn corpora_are_small_and_each_has_a_target() {
    for target in TARGETS {
        let files = corpus(target.name);
        let bytes: u64 = files.iter().map(|path| path.metadata().expect("metadata").len()).sum();
        assert!(
            files.len() <= MAX_FILES && bytes <= MAX_BYTES,
            "{}: {} files, {bytes} bytes",
            target.name,
            files.len()
        );
    }
    let folders = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")).expect("corpora");
    let folders: BTreeSet<_> = folders.map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(folders, TARGETS.iter().map(|target| target.name.into()).collect());
}
