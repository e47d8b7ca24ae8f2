//! A set that travels, and how far it is with each peer.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use autonomy_schema::relay::SuccessCondition;
use autonomy_schema::{Blake3, Name};

use crate::book::{Book, State};
use crate::words::Wanted;

/// The order in which sets travel: stream, newest serial, name.
pub(crate) type Place = (Name, Reverse<u64>, Blake3);

/// A set under way.
#[derive(Debug, Clone)]
pub(crate) struct Journey {
    pub(crate) since: u64,
    /// Bytes of the documents.
    pub(crate) documents: u64,
    pub(crate) done: bool,
    /// With one peer to serve: the one that is tried.
    pub(crate) turn: Option<Name>,
    pub(crate) tasks: BTreeMap<Name, Task>,
}

impl Journey {
    pub(crate) fn new(since: u64, documents: u64) -> Self {
        Self { since, documents, done: false, turn: None, tasks: BTreeMap::new() }
    }

    /// Whether as many have it as the condition demands. Nobody is not everybody.
    pub(crate) fn is_done<'a>(&self, success: SuccessCondition, mut peers: impl Iterator<Item = &'a Name>) -> bool {
        match success {
            SuccessCondition::OnePeer => self.tasks.values().any(Task::is_stored),
            SuccessCondition::AllPeers => {
                let mut somebody = false;
                let all = peers.all(|peer| {
                    somebody = true;
                    self.tasks.get(peer).is_some_and(Task::is_stored)
                });
                all && somebody
            }
        }
    }
}

/// How it ended, if not with the set itself as a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The peer has it all.
    Stored,
    /// What the peer lacks are dead letters.
    Exhausted,
}

/// One set at one peer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Task {
    pub(crate) end: Option<End>,
    /// The peer answered on this connection, and `wanted` is from there.
    pub(crate) known: bool,
    /// It did not know the set although it had accepted it.
    pub(crate) forgotten: bool,
    /// What it lacks, in the order of the set.
    pub(crate) wanted: Vec<Wanted>,
    /// Segments that it took since its last answer.
    pub(crate) taken: u64,
    /// Questions in a row whose answer gave nothing to do.
    pub(crate) idle: u64,
    /// The tick from which it may be asked.
    pub(crate) ask_due: u64,
}

impl Task {
    /// The peer has it all.
    pub(crate) fn is_stored(&self) -> bool {
        self.end == Some(End::Stored)
    }

    /// Nothing more will come of it.
    pub(crate) fn is_over(&self, book: &Book) -> bool {
        self.end.is_some() || book.manifest.state == State::Dead
    }

    /// What the peer said ends with its connection.
    pub(crate) fn disconnect(&mut self) {
        self.known = false;
        self.forgotten = false;
        self.wanted = Vec::new();
        // On the next connection it is asked at once.
        self.ask_due = 0;
    }

    /// Leaves out what was acked.
    pub(crate) fn took(&mut self, acked: &BTreeSet<Blake3>) {
        self.taken += acked.len() as u64;
        // What was acked stands near the front; what lies behind it is not looked at.
        let mut left = acked.len();
        self.wanted.retain(|wanted| {
            let is_gone = left > 0 && acked.contains(&wanted.id);
            left -= usize::from(is_gone);
            !is_gone
        });
    }
}
