//! By what the runtime judges: the lock and the policy of the active generation, verified anew whenever they change.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use autonomy_schema::{Code, Name, Reason, Reasons, RelPath};
use autonomy_stateroot::StateRoot;
use autonomy_telemetry::{Priority, Record};
use serde_json::{Value, json};

use crate::call::PolicyRef;
use crate::interceptor::{Interceptor, Policy, Standing, clock};
use crate::metrics::Metrics;

mod look;

pub use look::{Demand, LockFile};
use look::{Looked, Mark};

/// How often it is looked whether something else is active.
const POLL: Duration = Duration::from_millis(500);

/// What the runtime says of itself at `/readyz`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standings {
    /// Why calls cannot be allowed; empty when they can.
    pub(crate) reasons: Vec<Reason>,
    pub(crate) policy: Option<PolicyRef>,
    pub(crate) generation: Option<Name>,
    pub(crate) lock: Option<autonomy_schema::Blake3>,
    /// Why an older policy serves than the newest, where one does.
    pub(crate) fallback: Option<Reasons>,
}

/// The same, shared.
#[derive(Debug, Clone, Default)]
pub(crate) struct Status(Arc<Mutex<Standings>>);

impl Status {
    pub(crate) fn get(&self) -> Standings {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, standings: Standings) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = standings;
    }
}

/// Follows what is active. Its thread compiles, so it needs a stack of [`autonomy_policy::STACK_BYTES`].
#[derive(Debug)]
pub(crate) struct Watcher {
    root: StateRoot,
    demand: Demand,
    interceptor: Arc<Interceptor>,
    metrics: Arc<Metrics>,
    status: Status,
    agent: Option<RelPath>,
    seen: Option<Mark>,
}

/// What the watcher is told.
#[derive(Debug)]
pub(crate) enum Order {
    /// Look now, whatever was seen before (SIGHUP).
    Look,
    /// End.
    End,
}

impl Watcher {
    pub(crate) fn new(
        (root, demand): (StateRoot, Demand),
        (interceptor, metrics): (Arc<Interceptor>, Arc<Metrics>),
        status: Status,
    ) -> Self {
        Self { root, demand, interceptor, metrics, status, agent: None, seen: None }
    }

    /// The first look; what is demanded and not there is the refusal to start. Then it follows until it is told to end.
    pub(crate) fn run(mut self, orders: &Receiver<Order>, first: &SyncSender<Result<(), Reasons>>) {
        let begun = self.begin();
        let is_refused = begun.is_err();
        if first.send(begun).is_err() || is_refused {
            return;
        }
        loop {
            match orders.recv_timeout(POLL) {
                Ok(Order::Look) => self.seen = None,
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Order::End) | Err(RecvTimeoutError::Disconnected) => return,
            }
            self.follow();
        }
    }

    fn begin(&mut self) -> Result<(), Reasons> {
        self.seen = Mark::of(&self.root, self.agent.as_ref());
        let looked = look::look(&self.root, &self.demand, clock());
        self.agent.clone_from(&looked.agent);
        if let Err(why) = &looked.lock
            && self.demand.require_lock
        {
            return Err(why.clone().into());
        }
        let taken = self.take(looked);
        if self.demand.require_policy { taken.map_err(Reasons::from) } else { Ok(()) }
    }

    /// Looks when something moved. The mark is taken before, so that what moves meanwhile is seen the next time.
    fn follow(&mut self) {
        let mark = Mark::of(&self.root, self.agent.as_ref());
        if mark.is_some() && mark == self.seen {
            return;
        }
        let looked = look::look(&self.root, &self.demand, clock());
        self.agent.clone_from(&looked.agent);
        // Told where it was put on record.
        self.take(looked).ok();
        self.seen = mark;
    }

    /// Makes what was found the standing. An error is why every call is denied now.
    fn take(&self, looked: Looked) -> Result<(), Reason> {
        let Looked { lock, policy, generation, fallback, agent: _ } = looked;
        let mut standings = Standings { generation, lock: lock.as_ref().ok().copied(), ..Standings::default() };
        standings.fallback = fallback;
        let lock = match lock {
            Err(why) if self.demand.require_lock => Err(why),
            Ok(_) | Err(_) => Ok(()),
        };
        let policy = lock.and(policy).and_then(|bundle| {
            Policy::new(&bundle).map_err(|error| Reason::new(Code::NoPolicy, error.to_reason().message))
        });
        let before = standing_of(&self.interceptor.standing());
        let result = match policy {
            Ok(policy) => {
                standings.policy = Some(policy.reference().clone());
                self.interceptor.swap(Standing::Serving(policy));
                Ok(())
            }
            Err(why) => {
                standings.reasons.push(why.clone());
                self.interceptor.swap(Standing::Closed(why.clone()));
                Err(why)
            }
        };
        let after = standing_of(&self.interceptor.standing());
        if before != after {
            self.metrics.swapped();
            self.tell(&standings);
        }
        self.status.set(standings);
        result
    }

    fn tell(&self, standings: &Standings) {
        let body = json!({
            "fallback": standings.fallback.as_ref().map(Reasons::one_line),
            "generation": standings.generation,
            "lock": standings.lock,
            "policy": standings.policy,
            "reasons": standings.reasons.iter().map(ToString::to_string).collect::<Vec<_>>(),
        });
        if standings.reasons.is_empty() {
            tracing::info!(event = "runtime.policy.serving", standing = %body, "calls are decided by this policy");
        } else {
            tracing::error!(event = "runtime.policy.closed", standing = %body, "every call is denied");
        }
        let kind = if standings.reasons.is_empty() { "runtime.policy.serving" } else { "runtime.policy.closed" };
        self.interceptor.note(Record { kind: kind.to_owned(), priority: Priority::Lifecycle, time: clock(), body });
    }
}

/// What two standings are compared by.
fn standing_of(standing: &Standing) -> Value {
    match standing {
        Standing::Closed(reason) => json!({ "closed": reason }),
        Standing::Serving(policy) => json!({ "policy": policy.reference() }),
    }
}
