//! One machine, step by step.

use autonomy_relay::{Config, Input, MAX_WANTED, Output, PeerQuota, RowState, SuccessCondition, Wanted, pack};
use autonomy_schema::{Blake3, Name};

use crate::law::Judged;
use crate::world::{Set, config, id, name};

const FREE: PeerQuota = PeerQuota { bytes_per_second: 0, available_bytes: 0 };

fn reached(peer: &str) -> Input {
    Input::Reached { peer: name(peer), quota: FREE }
}

fn unreachable(peer: &str) -> Input {
    Input::Unreachable { peer: name(peer), error: "no route".to_owned() }
}

fn dial(peer: &str) -> Output {
    Output::Dial { peer: name(peer) }
}

fn wants(set: &Set, peer: &str, wanted: &[Wanted]) -> Input {
    Input::Answered { peer: name(peer), manifest: set.manifest(), wanted: wanted.to_vec(), more: false, stored: false }
}

fn has(set: &Set, peer: &str) -> Input {
    Input::Answered { peer: name(peer), manifest: set.manifest(), wanted: Vec::new(), more: false, stored: true }
}

fn took(set: &Set, peer: &str, ids: &[Blake3]) -> Input {
    let results = ids.iter().map(|id| (*id, Ok(()))).collect();
    Input::PackDone { peer: name(peer), manifest: set.manifest(), results }
}

/// Without the rows.
fn acts(outputs: Vec<Output>) -> Vec<Output> {
    outputs.into_iter().filter(|output| !matches!(output, Output::Record(_))).collect()
}

fn started(config: Config, set: &Set) -> (Judged, Vec<Output>) {
    let mut judged = Judged::new();
    judged.step(0, Input::Configure(config));
    let outputs = judged.step(0, Input::Deliver(set.delivery.clone()));
    (judged, outputs)
}

/// Connected to `b`, which was offered the set and wants all of it. Gives what that led to.
fn wanting(config: Config, quota: PeerQuota, set: &Set) -> (Judged, Vec<Output>) {
    let (mut judged, outputs) = started(config, set);
    assert_eq!(outputs, [dial("b")]);
    let offered = judged.step(0, Input::Reached { peer: name("b"), quota });
    assert_eq!(
        acts(offered),
        [Output::Offer { peer: name("b"), manifest: set.manifest(), bytes: set.delivery.documents }]
    );
    let outputs = judged.step(0, wants(set, "b", &set.segments));
    (judged, outputs)
}

fn sent(outputs: &[Output]) -> Vec<(Vec<Blake3>, u64)> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Send { ids, bytes, .. } => Some((ids.clone(), *bytes)),
            _ => None,
        })
        .collect()
}

#[test]
fn a_set_goes_from_offer_to_delivered() {
    let set = Set::new("harbor", 1, 3);
    let ids: Vec<Blake3> = set.segments.iter().map(|one| one.id).collect();
    let (mut judged, outputs) = wanting(config(&["b"]), FREE, &set);
    assert_eq!(sent(&outputs)[0].0, ids);
    let asked = judged.step(5, took(&set, "b", &ids));
    assert_eq!(acts(asked), [Output::Ask { peer: name("b"), manifest: set.manifest() }]);
    let (peer, manifest) = (name("b"), set.manifest());
    let end = judged.step(6, has(&set, "b"));
    let delivered = Output::Delivered { peer: peer.clone(), manifest };
    assert_eq!(end, [delivered, Output::Done { manifest }, Output::Hangup { peer }]);
    assert!(judged.ledger.values().all(|row| row.state == RowState::Acked && row.attempts == 1));
    assert_eq!((judged.ledger.len(), judged.machine.next_due()), (4, None));
}

#[test]
fn answers_that_come_twice_or_unasked_change_nothing() {
    let set = Set::new("harbor", 1, 3);
    let ids: Vec<Blake3> = set.segments.iter().map(|one| one.id).collect();
    let (mut judged, _) = wanting(config(&["b"]), FREE, &set);
    assert_eq!(judged.step(1, wants(&set, "b", &set.segments)), []);
    assert_eq!(judged.step(1, has(&set, "b")), [], "nobody asked");
    assert_eq!(judged.step(1, took(&set, "b", &[id("another")])), [], "no such pack is on its way");
    judged.step(2, took(&set, "b", &ids));
    let ledger = judged.ledger.clone();
    assert_eq!(judged.step(3, took(&set, "b", &ids)), []);
    let error = "late".to_owned();
    assert_eq!(judged.step(3, Input::PackFailed { peer: name("b"), manifest: set.manifest(), ids, error }), []);
    for stranger in [reached("x"), unreachable("x"), has(&set, "x"), Input::Seen { peer: name("x") }] {
        assert_eq!(judged.step(4, stranger), []);
    }
    assert_eq!(judged.ledger, ledger);
}

