//! What must hold after every step, whatever the peers do.

use std::collections::{BTreeMap, BTreeSet};

use autonomy_relay::{Change, Config, Input, MAX_PACKS, Machine, Output, Part, Row, RowKey, RowState, Wanted, pack};
use autonomy_schema::{Blake3, Name};

/// A machine with its ledger, as `edged` has them; every step is judged.
pub(crate) struct Judged {
    pub(crate) machine: Machine,
    pub(crate) ledger: BTreeMap<RowKey, Row>,
    /// Every step so far, and what came out of it.
    pub(crate) log: Vec<(u64, Input, Vec<Output>)>,
    config: Option<Config>,
    in_flight: BTreeMap<Name, Vec<(Blake3, Vec<Blake3>)>>,
    lengths: BTreeMap<Blake3, u32>,
}

impl Judged {
    pub(crate) fn new() -> Self {
        Self {
            machine: Machine::new(),
            ledger: BTreeMap::new(),
            log: Vec::new(),
            config: None,
            in_flight: BTreeMap::new(),
            lengths: BTreeMap::new(),
        }
    }

    pub(crate) fn step(&mut self, now: u64, input: Input) -> Vec<Output> {
        self.hear(&input);
        let outputs = self.machine.step(now, input.clone());
        self.judge(now, &outputs);
        self.log.push((now, input, outputs.clone()));
        outputs
    }

    /// The power is cut: what is durable stays. Gives the rows that the next start reads.
    pub(crate) fn crash(&mut self) -> Vec<(RowKey, Row)> {
        self.machine = Machine::new();
        self.in_flight.clear();
        let acked = |key: &RowKey, row: &Row| key.part != Part::Manifest && row.state == RowState::Acked;
        self.ledger.iter().filter(|(key, row)| !acked(key, row)).map(|(key, row)| (key.clone(), row.clone())).collect()
    }

    /// The rows of the ledger for what a peer wants.
    pub(crate) fn rows_of(&self, manifest: Blake3, peer: &Name, wanted: &[Wanted]) -> Vec<(RowKey, Row)> {
        let keys = wanted.iter().map(|one| RowKey { manifest, part: Part::Segment(one.id), peer: peer.clone() });
        keys.filter_map(|key| self.ledger.get(&key).map(|row| (key.clone(), row.clone()))).collect()
    }

    fn hear(&mut self, input: &Input) {
        match input {
            Input::Configure(config) => {
                self.in_flight.retain(|peer, _| config.peers.contains(peer));
                self.config = Some(config.clone());
            }
            Input::Lost { peer, .. } | Input::Unreachable { peer, .. } => {
                self.in_flight.remove(peer);
            }
            Input::PackDone { peer, manifest, results } => {
                self.landed(peer, *manifest, results.first().map(|(id, _)| *id));
            }
            Input::PackFailed { peer, manifest, ids, .. } => self.landed(peer, *manifest, ids.first().copied()),
            Input::Answered { wanted, .. } => {
                self.lengths.extend(wanted.iter().map(|one| (one.id, one.length)));
            }
            Input::Deliver(_)
            | Input::Withdraw(_)
            | Input::Restore(_)
            | Input::SentToday(_)
            | Input::Reached { .. }
            | Input::Seen { .. }
            | Input::OfferFailed { .. }
            | Input::AskFailed { .. }
            | Input::Throttled { .. }
            | Input::Tick => {}
        }
    }

    fn landed(&mut self, peer: &Name, manifest: Blake3, first: Option<Blake3>) {
        let packs = self.in_flight.entry(peer.clone()).or_default();
        let holds = |ids: &Vec<Blake3>| first.is_none_or(|id| ids.contains(&id));
        if let Some(at) = packs.iter().position(|(held, ids)| *held == manifest && holds(ids)) {
            packs.remove(at);
        }
    }

    fn judge(&mut self, now: u64, outputs: &[Output]) {
        let mut begun: BTreeSet<RowKey> = BTreeSet::new();
        for (at, output) in outputs.iter().enumerate() {
            match output {
                Output::Record(changes) => {
                    assert_eq!(at, 0, "rows come before whatever is done after them");
                    assert!(!changes.is_empty(), "a commit of nothing");
                    begun = changes.iter().filter_map(|change| self.record(change)).collect();
                }
                Output::Offer { peer, manifest, .. } => {
                    let key = RowKey { manifest: *manifest, part: Part::Manifest, peer: peer.clone() };
                    assert!(begun.remove(&key), "an offer that was not counted before: {key:?}");
                }
                Output::Send { peer, manifest, ids, bytes } => {
                    assert!(!ids.is_empty());
                    assert!(*bytes <= pack::MAX_BYTES, "a pack of {bytes} bytes");
                    let framed: u64 = ids.iter().map(|id| pack::framed(self.lengths[id])).sum();
                    assert_eq!(*bytes, framed);
                    for id in ids {
                        let key = RowKey { manifest: *manifest, part: Part::Segment(*id), peer: peer.clone() };
                        assert!(begun.remove(&key), "a segment that was not counted before: {key:?}");
                    }
                    let packs = self.in_flight.entry(peer.clone()).or_default();
                    packs.push((*manifest, ids.clone()));
                    assert!(packs.len() <= MAX_PACKS, "{} packs to {peer}", packs.len());
                }
                Output::DeadLetter(key) => assert_eq!(self.ledger[key].state, RowState::Deadletter),
                Output::Hangup { peer } => {
                    self.in_flight.remove(peer);
                }
                Output::Dial { .. } | Output::Ask { .. } | Output::Delivered { .. } | Output::Done { .. } => {}
            }
        }
        assert!(begun.is_empty(), "counted and not sent: {begun:?}");
        if let Some(due) = self.machine.next_due() {
            assert!(due > now, "due at {due}, and it is {now}: a loop without end");
        }
    }

    /// INV-12; gives the key when the row is an attempt that begins.
    fn record(&mut self, change: &Change) -> Option<RowKey> {
        let Change { key, row } = change;
        let max = self.config.as_ref().map_or(1, |config| config.max_attempts.max(1));
        let before = self.ledger.insert(key.clone(), row.clone());
        let attempts = before.as_ref().map_or(0, |row| row.attempts);
        assert_ne!(before.map(|row| row.state), Some(RowState::Deadletter), "a dead letter came back: {key:?}");
        if row.state == RowState::Inflight {
            assert_eq!(row.attempts, attempts + 1, "an attempt is counted once: {key:?}");
            assert!(row.attempts <= max, "attempt {} of {max}: {key:?}", row.attempts);
            return Some(key.clone());
        }
        assert_eq!(row.attempts, attempts, "counted without an attempt: {key:?}");
        if row.state == RowState::Failed {
            assert!(row.attempts < max, "failed for the {}th time of {max} and no dead letter: {key:?}", row.attempts);
        }
        None
    }
}
