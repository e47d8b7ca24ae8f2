//! The loop: a node follows a source. Every round looks where the source points; when that or the node's own facts
//! moved, the set is fetched, verified, planned, admitted and applied.
//!
//! Nothing is hammered: what was refused is tried again only when something moved, or after a wait that doubles
//! ([`pace`]). A source that moves on while its set is being applied supersedes that apply at the next safe step before
//! the switch; after the switch it is finished first.

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use autonomy_apply::{Applied, Event, Observer, Recovery, ServiceRunner};
use autonomy_schema::journal::Verdict;
use autonomy_schema::manifest::Window;
use autonomy_schema::{Blake3, Code, Name, Reason, Reasons, Time};
use autonomy_stateroot::{StateRoot, UnitProbe};

use crate::execute::{Approval, apply, note_refused_plan, note_refused_set};
use crate::judge::{Options, look, prepare};
use crate::record::Actor;
use crate::recovery::{awaiting, recover_unfinished};
use crate::source::Source;

mod health;
pub mod pace;
pub mod serve;
mod stop;

pub use health::Health;
pub use pace::Pace;
pub use stop::Stop;

/// What the loop works with.
pub struct Follow<'a> {
    /// The state root.
    pub root: &'a StateRoot,
    /// What is followed.
    pub source: &'a Source,
    /// A folder for what must be fetched.
    pub workspace: &'a Path,
    /// For the records: `uid:0`.
    pub who: String,
    /// Who runs services.
    pub runner: &'a dyn ServiceRunner,
    /// The root of the operating system, the same as the runner's.
    pub os_root: &'a Path,
    /// Asked how units are.
    pub units: UnitProbe<'a>,
    /// The clock.
    pub clock: &'a dyn Fn() -> Time,
    /// How often the source is looked at.
    pub interval: Duration,
    /// Ends the loop.
    pub stop: &'a Stop,
}

/// What a round came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A generation was activated.
    Applied(Name),
    /// The set went into the outbox.
    Relayed,
    /// A newer trust root was pinned; the generation is the same.
    Rotated,
    /// The node has what the source says.
    Unchanged,
    /// Nothing moved since the round before.
    Idle,
    /// A release that failed, or that nobody confirmed in time, was left.
    Returned(Reasons),
    /// Suspended, or outside the window.
    Held(Reasons),
    /// The set or the node refused.
    Refused(Reasons),
    /// The source or the machine failed.
    Failed(Reasons),
    /// Stopped before the switch, for something newer or to end.
    Superseded(Reasons),
}

impl Outcome {
    /// A word for records and metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Outcome::Applied(_) => "applied",
            Outcome::Relayed => "relayed",
            Outcome::Rotated => "rotated",
            Outcome::Unchanged => "unchanged",
            Outcome::Idle => "idle",
            Outcome::Returned(_) => "returned",
            Outcome::Held(_) => "held",
            Outcome::Refused(_) => "refused",
            Outcome::Failed(_) => "failed",
            Outcome::Superseded(_) => "superseded",
        }
    }

    /// Why nothing was changed, where something should have been.
    pub fn reasons(&self) -> Option<&Reasons> {
        match self {
            Outcome::Returned(reasons)
            | Outcome::Held(reasons)
            | Outcome::Refused(reasons)
            | Outcome::Failed(reasons)
            | Outcome::Superseded(reasons) => Some(reasons),
            Outcome::Applied(_) | Outcome::Relayed | Outcome::Rotated | Outcome::Unchanged | Outcome::Idle => None,
        }
    }

    fn of_refusal(reasons: Reasons) -> Self {
        if reasons.has(Code::Superseded) {
            return Outcome::Superseded(reasons);
        }
        // Held only when nothing else speaks against it: a forged set is refused also at night.
        let held = |reason: &Reason| matches!(reason.code, Code::Suspended | Code::OutsideWindow);
        if reasons.as_slice().iter().all(held) {
            return Outcome::Held(reasons);
        }
        match reasons.exit() {
            8 => Outcome::Returned(reasons),
            1 | 6 => Outcome::Failed(reasons),
            _ => Outcome::Refused(reasons),
        }
    }
}

/// One round, as it is told.
#[derive(Debug, Clone)]
pub struct Round {
    /// When it began.
    pub at: Time,
    /// What the source pointed to, where it answered.
    pub tip: Option<String>,
    /// What it came to.
    pub outcome: Outcome,
    /// A record that could not be written, or another thing to know.
    pub warning: Option<String>,
    /// The wait before the next one.
    pub wait: Duration,
}

