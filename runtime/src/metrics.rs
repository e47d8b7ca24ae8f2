//! Numbers for Prometheus.

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// A counter.
type Total = Counter<u64, AtomicU64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decision {
    decision: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Status {
    code: u16,
}

/// Only tools that exist become labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Run {
    tool: &'static str,
    result: &'static str,
}

/// Counters of the runtime.
pub struct Metrics {
    registry: Registry,
    decisions: Family<Decision, Total>,
    requests: Family<Status, Total>,
    runs: Family<Run, Total>,
    overruns: Total,
    swaps: Total,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("autonomy_runtime");
        let decisions = Family::<Decision, Total>::default();
        registry.register("decisions", "Calls of tools that were decided, by the decision", decisions.clone());
        let requests = Family::<Status, Total>::default();
        registry.register("requests", "Requests, by the code of the answer", requests.clone());
        let runs = Family::<Run, Total>::default();
        registry.register("tool_runs", "Tools that ran, by what became of it", runs.clone());
        let overruns = Total::default();
        registry.register("policy_overruns", "Evaluations that were given up", overruns.clone());
        let swaps = Total::default();
        registry.register("policy_swaps", "Times that another policy, or none, took over", swaps.clone());
        Self { registry, decisions, requests, runs, overruns, swaps }
    }
}

impl Metrics {
    /// Everything, in the text format of `OpenMetrics`.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    pub(crate) fn decided(&self, allow: bool) {
        let decision = if allow { "allow" } else { "deny" };
        self.decisions.get_or_create(&Decision { decision }).inc();
    }

    pub(crate) fn answered(&self, code: u16) {
        self.requests.get_or_create(&Status { code }).inc();
    }

    pub(crate) fn ran(&self, tool: &'static str, worked: bool) {
        let result = if worked { "done" } else { "failed" };
        self.runs.get_or_create(&Run { tool, result }).inc();
    }

    pub(crate) fn overran(&self) {
        self.overruns.inc();
    }

    pub(crate) fn swapped(&self) {
        self.swaps.inc();
    }
}
