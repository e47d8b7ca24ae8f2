//! A fleet in memory: machines, what they hold, wires between them that are cut and healed, peers that refuse and fail.
//! Time passes from event to event. The same seed is the same world.

use std::collections::{BTreeMap, BTreeSet};

use autonomy_relay::{Bucket, Config, Delivery, Input, Output, PeerQuota, SuccessCondition, Wanted};
use autonomy_schema::{Blake3, Name};

use crate::law::Judged;

/// Segments in one answer; more than that are told by `more`.
const PAGE: usize = 7;

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

pub(crate) fn id(text: &str) -> Blake3 {
    Blake3::of(text.as_bytes())
}

pub(crate) fn config(peers: &[&str]) -> Config {
    Config {
        success: SuccessCondition::AllPeers,
        max_attempts: 5,
        backoff: 1000,
        window: 60_000,
        peers: peers.iter().map(|peer| name(peer)).collect(),
        bytes_per_second: 0,
        daily_bytes: 0,
    }
}

/// Numbers that follow from a seed (xorshift64*).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit.max(1)
    }
}

/// A set: its delivery and its segments.
#[derive(Clone)]
pub(crate) struct Set {
    pub(crate) delivery: Delivery,
    pub(crate) segments: Vec<Wanted>,
}

impl Set {
    pub(crate) fn new(stream: &str, serial: u64, segments: u32) -> Self {
        let of = format!("{stream} {serial}");
        let segments =
            (0..segments).map(|at| Wanted { id: id(&format!("{of} {at}")), length: 4096 + at % 5 * 1000 }).collect();
        Self { delivery: Delivery { manifest: id(&of), stream: name(stream), serial, documents: 4096 }, segments }
    }

    pub(crate) fn manifest(&self) -> Blake3 {
        self.delivery.manifest
    }
}

pub(crate) struct Node {
    pub(crate) judged: Judged,
    config: Config,
    /// Sets that it accepted, with the segments that it has of each.
    pub(crate) holds: BTreeMap<Blake3, BTreeSet<Blake3>>,
    /// What it accepts of each peer.
    ingest: BTreeMap<Name, Bucket>,
    /// Connections that it opened, by their number.
    links: BTreeMap<Name, u64>,
    ticks: u64,
}

enum Event {
    /// Something reaches the machine; on a connection, only if that is still up.
    Input {
        link: Option<(Name, u64)>,
        input: Box<Input>,
    },
    Tick(u64),
}

pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) nodes: BTreeMap<Name, Node>,
    pub(crate) sets: BTreeMap<Blake3, Set>,
    pub(crate) dice: Dice,
    /// Of a hundred requests, how many fail.
    pub(crate) faults: u64,
    /// What a peer lets through: bytes a second and at once.
    pub(crate) ingest: (u64, u64),
    cut: BTreeSet<(Name, Name)>,
    events: BTreeMap<(u64, u64), (Name, Event)>,
    count: u64,
}

impl World {
    pub(crate) fn new(seed: u64, nodes: &[(&str, Config)]) -> Self {
        let nodes = nodes.iter().map(|(id, config)| {
            let node = Node {
                judged: Judged::new(),
                config: config.clone(),
                holds: BTreeMap::new(),
                ingest: BTreeMap::new(),
                links: BTreeMap::new(),
                ticks: 0,
            };
            (name(id), node)
        });
        let nodes: BTreeMap<Name, Node> = nodes.collect();
        let mut world = Self {
            now: 0,
            nodes,
            sets: BTreeMap::new(),
            dice: Dice::new(seed),
            faults: 0,
            ingest: (0, u64::MAX),
            cut: BTreeSet::new(),
            events: BTreeMap::new(),
            count: 0,
        };
        let configs: Vec<_> = world.nodes.iter().map(|(id, node)| (id.clone(), node.config.clone())).collect();
        for (id, config) in configs {
            world.feed(&id, Input::Configure(config));
        }
        world
    }

    /// A node has the whole set, from a stick.
    pub(crate) fn seed(&mut self, at: &str, set: &Set) {
        self.sets.insert(set.manifest(), set.clone());
        let node = self.nodes.get_mut(&name(at)).expect("a node");
        node.holds.insert(set.manifest(), set.segments.iter().map(|one| one.id).collect());
        self.feed(&name(at), Input::Deliver(set.delivery.clone()));
    }