#[test]
fn one_peer_is_tried_after_the_other_in_the_order_of_their_rank() {
    let set = Set::new("harbor", 1, 1);
    let one = Config { success: SuccessCondition::OnePeer, ..config(&["d", "b", "c"]) };
    let (mut judged, outputs) = started(one, &set);
    assert_eq!(outputs, [dial("b")]);
    assert_eq!(judged.step(10, unreachable("b")), [dial("c")]);
    let offered = acts(judged.step(20, reached("c")));
    assert_eq!(offered, [Output::Offer { peer: name("c"), manifest: set.manifest(), bytes: 4096 }]);
    // `b` is back, but `c` is being served.
    assert_eq!(judged.step(21, Input::Seen { peer: name("b") }), []);
    judged.step(22, wants(&set, "c", &set.segments));
    judged.step(23, took(&set, "c", &[set.segments[0].id]));
    let end = judged.step(24, has(&set, "c"));
    let manifest = set.manifest();
    let delivered = Output::Delivered { peer: name("c"), manifest };
    assert_eq!(end, [delivered, Output::Done { manifest }, Output::Hangup { peer: name("c") }]);
    assert_eq!(judged.step(1_000_000, Input::Seen { peer: name("d") }), [], "one is enough");
}

#[test]
fn with_one_peer_a_dead_letter_moves_on_to_the_next() {
    let set = Set::new("harbor", 1, 1);
    let one = Config { success: SuccessCondition::OnePeer, max_attempts: 1, ..config(&["b", "c"]) };
    let (mut judged, _) = started(one, &set);
    judged.step(1, reached("b"));
    let error = "it does not verify".to_owned();
    let outputs = acts(judged.step(2, Input::OfferFailed { peer: name("b"), manifest: set.manifest(), error }));
    assert!(matches!(outputs[0], Output::DeadLetter(_)), "{outputs:?}");
    assert_eq!(outputs[1..], [Output::Hangup { peer: name("b") }, dial("c")]);
}

#[test]
fn with_one_peer_segments_that_are_dead_letters_move_on_to_the_next_too() {
    let set = Set::new("harbor", 1, 1);
    let one = Config { success: SuccessCondition::OnePeer, max_attempts: 1, ..config(&["b", "c"]) };
    let (mut judged, _) = wanting(one, FREE, &set);
    let results = vec![(set.segments[0].id, Err("not_named".to_owned()))];
    let outputs = judged.step(1, Input::PackDone { peer: name("b"), manifest: set.manifest(), results });
    assert_eq!(acts(outputs)[1..], [Output::Hangup { peer: name("b") }, dial("c")]);
}

#[test]
fn all_peers_are_dialled_spread_by_rank_and_each_must_have_it() {
    let set = Set::new("harbor", 1, 1);
    let (mut judged, outputs) = started(config(&["c", "d", "b", "e"]), &set);
    assert_eq!((outputs, judged.machine.next_due()), (vec![dial("b")], Some(250)));
    assert_eq!(judged.step(250, Input::Tick), [dial("c")]);
    assert_eq!(judged.step(500, Input::Tick), [dial("d")]);
    assert_eq!(judged.step(600, Input::Seen { peer: name("e") }), [dial("e")], "it is there already");
    let done = Output::Done { manifest: set.manifest() };
    for (at, peer) in ["b", "c", "d", "e"].into_iter().enumerate() {
        judged.step(700, reached(peer));
        let end = judged.step(701, has(&set, peer));
        assert_eq!(end.contains(&done), at == 3, "{peer}");
    }
    assert!(judged.machine.is_done(set.manifest()));
    // With another peer it is not done, and goes on from there.
    assert_eq!(judged.step(1_000, Input::Configure(config(&["b", "c", "d", "e", "f"]))), [dial("f")]);
    assert!(!judged.machine.is_done(set.manifest()));
}

