//! What a node makes of what its peers send.

use autonomy_edge::store::{Put, SetState};
use autonomy_schema::receipt::Receipt;
use autonomy_schema::{RelPath, document, set};
use autonomy_sets::{KeptSet, SetCheck, inbox_entries, load, verify_set};
use autonomy_stateroot::{StatCache, StateRoot, durable, layout};
use autonomy_trust::Purpose;

use super::fixture::{
    Fleet, Release, Sent, commit, deliver, missing, name, noise, now, offer, open, progress, push, state_root, time,
};

/// The set in a folder of the state root verifies like any other.
#[track_caller]
pub(crate) fn is_whole(root: &StateRoot, base: RelPath, sent: &Sent) {
    let manifest = document::parse(&sent.files[set::MANIFEST]).expect("manifest");
    let kept = KeptSet::new(root, base, "what was received".to_owned(), manifest);
    let loaded = load(root).expect("loads");
    let context = loaded.context(now(), Purpose::Change);
    let check = SetCheck { set: &kept, context: &context, cache: &StatCache::default(), progress: &|_, _| {} };
    // Not for this node is no damage.
    let relay = loaded.context(now(), Purpose::Relay);
    let verified = verify_set(&check).or_else(|_| verify_set(&SetCheck { context: &relay, ..check }));
    let verified = verified.unwrap_or_else(|reasons| panic!("{reasons}"));
    assert_eq!(verified.manifest.fingerprint(), sent.fingerprint);
}

fn release() -> Release {
    Release {
        files: vec![
            ("agent", "0755", noise("agent", 300_000)),
            ("bin/again", "0644", noise("agent", 300_000)),
            ("bin/none", "0644", Vec::new()),
        ],
        // The same segments again and again: one of them has many places.
        tree: vec![("a", noise("a", 100_000)), ("b", vec![7; 400_000]), ("c/none", Vec::new())],
        ..Release::of(1, Vec::new())
    }
}

#[test]
fn what_a_peer_sends_comes_into_the_inbox_whole_and_is_signed_for() {
    let fleet = Fleet::new();
    let disk = fleet.node();
    let (mut store, root) = (open(&disk), state_root(&disk));
    let sent = fleet.set(&release());
    assert!(store.progress(sent.fingerprint, now()).expect("asks").is_none());
    assert!(offer(&mut store, &sent).expect("accepts").first);
    let told = progress(&mut store, &sent);
    assert_eq!((told.state, told.more), (SetState::Receiving, false));
    let names: Vec<&str> = told.missing.iter().map(|artifact| artifact.artifact.as_str()).collect();
    // An empty artifact lacks nothing; artifacts of the same bytes lack the same.
    assert_eq!(names, ["agent", "bin-again", "models"]);
    deliver(&mut store, &sent).expect("delivers");
    is_whole(&root, layout::inbox_entry(sent.fingerprint), &sent);
    let told = progress(&mut store, &sent);
    assert_eq!(told.state, SetState::Stored);
    let receipt: Receipt = document::parse(told.receipts[0].document.as_bytes()).expect("receipt");
    assert_eq!(
        (receipt.manifest, receipt.from, receipt.node_id),
        (sent.fingerprint, Some(name("node-a")), name("node-b"))
    );
    assert!(told.receipts[0].signatures.ends_with('\n'));
    // Nothing is left of the way there.
    for folder in [layout::segments(), layout::edge_sets()] {
        assert_eq!(root.disk().list(Some(&folder)).expect("lists"), [], "{folder}");
    }
    assert_eq!(inbox_entries(&root).expect("inbox").len(), 1);
    assert_eq!(store.used_bytes(), autonomy_stateroot::used_bytes(&root).expect("walks"));
    // A repeat is cheap and silent.
    assert!(!offer(&mut store, &sent).expect("accepts").first);
}

#[test]
fn a_segment_that_comes_twice_is_a_duplicate_and_changes_nothing() {
    let fleet = Fleet::new();
    let disk = fleet.node();
    let mut store = open(&disk);
    let sent = fleet.set(&release());
    let all = sent.all();
    assert_eq!(push(&mut store, all[..1].to_vec()).expect("puts"), [Put::NotNamed]);
    offer(&mut store, &sent).expect("accepts");
    assert_eq!(push(&mut store, vec![all[0].clone(), all[0].clone()]).expect("puts"), [Put::Stored, Put::Duplicate]);
    let before = disk.snapshot();
    assert_eq!(push(&mut store, all[..1].to_vec()).expect("puts"), [Put::Duplicate]);
    assert_eq!(disk.snapshot(), before);
    deliver(&mut store, &sent).expect("delivers");
    // What is late finds the set complete.
    assert!(push(&mut store, all).expect("puts").iter().all(|put| *put == Put::Duplicate));
}

#[test]
fn what_was_durable_is_not_asked_for_again_after_a_restart() {
    let fleet = Fleet::new();
    let disk = fleet.node();
    let sent = fleet.set(&release());
    let mut store = open(&disk);
    offer(&mut store, &sent).expect("accepts");
    let half: Vec<_> = sent.all().into_iter().step_by(2).collect();
    push(&mut store, half.clone()).expect("puts");
    let lacking = progress(&mut store, &sent);
    drop(store);
    let mut store = open(&disk.crash(autonomy_stateroot::Image::Synced));
    assert_eq!(progress(&mut store, &sent).missing, lacking.missing);
    for segment in missing(&lacking, &sent) {
        assert!(half.iter().all(|had| had.id != segment.id), "it was durable");
    }
    deliver(&mut store, &sent).expect("delivers");
}

