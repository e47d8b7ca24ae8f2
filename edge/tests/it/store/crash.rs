//! Power loss, and a full disk, at every verb of a receive. What was acknowledged is never sent again.

use std::collections::BTreeSet;

use autonomy_edge::store::{SetState, Store, StoreError};
use autonomy_schema::Blake3;
use autonomy_stateroot::{Image, SimDisk, layout};

use super::fixture::{Fleet, Release, Sent, deliver, missing, noise, offer, open, progress, push, state_root};

const ENOSPC: i32 = 28;

fn small() -> Release {
    Release {
        files: vec![("agent", "0755", noise("agent", 60_000)), ("bin/again", "0644", noise("agent", 60_000))],
        tree: vec![("a", noise("a", 20_000)), ("b", Vec::new())],
        ..Release::of(1, Vec::new())
    }
}

/// Sends all, two segments at a time; tells what was acknowledged before it failed.
fn receive(store: &mut Store, sent: &Sent, acknowledged: &mut BTreeSet<Blake3>) -> Result<(), StoreError> {
    offer(store, sent)?;
    for pack in sent.all().chunks(2) {
        push(store, pack.to_vec())?;
        acknowledged.extend(pack.iter().map(|segment| segment.id));
    }
    Ok(())
}

/// After a restart nothing that was acknowledged lacks, and the rest makes the set whole.
fn resumes(disk: &SimDisk, sent: &Sent, acknowledged: &BTreeSet<Blake3>, place: &str) {
    let root = state_root(disk);
    let mut store =
        Store::open(root.clone(), super::fixture::UNLIMITED).unwrap_or_else(|error| panic!("{place}: {error}"));
    let known =
        store.progress(sent.fingerprint, super::fixture::now()).unwrap_or_else(|error| panic!("{place}: {error}"));
    assert!(known.is_some() || acknowledged.is_empty(), "{place}: the set is gone");
    if let Some(progress) = known {
        for segment in missing(&progress, sent) {
            assert!(!acknowledged.contains(&segment.id), "{place}: {} is asked for again", segment.id);
        }
    }
    deliver(&mut store, sent).unwrap_or_else(|error| panic!("{place}: {error}"));
    super::receive::is_whole(&root, layout::inbox_entry(sent.fingerprint), sent);
    assert_eq!(root.disk().list(Some(&layout::segments())).expect("lists"), [], "{place}");
    assert_eq!(root.disk().list(Some(&layout::edge_sets())).expect("lists"), [], "{place}");
    let told = progress(&mut store, sent);
    assert!(told.state == SetState::Stored && !told.receipts.is_empty(), "{place}: no receipt");
}

fn verbs(before: &SimDisk, sent: &Sent) -> u64 {
    let disk = before.crash(Image::All);
    let start = disk.verbs();
    receive(&mut open(&disk), sent, &mut BTreeSet::new()).expect("receives");
    disk.verbs() - start
}

fn digest(disk: &SimDisk) -> Blake3 {
    Blake3::of(format!("{:?}", disk.snapshot()).as_bytes())
}

#[test]
fn power_loss_at_every_verb_of_a_receive_loses_nothing_that_was_acknowledged() {
    let fleet = Fleet::new();
    let (before, sent) = (fleet.node(), fleet.set(&small()));
    let all = verbs(&before, &sent);
    assert!(all > 60, "{all} verbs");
    let mut seen = BTreeSet::new();
    for cut in 1..=all {
        for image in Image::EACH {
            let disk = before.crash(Image::All);
            disk.stop_at(disk.verbs() + cut);
            let mut acknowledged = BTreeSet::new();
            if let Ok(mut store) = Store::open(state_root(&disk), super::fixture::UNLIMITED) {
                receive(&mut store, &sent, &mut acknowledged).ok();
            }
            let broken = disk.crash(image);
            // What was acknowledged belongs to the state: the same bytes may follow another count.
            if seen.insert((digest(&broken), acknowledged.len())) {
                resumes(&broken, &sent, &acknowledged, &format!("cut at verb {cut} of {all}, image {image:?}"));
            }
        }
    }
}

#[test]
fn no_space_at_any_verb_of_a_receive_is_told_and_leaves_nothing_half() {
    let fleet = Fleet::new();
    let (before, sent) = (fleet.node(), fleet.set(&small()));
    let all = verbs(&before, &sent);
    for verb in 1..=all {
        let place = format!("no space at verb {verb} of {all}");
        let disk = before.crash(Image::All);
        let mut store = open(&disk);
        disk.fail_at(disk.verbs() + verb, ENOSPC);
        let mut acknowledged = BTreeSet::new();
        if let Err(error) = receive(&mut store, &sent, &mut acknowledged) {
            assert!(matches!(error, StoreError::NoSpace(_)), "{place}: {error}");
        }
        // A process that starts when there is room again goes on; a sync that failed is trusted by nobody before.
        drop(store);
        resumes(&disk.crash(Image::All), &sent, &BTreeSet::new(), &place);
    }
}