#[test]
fn no_contact_is_no_attempt_and_dials_never_end() {
    let set = Set::new("harbor", 1, 1);
    let (mut judged, _) = started(Config { window: 10_000, ..config(&["b"]) }, &set);
    let (mut now, mut waits) = (0, Vec::new());
    for _ in 0..8 {
        assert_eq!(judged.step(now, unreachable("b")), []);
        let due = judged.machine.next_due().unwrap();
        waits.push(due - now);
        now = due;
        assert_eq!(judged.step(now, Input::Tick), [dial("b")]);
    }
    assert_eq!(waits, [1000, 2000, 4000, 8000, 10_000, 10_000, 10_000, 10_000]);
    assert!(judged.ledger.is_empty());
    assert_eq!(judged.machine.scheduled().len(), 1);
    judged.step(now, unreachable("b"));
    assert_eq!(judged.step(now, Input::Configure(config(&["b"]))), [dial("b")], "another configuration, another try");
    judged.step(now, unreachable("b"));
    assert_eq!(judged.step(now, Input::Withdraw(set.manifest())), []);
    assert_eq!((judged.machine.next_due(), judged.machine.scheduled()), (None, Vec::new()));
}

#[test]
fn only_the_newest_serial_of_a_stream_travels() {
    let (old, new) = (Set::new("harbor", 1, 2), Set::new("harbor", 2, 2));
    let other = Set::new("airport", 1, 1);
    let (mut judged, outputs) = wanting(config(&["b"]), FREE, &old);
    let (ids, _) = sent(&outputs).remove(0);
    let offered = acts(judged.step(1, Input::Deliver(new.delivery.clone())));
    assert_eq!(offered, [Output::Offer { peer: name("b"), manifest: new.manifest(), bytes: 4096 }]);
    // What was under way is still counted.
    judged.step(2, took(&old, "b", &ids));
    assert_eq!(judged.ledger.values().filter(|row| row.state == RowState::Acked).count(), 3);
    assert_eq!(judged.step(3, Input::Deliver(old.delivery.clone())), [], "an older one is no news");
    assert_eq!(judged.step(3, Input::Deliver(other.delivery.clone())), [], "and another stream waits for its turn");
}

#[test]
fn a_busy_peer_is_left_alone_as_a_whole_for_as_long_as_it_says() {
    let (set, other) = (Set::new("harbor", 1, 2), Set::new("pier", 1, 1));
    let (mut judged, outputs) = wanting(config(&["b"]), FREE, &set);
    let (ids, _) = sent(&outputs).remove(0);
    judged.step(1, Input::Deliver(other.delivery.clone()));
    judged.step(2, Input::Throttled { peer: name("b"), ticks: 30_000 });
    let error = "429".to_owned();
    judged.step(2, Input::PackFailed { peer: name("b"), manifest: set.manifest(), ids: ids.clone(), error });
    for now in [3, 1002, 5000, 30_001] {
        assert_eq!(judged.step(now, Input::Tick), [], "at {now}");
    }
    assert_eq!(judged.machine.next_due(), Some(30_002));
    assert_eq!(sent(&judged.step(30_002, Input::Tick)), [(ids, pack::framed(4096) + pack::framed(5096))]);
}

#[test]
fn bandwidth_is_the_lower_of_ours_and_nine_tenths_of_theirs() {
    let mut set = Set::new("harbor", 1, 40);
    set.delivery.documents = 0;
    let total: u64 = set.segments.iter().map(|one| pack::framed(one.length)).sum();
    for (own, theirs, rate) in
        [(10_000, 0, 10_000), (0, 10_000, 9_000), (10_000, 100_000, 10_000), (50_000, 10_000, 9_000)]
    {
        let quota = PeerQuota { bytes_per_second: theirs, available_bytes: 0 };
        // As if a second's worth, or the room at the peer, were spent.
        let (mut judged, mut outputs) = wanting(Config { bytes_per_second: own, ..config(&["b"]) }, quota, &set);
        let (mut now, mut bytes) = (0, 0);
        while bytes < total {
            for (ids, of) in sent(&outputs) {
                bytes += of;
                let burst = if theirs > 0 { 0 } else { own.max(pack::framed(65_536)) };
                assert!(bytes <= burst + rate * now / 1000, "{bytes} bytes after {now} ticks at {rate}");
                outputs = judged.step(now, took(&set, "b", &ids));
            }
            if bytes < total && sent(&outputs).is_empty() {
                now = judged.machine.next_due().unwrap();
                outputs = judged.step(now, Input::Tick);
            }
        }
        let ideal = total.saturating_sub(if theirs > 0 { 0 } else { pack::framed(65_536) }) * 1000 / rate;
        assert!(now <= ideal + 10, "{now} ticks; {ideal} would do");
    }
}

