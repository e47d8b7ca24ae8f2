//! INV-04: the state root never takes more than its ceiling (FI-C1-01, FI-C2-01, FI-C2-02).

use std::sync::{Arc, Mutex};

use autonomy_edge::store::{Limits, SetState, Store, StoreError};
use autonomy_schema::{Code, Name};
use autonomy_stateroot::{Image, SimDisk, StateRoot, SyncTarget, durable, layout, used_bytes};

use super::fixture::{
    Fleet, Release, Sent, UNLIMITED, commit, deliver, missing, name, noise, now, offer, open, progress, push, send,
    state_root,
};

fn limits(ceiling_bytes: u64) -> Limits {
    Limits { ceiling_bytes, eviction_percent: 90 }
}

fn used(disk: &SimDisk) -> u64 {
    used_bytes(&state_root(disk)).expect("walks")
}

#[track_caller]
fn is_ceiling(error: StoreError) {
    assert!(matches!(error, StoreError::Ceiling(_)), "{error}");
    assert!(error.into_reasons().has(Code::CeilingExceeded));
}

#[test]
fn fi_disk_ceiling_err_ceiling_exceeded() {
    let fleet = Fleet::new();
    let disk = fleet.node();
    let ceiling = used(&disk) + (400 << 10);
    let mut store = open(&disk);
    let sent = fleet.set(&Release::of(1, noise("agent", 1 << 20)));
    // It was admitted while there was room for it.
    offer(&mut store, &sent).expect("accepts");
    store.set_limits(limits(ceiling));
    let mut taken = 0;
    let refused = sent.all().into_iter().find_map(|segment| {
        let put = push(&mut store, vec![segment]);
        assert!(used(&disk) <= ceiling, "{} above {ceiling}", used(&disk));
        assert!(store.used_bytes() >= used(&disk));
        taken += usize::from(put.is_ok());
        put.err()
    });
    is_ceiling(refused.expect("a refusal"));
    assert!(taken > 5, "{taken} segments fit");
    // A body is refused as well, before a byte of it is too many.
    let other = fleet.set(&Release { stream: "other", ..Release::of(1, noise("other", 1000)) });
    let mut body = other.tar();
    body.extend(vec![0; 1 << 20]);
    is_ceiling(send(&mut store, other.fingerprint, &body).expect_err("refuses"));
    assert!(used(&disk) <= ceiling);
    // What fitted stays, and goes on where there is room.
    let lacking = missing(&progress(&mut store, &sent), &sent).len();
    assert_eq!(lacking, sent.all().len() - taken);
    store.set_limits(UNLIMITED);
    deliver(&mut store, &sent).expect("delivers");
}

#[test]
fn fi_disk_ceiling_concurrent_writes_at_boundary() {
    // On a real disk: what lies behind a hole takes no more than its own blocks there.
    let folder = tempfile::tempdir().expect("folder");
    let fleet = Fleet::new();
    let disk = autonomy_stateroot::make_place(&folder.path().join("node")).expect("place");
    let root = fleet.init(Arc::new(disk));
    let sets: Vec<Sent> = ["a", "b", "c", "d"]
        .map(|stream| fleet.set(&Release { stream, ..Release::of(1, noise(stream, 600_000)) }))
        .into();
    let mut store = Store::open(root.clone(), UNLIMITED).expect("opens");
    for sent in &sets {
        offer(&mut store, sent).expect("accepts");
    }
    let ceiling = used_bytes(&root).expect("walks") + (1 << 20);
    store.set_limits(limits(ceiling));
    let store = Arc::new(Mutex::new(store));
    let write = |sent: Sent| {
        let (store, root) = (Arc::clone(&store), root.clone());
        // As the storage thread does it: one call at a time, those of the writers in any order. Others put between a put and
        // its commit.
        std::thread::spawn(move || {
            let mut refused = 0;
            for segment in sent.all() {
                let put = store.lock().expect("lock").put(vec![segment], &name("node-a"));
                std::thread::yield_now();
                let mut store = store.lock().expect("lock");
                match put.and_then(|put| commit(&mut store, put.ticket, now())) {
                    Ok(_) => {}
                    Err(error) => {
                        is_ceiling(error);
                        refused += 1;
                    }
                }
                let used = used_bytes(&root).expect("walks");
                assert!(used <= ceiling, "{used} above {ceiling}");
            }
            refused
        })
    };
    let writers: Vec<_> = sets.into_iter().map(write).collect();
    let refused: usize = writers.into_iter().map(|writer| writer.join().expect("joins")).sum();
    assert!(refused > 0, "the boundary was never reached");
    assert!(ceiling - used_bytes(&root).expect("walks") < 100 << 10, "much room was left");
}

