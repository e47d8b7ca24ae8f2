//! The one door to every tool: a call in, a recorded ruling out. What is not a clean `allow` of the policy is a no.
//!
//! Workers evaluate, each with a compiled policy of its own; the log's thread answers. A supervisor gives up evaluations
//! that overstep their budget within one built-in call: their thread is left behind, another takes its place.

mod judge;
mod pool;
mod record;

use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError, RwLock, mpsc};

use autonomy_policy::slots::TOOL_ENTRY;
use autonomy_policy::{Budget, Bundle, EvalError, Prepared};
use autonomy_schema::{Code, Reason};
use autonomy_telemetry::Record;

use crate::call::{Asked, Call, PolicyRef, Ruling};
use crate::log::Log;
use crate::metrics::Metrics;
use crate::redact::Redact;
use pool::Pool;

pub(crate) use record::clock;

/// A policy that is ready to be asked.
#[derive(Debug)]
pub struct Policy {
    reference: PolicyRef,
    prepared: Prepared,
}

impl Policy {
    /// Compiles a bundle. The thread needs a stack of [`autonomy_policy::STACK_BYTES`].
    pub fn new(bundle: &Bundle) -> Result<Self, EvalError> {
        let manifest = bundle.manifest();
        let reference = PolicyRef {
            name: manifest.name.clone(),
            version: manifest.policy_bundle_version.clone(),
            digest: bundle.digest(),
        };
        Ok(Self { reference, prepared: Prepared::new(bundle, TOOL_ENTRY, &Budget::TOOL)? })
    }

    /// Which bundle it is.
    pub fn reference(&self) -> &PolicyRef {
        &self.reference
    }
}

/// By what calls are judged at one moment.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, behind a pointer")]
pub enum Standing {
    /// By nothing: every call is denied for this reason.
    Closed(Reason),
    /// By a policy.
    Serving(Policy),
}

/// Which kinds of calls can be carried out at all.
pub type Kinds = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// What the interceptor works with.
pub struct Parts {
    /// Where decisions are recorded.
    pub log: Log,
    /// What is not recorded.
    pub redact: Redact,
    /// Which tools there are; the policy is asked about others too, and its yes does not help them.
    pub kinds: Kinds,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("redact", &self.redact).finish_non_exhaustive()
    }
}

/// Decides every call.
#[derive(Debug)]
pub struct Interceptor {
    parts: Arc<Parts>,
    standing: RwLock<Arc<Standing>>,
    pool: Pool,
}

impl Interceptor {
    /// Starts its threads. It denies everything until [`Interceptor::swap`] gives it a policy.
    pub fn start(parts: Parts) -> io::Result<Arc<Self>> {
        let parts = Arc::new(parts);
        let closed = Standing::Closed(Reason::new(Code::NoPolicy, "no policy was loaded yet"));
        let pool = Pool::start(Arc::clone(&parts))?;
        Ok(Arc::new(Self { parts, standing: RwLock::new(Arc::new(closed)), pool }))
    }

    /// Judges later calls by `standing`. It is one pointer: each decision is wholly of what stood when it began.
    pub fn swap(&self, standing: Standing) {
        *self.standing.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(standing);
    }

    /// By what calls are judged now.
    pub fn standing(&self) -> Arc<Standing> {
        Arc::clone(&self.standing.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Decides a call, and waits until that is on record.
    pub fn decide(&self, call: Call) -> Ruling {
        let (sender, receiver) = mpsc::sync_channel(1);
        let asked = Arc::new(Asked::new(call));
        // Whoever waits below is there for as long as the answer takes.
        self.put(Arc::clone(&asked), Box::new(move |ruling| drop(sender.send(ruling))));
        receiver.recv().unwrap_or_else(|_lost| Ruling::unrecorded(&asked, broken()))
    }

    /// The same for those who do not wait: `answer` is called once, from another thread.
    pub fn ask(&self, call: Call, answer: impl FnOnce(Ruling) + Send + 'static) {
        self.put(Arc::new(Asked::new(call)), Box::new(answer));
    }

    fn put(&self, asked: Arc<Asked>, answer: Answer) {
        let job = Job { asked, standing: self.standing(), answer };
        if let Err(job) = self.pool.put(job) {
            let why = Reason::new(Code::Overloaded, "too many calls wait for a decision, or the runtime ends");
            (job.answer)(Ruling::unrecorded(&job.asked, why));
        }
    }

    /// Whether decisions can be recorded.
    pub fn can_record(&self) -> bool {
        !self.parts.log.is_failing()
    }

    /// Puts an event of the runtime itself on record.
    pub fn note(&self, record: Record) {
        let kind = record.kind.clone();
        self.parts.log.write(record, move |written| {
            if let Err(reason) = written {
                tracing::error!(
                    event = "runtime.log.failed",
                    kind,
                    reason = reason.message,
                    "an event is not recorded"
                );
            }
        });
    }

    /// Answers what waits, and ends the threads.
    pub fn close(&self) {
        self.pool.close();
        self.parts.log.close();
    }
}

/// Hears the ruling.
type Answer = Box<dyn FnOnce(Ruling) + Send>;

/// One question, and who waits for its answer.
struct Job {
    asked: Arc<Asked>,
    /// What stood when it was asked.
    standing: Arc<Standing>,
    answer: Answer,
}

fn broken() -> Reason {
    EvalError::Broken.to_reason()
}