    pub(crate) fn cut(&mut self, one: &str, other: &str) {
        let (one, other) = (name(one), name(other));
        self.cut.insert((one.clone(), other.clone()));
        self.cut.insert((other.clone(), one.clone()));
        for (from, to) in [(one.clone(), other.clone()), (other, one)] {
            let open = self.nodes.get_mut(&from).is_some_and(|node| node.links.remove(&to).is_some());
            if open {
                self.feed(&from, Input::Lost { peer: to, error: "the wire is cut".to_owned() });
            }
        }
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    /// The power is cut at a node and comes back: it reads its ledger and its outbox again.
    pub(crate) fn crash(&mut self, at: &str) {
        let at = name(at);
        let node = self.nodes.get_mut(&at).expect("a node");
        let rows = node.judged.crash();
        node.links.clear();
        let config = node.config.clone();
        let whole: Vec<Delivery> =
            self.sets.values().filter(|set| self.has(&at, set)).map(|set| set.delivery.clone()).collect();
        self.events.retain(|_, (node, _)| *node != at);
        self.feed(&at, Input::Configure(config));
        self.feed(&at, Input::Restore(rows));
        for delivery in whole {
            self.feed(&at, Input::Deliver(delivery));
        }
    }

    pub(crate) fn has(&self, at: &Name, set: &Set) -> bool {
        self.nodes[at].holds.get(&set.manifest()).is_some_and(|held| held.len() == set.segments.len())
    }

    /// Everything that happens until that tick.
    pub(crate) fn run(&mut self, until: u64) {
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= until) {
            let ((at, _), (node, event)) = entry.remove_entry();
            self.now = at;
            match event {
                Event::Tick(number) if self.nodes[&node].ticks == number => self.feed(&node, Input::Tick),
                Event::Tick(_) => {}
                Event::Input { link, input } => {
                    if link.is_none_or(|(peer, number)| self.nodes[&node].links.get(&peer) == Some(&number)) {
                        self.arrive(&node, *input);
                    }
                }
            }
        }
        self.now = self.now.max(until);
    }

    /// As `edged` does, the ledger is asked about what a peer wants.
    fn arrive(&mut self, node: &Name, input: Input) {
        if let Input::Answered { peer, manifest, wanted, .. } = &input {
            let rows = self.nodes[node].judged.rows_of(*manifest, peer, wanted);
            if !rows.is_empty() {
                self.feed(node, Input::Restore(rows));
            }
        }
        self.feed(node, input);
    }

    pub(crate) fn feed(&mut self, at: &Name, input: Input) {
        let now = self.now;
        let node = self.nodes.get_mut(at).expect("a node");
        let outputs = node.judged.step(now, input);
        node.ticks += 1;
        let (number, due) = (node.ticks, node.judged.machine.next_due());
        if let Some(due) = due {
            self.push(due, at, Event::Tick(number));
        }
        for output in outputs {
            self.perform(at, output);
        }
    }

    fn push(&mut self, tick: u64, node: &Name, event: Event) {
        self.count += 1;
        self.events.insert((tick, self.count), (node.clone(), event));
    }

    fn later(&mut self, node: &Name, peer: &Name, input: Input) {
        let link = self.nodes[node].links.get(peer).map(|number| (peer.clone(), *number));
        let tick = self.now + 1 + self.dice.below(40);
        self.push(tick, node, Event::Input { link, input: Box::new(input) });
    }

    fn perform(&mut self, from: &Name, output: Output) {
        match output {
            Output::Dial { peer } => self.dial(from, &peer),
            Output::Hangup { peer } => {
                self.nodes.get_mut(from).expect("a node").links.remove(&peer);
            }
            Output::Offer { peer, manifest, .. } => {
                let input = if self.fails() {
                    Input::OfferFailed { peer: peer.clone(), manifest, error: "no".to_owned() }
                } else {
                    self.nodes.get_mut(&peer).expect("a node").holds.entry(manifest).or_default();
                    self.answer(&peer, manifest)
                };
                self.later(from, &peer, input);
            }
            Output::Ask { peer, manifest } => {
                let known = self.nodes[&peer].holds.contains_key(&manifest);
                let input = if known && !self.fails() {
                    self.answer(&peer, manifest)
                } else {
                    Input::AskFailed { peer: peer.clone(), manifest, error: "no".to_owned(), unknown: !known }
                };
                self.later(from, &peer, input);
            }
            Output::Send { peer, manifest, ids, bytes } => self.send(from, &peer, manifest, ids, bytes),
            Output::Record(_) | Output::DeadLetter(_) | Output::Delivered { .. } | Output::Done { .. } => {}
        }
    }

