//! How long to wait: the interval, doubled with every failure in a row, up to a cap. No randomness: a fleet that must
//! not come all at once gives its nodes different intervals.

use std::time::Duration;

/// Longest wait after failures, unless the interval is longer: a site that comes back is noticed within this time.
pub const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);

/// The pace of one thing that is tried again and again.
#[derive(Debug, Clone)]
pub struct Pace {
    interval: Duration,
    failures: u32,
}

impl Pace {
    /// Nothing has failed yet.
    pub fn new(interval: Duration) -> Self {
        Self { interval, failures: 0 }
    }

    /// It went well.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// It failed once more.
    pub fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The wait before the next try.
    pub fn wait(&self) -> Duration {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.interval.saturating_mul(factor).min(LONGEST_WAIT.max(self.interval))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_start_again_after_a_success() {
        let mut pace = Pace::new(Duration::from_secs(30));
        let mut waits = Vec::new();
        for _ in 0..7 {
            waits.push(pace.wait().as_secs());
            pace.failed();
        }
        assert_eq!(waits, [30, 60, 120, 240, 480, 900, 900]);
        for _ in 0..100 {
            pace.failed();
        }
        assert_eq!(pace.wait(), LONGEST_WAIT);
        pace.succeeded();
        assert_eq!((pace.wait().as_secs(), pace.failures()), (30, 0));
        assert_eq!(Pace { interval: Duration::from_secs(3600), failures: 3 }.wait().as_secs(), 3600);
    }
}
