//! FI-C4: attempts are counted before they are made, never go down, end at the limit, and nothing comes after the end.

use autonomy_relay::{Config, Input, Machine, Output, Part, PeerQuota, Row, RowKey, RowState};
use autonomy_schema::{Blake3, Name};

use crate::law::Judged;
use crate::world::{Set, config, name};

const FREE: PeerQuota = PeerQuota { bytes_per_second: 0, available_bytes: 0 };

/// A peer that is there and lets every pack fail. Gives the ticks at which packs went out, until nothing is due any more.
fn refuse_every_pack(judged: &mut Judged, peer: &Name, set: &Set, max_steps: usize) -> Vec<u64> {
    let (mut now, mut sent) = (0, Vec::new());
    let mut open = vec![Input::Deliver(set.delivery.clone())];
    for _ in 0..max_steps {
        let Some(input) = open.pop() else {
            let Some(due) = judged.machine.next_due() else { return sent };
            now = due;
            open.push(Input::Tick);
            continue;
        };
        for output in judged.step(now, input) {
            match output {
                Output::Dial { peer } => open.push(Input::Reached { peer, quota: FREE }),
                Output::Offer { peer, manifest, .. } | Output::Ask { peer, manifest } => {
                    let wanted = set.segments.clone();
                    open.push(Input::Answered { peer, manifest, wanted, more: false, stored: false });
                }
                Output::Send { peer, manifest, ids, .. } => {
                    sent.push(now);
                    open.push(Input::PackFailed { peer, manifest, ids, error: "it was dropped".to_owned() });
                }
                Output::Delivered { .. } | Output::Done { .. } => panic!("{peer} has nothing"),
                Output::Record(_) | Output::DeadLetter(_) | Output::Hangup { .. } => {}
            }
        }
    }
    panic!("still not at an end after {max_steps} steps");
}

fn states(judged: &Judged) -> Vec<(RowState, u64)> {
    let rows = judged.ledger.iter().filter(|(key, _)| key.part != Part::Manifest);
    rows.map(|(_, row)| (row.state, row.attempts)).collect()
}

#[test]
fn fi_retry_exhaustion_terminal_state() {
    let (mut judged, set) = (Judged::new(), Set::new("harbor", 1, 3));
    judged.step(0, Input::Configure(config(&["b"])));
    let sent = refuse_every_pack(&mut judged, &name("b"), &set, 200);
    assert_eq!(sent.len(), 5, "as often as the configuration allows");
    assert_eq!(states(&judged), [(RowState::Deadletter, 5); 3]);
    assert!(judged.ledger.values().all(|row| row.state != RowState::Deadletter || row.last_error.is_some()));
    // No news brings it back: not the peer, not the configuration, not the same delivery, not a restart.
    let quiet = |judged: &mut Judged, input: Input| {
        let acts = judged.step(1_000_000, input.clone());
        let sends = acts.iter().any(|act| matches!(act, Output::Send { .. } | Output::Record(_)));
        assert!(!sends, "{input:?} led to {acts:?}");
    };
    let more = Config { max_attempts: 50, ..config(&["b", "c"]) };
    for input in [Input::Seen { peer: name("b") }, Input::Deliver(set.delivery.clone()), Input::Configure(more)] {
        quiet(&mut judged, input);
    }
    let rows = judged.crash();
    quiet(&mut judged, Input::Configure(config(&["b"])));
    quiet(&mut judged, Input::Restore(rows));
    quiet(&mut judged, Input::Deliver(set.delivery.clone()));
    quiet(&mut judged, Input::Reached { peer: name("b"), quota: FREE });
    let (peer, manifest) = (name("b"), set.manifest());
    quiet(&mut judged, Input::Answered { peer, manifest, wanted: set.segments.clone(), more: false, stored: false });
    assert_eq!(states(&judged), [(RowState::Deadletter, 5); 3]);
}

