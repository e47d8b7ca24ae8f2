//! A token bucket over whole ticks (INV-13): within any span of ticks at most the burst and what the rate gives in it.
//!
//! The level is kept in thousandths of a byte, which is what one tick of one byte a second gives, so nothing is rounded and
//! nothing drifts.

/// Thousandths of a byte in a byte: ticks in a second.
const SCALE: u128 = 1000;

/// How many bytes may pass. Starts full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Bytes a second; 0 is unlimited.
    rate: u64,
    /// Bytes at once.
    burst: u64,
    /// Thousandths of a byte, at `at`.
    level: u128,
    /// The latest tick that was seen.
    at: u64,
}

impl Bucket {
    /// A full bucket that gains `rate` bytes a second and holds `burst` bytes. A rate of 0 is no limit at all.
    pub fn new(rate: u64, burst: u64) -> Self {
        Self { rate, burst, level: u128::from(burst) * SCALE, at: 0 }
    }

    /// Bytes a second; 0 is unlimited.
    pub fn rate(&self) -> u64 {
        self.rate
    }

    /// Bytes at once.
    pub fn burst(&self) -> u64 {
        self.burst
    }

    /// Takes `bytes` out, or tells in how many ticks they will be there and takes nothing. More than the burst never is:
    /// then the answer is [`u64::MAX`].
    pub fn take(&mut self, now: u64, bytes: u64) -> Result<(), u64> {
        match self.wait(now, bytes) {
            0 => {
                self.settle(now);
                if self.rate > 0 {
                    self.level = self.level.saturating_sub(u128::from(bytes) * SCALE);
                }
                Ok(())
            }
            ticks => Err(ticks),
        }
    }

    /// Ticks until `bytes` are there; 0 when they are, [`u64::MAX`] when they are more than the burst.
    pub fn wait(&self, now: u64, bytes: u64) -> u64 {
        if self.rate == 0 {
            return 0;
        }
        if bytes > self.burst {
            return u64::MAX;
        }
        let missing = (u128::from(bytes) * SCALE).saturating_sub(self.level(now));
        u64::try_from(missing.div_ceil(u128::from(self.rate))).unwrap_or(u64::MAX)
    }

    /// Whole bytes that may pass at `now`; [`u64::MAX`] without a limit.
    pub fn available(&self, now: u64) -> u64 {
        if self.rate == 0 { u64::MAX } else { u64::try_from(self.level(now) / SCALE).unwrap_or(u64::MAX) }
    }

    /// Other limits from `now` on. What was saved stays, as far as the new burst holds it; a bucket that had no limit is full.
    pub fn limit(&mut self, now: u64, rate: u64, burst: u64) {
        self.settle(now);
        if self.rate == 0 {
            self.level = u128::MAX;
        }
        (self.rate, self.burst) = (rate, burst);
        self.level = self.level.min(u128::from(burst) * SCALE);
    }

    /// Leaves at most `bytes` in it: somebody else knows better how much may pass.
    pub fn lower(&mut self, now: u64, bytes: u64) {
        self.settle(now);
        self.level = self.level.min(u128::from(bytes) * SCALE);
    }

    /// The level at `now`; ticks that run backwards give nothing.
    fn level(&self, now: u64) -> u128 {
        let gained = u128::from(self.rate) * u128::from(now.saturating_sub(self.at));
        self.level.saturating_add(gained).min(u128::from(self.burst) * SCALE)
    }

    fn settle(&mut self, now: u64) {
        self.level = self.level(now);
        self.at = self.at.max(now);
    }
}