#[test]
fn the_daily_quota_ends_the_day_and_a_new_day_goes_on() {
    let mut set = Set::new("harbor", 1, 4);
    set.delivery.documents = 0;
    let first = pack::framed(set.segments[0].length) + pack::framed(set.segments[1].length);
    let (mut judged, outputs) = wanting(Config { daily_bytes: first + 100, ..config(&["b"]) }, FREE, &set);
    let packs = sent(&outputs);
    assert_eq!(packs.iter().map(|(ids, bytes)| (ids.len(), *bytes)).collect::<Vec<_>>(), [(2, first)]);
    assert_eq!(acts(judged.step(1, took(&set, "b", &packs[0].0))), []);
    assert_eq!(judged.step(900_000, Input::Tick), []);
    assert_eq!(sent(&judged.step(900_001, Input::SentToday(0)))[0].0.len(), 1, "the third is larger than what is left");
    let (mut judged, _) = started(Config { daily_bytes: first, ..config(&["b"]) }, &set);
    judged.step(0, Input::SentToday(first - 10));
    judged.step(0, reached("b"));
    assert_eq!(sent(&judged.step(0, wants(&set, "b", &set.segments))), [], "what was sent before the start counts");
}

#[test]
fn packs_hold_8_mib_and_two_are_under_way() {
    let mut set = Set::new("harbor", 1, 400);
    for wanted in &mut set.segments {
        wanted.length = 65_536;
    }
    let (mut judged, outputs) = wanting(config(&["b"]), FREE, &set);
    let packs = sent(&outputs);
    assert_eq!(packs.iter().map(|(ids, _)| ids.len()).collect::<Vec<_>>(), [127, 127]);
    let order: Vec<Blake3> = packs.iter().flat_map(|(ids, _)| ids.clone()).collect();
    assert_eq!(order, set.segments[..254].iter().map(|one| one.id).collect::<Vec<_>>(), "in the order of the set");
    let outputs = judged.step(1, took(&set, "b", &packs[1].0));
    assert_eq!(sent(&outputs).iter().map(|(ids, _)| ids.len()).collect::<Vec<_>>(), [127]);
}

#[test]
fn a_pack_of_tiny_segments_has_as_many_as_its_answer_may_name() {
    let mut set = Set::new("harbor", 1, 9000);
    for wanted in &mut set.segments {
        wanted.length = 1;
    }
    let (_, outputs) = wanting(config(&["b"]), FREE, &set);
    assert_eq!(sent(&outputs).iter().map(|(ids, _)| ids.len()).collect::<Vec<_>>(), [8192, 808]);
}

#[test]
fn a_peer_that_acknowledges_and_wants_it_again_is_not_served_for_ever() {
    let set = Set::new("harbor", 1, 1);
    let (mut judged, mut outputs) = wanting(config(&["b"]), FREE, &set);
    let (mut now, mut packs) = (0, 0);
    for _ in 0..100 {
        now = judged.machine.next_due().unwrap_or(now + 1);
        for output in std::mem::take(&mut outputs) {
            match output {
                Output::Send { ids, .. } => {
                    packs += 1;
                    outputs.extend(judged.step(now, took(&set, "b", &ids)));
                }
                Output::Ask { .. } => outputs.extend(judged.step(now, wants(&set, "b", &set.segments))),
                _ => {}
            }
        }
        outputs.extend(judged.step(now, Input::Tick));
    }
    assert_eq!(packs, 5);
    let dead: Vec<_> = judged.ledger.values().filter(|row| row.state == RowState::Deadletter).collect();
    assert_eq!((dead.len(), dead[0].attempts), (1, 5));
    assert_eq!(dead[0].last_error.as_deref(), Some("the peer had acknowledged it, and lacks it again"));
}

