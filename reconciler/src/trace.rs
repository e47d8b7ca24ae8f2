//! The chain of custody of a set: which node had it when, and from whom. It is put together from receipts, which are what
//! nodes signed; what no receipt says is named as a gap, and nothing is guessed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use autonomy_schema::receipt::{Receipt, ReceiptResult};
use autonomy_schema::{Blake3, Name, Sha256, Time};
use serde::Serialize;

mod read;

pub use read::{Traced, trace};

/// A receipt, and whose key is known to have signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// What the node says.
    pub receipt: Receipt,
    /// The key that verified it; `None` when no key of that node is known.
    pub key: Option<Sha256>,
}

/// What is known of the manifest itself, where it lies on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// Its stream.
    pub stream: Name,
    /// Its serial.
    pub serial: u64,
    /// Its release version.
    pub release: String,
    /// The peers that it names, sorted.
    pub peers: Vec<Name>,
}

/// One node of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// The node.
    pub node: Name,
    /// How many times the set was relayed on its way here; `None` when the receipts go in a circle.
    pub hop: Option<usize>,
    /// Its receipts for this manifest, by boot epoch and counter. None when others name it and it says nothing itself.
    pub receipts: Vec<Witness>,
}

impl Stop {
    fn first(&self, result: ReceiptResult) -> Option<&Witness> {
        self.receipts.iter().find(|witness| witness.receipt.result == result)
    }

    /// When it first had the set whole.
    pub fn stored(&self) -> Option<&Witness> {
        self.first(ReceiptResult::Stored)
    }

    /// When it first ran it.
    pub fn active(&self) -> Option<&Witness> {
        self.first(ReceiptResult::Active)
    }

    /// Whether a known key signed what it says.
    pub fn is_verified(&self) -> bool {
        !self.receipts.is_empty() && self.receipts.iter().all(|witness| witness.key.is_some())
    }
}

/// Who gave it to whom.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hop {
    /// The giver, as the receiver names it.
    pub from: Name,
    /// The receiver.
    pub to: Name,
    /// The receiver's clock.
    pub time: Time,
}

/// The chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Fingerprint of the manifest.
    pub manifest: Blake3,
    /// What the manifest says, where it is here.
    pub told: Option<Told>,
    /// The nodes, by hop, giver and name.
    pub stops: Vec<Stop>,
    /// Every hand-over, in the order of the receivers.
    pub hops: Vec<Hop>,
    /// What the receipts leave open, in sentences.
    pub gaps: Vec<String>,
}

impl Chain {
    /// Puts the chain together. Receipts for other manifests are passed over.
    pub fn of(manifest: Blake3, told: Option<Told>, witnesses: Vec<Witness>) -> Self {
        let mut by_node: BTreeMap<Name, Vec<Witness>> = BTreeMap::new();
        for witness in witnesses.into_iter().filter(|witness| witness.receipt.manifest == manifest) {
            by_node.entry(witness.receipt.node_id.clone()).or_default().push(witness);
        }
        let mut hops: BTreeMap<(Name, Name), Time> = BTreeMap::new();
        for witness in by_node.values_mut().flat_map(|list| {
            list.sort_by_key(|it| (it.receipt.boot_epoch, it.receipt.counter));
            list.iter()
        }) {
            let receipt = &witness.receipt;
            if let (ReceiptResult::Stored, Some(from)) = (receipt.result, &receipt.from) {
                hops.entry((from.clone(), receipt.node_id.clone())).or_insert(receipt.time);
            }
        }
        for from in hops.keys().map(|(from, _)| from.clone()).collect::<BTreeSet<_>>() {
            by_node.entry(from).or_default();
        }
        let depths = depths(&by_node, &hops);
        let gaps = gaps(&by_node, &hops, &depths, told.as_ref());
        let stops = in_order(by_node, &hops, &depths);
        let place = |node: &Name| stops.iter().position(|stop| stop.node == *node);
        let mut hops: Vec<Hop> = hops.into_iter().map(|((from, to), time)| Hop { from, to, time }).collect();
        hops.sort_by_key(|hop| (place(&hop.to), place(&hop.from)));
        Self { manifest, told, stops, hops, gaps }
    }
}

