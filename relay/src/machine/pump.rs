//! What follows from the state: in the order of (stream, newest serial, place in the set, peer), whatever is due goes out.

use std::collections::{BTreeMap, BTreeSet};

use autonomy_schema::relay::SuccessCondition;
use autonomy_schema::{Blake3, Name};

use super::{Machine, Turn, kill_segments};
use crate::book::{Book, State, shortened};
use crate::delivery::{End, Journey, Place, Task};
use crate::pack;
use crate::peer::{Link, Parcel, Peer, Question};
use crate::row::Part;
use crate::schedule::Schedule;
use crate::words::{MAX_PACKS, Output};

/// What a task needs of its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Nothing more.
    Nothing,
    /// A connection, from that tick on.
    From(u64),
    /// Something is on its way, or will be as soon as bandwidth or a pause allow: sets behind it wait.
    Busy,
}

/// What is sent in a day.
struct Daily {
    limit: u64,
    sent: u64,
}

/// The first time that a peer is needed, and since when.
type Needs = BTreeMap<Name, (u64, u64)>;

impl Machine {
    pub(super) fn pump(&mut self, turn: &mut Turn) {
        let mut daily = Daily { limit: self.daily_bytes, sent: self.sent_today };
        let mut busy: BTreeSet<Name> = BTreeSet::new();
        let mut needs = Needs::new();
        let open: Vec<Place> =
            self.journeys.iter().filter(|(_, journey)| !journey.done).map(|(place, _)| place.clone()).collect();
        for place in open {
            // With one peer to serve, the next one has its turn in the same step as the last has no more to give.
            while self.serve(turn, &place, &mut daily, &mut busy, &mut needs) {}
        }
        self.sent_today = daily.sent;
        self.connect(turn, &busy, &needs);
    }

    /// Does what is due for one set. Whether the peer whose turn it was is of no use any more.
    fn serve(
        &mut self,
        turn: &mut Turn,
        place: &Place,
        daily: &mut Daily,
        busy: &mut BTreeSet<Name>,
        needs: &mut Needs,
    ) -> bool {
        let manifest = place.2;
        let Some(journey) = self.journeys.get_mut(place) else { return false };
        let names = match self.success {
            SuccessCondition::AllPeers => self.peers.keys().cloned().collect(),
            SuccessCondition::OnePeer => choose(journey, &self.peers, |name, task| {
                self.books.get(&(manifest, name.clone())).is_some_and(|book| {
                    book.manifest.state == State::Dead || task.is_some_and(|task| task.is_over(book))
                })
            }),
        };
        let mut found: BTreeMap<&Name, Need> = BTreeMap::new();
        // In rounds, so that with packs too the place in the set comes before the peer.
        for _ in 0..MAX_PACKS {
            for name in names.iter().filter(|name| !busy.contains(*name)) {
                let Some(peer) = self.peers.get_mut(name) else { continue };
                let task = journey.tasks.entry(name.clone()).or_default();
                let book = self.books.entry((manifest, name.clone())).or_default();
                let (documents, schedule) = (journey.documents, &self.schedule);
                let mut at = At { turn, manifest, documents, name, peer, task, book, schedule };
                found.insert(name, at.advance(daily));
            }
        }
        let over = found.values().any(|need| *need == Need::Nothing);
        for (name, need) in found {
            match need {
                Need::Nothing => {}
                Need::Busy => {
                    busy.insert(name.clone());
                }
                Need::From(tick) => {
                    let of = needs.entry(name.clone()).or_insert((tick, journey.since));
                    of.0 = of.0.min(tick);
                }
            }
        }
        over && self.success == SuccessCondition::OnePeer
    }

    /// Dials whom somebody needs, and hangs up where nobody does.
    fn connect(&mut self, turn: &mut Turn, busy: &BTreeSet<Name>, needs: &Needs) {
        let count = self.peers.len();
        let spread = self.success == SuccessCondition::AllPeers;
        for (rank, (name, peer)) in self.peers.iter_mut().enumerate() {
            let Some((tick, since)) = needs.get(name) else {
                let idle = peer.question.is_none() && peer.parcels.is_empty() && !busy.contains(name);
                if idle && peer.link == Link::Up {
                    peer.link = Link::Idle;
                    turn.act(Output::Hangup { peer: name.clone() });
                }
                continue;
            };
            let due = match peer.link {
                Link::Idle => {
                    let put_off = if spread { self.schedule.spread(rank, count) } else { 0 };
                    since.saturating_add(put_off)
                }
                Link::Down { due } => due,
                // What it waits for is noted already.
                Link::Dialing | Link::Up => continue,
            };
            peer.link = Link::Down { due };
            let due = due.max(*tick).max(peer.paused_until);
            if due > turn.now {
                turn.remind(due);
            } else {
                peer.link = Link::Dialing;
                turn.act(Output::Dial { peer: name.clone() });
            }
        }
    }
}

