//! The threads that evaluate, and the one that looks after them.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use autonomy_policy::{Budget, EvalError, Prepared, STACK_BYTES, resident_bytes};
use autonomy_schema::{Code, Reason};

use super::judge::{Verdict, judge};
use super::record::settle;
use super::{Answer, Job, Parts, Standing};
use crate::call::Asked;

/// Calls that wait for a worker at most.
const MAX_WAITING: usize = 1024;
/// Threads that evaluate at least and at most; between them, one for each processor.
const WORKERS: (usize, usize) = (2, 8);
/// How often evaluations are looked at while there are any.
const LOOK: Duration = Duration::from_millis(25);
/// Evaluations that were given up and have not ended, at which every call is denied.
pub(super) const MAX_RUNAWAYS: usize = 4;

/// The threads. Dropping it without [`Pool::close`] leaves them to the end of the process.
pub(super) struct Pool {
    shared: Arc<Shared>,
    supervisor: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

struct Shared {
    parts: Arc<Parts>,
    queue: Mutex<VecDeque<Job>>,
    filled: Condvar,
    workers: Mutex<Vec<Worker>>,
    /// Whether the supervisor looks again by itself.
    is_watching: AtomicBool,
    supervisor: Mutex<Option<Thread>>,
    runaways: AtomicUsize,
    is_closed: AtomicBool,
}

/// A thread that evaluates.
struct Worker {
    slot: Arc<Slot>,
    thread: JoinHandle<()>,
}

/// What one worker has under way. Who takes it out answers.
#[derive(Default)]
struct Slot(Mutex<Option<Running>>);

struct Running {
    started: Instant,
    asked: Arc<Asked>,
    standing: Arc<Standing>,
    answer: Answer,
    /// Resident bytes when it was first seen to take its time.
    resident: Option<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    pub(super) fn start(parts: Arc<Parts>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            parts,
            queue: Mutex::default(),
            filled: Condvar::new(),
            workers: Mutex::default(),
            is_watching: AtomicBool::new(false),
            supervisor: Mutex::default(),
            runaways: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
        });
        let processors = thread::available_parallelism().map_or(WORKERS.0, usize::from);
        for _ in 0..processors.clamp(WORKERS.0, WORKERS.1) {
            shared.hire()?;
        }
        let watched = Arc::clone(&shared);
        let supervisor = thread::Builder::new().name("supervisor".to_owned()).spawn(move || watched.supervise())?;
        *lock(&shared.supervisor) = Some(supervisor.thread().clone());
        Ok(Self { shared, supervisor: Mutex::new(Some(supervisor)) })
    }

    /// Gives the job back when there are too many, or none are taken any more.
    pub(super) fn put(&self, job: Job) -> Result<(), Job> {
        let mut queue = lock(&self.shared.queue);
        if queue.len() >= MAX_WAITING || self.shared.is_closed.load(Ordering::SeqCst) {
            return Err(job);
        }
        queue.push_back(job);
        drop(queue);
        self.shared.filled.notify_one();
        Ok(())
    }

    /// Lets the workers end what waits. Evaluations that were given up are not waited for.
    pub(super) fn close(&self) {
        {
            let _queue = lock(&self.shared.queue);
            self.shared.is_closed.store(true, Ordering::SeqCst);
        }
        self.shared.filled.notify_all();
        loop {
            let Some(worker) = lock(&self.shared.workers).pop() else { break };
            // It stays under supervision while it is waited for, so a runaway ends this too.
            while !worker.thread.is_finished() && !self.shared.give_up(&worker.slot) {
                thread::sleep(LOOK);
            }
        }
        self.shared.wake();
        let supervisor = lock(&self.supervisor).take();
        if supervisor.is_some_and(|supervisor| supervisor.join().is_err()) {
            tracing::error!(event = "runtime.supervisor.failed", "the supervisor ended with a panic");
        }
    }
}

impl Shared {
    /// Starts one more worker.
    fn hire(self: &Arc<Self>) -> io::Result<()> {
        let slot = Arc::new(Slot::default());
        let (shared, own) = (Arc::clone(self), Arc::clone(&slot));
        let builder = thread::Builder::new().name("decide".to_owned()).stack_size(STACK_BYTES);
        let thread = builder.spawn(move || shared.work(&own))?;
        lock(&self.workers).push(Worker { slot, thread });
        Ok(())
    }

