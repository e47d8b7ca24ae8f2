//! What a look mends: what expired, what was abandoned, and what a process that ended left whole.

use autonomy_edge::store::Store;
use autonomy_stateroot::{LockMode, durable, layout};

use super::fixture::{
    Fleet, Release, Sent, commit, deliver, noise, now, offer, open, progress, push, state_root, time,
};

const STREAMS: [&str; 16] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"];

/// How many of these sets the store still knows.
fn under_way(store: &mut Store, sets: &[Sent]) -> usize {
    sets.iter().filter(|sent| store.progress(sent.fingerprint, now()).expect("asks").is_some()).count()
}

#[test]
fn a_set_under_way_whose_time_is_over_stays_and_gives_its_place_to_others() {
    let fleet = Fleet::new();
    let mut store = open(&fleet.node());
    let sets = STREAMS.map(|stream| fleet.set(&Release { stream, ..Release::of(1, noise(stream, 20_000)) }));
    for sent in &sets {
        offer(&mut store, sent).expect("accepts");
    }
    let more = fleet.set(&Release { stream: "more", ..Release::of(1, noise("more", 20_000)) });
    store.look(now()).expect("looks");
    offer(&mut store, &more).expect_err("no place is left");
    // The clock may be wrong, so nothing goes before its place is needed.
    store.look(time("2027-02-21T00:00:00Z")).expect("looks");
    assert_eq!(under_way(&mut store, &sets), 16);
    offer(&mut store, &more).expect("accepts");
    assert_eq!(under_way(&mut store, &sets), 15);
}

#[test]
fn streams_that_were_abandoned_give_their_places_to_others() {
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
    commit(&mut store, put.ticket, later).expect("commits");
    store.look(time("2026-11-25T09:11:00Z")).expect("looks");
    deliver(&mut store, &more).expect("delivers");
    assert!(store.progress(sets[0].fingerprint, now()).expect("asks").is_some(), "it was not abandoned");
    assert_eq!(under_way(&mut store, &sets), 15);
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