/// Whom to serve when one is enough: the one that is being served; else the first that did not fail; else the one that is
/// due first.
fn choose(
    journey: &mut Journey,
    peers: &BTreeMap<Name, Peer>,
    over: impl Fn(&Name, Option<&Task>) -> bool,
) -> Vec<Name> {
    let open = |name: &Name| peers.contains_key(name) && !over(name, journey.tasks.get(name));
    let linked = |name: &Name| peers.get(name).is_some_and(|peer| matches!(peer.link, Link::Up | Link::Dialing));
    if !journey.turn.as_ref().is_some_and(|name| open(name) && linked(name)) {
        let key = |peer: &Peer| match peer.link {
            Link::Down { due } if peer.failures > 0 => (1, due),
            Link::Idle | Link::Down { .. } | Link::Dialing | Link::Up => (0, 0),
        };
        // Of equals the first, and the map is sorted: that is the rank.
        let next = peers.iter().filter(|(name, _)| open(name)).min_by_key(|(_, peer)| key(peer));
        journey.turn = next.map(|(name, _)| name.clone());
    }
    journey.turn.iter().cloned().collect()
}

/// One set at one peer, in one step.
struct At<'a> {
    turn: &'a mut Turn,
    manifest: Blake3,
    documents: u64,
    name: &'a Name,
    peer: &'a mut Peer,
    task: &'a mut Task,
    book: &'a mut Book,
    schedule: &'a Schedule,
}

