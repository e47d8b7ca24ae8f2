//! The machine: inputs in, outputs out. What an input changes is in `machine/news.rs` and `machine/settle.rs`, what follows from
//! the state in `machine/pump.rs`.

mod news;
mod pump;
mod settle;

use std::collections::BTreeMap;

use autonomy_schema::relay::SuccessCondition;
use autonomy_schema::{Blake3, Name};

use crate::book::{Book, Books, Held, State, shortened};
use crate::delivery::{Journey, Place, Task};
use crate::peer::{Link, Peer};
use crate::row::{Change, Part, RowKey};
use crate::schedule::Schedule;
use crate::words::{Config, Input, Output};

/// Decides what goes to which peer next.
///
/// Every step takes in one input and then tells everything that is due. What it tells depends on the inputs so far and on
/// nothing else.
#[derive(Debug)]
pub struct Machine {
    now: u64,
    due: Option<u64>,
    success: SuccessCondition,
    schedule: Schedule,
    own_rate: u64,
    daily_bytes: u64,
    sent_today: u64,
    /// Sorted, so the place in it is the rank.
    peers: BTreeMap<Name, Peer>,
    journeys: BTreeMap<Place, Journey>,
    books: Books,
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// A machine without peers and deliveries.
    pub fn new() -> Self {
        Self {
            now: 0,
            due: None,
            success: SuccessCondition::OnePeer,
            // Until the limit is told, no row of the ledger is beyond it.
            schedule: Schedule { max_attempts: u64::MAX, backoff: 1, window: 1 },
            own_rate: 0,
            daily_bytes: 0,
            sent_today: 0,
            peers: BTreeMap::new(),
            journeys: BTreeMap::new(),
            books: Books::new(),
        }
    }

    /// Takes `input` at tick `now` and tells what to do. Ticks do not run backwards: a lower one counts as the last.
    pub fn step(&mut self, now: u64, input: Input) -> Vec<Output> {
        self.now = self.now.max(now);
        let mut turn = Turn::at(self.now);
        self.take(&mut turn, input);
        self.pump(&mut turn);
        self.due = turn.due;
        turn.outputs()
    }

    /// The tick at which [`Input::Tick`] is due; `None` when only other news leads on. It lies ahead of the last step.
    pub fn next_due(&self) -> Option<u64> {
        self.due
    }

    /// Rows that wait for their first attempt, and so are not in the ledger: sets that a configured peer was not offered.
    pub fn scheduled(&self) -> Vec<RowKey> {
        let open = self.journeys.iter().filter(|(_, journey)| !journey.done);
        open.flat_map(|((_, _, manifest), _)| self.peers.keys().map(|peer| (*manifest, peer.clone())))
            .filter(|of| self.books.get(of).is_none_or(|book| book.manifest.attempts == 0))
            .map(|(manifest, peer)| RowKey { manifest, part: Part::Manifest, peer })
            .collect()
    }

    /// Whether as many of the peers of now have a set as the success condition of now demands.
    pub fn is_done(&self, manifest: Blake3) -> bool {
        self.journeys.iter().any(|((_, _, held), journey)| *held == manifest && journey.done)
    }

    fn take(&mut self, turn: &mut Turn, input: Input) {
        match input {
            Input::Configure(config) => self.configure(turn, config),
            Input::Deliver(delivery) => self.deliver(delivery),
            Input::Withdraw(manifest) => self.withdraw(|(_, _, held)| *held == manifest),
            Input::Restore(rows) => self.restore(turn, rows),
            Input::SentToday(bytes) => self.sent_today = bytes,
            Input::Reached { peer, quota } => self.reached(&peer, quota),
            Input::Unreachable { peer, error } => self.gone(turn, &peer, &error, true),
            Input::Lost { peer, error } => self.gone(turn, &peer, &error, false),
            Input::Seen { peer } => {
                if let Some(Peer { link: Link::Down { due }, .. }) = self.peers.get_mut(&peer) {
                    *due = self.now;
                }
            }
            Input::Answered { peer, manifest, wanted, more, stored } => {
                self.answered(turn, &peer, manifest, settle::Answer { wanted, more, stored });
            }
            Input::OfferFailed { peer, manifest, error } => self.offer_failed(turn, &peer, manifest, &error),
            Input::AskFailed { peer, manifest, unknown, .. } => self.ask_failed(&peer, manifest, unknown),
            Input::PackDone { peer, manifest, results } => self.pack_done(turn, &peer, manifest, results),
            Input::PackFailed { peer, manifest, ids, error } => {
                self.pack_failed(turn, &peer, manifest, ids.first(), &error);
            }
            Input::Throttled { peer, ticks } => self.throttled(&peer, ticks),
            Input::Tick => {}
        }
    }

