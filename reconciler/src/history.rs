//! Who changed the node, when, why, and how it ended: the audit trail, told as acts.

use autonomy_schema::{Blake3, Name, Reason, Reasons, Time};
use autonomy_stateroot::StateRoot;
use autonomy_telemetry::Audit;
use autonomy_telemetry::audit::Stored;
use serde::Serialize;
use serde_json::Value;

/// One act: a verb from its beginning to its end.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Act {
    /// Number of its first entry in the audit trail.
    pub seq: u64,
    /// When it began.
    pub time: Time,
    /// The verb.
    pub verb: String,
    /// Who asked.
    pub actor: String,
    /// How it ended; `cut_off` when nothing says so.
    pub outcome: String,
    /// The manifest that it was about.
    pub manifest: Option<Blake3>,
    /// What its records say beside that, by name; the closing record goes before the opening one.
    pub detail: serde_json::Map<String, Value>,
}

impl Act {
    /// A text of the details.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.detail.get(name)?.as_str()
    }

    /// The generation that it made active, or that is active again since.
    pub fn made_active(&self) -> Option<&str> {
        match self.outcome.as_str() {
            "applied" | "waiting" | "confirmed" | "returned" => self.text("generation"),
            "rolled_back" => self.text("active"),
            "recovered" => self.text("finished"),
            _ => None,
        }
    }

    /// Why it was refused or undone.
    pub fn reasons(&self) -> Vec<Reason> {
        let reasons = self.detail.get("reasons").and_then(Value::as_array);
        reasons.into_iter().flatten().filter_map(|reason| serde_json::from_value(reason.clone()).ok()).collect()
    }

    /// Whether nothing says how it ended.
    pub fn is_cut_off(&self) -> bool {
        self.outcome == CUT_OFF
    }

    /// Whether a generation is the one that it made active.
    pub fn activated(&self, generation: &Name) -> bool {
        self.made_active() == Some(generation.as_str())
    }
}

const CUT_OFF: &str = "cut_off";

/// Every act, oldest first. The chain of the trail is checked on the way; damage is `corrupt_state`.
pub fn history(root: &StateRoot) -> Result<Vec<Act>, Reasons> {
    let mut acts: Vec<Act> = Vec::new();
    Audit::read(root, &mut |entry| add(&mut acts, entry)).map_err(|error| Reasons::from(error.to_reason()))?;
    Ok(acts)
}

fn add(acts: &mut Vec<Act>, entry: &Stored) {
    let detail = entry.detail.as_object().cloned().unwrap_or_default();
    let is_recovery = detail.get("recovery").is_some();
    // One writer at a time: what a process began and ended stands together, save for what it recovered in between.
    let open = acts.iter_mut().rev().take(2).find(|act| {
        act.outcome == CUT_OFF && act.verb == entry.verb && act.actor == entry.actor && act.time == entry.time
    });
    if let Some(act) = open.filter(|_| !is_recovery && entry.outcome != "started") {
        act.outcome.clone_from(&entry.outcome);
        act.manifest = act.manifest.or(entry.correlation);
        act.detail.extend(detail);
        return;
    }
    let outcome = if entry.outcome == "started" { CUT_OFF } else { &entry.outcome };
    acts.push(Act {
        seq: entry.seq,
        time: entry.time,
        verb: entry.verb.clone(),
        actor: entry.actor.clone(),
        outcome: outcome.to_owned(),
        manifest: entry.correlation,
        detail,
    });
}
