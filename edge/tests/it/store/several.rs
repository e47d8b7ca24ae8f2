//! Several senders and several sets at once: none of them is answered for another.

use autonomy_edge::store::{Limits, SetState, Store, StoreError};
use autonomy_schema::document;
use autonomy_schema::receipt::Receipt;
use autonomy_stateroot::{layout, used_bytes};

use super::fixture::{
    Fleet, Release, Sent, commit, deliver, name, noise, now, offer, open, progress, push, state_root,
};

/// Two sets of two streams, which lack one segment each.
fn nearly(fleet: &Fleet, store: &mut Store) -> [Sent; 2] {
    let tree = vec![("a", noise("a", 300_000))];
    let one = Release { stream: "one", tree, ..Release::of(1, noise("one", 100_000)) };
    let other = Release { stream: "other", ..Release::of(1, noise("other", 100_000)) };
    [one, other].map(|release| {
        let sent = fleet.set(&release);
        offer(store, &sent).expect("accepts");
        push(store, sent.all()[1..].to_vec()).expect("puts");
        sent
    })
}

#[test]
fn a_set_that_cannot_be_completed_keeps_no_other_from_anything() {
    let fleet = Fleet::new();
    let disk = fleet.node();
    let mut store = open(&disk);
    let [one, other] = nearly(&fleet, &mut store);
    // The files of the tree do not fit beside their payload.
    let ceiling_bytes = used_bytes(&state_root(&disk)).expect("walks") + (250 << 10);
    store.set_limits(Limits { ceiling_bytes, eviction_percent: 100 });
    push(&mut store, one.all()[..1].to_vec()).expect("it is durable");
    push(&mut store, other.all()[..1].to_vec()).expect("it is durable");
    assert_eq!(progress(&mut store, &other).state, SetState::Stored);
    // Whoever asks for the one is told why, and it is completed when there is room.
    let told = store.progress(one.fingerprint, now());
    assert!(matches!(told, Err(StoreError::Ceiling(_))), "{told:?}");
    store.set_limits(super::fixture::UNLIMITED);
    store.look(now()).expect("looks");
    super::receive::is_whole(&state_root(&disk), layout::inbox_entry(one.fingerprint), &one);
}

#[test]
fn a_receipt_names_who_brought_the_last_of_its_own_set() {
    let fleet = Fleet::new();
    let mut store = open(&fleet.node());
    let [one, other] = nearly(&fleet, &mut store);
    store.put(one.all()[..1].to_vec(), &name("node-x")).expect("puts");
    let put = store.put(other.all()[..1].to_vec(), &name("node-y")).expect("puts");
    commit(&mut store, put.ticket, now()).expect("commits");
    for (sent, from) in [(&one, "node-x"), (&other, "node-y")] {
        let told = progress(&mut store, sent);
        assert_eq!(told.state, SetState::Stored);
        let receipt: Receipt = document::parse(told.receipts[0].document.as_bytes()).expect("receipt");
        assert_eq!(receipt.from, Some(name(from)));
    }
}

#[test]
fn what_the_failed_sync_of_another_took_along_is_not_acknowledged() {
    const EIO: i32 = 5;
    let fleet = Fleet::new();
    let disk = fleet.node();
    let mut store = open(&disk);
    let sent = fleet.set(&Release::of(1, noise("agent", 100_000)));
    offer(&mut store, &sent).expect("accepts");
    let mine = store.put(sent.all()[..1].to_vec(), &name("node-x")).expect("puts");
    let theirs = store.put(sent.all()[1..2].to_vec(), &name("node-y")).expect("puts");
    disk.fail_at(disk.verbs() + 1, EIO);
    commit(&mut store, theirs.ticket, now()).expect_err("the sync fails");
    let told = commit(&mut store, mine.ticket, now());
    assert!(matches!(told, Err(StoreError::Disk(_))), "{told:?}");
    deliver(&mut store, &sent).expect("delivers");
}

#[test]
fn segments_of_sets_that_are_whole_leave_no_less_room_for_others() {
    let fleet = Fleet::new();
    let mut store = open(&fleet.node());
    // More than half of what may be named, and again.
    for (stream, byte) in [("one", 1), ("other", 2)] {
        let scope = "fleet: harbor, nodes: [node-c]";
        let sent = fleet.shredded(&Release { stream, scope, ..Release::of(1, vec![byte; 600_000]) });
        offer(&mut store, &sent).expect("accepts");
        let segment = autonomy_edge::store::Segment { id: autonomy_schema::Blake3::of(&[byte]), bytes: vec![byte] };
        push(&mut store, vec![segment]).expect("puts");
    }
    assert_eq!(store.transit().count(), 2);
}

