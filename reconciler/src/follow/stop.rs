//! A wish to end that reaches every thread: waits are cut short, and an apply stops at its next safe step.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Shared by the loop, its watchers and whoever may end it.
#[derive(Debug, Default)]
pub struct Stop {
    why: Mutex<Option<String>>,
    told: Condvar,
    flag: Arc<AtomicBool>,
}

impl Stop {
    /// Ends it; the first reason is kept.
    pub fn request(&self, why: impl Into<String>) {
        let mut guard = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        guard.get_or_insert_with(|| why.into());
        drop(guard);
        self.flag.store(true, Ordering::Release);
        self.told.notify_all();
    }

    /// The same wish for those who can only look: true once it was asked for.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flag)
    }

    /// Why it shall end, if it shall.
    pub fn requested(&self) -> Option<String> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for at most `time`; tells whether it shall end.
    pub fn wait(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        let mut guard = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        while guard.is_none() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            guard = self.told.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}