type Hops = BTreeMap<(Name, Name), Time>;

/// Whether the set came to a node by other ways than the relay, as far as its receipts tell.
fn is_seed(node: &Name, receipts: &[Witness], hops: &Hops) -> bool {
    let brought = |it: &Witness| it.receipt.result == ReceiptResult::Stored && it.receipt.from.is_none();
    receipts.iter().any(brought) || !hops.keys().any(|(_, to)| to == node)
}

/// The hops of every node from where the set came in; a node that only a circle leads to has none.
fn depths(by_node: &BTreeMap<Name, Vec<Witness>>, hops: &Hops) -> BTreeMap<Name, usize> {
    let seeds = by_node.iter().filter(|(node, receipts)| is_seed(node, receipts, hops));
    let mut depths: BTreeMap<Name, usize> = seeds.map(|(node, _)| (node.clone(), 0)).collect();
    let mut todo: VecDeque<(Name, usize)> = depths.iter().map(|(node, depth)| (node.clone(), *depth)).collect();
    while let Some((giver, depth)) = todo.pop_front() {
        for (_, to) in hops.keys().filter(|(from, _)| *from == giver) {
            if !depths.contains_key(to) {
                depths.insert(to.clone(), depth + 1);
                todo.push_back((to.clone(), depth + 1));
            }
        }
    }
    depths
}

/// By hop; within one, where the givers stand, so that arrows cross little.
fn in_order(by_node: BTreeMap<Name, Vec<Witness>>, hops: &Hops, depths: &BTreeMap<Name, usize>) -> Vec<Stop> {
    let mut rest: Vec<Stop> =
        by_node.into_iter().map(|(node, receipts)| Stop { hop: depths.get(&node).copied(), node, receipts }).collect();
    let mut stops: Vec<Stop> = Vec::new();
    let last = rest.iter().filter_map(|stop| stop.hop).max().unwrap_or(0);
    for hop in (0..=last).map(Some).chain([None]) {
        let (mut here, others): (Vec<Stop>, Vec<Stop>) = rest.into_iter().partition(|stop| stop.hop == hop);
        rest = others;
        let giver = |stop: &Stop| {
            let givers = hops.keys().filter(|(_, to)| *to == stop.node).map(|(from, _)| from);
            givers.filter_map(|from| stops.iter().position(|earlier| earlier.node == *from)).min()
        };
        here.sort_by_cached_key(|stop| (giver(stop), stop.node.clone()));
        stops.extend(here);
    }
    stops
}

fn gaps(
    by_node: &BTreeMap<Name, Vec<Witness>>,
    hops: &Hops,
    depths: &BTreeMap<Name, usize>,
    told: Option<&Told>,
) -> Vec<String> {
    let mut gaps = Vec::new();
    for (node, receipts) in by_node {
        let given: Vec<&str> = hops.keys().filter(|(from, _)| from == node).map(|(_, to)| to.as_str()).collect();
        if receipts.is_empty() {
            gaps.push(format!(
                "{node} gave it to {}, and no receipt of {node} is here: how it came there is not known",
                given.join(", ")
            ));
            continue;
        }
        if !depths.contains_key(node) {
            gaps.push(format!("{node} has it from nodes that have it from {node}: where it came in is not known"));
        }
        if receipts.iter().any(|witness| witness.key.is_none()) {
            gaps.push(format!("no key of {node} is known: what it says is not verified"));
        }
        if receipts.iter().all(|witness| witness.receipt.result != ReceiptResult::Active) {
            gaps.push(format!("no receipt says that {node} runs it"));
        }
    }
    for ((from, to), time) in hops {
        let first = by_node.get(from).and_then(|receipts| receipts.iter().map(|it| it.receipt.time).min());
        if let Some(first) = first.filter(|first| first > time) {
            gaps.push(format!(
                "{to} has it from {from} at {time}, and {from} says that it had it at {first}: a clock is wrong"
            ));
        }
    }
    let silent = told.into_iter().flat_map(|told| &told.peers).filter(|peer| !by_node.contains_key(*peer));
    gaps.extend(silent.map(|peer| format!("{peer} is a peer of this release, and no receipt of it is here")));
    gaps
}

#[cfg(test)]
mod tests;
