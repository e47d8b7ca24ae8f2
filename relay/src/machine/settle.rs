//! Answers: to offers and questions, and to packs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use autonomy_schema::{Blake3, Name};

use super::{Machine, Turn};
use crate::book::{Book, State, shortened};
use crate::delivery::{End, Task};
use crate::row::Part;
use crate::words::{MAX_WANTED, Output, Wanted};

/// What a peer says of a set.
pub(super) struct Answer {
    pub(super) wanted: Vec<Wanted>,
    pub(super) more: bool,
    pub(super) stored: bool,
}

impl Machine {
    /// An answer that nobody asked for, a second one too, changes nothing (INV-08).
    pub(super) fn answered(&mut self, turn: &mut Turn, name: &Name, manifest: Blake3, answer: Answer) {
        let Some(peer) = self.peers.get_mut(name) else { return };
        let Some(question) = peer.question.take_if(|question| question.manifest == manifest) else { return };
        (peer.answered, peer.failures) = (true, 0);
        let book = self.books.entry((manifest, name.clone())).or_default();
        if question.offer {
            book.manifest.ack();
            turn.record(book.manifest.change(manifest, Part::Manifest, name), false);
        }
        let journey = self.journeys.iter_mut().find(|((_, _, held), _)| *held == manifest);
        let Some((_, journey)) = journey else { return };
        let task = journey.tasks.entry(name.clone()).or_default();
        (task.known, task.forgotten, task.taken) = (true, false, 0);
        let Answer { wanted, more, stored } = answer;
        let lacked: BTreeSet<Blake3> = if stored { BTreeSet::new() } else { wanted.iter().map(|one| one.id).collect() };
        let again = sort_out(turn, book, &lacked, more && !stored, manifest, name);
        if stored {
            (task.end, task.wanted) = (Some(End::Stored), Vec::new());
            turn.act(Output::Delivered { peer: name.clone(), manifest });
            self.judge(turn);
            return;
        }
        take_wanted(task, book, wanted);
        let error = shortened("the peer had acknowledged it, and lacks it again");
        for id in again {
            self.fail(turn, manifest, Part::Segment(id), name, &error);
        }
    }

    /// An offer was refused, or its answer did not come: that attempt has failed.
    pub(super) fn offer_failed(&mut self, turn: &mut Turn, name: &Name, manifest: Blake3, error: &str) {
        let Some(peer) = self.peers.get_mut(name) else { return };
        if peer.question.take_if(|held| held.manifest == manifest && held.offer).is_some() {
            self.fail(turn, manifest, Part::Manifest, name, &shortened(error));
        }
    }

    /// A question was no attempt, so it is asked again, later. A peer that does not know the set is offered it again.
    pub(super) fn ask_failed(&mut self, name: &Name, manifest: Blake3, unknown: bool) {
        let Some(peer) = self.peers.get_mut(name) else { return };
        if peer.question.take_if(|held| held.manifest == manifest && !held.offer).is_none() {
            return;
        }
        let journey = self.journeys.iter_mut().find(|((_, _, held), _)| *held == manifest);
        if let Some(task) = journey.and_then(|(_, journey)| journey.tasks.get_mut(name)) {
            task.forgotten = unknown;
            task.idle = task.idle.saturating_add(1);
            task.ask_due = self.now.saturating_add(self.schedule.redial(task.idle));
        }
    }

    /// What the answer does not name has failed: only what was said to be there counts.
    pub(super) fn pack_done(
        &mut self,
        turn: &mut Turn,
        name: &Name,
        manifest: Blake3,
        results: Vec<(Blake3, Result<(), String>)>,
    ) {
        let Some(peer) = self.peers.get_mut(name) else { return };
        let Some(parcel) = peer.landed(manifest, results.first().map(|(id, _)| id)) else { return };
        (peer.answered, peer.failures) = (true, 0);
        let mut results: BTreeMap<Blake3, Result<(), String>> = results.into_iter().collect();
        let unnamed = shortened("the answer does not name it");
        let mut errors: BTreeMap<String, Arc<str>> = BTreeMap::new();
        let mut acked = BTreeSet::new();
        for id in parcel.ids {
            match results.remove(&id) {
                Some(Ok(())) => {
                    let held = self.books.entry((manifest, name.clone())).or_default().held(Part::Segment(id));
                    if held.state == State::Inflight {
                        held.ack();
                        turn.record(held.change(manifest, Part::Segment(id), name), false);
                        acked.insert(id);
                    }
                }
                Some(Err(error)) => {
                    let error = errors.entry(error).or_insert_with_key(|error| shortened(error)).clone();
                    self.fail_segment(turn, manifest, id, name, &error);
                }
                None => self.fail_segment(turn, manifest, id, name, &unnamed),
            }
        }
        let journey = self.journeys.iter_mut().find(|((_, _, held), _)| *held == manifest);
        match journey {
            Some((_, journey)) => journey.tasks.entry(name.clone()).or_default().took(&acked),
            // It was withdrawn meanwhile.
            None => self.books.retain(|(held, _), book| *held != manifest || book.trim()),
        }
    }

    pub(super) fn pack_failed(
        &mut self,
        turn: &mut Turn,
        name: &Name,
        manifest: Blake3,
        first: Option<&Blake3>,
        error: &str,
    ) {
        let Some(parcel) = self.peers.get_mut(name).and_then(|peer| peer.landed(manifest, first)) else { return };
        let error = shortened(error);
        for id in parcel.ids {
            self.fail_segment(turn, manifest, id, name, &error);
        }
    }

    /// As [`Machine::fail`], for a segment that is under way; a dead letter stays one.
    pub(super) fn fail_segment(
        &mut self,
        turn: &mut Turn,
        manifest: Blake3,
        id: Blake3,
        name: &Name,
        error: &Arc<str>,
    ) {
        let book = self.books.entry((manifest, name.clone())).or_default();
        if book.held(Part::Segment(id)).state == State::Inflight {
            self.fail(turn, manifest, Part::Segment(id), name, error);
        }
    }
}

/// Goes through the rows with what the peer lacks: what it has leaves the machine; gives what it had and lacks again.
fn sort_out(
    turn: &mut Turn,
    book: &mut Book,
    lacked: &BTreeSet<Blake3>,
    more: bool,
    manifest: Blake3,
    name: &Name,
) -> Vec<Blake3> {
    let mut again = Vec::new();
    book.segments.retain(|id, held| match (held.state, lacked.contains(id)) {
        (State::Acked, true) => {
            again.push(*id);
            true
        }
        (State::Acked | State::Scheduled, false) => false,
        // It got it from somebody else.
        (State::Failed, false) if !more => {
            held.ack();
            turn.record(held.change(manifest, Part::Segment(*id), name), false);
            false
        }
        (State::Scheduled | State::Inflight | State::Failed | State::Dead, _) => true,
    });
    again
}

/// Takes what the peer lacks, each segment once, and no more than the machine may hold: it is asked again for the rest.
fn take_wanted(task: &mut Task, book: &Book, wanted: Vec<Wanted>) {
    let mut seen: BTreeSet<Blake3> = BTreeSet::new();
    let kept = wanted.iter().filter(|one| book.segments.contains_key(&one.id)).count();
    let room = MAX_WANTED.saturating_sub(book.segments.len().saturating_sub(kept));
    let mut taken: Vec<Wanted> = wanted.into_iter().filter(|one| one.length > 0 && seen.insert(one.id)).collect();
    taken.truncate(room);
    task.wanted = taken;
}