impl At<'_> {
    fn advance(&mut self, daily: &mut Daily) -> Need {
        if self.task.is_over(self.book) {
            return Need::Nothing;
        }
        if self.peer.question.is_some_and(|question| question.manifest == self.manifest) {
            return Need::Busy;
        }
        if self.book.manifest.state != State::Acked {
            return self.offer(daily);
        }
        if self.task.forgotten {
            return self.offer_again(daily);
        }
        if self.task.known {
            if let Some(need) = self.segments(daily) {
                return need;
            }
            // Everything that was lacking is there, or nothing was.
            self.task.known = false;
            if self.task.taken == 0 {
                self.task.idle = self.task.idle.saturating_add(1);
                self.task.ask_due = self.turn.now.saturating_add(self.schedule.redial(self.task.idle));
            } else {
                (self.task.idle, self.task.ask_due) = (0, self.turn.now);
            }
        }
        if let Some(need) = self.may_ask(self.task.ask_due) {
            return need;
        }
        self.peer.question = Some(Question { manifest: self.manifest, offer: false });
        self.turn.act(Output::Ask { peer: self.name.clone(), manifest: self.manifest });
        Need::Busy
    }

    /// The peer accepted the set and does not know it any more: that costs an attempt too.
    fn offer_again(&mut self, daily: &mut Daily) -> Need {
        if self.book.manifest.attempts < self.schedule.max_attempts {
            return self.offer(daily);
        }
        let held = &mut self.book.manifest;
        held.kill(shortened("the peer accepted the set, and does not know it"));
        self.turn.record(held.change(self.manifest, Part::Manifest, self.name), true);
        kill_segments(self.turn, self.book, Some(&mut *self.task), self.manifest, self.name);
        Need::Nothing
    }

    /// Sends the documents, when the attempt is due and the limits on bytes have room for them.
    fn offer(&mut self, daily: &mut Daily) -> Need {
        if let Some(need) = self.may_ask(self.book.manifest.due) {
            return need;
        }
        // Documents that are longer than everything at once begin when that is there.
        let worth = self.documents.min(self.peer.bucket.burst());
        if daily.left() < self.documents.min(daily.limit) {
            return Need::Busy;
        }
        if let Err(wait) = self.peer.bucket.take(self.turn.now, worth) {
            self.turn.remind(self.turn.now.saturating_add(wait));
            return Need::Busy;
        }
        daily.sent = daily.sent.saturating_add(self.documents);
        self.peer.question = Some(Question { manifest: self.manifest, offer: true });
        self.turn.begin(&mut self.book.manifest, self.manifest, Part::Manifest, self.name);
        let (peer, manifest, bytes) = (self.name.clone(), self.manifest, self.documents);
        self.turn.act(Output::Offer { peer, manifest, bytes });
        Need::Busy
    }

    /// Why the peer is not asked or offered anything now; `None` when it can be.
    fn may_ask(&mut self, due: u64) -> Option<Need> {
        if self.turn.now < due {
            self.turn.remind(due);
            return Some(Need::From(due));
        }
        if self.peer.link != Link::Up {
            return Some(Need::From(due));
        }
        if !self.peer.is_open(self.turn.now) {
            self.turn.remind(self.peer.paused_until);
            return Some(Need::Busy);
        }
        self.peer.question.is_some().then_some(Need::Busy)
    }

    /// Sends a pack of what is lacking; `None` when there is nothing left to send or to wait for.
    fn segments(&mut self, daily: &mut Daily) -> Option<Need> {
        if !self.peer.takes_packs() {
            return Some(Need::Busy);
        }
        let now = self.turn.now;
        let (mut ids, mut total) = (Vec::new(), 0u64);
        let (mut retry, mut dead) = (u64::MAX, false);
        for wanted in &self.task.wanted {
            let due = match self.book.segments.get(&wanted.id).map(|held| (held.state, held.due)) {
                None | Some((State::Scheduled, _)) => now,
                Some((State::Failed, due)) => due,
                Some((State::Dead, _)) => {
                    dead = true;
                    continue;
                }
                Some((State::Inflight | State::Acked, _)) => continue,
            };
            if due > now {
                retry = retry.min(due);
                continue;
            }
            let bytes = pack::framed(wanted.length);
            if total + bytes > pack::MAX_BYTES || ids.len() == pack::MAX_SEGMENTS {
                break;
            }
            total += bytes;
            ids.push((wanted.id, bytes));
        }
        if !ids.is_empty() {
            self.send(daily, &ids, total);
            return Some(Need::Busy);
        }
        if self.peer.carries(self.manifest) {
            return Some(Need::Busy);
        }
        if retry < u64::MAX {
            self.turn.remind(retry);
            return Some(Need::From(retry));
        }
        if dead && self.task.taken == 0 {
            self.task.end = Some(End::Exhausted);
            return Some(Need::Nothing);
        }
        None
    }

    /// Sends as much of `ids` as may pass now; what is too little to be worth a commit waits.
    fn send(&mut self, daily: &mut Daily, ids: &[(Blake3, u64)], total: u64) {
        let now = self.turn.now;
        if !self.peer.is_open(now) {
            return self.turn.remind(self.peer.paused_until);
        }
        let first = ids.first().map_or(0, |(_, bytes)| *bytes);
        let bucket = &mut self.peer.bucket;
        let worth = total.min(first.max(bucket.rate() / 4)).min(bucket.burst());
        let wait = bucket.wait(now, worth);
        if wait > 0 {
            return self.turn.remind(now.saturating_add(wait));
        }
        let allowed = bucket.available(now).min(daily.left());
        let (mut bytes, mut sent) = (0, Vec::new());
        for (id, length) in ids {
            if bytes + length > allowed {
                break;
            }
            bytes += length;
            sent.push(*id);
        }
        if sent.is_empty() || bucket.take(now, bytes).is_err() {
            return;
        }
        daily.sent = daily.sent.saturating_add(bytes);
        for id in &sent {
            let held = self.book.held(Part::Segment(*id));
            self.turn.begin(held, self.manifest, Part::Segment(*id), self.name);
        }
        self.peer.parcels.push(Parcel { manifest: self.manifest, ids: sent.clone() });
        self.turn.act(Output::Send { peer: self.name.clone(), manifest: self.manifest, ids: sent, bytes });
    }
}

impl Daily {
    fn left(&self) -> u64 {
        if self.limit == 0 { u64::MAX } else { self.limit.saturating_sub(self.sent) }
    }
}