#[test]
fn a_set_whose_acceptance_fails_is_not_known() {
    const ENOSPC: i32 = 28;
    let fleet = Fleet::new();
    let before = fleet.node();
    let mut agent = noise("agent", 200_000);
    deliver(&mut open(&before), &fleet.set(&Release::of(1, agent.clone()))).expect("delivers");
    agent[100_000..100_100].fill(0);
    let sent = fleet.set(&Release::of(2, agent));
    let (mut failed, mut verb) = (0, 0);
    loop {
        verb += 1;
        let disk = before.crash(autonomy_stateroot::Image::All);
        let mut store = open(&disk);
        let start = disk.verbs();
        disk.fail_at(start + verb, ENOSPC);
        let accepted = offer(&mut store, &sent);
        let is_known = store.progress(sent.fingerprint, now()).expect("asks").is_some();
        assert_eq!(accepted.is_ok(), is_known, "verb {verb}: {accepted:?}");
        failed += u32::from(accepted.is_err());
        if disk.verbs() < start + verb {
            break;
        }
    }
    assert!(failed > 20, "{failed} failures");
}

#[test]
fn no_set_is_whole_while_a_sync_of_it_is_under_way() {
    let fleet = Fleet::new();
    let disk = fleet.node();
    let mut store = open(&disk);
    let sent = fleet.set(&Release::of(1, noise("agent", 400_000)));
    offer(&mut store, &sent).expect("accepts");
    let (last, all) = (sent.all()[..1].to_vec(), sent.all()[1..].to_vec());
    store.put(all, &name("node-a")).expect("puts");
    let under_way = store.unsynced();
    let put = store.put(last, &name("node-a")).expect("puts");
    // The last segment is synced by the look, and what came before may yet fail.
    store.look(now()).expect("looks");
    let told = progress(&mut store, &sent);
    assert_eq!((told.state, told.missing), (SetState::Receiving, Vec::new()));
    let whole = store.commit(under_way.sync(), put.ticket, now()).expect("commits");
    assert_eq!(whole, [sent.fingerprint]);
    assert_eq!(progress(&mut store, &sent).state, SetState::Stored);
}

#[test]
fn a_set_that_lacks_nothing_waits_for_the_sync_of_its_last_segment() {
    let fleet = Fleet::new();
    let disk = fleet.node();
    let mut store = open(&disk);
    let sent = fleet.set(&Release::of(1, noise("agent", 400_000)));
    offer(&mut store, &sent).expect("accepts");
    let (last, all) = (sent.all()[..1].to_vec(), sent.all()[1..].to_vec());
    let first = store.put(all, &name("node-a")).expect("puts");
    let under_way = store.unsynced();
    let put = store.put(last, &name("node-a")).expect("puts");
    assert_eq!(store.commit(under_way.sync(), first.ticket, now()).expect("commits"), []);
    assert_eq!(commit(&mut store, put.ticket, now()).expect("commits"), [sent.fingerprint]);
}

#[test]
fn what_is_put_during_a_sync_that_fails_is_not_acknowledged() {
    const EIO: i32 = 5;
    let fleet = Fleet::new();
    let disk = fleet.node();
    let mut store = open(&disk);
    let sent = fleet.set(&Release::of(1, noise("agent", 200_000)));
    offer(&mut store, &sent).expect("accepts");
    let mine = store.put(sent.all()[..1].to_vec(), &name("node-x")).expect("puts");
    let under_way = store.unsynced();
    let theirs = store.put(sent.all()[1..2].to_vec(), &name("node-y")).expect("puts");
    disk.fail_at(disk.verbs() + 1, EIO);
    store.commit(under_way.sync(), mine.ticket, now()).expect_err("the sync fails");
    let told = commit(&mut store, theirs.ticket, now());
    assert!(matches!(told, Err(StoreError::Disk(_))), "{told:?}");
    deliver(&mut store, &sent).expect("delivers");
}

#[test]
fn a_sync_of_what_was_dropped_meanwhile_harms_nothing_that_came_after() {
    let fleet = Fleet::new();
    let disk = fleet.node();
    let mut store = open(&disk);
    let [older, newer] = [1, 2].map(|serial| fleet.set(&Release::of(serial, noise(&serial.to_string(), 200_000))));
    offer(&mut store, &older).expect("accepts");
    let put = store.put(older.all(), &name("node-a")).expect("puts");
    let under_way = store.unsynced();
    // The older set goes, and its payload with it.
    offer(&mut store, &newer).expect("accepts");
    assert_eq!(store.commit(under_way.sync(), put.ticket, now()).expect("it is nobody's"), []);
    deliver(&mut store, &newer).expect("delivers");
    assert_eq!(progress(&mut store, &newer).state, SetState::Stored);
}