#[test]
fn a_set_that_cannot_fit_is_refused_before_a_segment_of_it_is_asked_for() {
    let fleet = Fleet::new();
    let disk = fleet.node();
    let mut store = Store::open(state_root(&disk), limits(used(&disk) + (400 << 10))).expect("opens");
    let sent = fleet.set(&Release::of(1, noise("agent", 1 << 20)));
    is_ceiling(offer(&mut store, &sent).expect_err("refuses"));
    assert!(store.progress(sent.fingerprint, now()).expect("asks").is_none());
    assert_eq!(state_root(&disk).disk().list(Some(&layout::edge_sets())).expect("lists"), []);
    // One that fits is taken, and no second one on top of what the first will yet take.
    let (one, other) = (
        fleet.set(&Release { stream: "one", ..Release::of(1, noise("one", 150_000)) }),
        fleet.set(&Release { stream: "other", ..Release::of(1, noise("other", 150_000)) }),
    );
    offer(&mut store, &one).expect("accepts");
    is_ceiling(offer(&mut store, &other).expect_err("refuses"));
    deliver(&mut store, &one).expect("delivers");
}

#[test]
fn what_others_write_into_the_state_root_is_refused_above_the_ceiling_as_well() {
    let fleet = Fleet::new();
    let disk = fleet.node();
    let mut store = Store::open(state_root(&disk), limits(used(&disk) + (100 << 10))).expect("opens");
    store.reserve_bytes(60 << 10).expect("fits");
    let path = layout::edge_pins();
    durable::ensure_dir(state_root(&disk).disk(), &path.parent().expect("folder")).expect("makes");
    durable::replace(state_root(&disk).disk(), &path, &vec![0; 60 << 10], autonomy_schema::Mode::PRIVATE)
        .expect("writes");
    is_ceiling(store.reserve_bytes(60 << 10).expect_err("refuses"));
}

#[test]
fn a_set_in_transit_is_not_evicted_before_the_relay_says_that_it_is_handed_on() {
    let fleet = Fleet::new();
    let disk = fleet.node();
    // The line is passed from the first byte on.
    let limits = Limits { ceiling_bytes: used(&disk) + (1 << 20), eviction_percent: 1 };
    let mut store = Store::open(state_root(&disk), limits).expect("opens");
    let scope = "fleet: harbor, nodes: [node-c]";
    let sent = fleet.set(&Release { scope, ..Release::of(1, noise("agent", 300_000)) });
    deliver(&mut store, &sent).expect("delivers");
    assert_eq!(store.transit().count(), 1, "it was evicted in the moment in which it was whole");
    store.set_handed_on([sent.fingerprint].into());
    store.reserve_bytes(1).expect("fits");
    assert_eq!(store.transit().count(), 0);
}

/// A generation as an apply would leave it, of a set that lies in the inbox.
fn activate(root: &StateRoot, sent: &Sent, serial: u64) -> Name {
    let generation = root.next_generation_name(serial, sent.fingerprint).expect("name");
    let disk = root.disk();
    disk.rename(&layout::inbox_entry(sent.fingerprint), &layout::generation(&generation)).expect("renames");
    for link in [layout::current(), layout::lkg()] {
        durable::point(disk, &link, &layout::generation_link(&generation)).expect("points");
    }
    disk.sync(SyncTarget::Fs).expect("syncs");
    let floors = root.floors().ok().flatten().unwrap_or_default();
    root.write_floors(&floors.proven_by(&name("harbor"), serial, sent.fingerprint)).expect("writes");
    generation
}

