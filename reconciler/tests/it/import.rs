//! Power loss at every counted verb of an import, in every image that the loss may leave, and a disk that fails at every
//! one of them: what is active stays, nothing half lies in the inbox, no receipt has a counter twice, and the next import
//! brings what the first one would have. Exhaustive, not sampled.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use autonomy_reconciler::{Import, Shipment, Split, export, import};
use autonomy_schema::receipt::Receipt;
use autonomy_schema::{Reasons, document};
use autonomy_stateroot::sim::Seen;
use autonomy_stateroot::{DirSet, Image, SimDisk, StateRoot};

use crate::crash::{Old, check_whole, digest};
use crate::fixture::{Fleet, Recorder, Release, actor, apply, options, state_root};

/// What lies in the inbox.
fn inbox(disk: &SimDisk) -> BTreeMap<String, Seen> {
    let mut all = disk.snapshot();
    all.retain(|path, _| path.starts_with("inbox/") && !path.starts_with("inbox/."));
    all
}

/// The receipts that the node keeps, by counter.
fn receipts(root: &StateRoot) -> Vec<Receipt> {
    let kept = root.kept_receipts("").expect("receipts");
    let mut found: Vec<Receipt> = kept.iter().map(|kept| document::parse(&kept.bytes).expect("a receipt")).collect();
    found.sort_by_key(|receipt| receipt.counter);
    found
}

/// A node that runs release 1; a medium with release 2, newer roots among its trust.
fn story(folder: &Path) -> (SimDisk, Vec<DirSet>) {
    let fleet = Fleet::new();
    let release = |serial: u64| Release {
        serial,
        files: &[("agent", "an agent"), ("etc/same", "same")],
        extra: "  services: [ { command: [bin/good] } ]",
        channel: "stable",
    };
    let one = fleet.release(&folder.join("one"), &release(1));
    let two = fleet.release(&folder.join("two"), &release(2));
    let news = folder.join("news/roots");
    std::fs::create_dir_all(&news).expect("folder");
    crate::trust::roots(&fleet, &news);
    let trust = DirSet::open(&folder.join("news")).expect("trust");
    let split = Some(Split { volume_bytes: 128 << 10, parity: 1 });
    let shipment = Shipment { split, trust: Some(&trust), ..Shipment::default() };
    let shipped = Arc::new(DirSet::open(&folder.join("two")).expect("set"));
    export(shipped, &folder.join("stick"), &shipment, &|_, _| {}).expect("exports");
    let before = fleet.node();
    apply(&state_root(&before), &one, &Recorder::default()).expect("first");
    (before, vec![one, two])
}

fn take(root: &StateRoot, stick: &Path) -> Result<Import, Reasons> {
    import(root, stick, &actor(), &Recorder::default(), &options())
}

#[test]
fn an_import_that_is_cut_off_or_fails_at_any_verb_is_taken_up_again() {
    let folder = tempfile::tempdir().expect("folder");
    let (before, sets) = story(folder.path());
    let stick = folder.path().join("stick");
    let root = state_root(&before);
    let floors = root.floors().expect("floors").expect("present");
    let old = Old { current: root.current().expect("current"), floors, goes_back: false };
    let whole = before.crash(Image::All);
    let start = whole.verbs();
    let imported = take(&state_root(&whole), &stick).expect("imports");
    assert!(imported.refusal().is_none() && imported.warnings.is_empty(), "{imported:?}");
    assert_eq!(imported.trust.roots, [2, 3]);
    let (verbs, wanted) = (whole.verbs() - start, inbox(&whole));
    assert!(verbs > 30 && wanted.len() > 5, "{verbs} verbs, {:?}", wanted.keys());
    let mut seen = BTreeSet::new();
    for at in 1..=verbs {
        for (image, fails) in Image::EACH.into_iter().map(|image| (image, false)).chain([(Image::All, true)]) {
            let disk = before.crash(Image::All);
            if fails {
                disk.fail_at(disk.verbs() + at, 28);
            } else {
                disk.stop_at(disk.verbs() + at);
            }
            take(&state_root(&disk), &stick).ok();
            let left = disk.crash(image);
            if !seen.insert(digest(&left)) {
                continue;
            }
            let place = format!("verb {at} of {verbs}, image {image:?}, fails {fails}");
            let root = state_root(&left);
            check_whole(&root, &old, &place);
            assert_eq!(root.current().expect("current"), old.current, "{place}: an import activates nothing");
            let found = inbox(&left);
            assert!(found.is_empty() || found == wanted, "{place}: half a set lies in the inbox: {:?}", found.keys());
            let again = take(&root, &stick).unwrap_or_else(|reasons| panic!("{place}: {reasons}"));
            assert!(again.refusal().is_none(), "{place}: {again:?}");
            assert!(inbox(&left) == wanted, "{place}");
            assert_eq!(autonomy_reconciler::load(&root).expect("loads").root.document().version, 3, "{place}");
            let kept = receipts(&root);
            assert!(kept.windows(2).all(|pair| pair[0].counter < pair[1].counter), "{place}: {kept:?}");
            assert_eq!(
                kept.iter().filter(|receipt| receipt.result.as_str() == "stored").count(),
                1,
                "{place}: {kept:?}"
            );
            if image == Image::Synced {
                apply(&root, &sets[1], &Recorder::default())
                    .unwrap_or_else(|failure| panic!("{place}: apply: {}", failure.reasons));
            }
        }
    }
}
