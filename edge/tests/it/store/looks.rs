//! What a look mends: what expired, what was abandoned, and what a process that ended left whole.

use autonomy_stateroot::{LockMode, durable, layout};

use super::fixture::{Fleet, Release, deliver, noise, now, offer, open, progress, push, state_root, time};

#[test]
fn a_set_under_way_that_expired_goes_at_the_next_look() {
    let fleet = Fleet::new();
    let disk = fleet.node();
    let mut store = open(&disk);
    let sent = fleet.set(&Release::of(1, noise("agent", 100_000)));
    offer(&mut store, &sent).expect("accepts");
    push(&mut store, sent.all()[..1].to_vec()).expect("puts");
    store.look(now()).expect("looks");
    assert!(store.progress(sent.fingerprint, now()).expect("asks").is_some());
    store.look(time("2027-02-21T00:00:00Z")).expect("looks");
    assert!(store.progress(sent.fingerprint, now()).expect("asks").is_none());
    for folder in [layout::segments(), layout::edge_sets()] {
        assert_eq!(state_root(&disk).disk().list(Some(&folder)).expect("lists"), [], "{folder}");
    }
}

#[test]
fn streams_that_were_abandoned_give_their_places_to_others() {
    const STREAMS: [&str; 16] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"];
    let fleet = Fleet::new();
    let mut store = open(&fleet.node());
    let sets = STREAMS.map(|stream| fleet.set(&Release { stream, ..Release::of(1, noise(stream, 100_000)) }));
    for sent in &sets {
        offer(&mut store, sent).expect("accepts");
    }
    store.look(now()).expect("looks");
    let more = fleet.set(&Release { stream: "more", ..Release::of(1, noise("more", 20_000)) });
    offer(&mut store, &more).expect_err("no place is left");
    // One of them goes on, later than the others.
    let later = time("2026-11-25T09:09:00Z");
    let put = store.put(sets[0].all()[..1].to_vec(), &super::fixture::name("node-a")).expect("puts");
    store.commit(put.ticket, later).expect("commits");
    store.look(time("2026-11-25T09:11:00Z")).expect("looks");
    deliver(&mut store, &more).expect("delivers");
    assert!(store.progress(sets[0].fingerprint, now()).expect("asks").is_some(), "it was not abandoned");
    let left = sets.iter().filter(|sent| store.progress(sent.fingerprint, now()).expect("asks").is_some());
    assert_eq!(left.count(), 15);
}

#[test]
fn a_set_that_a_killed_process_left_whole_is_completed_without_a_peer() {
    let fleet = Fleet::new();
    let disk = fleet.node();
    let (mut store, root) = (open(&disk), state_root(&disk));
    let sent = fleet.set(&Release::of(1, noise("agent", 100_000)));
    offer(&mut store, &sent).expect("accepts");
    let collecting = root.store_lock(LockMode::Exclusive).expect("locks").expect("free");
    push(&mut store, sent.all()).expect("puts");
    drop((store, collecting));
    let mut store = open(&disk);
    assert!(!durable::exists(root.disk(), &layout::inbox_entry(sent.fingerprint)).expect("stat"));
    store.look(now()).expect("looks");
    super::receive::is_whole(&root, layout::inbox_entry(sent.fingerprint), &sent);
}

#[test]
fn a_damaged_index_costs_its_own_set_and_not_the_start() {
    let fleet = Fleet::new();
    let disk = fleet.node();
    let (mut store, root) = (open(&disk), state_root(&disk));
    let sets = ["one", "other"].map(|stream| {
        let sent = fleet.set(&Release { stream, ..Release::of(1, noise(stream, 100_000)) });
        offer(&mut store, &sent).expect("accepts");
        sent
    });
    drop(store);
    let index = format!("{}/segments/agent.idx", layout::edge_set(sets[0].fingerprint)).parse().expect("path");
    // A length that no segment has.
    root.disk().write_at(&index, 32, &[0xff; 8]).expect("writes");
    let mut store = open(&disk);
    assert!(store.progress(sets[0].fingerprint, now()).expect("asks").is_none());
    progress(&mut store, &sets[1]);
    for sent in &sets {
        deliver(&mut store, sent).expect("delivers");
    }
}
