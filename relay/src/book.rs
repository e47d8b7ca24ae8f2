//! What the machine knows of the rows of one set at one peer: those that are open, and those that must not be forgotten.

use std::collections::BTreeMap;
use std::sync::Arc;

use autonomy_schema::{Blake3, Name};

use crate::row::{Change, Part, Row, RowKey, RowState};
use crate::schedule::Schedule;

/// Bytes of an error that are kept; it may be what a peer wrote.
const MAX_ERROR_BYTES: usize = 200;

/// All rows, by set and peer.
pub(crate) type Books = BTreeMap<(Blake3, Name), Book>;

/// A row as the machine holds it. An error is shared by the segments of one pack.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held {
    pub(crate) state: State,
    pub(crate) attempts: u64,
    /// The tick from which it may be tried again.
    pub(crate) due: u64,
    /// The tick at which its first attempt since the start began.
    first: Option<u64>,
    pub(crate) error: Option<Arc<str>>,
}

/// [`RowState`], with the one that a row begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum State {
    #[default]
    Scheduled,
    Inflight,
    Acked,
    Failed,
    Dead,
}

impl From<RowState> for State {
    fn from(state: RowState) -> Self {
        match state {
            RowState::Scheduled => Self::Scheduled,
            RowState::Inflight => Self::Inflight,
            RowState::Acked => Self::Acked,
            RowState::Failed => Self::Failed,
            RowState::Deadletter => Self::Dead,
        }
    }
}

impl Held {
    pub(crate) fn begin(&mut self, now: u64) {
        self.attempts = self.attempts.saturating_add(1);
        self.state = State::Inflight;
        self.first.get_or_insert(now);
    }

    pub(crate) fn ack(&mut self) {
        self.state = State::Acked;
        self.error = None;
    }

    /// The last attempt has failed. Whether that was the last of all.
    pub(crate) fn fail(&mut self, now: u64, schedule: &Schedule, error: Arc<str>) -> bool {
        self.error = Some(error);
        if self.attempts >= schedule.max_attempts {
            self.state = State::Dead;
            return true;
        }
        let elapsed = now.saturating_sub(*self.first.get_or_insert(now));
        self.state = State::Failed;
        self.due = now.saturating_add(schedule.retry(self.attempts, elapsed));
        false
    }

    pub(crate) fn kill(&mut self, error: Arc<str>) {
        self.state = State::Dead;
        self.error = Some(error);
    }

    fn restored(row: &Row) -> Self {
        let error = row.last_error.as_deref().map(shortened);
        Self { state: row.state.into(), attempts: row.attempts, due: 0, first: None, error }
    }

    fn row(&self) -> Row {
        let state = match self.state {
            State::Scheduled => RowState::Scheduled,
            State::Inflight => RowState::Inflight,
            State::Acked => RowState::Acked,
            State::Failed => RowState::Failed,
            State::Dead => RowState::Deadletter,
        };
        Row { state, attempts: self.attempts, last_error: self.error.as_deref().map(str::to_owned) }
    }

    pub(crate) fn change(&self, manifest: Blake3, part: Part, peer: &Name) -> Change {
        Change { key: RowKey { manifest, part, peer: peer.clone() }, row: self.row() }
    }
}

/// The rows of one set at one peer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Book {
    pub(crate) manifest: Held,
    /// Attempted segments: under way, failed, dead, and acked ones until the peer's next answer.
    pub(crate) segments: BTreeMap<Blake3, Held>,
}

impl Book {
    pub(crate) fn held(&mut self, part: Part) -> &mut Held {
        match part {
            Part::Manifest => &mut self.manifest,
            Part::Segment(id) => self.segments.entry(id).or_default(),
        }
    }

    /// Takes a row of the ledger, unless what is known already is as new. Whether it was taken.
    pub(crate) fn restore(&mut self, part: Part, row: &Row) -> bool {
        let held = self.held(part);
        let newer = row.attempts > held.attempts || held.state == State::Scheduled && held.attempts == row.attempts;
        if newer {
            *held = Held::restored(row);
        }
        newer
    }

    /// Forgets what the ledger need not be asked about again. Whether anything is left.
    pub(crate) fn trim(&mut self) -> bool {
        self.segments.retain(|_, held| !matches!(held.state, State::Acked | State::Scheduled));
        self.manifest.attempts > 0 || !self.segments.is_empty()
    }
}

/// The error as it is kept: at most [`MAX_ERROR_BYTES`], cut between two characters.
pub(crate) fn shortened(error: &str) -> Arc<str> {
    let end = error.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= MAX_ERROR_BYTES).last();
    Arc::from(&error[..end.unwrap_or(0)])
}
