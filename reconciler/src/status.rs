//! What runs, why, what is next, and how old the intent is. What cannot be read is told beside it, so that a damaged node
//! still says what it knows.

use std::collections::BTreeSet;

use autonomy_schema::facts::RevokedFact;
use autonomy_schema::floors::Floors;
use autonomy_schema::journal::{Journal, Moment, Phase, Verdict};
use autonomy_schema::node::Node;
use autonomy_schema::{Blake3, Code, Duration, Name, Reason, Reasons, Time};
use autonomy_stateroot::hold::Suspension;
use autonomy_stateroot::{Holder, StateRoot};

use crate::history::{Act, history};
use crate::judge::revoked;
use crate::recovery::{Awaiting, awaiting};
use crate::relay::{Relaying, relaying};
use autonomy_sets::manifest_of;

/// The active generation, as its manifest says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Its folder.
    pub generation: Name,
    /// Fingerprint of its manifest.
    pub manifest: Blake3,
    /// Its stream.
    pub stream: Name,
    /// Its serial.
    pub serial: u64,
    /// Its release version.
    pub release: String,
    /// Set when it is revoked.
    pub revoked: Option<RevokedFact>,
}

/// How old is what the node was last told to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intent {
    /// When the active manifest was issued.
    pub issued_at: Time,
    /// Until when it may be made active anew.
    pub expires_at: Time,
    /// The newest `issuedAt` that the node ever admitted.
    pub time_mark: Option<Time>,
}

/// What the node waits for, or what happens next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing is active yet.
    FirstSet,
    /// A staged generation goes on with the apply of its set.
    ApplyStaged(Name),
    /// A generation that was being staged is removed by the next locking verb.
    Discard(Name),
    /// The services and checks of a generation are finished by the next locking verb.
    Finish(Name),
    /// The way back from a generation is finished by the next locking verb.
    FinishReturn(Name),
    /// Another process is at work on it now.
    Busy(Name),
    /// Somebody must confirm in time.
    Confirm {
        /// What waits.
        generation: Name,
        /// How much time there still is.
        left: Duration,
        /// Whether the one reboot that restarts the window is used up.
        rebooted: bool,
        /// What is active again otherwise.
        back: Option<Name>,
    },
    /// The machine was started anew: timer, boot unit, loop or next locking verb begin the window again.
    RestartWindow(Name),
    /// Time is over: the same lead back.
    Expire {
        /// What waited.
        generation: Name,
        /// What is active again then.
        back: Option<Name>,
    },
    /// Changes are held.
    Resume,
    /// The active manifest has expired; it runs on, and only a newer one can be applied.
    NewerIntent,
    /// A newer manifest.
    Nothing,
}

/// All of it.
#[derive(Debug)]
pub struct Status {
    /// Who the node is.
    pub node: Option<Node>,
    /// What runs.
    pub running: Option<Running>,
    /// The act that made it so.
    pub why: Option<Act>,
    /// The newest act, when it came to nothing.
    pub last_try: Option<Act>,
    /// The last known good generation.
    pub lkg: Option<Name>,
    /// The journal.
    pub journal: Option<Journal>,
    /// What waits to be confirmed.
    pub awaiting: Option<Awaiting>,
    /// How old the intent is.
    pub intent: Option<Intent>,
    /// The stream that is followed.
    pub stream: Option<Name>,
    /// Manifests that are not tried again.
    pub pinned: BTreeSet<Blake3>,
    /// Whether changes are held, and what the file says.
    pub suspended: Option<Option<Suspension>>,
    /// Who holds the lock.
    pub holder: Option<Holder>,
    /// What `edged` last said of the relay.
    pub relay: Option<Relaying>,
    /// What happens next, the first thing first.
    pub next: Vec<Next>,
    /// What could not be read.
    pub damage: Vec<Reason>,
}

