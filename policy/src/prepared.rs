//! A policy that is compiled once and asked often.

use std::fmt;

use serde_json::Value;

use crate::bundle::Bundle;
use crate::decide::{Budget, Decision, EvalError, check, read};
use crate::engine::{self, Ready};

/// One package of a bundle, compiled. A clone shares nothing that is written, so each thread asks its own.
#[derive(Clone)]
pub struct Prepared {
    ready: Ready,
    entry: String,
    budget: Budget,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("entry", &self.entry).field("budget", &self.budget).finish_non_exhaustive()
    }
}

impl Prepared {
    /// Compiles the bundle for questions to `data.<entry>`. Like [`Prepared::decide`] it needs a stack of
    /// [`STACK_BYTES`](crate::STACK_BYTES): rules nest as deep as there are rules.
    pub fn new(bundle: &Bundle, entry: &str, budget: &Budget) -> Result<Self, EvalError> {
        check(bundle, entry)?;
        let ready = Ready::new(bundle.modules(), bundle.data(), entry, budget.time);
        let ready = ready.map_err(|fault| EvalError::of(fault, budget))?;
        let ready = ready.ok_or_else(|| EvalError::MissingRule(entry.to_owned()))?;
        Ok(Self { ready, entry: entry.to_owned(), budget: *budget })
    }

    /// The package that is asked.
    pub fn entry(&self) -> &str {
        &self.entry
    }

    /// Asks about `input`. Time is kept by the engine for `allow` and for `deny`, save within one built-in call; memory is
    /// bounded by what a rule can write in that time, and is the caller's to watch.
    pub fn decide(&mut self, input: &Value) -> Result<Decision, EvalError> {
        let answer = self.ready.ask(engine::value(input)).map_err(|fault| EvalError::of(fault, &self.budget))?;
        read(&answer, &self.entry, &self.budget)
    }
}