#[test]
fn fi_retry_count_monotonic() {
    // The ledger's own law compares every row with the one before; here the program dies after every step.
    let set = Set::new("harbor", 1, 2);
    let (peer, manifest) = (name("b"), set.manifest());
    let mut judged = Judged::new();
    let mut seen = Vec::new();
    let mut now = 0;
    for _ in 0..8 {
        let rows = judged.crash();
        judged.step(now, Input::Configure(config(&["b"])));
        judged.step(now, Input::Restore(rows));
        judged.step(now, Input::Deliver(set.delivery.clone()));
        now += 1_000_000;
        judged.step(now, Input::Tick);
        let mut outputs = judged.step(now, Input::Reached { peer: peer.clone(), quota: FREE });
        if outputs.iter().any(|output| matches!(output, Output::Offer { .. } | Output::Ask { .. })) {
            let wanted = set.segments.clone();
            let answer = Input::Answered { peer: peer.clone(), manifest, wanted, more: false, stored: false };
            outputs = judged.step(now, answer);
            now += 1_000_000;
            outputs.extend(judged.step(now, Input::Tick));
        }
        seen.push((states(&judged), outputs.iter().any(|output| matches!(output, Output::Send { .. }))));
    }
    let attempts: Vec<(u64, bool)> = seen.iter().map(|(rows, sent)| (rows[0].1, *sent)).collect();
    // Died while the pack was under way, five times: each counts, and the sixth is not begun.
    assert_eq!(attempts[..5], [(1, true), (2, true), (3, true), (4, true), (5, true)]);
    assert_eq!(attempts[5..], [(5, false), (5, false), (5, false)]);
    assert_eq!(states(&judged), [(RowState::Deadletter, 5); 2]);
    let error = judged.ledger.values().find(|row| row.state == RowState::Deadletter).unwrap().last_error.clone();
    assert_eq!(error.as_deref(), Some("interrupted"));
}

#[test]
fn rows_that_come_before_the_configuration_are_judged_by_it() {
    let set = Set::new("harbor", 1, 2);
    let (peer, manifest) = (name("b"), set.manifest());
    let row = |at: usize, state, attempts| {
        let key = RowKey { manifest, part: Part::Segment(set.segments[at].id), peer: peer.clone() };
        (key, Row { state, attempts, last_error: None })
    };
    let rows = vec![row(0, RowState::Failed, 4), row(1, RowState::Inflight, 5)];
    let mut machine = Machine::new();
    let first = machine.step(0, Input::Restore(rows));
    let [Output::Record(changes)] = first.as_slice() else { panic!("{first:?}") };
    assert_eq!((changes.len(), changes[0].row.state, changes[0].row.attempts), (1, RowState::Failed, 5));
    let second = machine.step(0, Input::Configure(config(&["b"])));
    let [Output::Record(changes), Output::DeadLetter(_)] = second.as_slice() else { panic!("{second:?}") };
    assert_eq!((changes.len(), changes[0].row.state), (1, RowState::Deadletter));
    assert_eq!(changes[0].row.last_error.as_deref(), Some("interrupted"));
}

#[test]
fn fi_retry_exhausted_no_beyond_window() {
    for window in [5_000, 8_000, 60_000] {
        let (mut judged, set) = (Judged::new(), Set::new("harbor", 1, 1));
        judged.step(0, Input::Configure(Config { window, ..config(&["b"]) }));
        let sent = refuse_every_pack(&mut judged, &name("b"), &set, 200);
        assert_eq!(sent.len(), 5, "window {window}: {sent:?}");
        assert!(sent[4] - sent[0] <= window, "window {window}: {sent:?}");
        assert!(sent.windows(2).all(|pair| pair[1] - pair[0] >= 1000), "never below the back-off: {sent:?}");
        for later in [window, 10 * window, 1000 * window] {
            assert_eq!(judged.step(sent[4] + later, Input::Tick), [], "window {window}, {later} ticks later");
        }
        assert_eq!(judged.machine.next_due(), None, "nothing is waited for");
    }
}

