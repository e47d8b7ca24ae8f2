//! Calls per second.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// A bucket that holds what one second brings.
#[derive(Debug)]
pub(super) struct Rate {
    per_second: u32,
    state: Mutex<(f64, Instant)>,
}

impl Rate {
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second, state: Mutex::new((f64::from(per_second), Instant::now())) }
    }

    /// Whether one more call is within the rate.
    pub(super) fn take(&self) -> bool {
        self.take_at(Instant::now())
    }

    fn take_at(&self, now: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, since) = *state;
        let most = f64::from(self.per_second);
        let left = (left + now.saturating_duration_since(since).as_secs_f64() * most).min(most);
        let is_within = left >= 1.0;
        *state = (if is_within { left - 1.0 } else { left }, now);
        is_within
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_second_brings_its_calls_and_no_more() {
        let rate = Rate::new(3);
        let start = Instant::now();
        let taken = |at: Duration, calls: usize| (0..calls).filter(|_| rate.take_at(start + at)).count();
        assert_eq!(taken(Duration::from_millis(0), 9), 3);
        assert_eq!(taken(Duration::from_millis(400), 9), 1);
        assert_eq!(taken(Duration::from_secs(60), 9), 3, "what was not used does not pile up");
    }
}
