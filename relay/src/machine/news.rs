//! Configuration, deliveries, the ledger's rows, and connections that come and go.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use autonomy_schema::{Blake3, Name};

use super::{Machine, Turn};
use crate::book::{Held, State, shortened};
use crate::delivery::{Journey, Place};
use crate::peer::{Link, Peer};
use crate::row::{Part, Row, RowKey};
use crate::words::{Config, Delivery, Output, PeerQuota};

impl Machine {
    pub(super) fn configure(&mut self, turn: &mut Turn, config: Config) {
        self.schedule = config.schedule();
        self.success = config.success;
        self.own_rate = config.bytes_per_second;
        self.daily_bytes = config.daily_bytes;
        let names: BTreeSet<Name> = config.peers.into_iter().collect();
        let dropped: Vec<Name> = self.peers.keys().filter(|peer| !names.contains(*peer)).cloned().collect();
        for peer in dropped {
            let linked = self.peers.get(&peer).is_some_and(|held| matches!(held.link, Link::Up | Link::Dialing));
            self.disconnect(turn, &peer, "the peer is not configured any more");
            self.peers.remove(&peer);
            if linked {
                turn.act(Output::Hangup { peer });
            }
        }
        for name in names {
            let peer = self.peers.entry(name).or_insert_with(Peer::new);
            peer.pace(turn.now, self.own_rate);
            if let Link::Down { due } = &mut peer.link {
                *due = turn.now;
            }
        }
        self.enforce_attempts(turn);
        self.judge(turn);
    }

    /// Rows that have failed as often as the limit of today allows.
    fn enforce_attempts(&mut self, turn: &mut Turn) {
        let max = self.schedule.max_attempts;
        let mut spent = Vec::new();
        for ((manifest, peer), book) in &self.books {
            let spends = |held: &Held| held.state == State::Failed && held.attempts >= max;
            spent.extend(spends(&book.manifest).then(|| (*manifest, Part::Manifest, peer.clone())));
            let segments = book.segments.iter().filter(|(_, held)| spends(held));
            spent.extend(segments.map(|(id, _)| (*manifest, Part::Segment(*id), peer.clone())));
        }
        let error = shortened("the configuration allows no more attempts");
        for (manifest, part, peer) in spent {
            // The set may have taken its segments with it.
            let book = self.books.entry((manifest, peer.clone())).or_default();
            let held = book.held(part);
            if held.state == State::Failed {
                let error = held.error.clone().unwrap_or_else(|| error.clone());
                self.fail(turn, manifest, part, &peer, &error);
            }
        }
    }

    pub(super) fn deliver(&mut self, delivery: Delivery) {
        let Delivery { manifest, stream, serial, documents } = delivery;
        let newer = self.journeys.keys().any(|(held, other, _)| *held == stream && other.0 > serial);
        let known = self.journeys.keys().any(|(_, _, held)| *held == manifest);
        if newer || known {
            return;
        }
        self.withdraw(|(held, other, _)| *held == stream && other.0 < serial);
        self.journeys.insert((stream, Reverse(serial), manifest), Journey::new(self.now, documents));
    }

    /// What is under way to a peer is still answered; rows that were attempted keep their counts.
    pub(super) fn withdraw(&mut self, goes: impl Fn(&Place) -> bool) {
        let gone: BTreeSet<Blake3> = self.journeys.keys().filter(|place| goes(place)).map(|(_, _, id)| *id).collect();
        self.journeys.retain(|place, _| !goes(place));
        self.books.retain(|(manifest, _), book| !gone.contains(manifest) || book.trim());
    }

    /// An attempt that was under way when the program ended has failed.
    pub(super) fn restore(&mut self, turn: &mut Turn, rows: Vec<(RowKey, Row)>) {
        let interrupted = shortened("interrupted");
        for (RowKey { manifest, part, peer }, row) in rows {
            let book = self.books.entry((manifest, peer.clone())).or_default();
            if !book.restore(part, &row) {
                continue;
            }
            let held = book.held(part);
            match held.state {
                State::Inflight => self.fail(turn, manifest, part, &peer, &interrupted),
                // When it failed is not known; the wait begins anew, so that restarts do not shorten it.
                State::Failed => held.due = turn.now.saturating_add(self.schedule.retry(held.attempts, 0)),
                State::Scheduled | State::Acked | State::Dead => {}
            }
        }
        self.enforce_attempts(turn);
    }

    pub(super) fn reached(&mut self, name: &Name, quota: PeerQuota) {
        let Some(peer) = self.peers.get_mut(name) else { return };
        peer.announce(self.now, quota, self.own_rate);
        if peer.link != Link::Up {
            peer.link = Link::Up;
            peer.answered = false;
        }
    }

    /// A dial failed, or a connection ended.
    pub(super) fn gone(&mut self, turn: &mut Turn, name: &Name, error: &str, dialled: bool) {
        let Some(peer) = self.peers.get_mut(name) else { return };
        match peer.link {
            Link::Idle | Link::Down { .. } => return,
            Link::Dialing => peer.failures += 1,
            Link::Up if dialled || !peer.answered => peer.failures += 1,
            Link::Up => peer.failures = 0,
        }
        let wait = self.schedule.redial(peer.failures.max(1));
        peer.link = Link::Down { due: turn.now.saturating_add(wait) };
        self.disconnect(turn, name, error);
    }

    /// Whatever was on its way has failed, and what the peer said does not count any more.
    fn disconnect(&mut self, turn: &mut Turn, name: &Name, error: &str) {
        let Some(peer) = self.peers.get_mut(name) else { return };
        let error = shortened(error);
        let question = peer.question.take();
        let parcels = std::mem::take(&mut peer.parcels);
        for task in self.journeys.values_mut().filter_map(|journey| journey.tasks.get_mut(name)) {
            task.disconnect();
        }
        if let Some(question) = question.filter(|question| question.offer) {
            self.fail(turn, question.manifest, Part::Manifest, name, &error);
        }
        for parcel in parcels {
            for id in parcel.ids {
                self.fail_segment(turn, parcel.manifest, id, name, &error);
            }
        }
    }

    pub(super) fn throttled(&mut self, name: &Name, ticks: u64) {
        let Some(peer) = self.peers.get_mut(name) else { return };
        peer.paused_until = peer.paused_until.max(self.now.saturating_add(ticks.max(1)));
    }
}