/// Looks. Writes nothing.
pub fn status(root: &StateRoot, now: Time, moment: &Moment) -> Status {
    let mut damage: Vec<Reason> = Vec::new();
    let node = keep(root.node(), &mut damage);
    let current = keep(root.current(), &mut damage).flatten();
    let lkg = keep(root.lkg(), &mut damage).flatten();
    let journal = keep(root.journal(), &mut damage).flatten();
    let floors = keep(root.floors(), &mut damage).flatten().unwrap_or_default();
    let pinned = keep(root.pinned(), &mut damage).unwrap_or_default();
    let acts = keep(history(root), &mut damage).unwrap_or_default();
    let failed = |error: autonomy_stateroot::DiskError| Reasons::from(error.to_reason());
    let is_suspended = keep(root.is_suspended().map_err(failed), &mut damage).unwrap_or_default();
    let suspended = is_suspended.then(|| root.suspension());
    let relay = keep(relaying(root).map_err(Reasons::from), &mut damage).flatten();
    let holder = keep(root.lock_holder().map_err(failed), &mut damage).flatten();
    let (running, intent) = match &current {
        None => (None, None),
        Some(generation) => running(root, generation, &floors, &mut damage).unzip(),
    };
    let awaiting = keep(awaiting(root, moment), &mut damage).flatten();
    let mut next = next(journal.as_ref(), awaiting.as_ref(), lkg.as_ref());
    // The rename may be on disk although the journal does not say so yet.
    for next in &mut next {
        if let Next::ApplyStaged(name) | Next::Discard(name) = next
            && Some(&*name) == current.as_ref()
        {
            *next = Next::Finish(name.clone());
        }
    }
    if holder.is_some() {
        // Not cut off: whoever holds the lock is in the middle of it.
        for next in &mut next {
            if let Next::Discard(name) | Next::Finish(name) | Next::FinishReturn(name) = next {
                *next = Next::Busy(name.clone());
            }
        }
    }
    if suspended.is_some() {
        next.push(Next::Resume);
    }
    if current.is_none() && damage.is_empty() && next.is_empty() {
        next.push(Next::FirstSet);
    }
    let late = floors.time_mark.unwrap_or(now).max(now);
    if intent.is_some_and(|intent| intent.expires_at <= late) {
        next.push(Next::NewerIntent);
    }
    if next.is_empty() {
        next.push(Next::Nothing);
    }
    let manifest = running.as_ref().map(|running| running.manifest);
    // A precheck that was cut off is about the same manifest, and made nothing active.
    let is_cut_off = |act: &Act| act.is_cut_off() && act.manifest == manifest && act.verb != autonomy_precheck::VERB;
    let made = |current: &Name| acts.iter().rev().find(|act| act.activated(current) || is_cut_off(act));
    let why = current.as_ref().and_then(made).cloned();
    let last_try = acts.last().filter(|act| !act.reasons().is_empty() && act.made_active().is_none()).cloned();
    damage.sort();
    damage.dedup();
    let stream = floors.stream;
    Status {
        node,
        running,
        why,
        last_try,
        lkg,
        journal,
        awaiting,
        intent,
        stream,
        pinned,
        suspended,
        holder,
        relay,
        next,
        damage,
    }
}

fn keep<T>(found: Result<T, Reasons>, damage: &mut Vec<Reason>) -> Option<T> {
    found.map_err(|reasons| damage.extend(reasons.into_vec())).ok()
}

fn running(
    root: &StateRoot,
    generation: &Name,
    floors: &Floors,
    damage: &mut Vec<Reason>,
) -> Option<(Running, Intent)> {
    let Some((manifest, fingerprint)) = manifest_of(root, generation) else {
        let path = autonomy_stateroot::layout::generation_manifest(generation);
        let message = format!("`{path}` of the active generation is missing or cannot be read");
        damage.push(Reason::new(Code::CorruptState, message));
        return None;
    };
    let metadata = manifest.metadata;
    let intent = Intent { issued_at: metadata.issued_at, expires_at: metadata.expires_at, time_mark: floors.time_mark };
    let running = Running {
        generation: generation.clone(),
        manifest: fingerprint,
        stream: metadata.name,
        serial: metadata.serial,
        release: manifest.spec.release.version.to_string(),
        revoked: revoked(root, generation, fingerprint),
    };
    Some((running, intent))
}

fn next(journal: Option<&Journal>, awaiting: Option<&Awaiting>, lkg: Option<&Name>) -> Vec<Next> {
    let mut next = Vec::new();
    let unfinished = journal.map(|journal| {
        let generation = journal.generation.clone();
        match journal.phase {
            Phase::Intent => Some(Next::Discard(generation)),
            Phase::Staged | Phase::Prechecked => Some(Next::ApplyStaged(generation)),
            Phase::Switched if journal.failure.is_some() => Some(Next::FinishReturn(generation)),
            Phase::Switched => Some(Next::Finish(generation)),
            Phase::Waiting | Phase::Confirmed | Phase::RolledBack => None,
        }
    });
    next.extend(unfinished.flatten());
    if let Some(Awaiting { generation, waiting, verdict, .. }) = awaiting {
        let (generation, back) = (generation.clone(), lkg.cloned());
        // What is closest comes first.
        next.insert(
            0,
            match *verdict {
                Verdict::Holds(left) => Next::Confirm { generation, left, rebooted: waiting.reboots > 0, back },
                Verdict::Restarts => Next::RestartWindow(generation),
                Verdict::Expired | Verdict::RebootedAgain => Next::Expire { generation, back },
            },
        );
    }
    next
}