    fn next(&self) -> Option<Job> {
        let mut queue = lock(&self.queue);
        loop {
            if let Some(job) = queue.pop_front() {
                return Some(job);
            }
            if self.is_closed.load(Ordering::SeqCst) {
                return None;
            }
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work(&self, slot: &Slot) {
        let mut own: Option<(Arc<Standing>, Prepared)> = None;
        while let Some(Job { asked, standing, answer }) = self.next() {
            let running = Running {
                started: Instant::now(),
                asked: Arc::clone(&asked),
                standing: Arc::clone(&standing),
                answer,
                resident: None,
            };
            *lock(&slot.0) = Some(running);
            if !self.is_watching.swap(true, Ordering::SeqCst) {
                self.wake();
            }
            let verdict = self.verdict(&asked, &standing, &mut own);
            let Some(Running { answer, .. }) = lock(&slot.0).take() else {
                // It was given up; its place is taken.
                self.runaways.fetch_sub(1, Ordering::SeqCst);
                return;
            };
            settle(&self.parts, asked, verdict, answer);
        }
    }

    fn verdict(&self, asked: &Asked, standing: &Arc<Standing>, own: &mut Option<(Arc<Standing>, Prepared)>) -> Verdict {
        let policy = match &**standing {
            Standing::Closed(reason) => return Verdict::refused(standing, reason.clone()),
            Standing::Serving(policy) => policy,
        };
        if self.runaways.load(Ordering::SeqCst) >= MAX_RUNAWAYS {
            let message =
                format!("{MAX_RUNAWAYS} evaluations overran their budget and have not ended; start the runtime anew");
            return Verdict::refused(standing, Reason::new(Code::PolicyError, message));
        }
        let judged = catch_unwind(AssertUnwindSafe(|| {
            let prepared = match own.take() {
                Some((known, prepared)) if Arc::ptr_eq(&known, standing) => prepared,
                Some(_) | None => policy.prepared.clone(),
            };
            let (_, prepared) = own.insert((Arc::clone(standing), prepared));
            judge(policy, prepared, &asked.input, &self.parts.kinds)
        }));
        judged
            .unwrap_or_else(|_panic| {
                *own = None;
                Err(EvalError::Broken)
            })
            .unwrap_or_else(|error| Verdict::failed(standing, &error))
    }

    fn wake(&self) {
        if let Some(supervisor) = &*lock(&self.supervisor) {
            supervisor.unpark();
        }
    }

    /// Looks at what is under way as long as anything is, and sleeps when nothing is.
    fn supervise(self: Arc<Self>) {
        loop {
            let is_busy = self.look();
            if self.is_closed.load(Ordering::SeqCst) && lock(&self.workers).is_empty() {
                return;
            }
            if is_busy {
                thread::park_timeout(LOOK);
                continue;
            }
            self.is_watching.store(false, Ordering::SeqCst);
            // What began before the store is seen here; what begins after it wakes this thread.
            if !self.look() {
                thread::park();
                // Most evaluations are over by then.
                thread::park_timeout(LOOK);
            }
            self.is_watching.store(true, Ordering::SeqCst);
        }
    }

    /// Gives up what overstepped its budget; whether anything is under way.
    fn look(self: &Arc<Self>) -> bool {
        let slots: Vec<Arc<Slot>> = lock(&self.workers).iter().map(|worker| Arc::clone(&worker.slot)).collect();
        let mut is_busy = false;
        for slot in slots {
            is_busy |= lock(&slot.0).is_some();
            if self.give_up(&slot) {
                lock(&self.workers).retain(|worker| !Arc::ptr_eq(&worker.slot, &slot));
                let is_closed = self.is_closed.load(Ordering::SeqCst);
                if let Some(error) = (!is_closed).then(|| self.hire().err()).flatten() {
                    tracing::error!(event = "runtime.worker.failed", %error, "no thread takes the place of a runaway");
                }
            }
        }
        is_busy
    }

    /// Denies what overstepped its budget, and leaves its thread behind.
    fn give_up(&self, slot: &Slot) -> bool {
        let mut place = lock(&slot.0);
        let Some(error) = place.as_mut().and_then(Running::overrun) else { return false };
        let Some(Running { asked, standing, answer, .. }) = place.take() else { return false };
        // Before the worker can see that its place is empty.
        self.runaways.fetch_add(1, Ordering::SeqCst);
        drop(place);
        self.parts.metrics.overran();
        tracing::error!(event = "runtime.policy.overrun", %error, "an evaluation is given up");
        settle(&self.parts, asked, Verdict::failed(&standing, &error), answer);
        true
    }
}

impl Running {
    /// By what it oversteps the budget; the engine's own timer is a little faster, and gives the better message.
    fn overrun(&mut self) -> Option<EvalError> {
        let budget = Budget::TOOL;
        let elapsed = self.started.elapsed();
        if elapsed < LOOK {
            return None;
        }
        let resident = resident_bytes();
        let before = *self.resident.get_or_insert(resident);
        if resident.saturating_sub(before) > budget.memory_bytes {
            return Some(EvalError::Memory(budget.memory_bytes));
        }
        // `allow` and `deny` may each take the engine's time.
        (elapsed > budget.time * 5 / 2).then_some(EvalError::Time(budget.time))
    }
}