/// What the last attempt was about, and when the same may be tried again.
struct Settled {
    tip: String,
    facts: Blake3,
    again: Again,
}

enum Again {
    /// Not before something moves.
    WhenMoved,
    /// After a wait.
    At(Instant),
    /// When nothing holds it any more.
    WhenReleased(Option<Window>),
}

/// The memory of the loop between its rounds.
pub struct Follower<'a> {
    follow: Follow<'a>,
    settled: Option<Settled>,
    /// Looking at the source.
    looks: Pace,
    /// Trying what was refused.
    tries: Pace,
}

impl<'a> Follower<'a> {
    /// A loop that has not looked yet.
    pub fn new(follow: Follow<'a>) -> Self {
        let (looks, tries) = (Pace::new(follow.interval), Pace::new(follow.interval));
        Self { follow, settled: None, looks, tries }
    }

    /// Looks, and acts when something moved.
    pub fn round(&mut self, observer: &mut dyn Observer) -> Round {
        let at = (self.follow.clock)();
        let mut attempt = Attempt { at, tip: None, warning: None, window: None };
        let outcome = match self.try_round(&mut attempt, observer) {
            Ok(outcome) => outcome,
            Err(reasons) => Outcome::of_refusal(reasons),
        };
        self.settle(&attempt, &outcome);
        // What superseded it is waiting already.
        let superseded = matches!(outcome, Outcome::Superseded(_));
        let wait = if superseded { Duration::ZERO } else { self.looks.wait().min(self.until_expiry()) };
        Round { at, tip: attempt.tip, outcome, warning: attempt.warning, wait }
    }

    /// The loop is there when the time to confirm is over.
    fn until_expiry(&self) -> Duration {
        let now = self.follow.runner.moment();
        match awaiting(self.follow.root, &now).ok().flatten().map(|awaiting| awaiting.verdict) {
            Some(Verdict::Holds(left)) => Duration::from_millis(left.millis().saturating_add(1)),
            Some(Verdict::Restarts | Verdict::Expired | Verdict::RebootedAgain) | None => Duration::MAX,
        }
    }

    fn try_round(&mut self, attempt: &mut Attempt, observer: &mut dyn Observer) -> Result<Outcome, Reasons> {
        let follow = &self.follow;
        let actor = Actor { who: follow.who.clone(), verb: "reconcile".to_owned(), clock: attempt.at };
        if let Recovery::RolledBack { reason, .. } = recover_unfinished(follow.root, &actor, follow.runner, observer)? {
            return Ok(Outcome::Returned(reason.into()));
        }
        let tip = match follow.source.tip() {
            Ok(Some(tip)) => tip,
            Ok(None) => {
                self.looks.succeeded();
                return Ok(Outcome::Idle);
            }
            Err(reasons) => {
                self.looks.failed();
                return Ok(Outcome::Failed(reasons));
            }
        };
        self.looks.succeeded();
        attempt.tip = Some(tip.clone());
        let options = self.options(attempt.at);
        let now = look(self.follow.root, &options)?;
        if self.is_settled(&tip, fingerprint(&now.bound)?, attempt.at, now.observed.suspended) {
            return Ok(Outcome::Idle);
        }
        let source = self.follow.source.open(self.follow.workspace, &|_| {})?;
        let outcome = self.carry_out(&*source, attempt, &actor, &options, observer);
        for warning in source.warnings() {
            tracing::warn!("{warning}");
        }
        outcome
    }

