//! What the loop tells others: whether it lives, whether its last attempt went well, and numbers for Prometheus.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Mutex, PoisonError};

use autonomy_schema::Time;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::{Outcome, Round};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Word {
    outcome: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Tip {
    tip: String,
}

/// Shared by the loop and its endpoint.
pub struct Health {
    registry: Registry,
    rounds: Family<Word, Counter<u64, AtomicU64>>,
    failures: Gauge<i64, AtomicI64>,
    succeeded: Gauge<i64, AtomicI64>,
    looked: Gauge<i64, AtomicI64>,
    held: Gauge<i64, AtomicI64>,
    tip: Family<Tip, Gauge<i64, AtomicI64>>,
    last: Mutex<Option<Told>>,
}

/// The last round that was not idle.
struct Told {
    at: Time,
    tip: Option<String>,
    outcome: Outcome,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").finish_non_exhaustive()
    }
}

impl Default for Health {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("autonomy_reconcile");
        let (rounds, failures, succeeded) = (Family::default(), Gauge::default(), Gauge::default());
        let (looked, held, tip) = (Gauge::default(), Gauge::default(), Family::default());
        let seconds = prometheus_client::registry::Unit::Seconds;
        registry.register("rounds", "Rounds of the loop, by what they came to", Family::clone(&rounds));
        registry.register(
            "consecutive_failures",
            "Failures in a row, of looking or of trying",
            Gauge::clone(&failures),
        );
        let what = "When the node last had what its source says, as Unix time";
        registry.register_with_unit("last_success_timestamp", what, seconds.clone(), Gauge::clone(&succeeded));
        let what = "When the source was last looked at, as Unix time";
        registry.register_with_unit("last_round_timestamp", what, seconds, Gauge::clone(&looked));
        registry.register("held", "1 while suspended or outside the window", Gauge::clone(&held));
        registry.register("tip", "1 for what the source points to", Family::clone(&tip));
        Self { registry, rounds, failures, succeeded, looked, held, tip, last: Mutex::new(None) }
    }
}

impl Health {
    /// Takes in a round.
    pub fn note(&self, round: &Round, failures: u32) {
        self.rounds.get_or_create(&Word { outcome: round.outcome.word().to_owned() }).inc();
        self.failures.set(failures.into());
        self.looked.set(round.at.unix());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if round.outcome != Outcome::Idle {
            *last = Some(Told { at: round.at, tip: round.tip.clone(), outcome: round.outcome.clone() });
        }
        let outcome = last.as_ref().map(|told| &told.outcome);
        self.held.set(i64::from(matches!(outcome, Some(Outcome::Held(_)))));
        if outcome.is_some_and(went_well) {
            self.succeeded.set(round.at.unix());
        }
        if let Some(tip) = &round.tip {
            self.tip.clear();
            self.tip.get_or_create(&Tip { tip: tip.clone() }).set(1);
        }
    }

    /// The numbers, in the text format of Prometheus (`OpenMetrics`).
    pub fn metrics(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// Whether the last attempt went well, and what is to be said about it.
    pub fn ready(&self) -> (bool, Value) {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(told) = last.as_ref() else {
            return (false, json!({ "ready": false, "outcome": null }));
        };
        let ready = went_well(&told.outcome) || matches!(told.outcome, Outcome::Held(_));
        let reasons = told.outcome.reasons().map(autonomy_schema::Reasons::as_slice);
        let value = json!({
            "ready": ready, "outcome": told.outcome.word(), "at": told.at, "tip": told.tip, "reasons": reasons,
        });
        (ready, value)
    }
}

fn went_well(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Applied(_) | Outcome::Relayed | Outcome::Rotated | Outcome::Unchanged)
}