#[test]
fn a_peer_that_has_everything_but_is_not_done_is_asked_less_and_less_often() {
    let set = Set::new("harbor", 1, 1);
    let (mut judged, _) = wanting(config(&["b"]), FREE, &set);
    judged.step(0, took(&set, "b", &[set.segments[0].id]));
    let (mut now, mut waits) = (0, Vec::new());
    for _ in 0..4 {
        assert_eq!(acts(judged.step(now, wants(&set, "b", &[]))), []);
        let due = judged.machine.next_due().unwrap();
        waits.push(due - now);
        now = due;
        assert_eq!(judged.step(now, Input::Tick), [Output::Ask { peer: name("b"), manifest: set.manifest() }]);
    }
    assert_eq!(waits, [1000, 2000, 4000, 8000]);
}

#[test]
fn a_peer_that_is_configured_no_more_is_let_go() {
    let set = Set::new("harbor", 1, 1);
    let (mut judged, _) = wanting(config(&["b"]), FREE, &set);
    let peer: Name = name("b");
    let outputs = judged.step(1, Input::Configure(config(&["c"])));
    assert_eq!(acts(outputs), [Output::Hangup { peer }, dial("c")]);
    assert_eq!(judged.ledger.values().filter(|row| row.state == RowState::Failed).count(), 1);
    // What the other side says now is nobody's.
    assert_eq!(judged.step(2, took(&set, "b", &[set.segments[0].id])), []);
}

#[test]
fn no_more_segments_are_held_than_one_answer_may_name() {
    let mut set = Set::new("harbor", 1, 20_000);
    for wanted in &mut set.segments {
        wanted.length = 65_536;
    }
    let (mut judged, mut outputs) = wanting(config(&["b"]), FREE, &set);
    let mut ids = Vec::new();
    // A peer that names more than it may: what is beyond is left for its next answer.
    while let Some((pack, _)) = sent(&outputs).into_iter().next() {
        ids.extend_from_slice(&pack);
        outputs.retain(|output| !matches!(output, Output::Send { ids, .. } if *ids == pack));
        outputs.extend(judged.step(1, took(&set, "b", &pack)));
    }
    assert_eq!(ids.len(), MAX_WANTED);
    assert_eq!(acts(outputs).last(), Some(&Output::Ask { peer: name("b"), manifest: set.manifest() }));
    let rest: Vec<Wanted> = set.segments[MAX_WANTED..].to_vec();
    assert_eq!(sent(&judged.step(2, wants(&set, "b", &rest))).len(), 2);
}

#[test]
fn an_error_that_a_peer_wrote_is_kept_short() {
    let set = Set::new("harbor", 1, 1);
    let (mut judged, _) = started(config(&["b"]), &set);
    judged.step(0, reached("b"));
    let error = "\u{e4}".repeat(5_000);
    judged.step(1, Input::OfferFailed { peer: name("b"), manifest: set.manifest(), error });
    let kept = judged.ledger.values().next().unwrap().last_error.clone().unwrap();
    assert_eq!(kept, "\u{e4}".repeat(100));
}

#[test]
fn documents_count_against_bandwidth_and_quota_as_segments_do() {
    let mut set = Set::new("harbor", 1, 1);
    set.delivery.documents = 100_000;
    let offers = |outputs: &[Output]| outputs.iter().filter(|output| matches!(output, Output::Offer { .. })).count();
    // 64 KiB a second: 100,000 bytes are more than that, so they begin with a full bucket, and the next wait.
    let mut judged = Judged::new();
    judged.step(0, Input::Configure(Config { bytes_per_second: 65_572, ..config(&["b"]) }));
    judged.step(0, Input::Deliver(set.delivery.clone()));
    assert_eq!(offers(&judged.step(0, reached("b"))), 1);
    let waits = judged.step(1, wants(&set, "b", &set.segments));
    assert_eq!(sent(&waits), [], "the bucket is empty: {waits:?}");
    // The quota of the day has no room for them.
    let mut judged = Judged::new();
    judged.step(0, Input::Configure(Config { daily_bytes: 150_000, ..config(&["b"]) }));
    judged.step(0, Input::SentToday(60_000));
    judged.step(0, Input::Deliver(set.delivery.clone()));
    assert_eq!(offers(&judged.step(0, reached("b"))), 0);
    assert_eq!(offers(&judged.step(1, Input::SentToday(0))), 1, "and that of the next day has");
}