    fn fails(&mut self) -> bool {
        self.dice.below(100) < self.faults
    }

    fn dial(&mut self, from: &Name, peer: &Name) {
        if self.cut.contains(&(from.clone(), peer.clone())) || self.fails() {
            let input = Input::Unreachable { peer: peer.clone(), error: "no route".to_owned() };
            return self.later(from, peer, input);
        }
        self.count += 1;
        let number = self.count;
        self.nodes.get_mut(from).expect("a node").links.insert(peer.clone(), number);
        let (rate, burst) = self.ingest;
        let ingest = self.nodes.get_mut(peer).expect("a node").ingest.entry(from.clone());
        let available = ingest.or_insert_with(|| Bucket::new(rate, burst)).available(self.now);
        let quota = PeerQuota { bytes_per_second: rate, available_bytes: if rate == 0 { 0 } else { available } };
        self.later(from, peer, Input::Reached { peer: peer.clone(), quota });
        let tick = self.now + 1;
        self.push(tick, peer, Event::Input { link: None, input: Box::new(Input::Seen { peer: from.clone() }) });
    }

    fn answer(&self, peer: &Name, manifest: Blake3) -> Input {
        let (set, held) = (&self.sets[&manifest], &self.nodes[peer].holds[&manifest]);
        let lacks: Vec<Wanted> = set.segments.iter().filter(|one| !held.contains(&one.id)).copied().collect();
        let (stored, more) = (lacks.is_empty(), lacks.len() > PAGE);
        let wanted = lacks.into_iter().take(PAGE).collect();
        Input::Answered { peer: peer.clone(), manifest, wanted, more, stored }
    }

    fn send(&mut self, from: &Name, peer: &Name, manifest: Blake3, ids: Vec<Blake3>, bytes: u64) {
        let now = self.now;
        let bucket = self.nodes.get_mut(peer).expect("a node").ingest.get_mut(from).expect("it was dialled");
        if let Err(ticks) = bucket.take(now, bytes) {
            self.later(from, peer, Input::Throttled { peer: peer.clone(), ticks });
            return self.later(
                from,
                peer,
                Input::PackFailed { peer: peer.clone(), manifest, ids, error: "429".to_owned() },
            );
        }
        if self.fails() {
            // The connection ends, before or after the pack is durable.
            if self.dice.below(2) == 0 {
                self.store(peer, manifest, &ids);
            }
            if self.dice.below(3) == 0 {
                self.nodes.get_mut(from).expect("a node").links.remove(peer);
                return self.later(from, peer, Input::Lost { peer: peer.clone(), error: "reset".to_owned() });
            }
            return self.later(
                from,
                peer,
                Input::PackFailed { peer: peer.clone(), manifest, ids, error: "cut".to_owned() },
            );
        }
        let refused: BTreeSet<Blake3> = ids.iter().filter(|_| self.dice.below(100) < self.faults).copied().collect();
        let kept: Vec<Blake3> = ids.iter().filter(|id| !refused.contains(*id)).copied().collect();
        self.store(peer, manifest, &kept);
        let result = |id: Blake3| if refused.contains(&id) { Err("not_named".to_owned()) } else { Ok(()) };
        let results = ids.into_iter().map(|id| (id, result(id))).collect();
        self.later(from, peer, Input::PackDone { peer: peer.clone(), manifest, results });
    }

    /// What is whole travels on from there.
    fn store(&mut self, peer: &Name, manifest: Blake3, ids: &[Blake3]) {
        let set = self.sets[&manifest].clone();
        let had = self.has(peer, &set);
        self.nodes.get_mut(peer).expect("a node").holds.entry(manifest).or_default().extend(ids);
        if !had && self.has(peer, &set) {
            let tick = self.now + 1;
            self.push(tick, peer, Event::Input { link: None, input: Box::new(Input::Deliver(set.delivery)) });
        }
    }

    /// What came out of every step of a node.
    pub(crate) fn log(&self, at: &str) -> Vec<String> {
        let steps = self.nodes[&name(at)].judged.log.iter();
        steps.flat_map(|(now, _, outputs)| outputs.iter().map(move |output| format!("{now} {output:?}"))).collect()
    }

    pub(crate) fn count(&self, at: &str, of: impl Fn(&Output) -> bool) -> usize {
        let steps = self.nodes[&name(at)].judged.log.iter();
        steps.flat_map(|(_, _, outputs)| outputs).filter(|output| of(output)).count()
    }
}
