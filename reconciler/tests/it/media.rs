//! Artifacts that are larger than a file of the medium may be: they travel as packs, to nodes that have nothing of them.

use std::fmt::Write as _;
use std::sync::Arc;

use autonomy_oci::Limits;
use autonomy_reconciler::{Exported, Shipment, Split, Standing, export, import, preview};
use autonomy_schema::{Code, RelPath};
use autonomy_stateroot::DirSet;

use crate::fixture::{Fleet, Recorder, Release, actor, options, state_root};

/// Text without repetition, some hundred kilobytes of it.
fn text() -> String {
    let mut text = String::new();
    for number in 0..60_000u32 {
        write!(text, "{:08x}", number.wrapping_mul(2_654_435_761)).expect("text");
    }
    text
}

#[test]
fn an_artifact_that_is_larger_than_a_file_may_be_travels_in_packs() {
    let folder = tempfile::tempdir().expect("folder");
    let (set, stick) = (folder.path().join("set"), folder.path().join("stick"));
    let fleet = Fleet::new();
    let content = text();
    let files = [("agent", "#!/bin/sh\n"), ("large", content.as_str())];
    let source = fleet.release(&set, &Release { serial: 1, files: &files, extra: "", channel: "stable" });
    let shipped = |limits: Limits| -> Exported {
        export(Arc::new(source), &stick, &Shipment { limits, ..Shipment::default() }, &|_, _| {}).expect("exports")
    };
    let limits = Limits { file: 400_000, pack: 150_000 };
    assert!(content.len() as u64 > limits.file);
    let told = shipped(limits);
    assert_eq!((told.left_out, told.packs), (1, 4));
    assert!(told.bases.is_empty());
    for file in std::fs::read_dir(stick.join("blobs/sha256")).expect("folder") {
        let size = file.expect("entry").metadata().expect("metadata").len();
        assert!(size <= 150_000, "{size}");
    }
    let disk = fleet.node();
    let root = state_root(&disk);
    let seen = preview(&root, &stick, &options()).expect("looks");
    assert!(matches!(seen.sets[0].standing, Standing::Takes), "{:?}", seen.sets);
    let taken = import(&root, &stick, &actor(), &Recorder::default(), &options()).expect("imports");
    assert!(taken.refusal().is_none());
    let entry = root.disk().list(Some(&RelPath::fixed("inbox"))).expect("inbox")[0].name.clone();
    let mut bytes = Vec::new();
    let large = format!("inbox/{entry}/artifacts/large").parse().expect("path");
    std::io::Read::read_to_end(&mut root.disk().open(&large).expect("opens"), &mut bytes).expect("reads");
    assert!(bytes == content.as_bytes());
    // A volume takes a part of a file: nothing is too large for volumes, and nothing is packed.
    let split = Some(Split { volume_bytes: 200_000, parity: 1 });
    let shipment = Shipment { limits, split, ..Shipment::default() };
    let set_again = Arc::new(DirSet::open(&set).expect("set"));
    let told = export(set_again, &folder.path().join("volumes"), &shipment, &|_, _| {}).expect("exports");
    assert_eq!((told.left_out, told.packs), (0, 0));
    // The indices that a set must have are files, however small the medium's files may be.
    let refused = export(
        Arc::new(DirSet::open(&set).expect("set")),
        &folder.path().join("tiny"),
        &Shipment { limits: Limits { file: 100, pack: 100 }, ..Shipment::default() },
        &|_, _| {},
    );
    assert!(refused.expect_err("refused").has(Code::LimitExceeded));
}