    fn options(&self, clock: Time) -> Options<'a> {
        Options {
            clock,
            verify_content: false,
            os_root: self.follow.os_root,
            progress: &|_, _| {},
            units: self.follow.units,
        }
    }

    fn is_settled(&self, tip: &str, facts: Blake3, now: Time, suspended: bool) -> bool {
        let Some(settled) = self.settled.as_ref().filter(|settled| settled.tip == tip && settled.facts == facts) else {
            return false;
        };
        match &settled.again {
            Again::WhenMoved => true,
            Again::At(time) => Instant::now() < *time,
            Again::WhenReleased(window) => suspended || window.as_ref().is_some_and(|window| !window.is_open(now)),
        }
    }

    /// Verifies, plans and applies one set.
    fn carry_out(
        &self,
        source: &dyn autonomy_stateroot::SetSource,
        attempt: &mut Attempt,
        actor: &Actor,
        options: &Options<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, Reasons> {
        let root = self.follow.root;
        let prepared = prepare(root, source, options).inspect_err(|reasons| {
            attempt.warning = note_refused_set(root, source, actor, reasons);
        })?;
        attempt.window.clone_from(&prepared.set.manifest.document().spec.window);
        attempt.warning = prepared.facts.bound.revoked_sentence();
        if let Some(reasons) = Reasons::new(prepared.reasons()) {
            // A closed window is no event: it closes every day.
            if !matches!(Outcome::of_refusal(reasons.clone()), Outcome::Held(_)) {
                attempt.warning = note_refused_plan(root, source, &prepared, actor, &reasons);
            }
            return Err(reasons);
        }
        let tip = attempt.tip.clone().unwrap_or_default();
        let result = self.watched(&tip, observer, |observer| {
            let runner = self.follow.runner;
            let approval =
                Approval { prepared, saved: None, stage_only: false, now_anyway: false, actor, runner, observer };
            apply(root, source, approval, options)
        });
        match result {
            Ok(done) => {
                attempt.warning = done.warning.or(attempt.warning.take());
                Ok(match done.applied {
                    Applied::Nothing => Outcome::Unchanged,
                    Applied::Relayed => Outcome::Relayed,
                    Applied::Rotated => Outcome::Rotated,
                    Applied::Active(generation) | Applied::Waiting(generation) | Applied::Staged(generation) => {
                        Outcome::Applied(generation)
                    }
                })
            }
            Err(failure) => {
                attempt.warning = failure.warning;
                Err(failure.reasons)
            }
        }
    }

    /// Runs an apply while a second thread looks whether the source moves on.
    fn watched<T>(&self, tip: &str, observer: &mut dyn Observer, run: impl FnOnce(&mut dyn Observer) -> T) -> T {
        let (done, newer) = (Stop::default(), Mutex::new(None));
        let Follow { source, interval, stop, .. } = &self.follow;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.wait(*interval) {
                    if let Ok(Some(now)) = source.tip()
                        && now != tip
                        && let Ok(mut newer) = newer.lock()
                    {
                        *newer = Some(format!("the source moved from {tip} to {now}"));
                        return;
                    }
                }
            });
            let mut guarded = Guarded { inner: observer, stop, newer: &newer };
            let result = run(&mut guarded);
            done.request("the apply is over");
            result
        })
    }

    /// Remembers what was tried, so that the same is not tried again at once.
    fn settle(&mut self, attempt: &Attempt, outcome: &Outcome) {
        let again = match outcome {
            Outcome::Idle => return,
            Outcome::Applied(_) | Outcome::Relayed | Outcome::Rotated | Outcome::Unchanged => {
                self.tries.succeeded();
                Again::WhenMoved
            }
            Outcome::Held(_) => Again::WhenReleased(attempt.window.clone()),
            // What the source says now has not been looked at yet.
            Outcome::Superseded(_) => {
                self.settled = None;
                return;
            }
            Outcome::Returned(_) | Outcome::Refused(_) | Outcome::Failed(_) => {
                if attempt.tip.is_some() {
                    self.tries.failed();
                }
                Again::At(Instant::now() + self.tries.wait())
            }
        };
        // What was done, or refused and pinned, moved the facts: those from now on count.
        let options = self.options(attempt.at);
        let known = look(self.follow.root, &options);
        let known = known.and_then(|facts| fingerprint(&facts.bound));
        self.settled = match (known, &attempt.tip) {
            (Ok(facts), Some(tip)) => Some(Settled { tip: tip.clone(), facts, again }),
            _ => None,
        };
    }

    /// Failures in a row: of looking, and of trying.
    pub fn failures(&self) -> u32 {
        self.looks.failures().max(self.tries.failures())
    }
}

/// What a round gathers as it goes.
struct Attempt {
    at: Time,
    tip: Option<String>,
    warning: Option<String>,
    window: Option<Window>,
}

fn fingerprint(bound: &autonomy_schema::facts::BoundFacts) -> Result<Blake3, Reasons> {
    bound.fingerprint().map_err(|error| Reason::new(Code::BadValue, error.to_string()).into())
}

/// Passes events on, and knows when the apply shall stop.
struct Guarded<'a> {
    inner: &'a mut dyn Observer,
    stop: &'a Stop,
    newer: &'a Mutex<Option<String>>,
}

impl Observer for Guarded<'_> {
    fn event(&mut self, event: &Event<'_>) {
        self.inner.event(event);
    }

    fn stop(&self) -> Option<String> {
        let newer = self.newer.lock().ok().and_then(|newer| newer.clone());
        self.stop.requested().or(newer).or_else(|| self.inner.stop())
    }
}