/// A node with an old generation, an active one, and a set in transit; and how much it takes.
fn inhabited(fleet: &Fleet) -> (SimDisk, [Name; 2], Sent, u64) {
    let disk = fleet.node();
    let (mut store, root) = (open(&disk), state_root(&disk));
    let generations = [1, 2].map(|serial| {
        let sent = fleet.set(&Release::of(serial, noise(&serial.to_string(), 300_000)));
        deliver(&mut store, &sent).expect("delivers");
        activate(&root, &sent, serial)
    });
    let transit = fleet.set(&Release {
        stream: "transit",
        scope: "fleet: harbor, nodes: [node-c]",
        ..Release::of(1, noise("transit", 300_000))
    });
    deliver(&mut store, &transit).expect("delivers");
    let taken = used(&disk);
    (disk, generations, transit, taken)
}

#[test]
fn eviction_takes_what_nobody_needs_in_order_and_leaves_what_is_protected() {
    let fleet = Fleet::new();
    let (disk, [old, active], transit, taken) = inhabited(&fleet);
    let root = state_root(&disk);
    let next = fleet.set(&Release::of(3, noise("next", 300_000)));
    let mut store = Store::open(root.clone(), limits(taken + (260 << 10))).expect("opens");
    // One has to go, and that is enough: the old generation, as the set in transit is not relayed yet.
    deliver(&mut store, &next).expect("delivers");
    assert_eq!(root.generations().expect("lists"), std::slice::from_ref(&active));
    assert_ne!(old, active);
    assert_eq!(store.transit().count(), 1);
    assert!(used(&disk) <= taken + (260 << 10));
    // What is left is all protected.
    let more = fleet.set(&Release { stream: "more", ..Release::of(1, noise("more", 300_000)) });
    is_ceiling(deliver(&mut store, &more).expect_err("refuses"));
    assert_eq!(root.generations().expect("lists"), [active]);
    assert_eq!(progress(&mut store, &next).state, SetState::Stored);
    // It was handed on: now it may go.
    store.set_handed_on([transit.fingerprint].into());
    deliver(&mut store, &more).expect("delivers");
    assert!(store.transit().all(|(fingerprint, _)| fingerprint != transit.fingerprint));
}

#[test]
fn fi_disk_ceiling_eviction_failure_write_rejected_cleanly() {
    let fleet = Fleet::new();
    let (disk, [old, active], _, taken) = inhabited(&fleet);
    let root = state_root(&disk);
    let ceiling = taken + (260 << 10);
    let next = fleet.set(&Release::of(3, noise("next", 300_000)));
    let mut store = Store::open(root.clone(), limits(ceiling)).expect("opens");
    // An apply is at work, so no generation can go.
    let held = root.lock("apply").expect("locks");
    is_ceiling(deliver(&mut store, &next).expect_err("refuses"));
    assert_eq!(root.generations().expect("lists"), [old, active]);
    assert!(used(&disk) <= ceiling);
    drop(held);
    deliver(&mut store, &next).expect("delivers");
    super::receive::is_whole(&root, layout::inbox_entry(next.fingerprint), &next);
}

#[test]
fn an_eviction_that_fails_at_any_verb_leaves_the_store_below_the_ceiling_and_going_on() {
    const EIO: i32 = 5;
    let fleet = Fleet::new();
    let (before, _, _, taken) = inhabited(&fleet);
    let ceiling = taken + (260 << 10);
    let next = fleet.set(&Release::of(3, noise("next", 300_000)));
    let body = next.tar();
    for verb in (1..).step_by(3) {
        let disk = before.crash(Image::All);
        let mut store = Store::open(state_root(&disk), limits(ceiling)).expect("opens");
        let start = disk.verbs();
        disk.fail_at(start + verb, EIO);
        let first = deliver(&mut store, &next);
        assert!(used(&disk) <= ceiling, "verb {verb}");
        if first.is_err() {
            let again = deliver(&mut store, &next);
            assert!(again.is_ok() || used(&disk) <= ceiling, "verb {verb}");
        }
        if disk.verbs() < start + verb {
            assert!(verb > 30 && !body.is_empty(), "only {verb} verbs");
            break;
        }
    }
}
