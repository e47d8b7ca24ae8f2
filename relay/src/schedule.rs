//! When the next attempt, and the next dial, is due. Ticks in, ticks out.

/// The limits of a schedule, each at least one tick or attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub(crate) max_attempts: u64,
    pub(crate) backoff: u64,
    pub(crate) window: u64,
}

impl Schedule {
    /// Ticks to wait after the `failed`th attempt failed, `elapsed` ticks after the first began: the back-off, doubled with
    /// every failure, but so that the attempts that are left still fit into the window. Never less than the back-off.
    pub(crate) fn retry(&self, failed: u64, elapsed: u64) -> u64 {
        let after_the_next = self.max_attempts.saturating_sub(failed).saturating_sub(1);
        let room = self.window.saturating_sub(elapsed).saturating_sub(self.backoff.saturating_mul(after_the_next));
        self.doubled(failed.saturating_sub(1)).min(room).max(self.backoff)
    }

    /// Ticks to wait after the `failures`th dial in a row failed: doubled every time, at most the window. It never ends.
    pub(crate) fn redial(&self, failures: u64) -> u64 {
        self.doubled(failures.saturating_sub(1)).min(self.window.max(self.backoff))
    }

    /// Ticks by which the first dial of a peer is put off, so that a star does not begin with all its points at once.
    pub(crate) fn spread(&self, rank: usize, peers: usize) -> u64 {
        let share = u128::from(self.backoff) * rank as u128 / (peers.max(1) as u128);
        u64::try_from(share).unwrap_or(self.backoff)
    }

    fn doubled(&self, times: u64) -> u64 {
        let factor = u32::try_from(times).ok().and_then(|times| 1u64.checked_shl(times)).unwrap_or(u64::MAX);
        self.backoff.saturating_mul(factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: Schedule = Schedule { max_attempts: 5, backoff: 30_000, window: 600_000 };

    #[test]
    fn the_wait_doubles_while_the_rest_fits_into_the_window() {
        let (mut elapsed, mut waits) = (0, Vec::new());
        for failed in 1..5 {
            let wait = DEFAULT.retry(failed, elapsed);
            elapsed += wait;
            waits.push(wait);
        }
        assert_eq!(waits, [30_000, 60_000, 120_000, 240_000]);
        let tight = Schedule { window: 150_000, ..DEFAULT };
        assert_eq!(tight.retry(1, 0), 30_000);
        assert_eq!(tight.retry(2, 30_000), 60_000, "two more attempts of 30 s each still fit");
        assert_eq!(tight.retry(3, 90_000), 30_000, "doubling would push the last one out");
        assert_eq!(tight.retry(4, 900_000), 30_000, "late as it is, never less than the back-off");
    }

    #[test]
    fn dials_are_capped_by_the_window_and_nothing_overflows() {
        assert_eq!(
            [1, 2, 3, 6, 60, u64::MAX].map(|n| DEFAULT.redial(n)),
            [30_000, 60_000, 120_000, 600_000, 600_000, 600_000]
        );
        let huge = Schedule { max_attempts: u64::MAX, backoff: u64::MAX, window: u64::MAX };
        assert_eq!(huge.retry(u64::MAX, u64::MAX), u64::MAX);
        assert_eq!(huge.spread(usize::MAX, usize::MAX), u64::MAX);
    }

    #[test]
    fn the_first_dials_are_spread_by_rank() {
        assert_eq!([0, 1, 2, 3].map(|rank| DEFAULT.spread(rank, 4)), [0, 7_500, 15_000, 22_500]);
    }
}