#[test]
fn a_set_that_is_refused_to_the_end_takes_its_segments_along() {
    let (mut judged, set) = (Judged::new(), Set::new("harbor", 1, 2));
    let (peer, manifest) = (name("b"), set.manifest());
    let ids: Vec<Blake3> = set.segments.iter().map(|one| one.id).collect();
    judged.step(0, Input::Configure(Config { max_attempts: 2, ..config(&["b"]) }));
    judged.step(0, Input::Deliver(set.delivery.clone()));
    judged.step(0, Input::Reached { peer: peer.clone(), quota: FREE });
    let wanted = set.segments.clone();
    judged.step(1, Input::Answered { peer: peer.clone(), manifest, wanted, more: false, stored: false });
    judged.step(2, Input::Lost { peer: peer.clone(), error: "reset".to_owned() });
    assert_eq!(states(&judged), [(RowState::Failed, 1); 2]);
    judged.step(1002, Input::Tick);
    let asked = judged.step(1003, Input::Reached { peer: peer.clone(), quota: FREE });
    assert_eq!(asked, [Output::Ask { peer: peer.clone(), manifest }]);
    // It has forgotten the set, and then does not take it: that was the second and last attempt.
    let offered =
        judged.step(1004, Input::AskFailed { peer: peer.clone(), manifest, error: "404".to_owned(), unknown: true });
    assert!(offered.contains(&Output::Offer { peer: peer.clone(), manifest, bytes: 4096 }), "{offered:?}");
    let last = judged.step(1005, Input::OfferFailed { peer: peer.clone(), manifest, error: "422".to_owned() });
    let of = |part| Output::DeadLetter(RowKey { manifest, part, peer: peer.clone() });
    let mut segments = ids.clone();
    segments.sort();
    let expected = [of(Part::Manifest), of(Part::Segment(segments[0])), of(Part::Segment(segments[1]))];
    assert_eq!(last[1..4], expected, "{last:?}");
    assert_eq!(last[4..], [Output::Hangup { peer: peer.clone() }]);
    assert_eq!(states(&judged), [(RowState::Deadletter, 1); 2]);
}

#[test]
fn a_question_that_fails_costs_no_attempt_and_is_asked_again_later() {
    let (mut judged, set) = (Judged::new(), Set::new("harbor", 1, 2));
    let (peer, manifest) = (name("b"), set.manifest());
    judged.step(0, Input::Configure(Config { max_attempts: 2, ..config(&["b"]) }));
    judged.step(0, Input::Deliver(set.delivery.clone()));
    judged.step(0, Input::Reached { peer: peer.clone(), quota: FREE });
    let answer = Input::Answered { peer: peer.clone(), manifest, wanted: Vec::new(), more: true, stored: false };
    judged.step(1, answer);
    let mut asked = 0;
    for _ in 0..20 {
        let now = judged.machine.next_due().expect("something is due");
        for output in judged.step(now, Input::Tick) {
            assert!(!matches!(output, Output::Offer { .. } | Output::DeadLetter(_)), "{output:?}");
            if let Output::Ask { peer, manifest } = output {
                asked += 1;
                let error = "the disk is full".to_owned();
                judged.step(now, Input::AskFailed { peer, manifest, error, unknown: false });
            }
        }
    }
    assert!(asked > 10, "{asked}");
    let row = judged.ledger.values().next().expect("the row of the set");
    assert_eq!((row.state, row.attempts), (RowState::Acked, 1));
}

#[test]
fn a_set_that_the_peer_forgets_to_the_end_takes_its_segments_along() {
    let (mut judged, set) = (Judged::new(), Set::new("harbor", 1, 2));
    let (peer, manifest) = (name("b"), set.manifest());
    judged.step(0, Input::Configure(Config { max_attempts: 1, ..config(&["b"]) }));
    judged.step(0, Input::Deliver(set.delivery.clone()));
    judged.step(
        0,
        Input::Reached { peer: peer.clone(), quota: PeerQuota { bytes_per_second: 1, available_bytes: 5000 } },
    );
    let wanted = set.segments.clone();
    // The documents have taken what may be sent, so the segments wait.
    judged.step(1, Input::Answered { peer: peer.clone(), manifest, wanted, more: false, stored: false });
    judged.step(2, Input::Lost { peer: peer.clone(), error: "reset".to_owned() });
    let due = judged.machine.next_due().expect("a dial");
    judged.step(due, Input::Tick);
    let asked = judged.step(due + 1, Input::Reached { peer: peer.clone(), quota: FREE });
    assert_eq!(asked, [Output::Ask { peer: peer.clone(), manifest }]);
    let last =
        judged.step(due + 2, Input::AskFailed { peer: peer.clone(), manifest, error: "404".to_owned(), unknown: true });
    assert!(last.contains(&Output::DeadLetter(RowKey { manifest, part: Part::Manifest, peer })), "{last:?}");
    assert!(judged.ledger.values().all(|row| row.state == RowState::Deadletter), "{:?}", judged.ledger);
}
