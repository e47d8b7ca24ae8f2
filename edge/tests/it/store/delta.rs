//! What an update moves.

use std::sync::Arc;

use autonomy_edge::store::Store;
use autonomy_stateroot::{layout, make_place};

use super::fixture::{Fleet, Release, UNLIMITED, deliver, noise, open, state_root};

/// Forty edits of 64 KiB in 256 MiB, which is what `make soak` does; the same share of less otherwise.
#[test]
fn scattered_edits_move_at_most_three_percent() {
    let (bytes, edits) = if std::env::var_os("AUTONOMY_SOAK").is_some() { (256 << 20, 40) } else { (32 << 20, 5) };
    let folder = tempfile::tempdir().expect("folder");
    let fleet = Fleet::new();
    let root = fleet.init(Arc::new(make_place(&folder.path().join("node")).expect("place")));
    let mut store = Store::open(root.clone(), UNLIMITED).expect("opens");
    let mut agent = noise("agent", bytes);
    let first = fleet.set(&Release::of(1, agent.clone()));
    assert_eq!(deliver(&mut store, &first).expect("delivers"), bytes as u64);
    for edit in 0..edits {
        let at = (edit * 2 + 1) * bytes / (edits * 2);
        agent[at..at + (64 << 10)].copy_from_slice(&noise(&format!("edit {edit}"), 64 << 10));
    }
    let second = fleet.set(&Release::of(2, agent));
    let moved = deliver(&mut store, &second).expect("delivers");
    assert!(moved >= (edits as u64) << 16, "{moved} bytes cannot hold the edits");
    assert!(moved * 100 <= bytes as u64 * 3, "{moved} of {bytes} bytes moved");
    super::receive::is_whole(&root, layout::inbox_entry(second.fingerprint), &second);
}

#[test]
fn a_tree_of_which_one_file_changed_moves_that_file_alone() {
    let fleet = Fleet::new();
    let disk = fleet.node();
    let mut store = open(&disk);
    let tree = |last: &str| vec![("a", noise("a", 400_000)), ("b", noise("b", 400_000)), ("c", noise(last, 20_000))];
    let first = fleet.set(&Release { tree: tree("c"), ..Release::of(1, noise("agent", 50_000)) });
    deliver(&mut store, &first).expect("delivers");
    let second = fleet.set(&Release { tree: tree("d"), ..Release::of(2, noise("agent", 50_000)) });
    let moved = deliver(&mut store, &second).expect("delivers");
    assert!(moved <= 20_000 + (128 << 10), "{moved} bytes moved");
    // Nothing of it is new: nothing is moved.
    let third = fleet.set(&Release { tree: tree("d"), ..Release::of(3, noise("agent", 50_000)) });
    assert_eq!(deliver(&mut store, &third).expect("delivers"), 0);
    super::receive::is_whole(&state_root(&disk), layout::inbox_entry(third.fingerprint), &third);
}