    /// An attempt at a row has failed; the last one leaves a dead letter, and that of a set all its segments.
    fn fail(&mut self, turn: &mut Turn, manifest: Blake3, part: Part, peer: &Name, error: &std::sync::Arc<str>) {
        let book = self.books.entry((manifest, peer.clone())).or_default();
        let held = book.held(part);
        let dead = held.fail(turn.now, &self.schedule, error.clone());
        turn.record(held.change(manifest, part, peer), dead);
        if dead && part == Part::Manifest {
            let journey = self.journeys.iter_mut().find(|((_, _, held), _)| *held == manifest);
            let task = journey.and_then(|(_, journey)| journey.tasks.get_mut(peer));
            kill_segments(turn, book, task, manifest, peer);
        }
    }

    /// The condition may be met, or not be met any more, since peers or answers have changed.
    fn judge(&mut self, turn: &mut Turn) {
        for ((_, _, manifest), journey) in &mut self.journeys {
            let done = journey.is_done(self.success, self.peers.keys());
            if done && !journey.done {
                turn.act(Output::Done { manifest: *manifest });
            }
            journey.done = done;
        }
    }
}

/// The set is a dead letter, and so is what of it is not with the peer.
fn kill_segments(turn: &mut Turn, book: &mut Book, task: Option<&mut Task>, manifest: Blake3, peer: &Name) {
    let error = shortened("the set itself is a dead letter");
    if let Some(task) = task {
        for wanted in std::mem::take(&mut task.wanted) {
            book.segments.entry(wanted.id).or_default();
        }
    }
    for (id, held) in &mut book.segments {
        if !matches!(held.state, State::Acked | State::Dead) {
            held.kill(error.clone());
            turn.record(held.change(manifest, Part::Segment(*id), peer), true);
        }
    }
}

/// What comes out of one step.
#[derive(Debug)]
struct Turn {
    now: u64,
    due: Option<u64>,
    changes: Vec<Change>,
    acts: Vec<Output>,
}

impl Turn {
    fn at(now: u64) -> Self {
        Self { now, due: None, changes: Vec::new(), acts: Vec::new() }
    }

    /// A row has changed, perhaps for the last time.
    fn record(&mut self, change: Change, dead: bool) {
        if dead {
            self.acts.push(Output::DeadLetter(change.key.clone()));
        }
        self.changes.push(change);
    }

    fn begin(&mut self, held: &mut Held, manifest: Blake3, part: Part, peer: &Name) {
        held.begin(self.now);
        self.changes.push(held.change(manifest, part, peer));
    }

    fn act(&mut self, output: Output) {
        self.acts.push(output);
    }

    /// Something is due at that tick.
    fn remind(&mut self, tick: u64) {
        if tick > self.now && tick < u64::MAX {
            self.due = Some(self.due.map_or(tick, |due| due.min(tick)));
        }
    }

    /// The rows come first, so that one commit covers whatever is done after them.
    fn outputs(self) -> Vec<Output> {
        let record = (!self.changes.is_empty()).then_some(Output::Record(self.changes));
        record.into_iter().chain(self.acts).collect()
    }
}

impl Config {
    fn schedule(&self) -> Schedule {
        Schedule { max_attempts: self.max_attempts.max(1), backoff: self.backoff.max(1), window: self.window.max(1) }
    }
}
