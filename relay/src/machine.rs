//! The machine: inputs in, outputs out.

use crate::words::{Input, Output};

/// Decides what goes to which peer next.
#[derive(Debug, Default)]
pub struct Machine {
    now: u64,
    due: Option<u64>,
}

impl Machine {
    /// A machine without peers and deliveries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes `input` at tick `now` and tells what to do.
    pub fn step(&mut self, now: u64, input: Input) -> Vec<Output> {
        self.now = self.now.max(now);
        drop(input);
        Vec::new()
    }

    /// The tick at which [`Input::Tick`] is due; `None` when only other news leads on.
    pub fn next_due(&self) -> Option<u64> {
        self.due
    }
}