#[test]
fn a_set_for_other_nodes_is_kept_in_transit_and_stays_out_of_the_inbox() {
    let fleet = Fleet::new();
    let disk = fleet.node();
    let (mut store, root) = (open(&disk), state_root(&disk));
    let sent = fleet.set(&Release { scope: "fleet: harbor, nodes: [node-c]", ..release() });
    deliver(&mut store, &sent).expect("delivers");
    assert_eq!(inbox_entries(&root).expect("inbox").len(), 0);
    let base = layout::edge_set(sent.fingerprint);
    is_whole(&root, base.clone(), &sent);
    let mut store = open(&disk.crash(autonomy_stateroot::Image::Synced));
    assert_eq!(progress(&mut store, &sent).state, SetState::Stored);
    assert_eq!(store.transit().map(|(fingerprint, _)| fingerprint).collect::<Vec<_>>(), [sent.fingerprint]);
    store.withdraw(sent.fingerprint).expect("withdraws");
    assert!(store.progress(sent.fingerprint, now()).expect("asks").is_none());
}

#[test]
fn a_newer_serial_takes_the_place_of_an_older_one_and_what_it_had() {
    let fleet = Fleet::new();
    let disk = fleet.node();
    let (mut store, root) = (open(&disk), state_root(&disk));
    let mut bytes = noise("agent", 2 << 20);
    let older = fleet.set(&Release::of(1, bytes.clone()));
    bytes[1 << 20..(1 << 20) + 1000].fill(0);
    let newer = fleet.set(&Release::of(2, bytes));
    offer(&mut store, &older).expect("accepts");
    push(&mut store, older.all()[1..].to_vec()).expect("puts");
    offer(&mut store, &newer).expect("accepts");
    assert!(store.progress(older.fingerprint, now()).expect("asks").is_none());
    let lacking = missing(&progress(&mut store, &newer), &newer);
    assert!(lacking.len() < 5, "{} segments", lacking.len());
    assert_eq!(root.disk().list(Some(&layout::segments())).expect("lists").len(), 1);
    deliver(&mut store, &newer).expect("delivers");
    is_whole(&root, layout::inbox_entry(newer.fingerprint), &newer);
    // The older one comes too late.
    let refused = offer(&mut store, &older).expect_err("refuses");
    assert!(refused.to_string().contains("serial_too_low"), "{refused}");
}

#[test]
fn no_more_sets_than_the_limit_are_under_way() {
    const STREAMS: [&str; 17] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q"];
    let fleet = Fleet::new();
    let mut store = open(&fleet.node());
    for (at, stream) in STREAMS.into_iter().enumerate() {
        let sent = fleet.set(&Release { stream, ..Release::of(1, noise(stream, 20_000)) });
        let accepted = offer(&mut store, &sent);
        assert_eq!(accepted.is_ok(), at < 16, "{at}: {accepted:?}");
    }
}

#[test]
fn a_garbage_collection_holds_a_completion_back_and_no_longer() {
    let fleet = Fleet::new();
    let disk = fleet.node();
    let (mut store, root) = (open(&disk), state_root(&disk));
    let sent = fleet.set(&release());
    offer(&mut store, &sent).expect("accepts");
    let collecting = root.store_lock(autonomy_stateroot::LockMode::Exclusive).expect("locks").expect("free");
    push(&mut store, sent.all()).expect("puts");
    assert!(!durable::exists(root.disk(), &layout::inbox_entry(sent.fingerprint)).expect("stat"));
    drop(collecting);
    assert_eq!(progress(&mut store, &sent).state, SetState::Stored);
}

#[test]
fn fi_a_set_that_becomes_whole_under_a_wrong_clock_stays_and_is_admitted_under_the_right_one() {
    for wrong in ["2040-01-01T00:00:00Z", "2010-01-01T00:00:00Z"].map(time) {
        let fleet = Fleet::new();
        let disk = fleet.node();
        let (mut store, root) = (open(&disk), state_root(&disk));
        let sent = fleet.set(&release());
        offer(&mut store, &sent).expect("accepts");
        let put = store.put(sent.all(), &name("node-a")).expect("puts");
        let completed = commit(&mut store, put.ticket, wrong).expect("commits");
        let is_ahead = wrong > now();
        // A clock that is behind admits what was issued in its future, as far as the root's time step goes; one that is ahead
        // finds it expired.
        assert_eq!(completed.is_empty(), is_ahead, "{wrong}");
        if is_ahead {
            let told = store.progress(sent.fingerprint, wrong).expect("asks").expect("known");
            assert!(told.state == SetState::Receiving && told.missing.is_empty(), "{told:?}");
            // Also to a process that starts anew.
            store = open(&disk);
        }
        let told = progress(&mut store, &sent);
        assert!(told.state == SetState::Stored && !told.receipts.is_empty(), "{wrong}: {told:?}");
        is_whole(&root, layout::inbox_entry(sent.fingerprint), &sent);
    }
}
