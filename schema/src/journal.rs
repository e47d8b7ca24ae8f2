//! The journal of the change in progress (`journal/apply.json`). It arbitrates between `current` and `lkg`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Blake3;
use crate::document::Document;
use crate::generation;
use crate::manifest::{Confirm, Health, Service, is_default};
use crate::path::Name;
use crate::reason::{Code, Reason};
use crate::time::Duration;
use crate::version::{ApiVersion, Kind};

/// How far the apply came. Before `switched` the old generation is the truth, from then on the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// Decided; nothing of it is on disk yet.
    Intent,
    /// The generation is whole and durable.
    Staged,
    /// Platform and policy said yes; floors are raised.
    Prechecked,
    /// `current` points to the new generation.
    Switched,
    /// Services and health are well; the generation is active, and waits to be confirmed.
    Waiting,
    /// Done; the generation is the last known good.
    Confirmed,
    /// Given up; the generation before it is active.
    RolledBack,
}

impl Phase {
    /// Whether nothing is left to do.
    pub fn is_final(self) -> bool {
        matches!(self, Phase::Confirmed | Phase::RolledBack)
    }

    /// Whether the generation before it is still the active one, as far as the journal knows.
    pub fn is_before_switch(self) -> bool {
        matches!(self, Phase::Intent | Phase::Staged | Phase::Prechecked)
    }
}

/// What is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Operation {
    /// A set becomes the active generation.
    #[default]
    Apply,
    /// A generation that the node had becomes active again, because somebody asked for it.
    Rollback,
    /// A damaged generation is staged again from what is whole.
    Repair,
}

/// A moment on one machine that no clock can be set to: which boot, and how long it lasts already (`CLOCK_BOOTTIME`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// The kernel's boot id; empty where the platform does not say.
    pub boot_id: String,
    /// Milliseconds since that boot, sleep included.
    pub elapsed_ms: u64,
}

/// The wait for a confirmation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// How long it may take.
    pub within: Duration,
    /// The boot that the window counts in.
    pub boot_id: String,
    /// When it began, in milliseconds of that boot.
    pub since_ms: u64,
    /// Reboots so far: one restarts the window, a second one ends it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reboots: u64,
}

/// How often the machine was started anew since a switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Boots {
    /// The last boot that was seen.
    pub boot_id: String,
    /// Reboots so far.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reboots: u64,
}

impl Boots {
    /// The same after a look in this boot.
    #[must_use]
    pub fn seen(&self, now: &Moment) -> Self {
        let reboots = if self.boot_id == now.boot_id { self.reboots } else { self.reboots.saturating_add(1) };
        Self { boot_id: now.boot_id.clone(), reboots }
    }
}

/// What a moment means to a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// There is still this much time.
    Holds(Duration),
    /// The machine was started anew, for the first time: the window starts again.
    Restarts,
    /// The window is over.
    Expired,
    /// The machine was started anew a second time.
    RebootedAgain,
}

impl Waiting {
    /// A window that begins now.
    pub fn new(within: Duration, now: Moment) -> Self {
        Self { within, boot_id: now.boot_id, since_ms: now.elapsed_ms, reboots: 0 }
    }

    /// The same window after its first reboot.
    #[must_use]
    pub fn restarted(&self, now: Moment) -> Self {
        Self { reboots: self.reboots.saturating_add(1), ..Self::new(self.within, now) }
    }

    /// What `now` means. The wall clock plays no part in it.
    pub fn judge(&self, now: &Moment) -> Verdict {
        // A boot that is younger than the wait is another one, whatever its id says.
        let same_boot = self.boot_id == now.boot_id && now.elapsed_ms >= self.since_ms;
        if !same_boot {
            return if self.reboots == 0 { Verdict::Restarts } else { Verdict::RebootedAgain };
        }
        let passed = now.elapsed_ms - self.since_ms;
        match self.within.millis().checked_sub(passed).filter(|left| *left > 0) {
            Some(left) => Verdict::Holds(Duration::from_millis(left)),
            None => Verdict::Expired,
        }
    }
}

/// `journal/apply.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Journal {
    /// `autonomy/v1`.
    pub api_version: ApiVersion,
    /// `Journal`.
    pub kind: Kind,
    /// What is carried out.
    #[serde(default, skip_serializing_if = "is_default")]
    pub operation: Operation,
    /// How far it came.
    pub phase: Phase,
    /// The plan that is carried out.
    pub plan_id: Blake3,
    /// The manifest that is activated.
    pub manifest: Blake3,
    /// Its stream.
    pub stream: Name,
    /// Its serial.
    pub serial: u64,
    /// Folder of the new generation below `generations/`.
    pub generation: Name,
    /// Folder of the generation that was active; absent on a first activation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Name>,
    /// How many reconstruction steps of its manifest run after the switch, before the services.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rebuild: u64,
    /// How many of them are done; each runs at least once.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rebuilt: u64,
    /// The steps that put something where nothing was, by their numbers from 0: it is taken back when the change is given up.
    #[serde(default, skip_serializing_if = "is_default")]
    pub created: Vec<u64>,
    /// Services to run after the switch, in order.
    #[serde(default, skip_serializing_if = "is_default")]
    pub services: Vec<Service>,
    /// How many of them are done; each runs at least once, and again if power was lost before this was written.
    #[serde(default, skip_serializing_if = "is_default")]
    pub services_done: u64,
    /// The health command that is still to pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Whether somebody must confirm it; absent once somebody has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<Confirm>,
    /// The wait for that; always there in phase `waiting`. Before the switch it is the wait that goes on: that of the
    /// generation which is repaired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// The journal of what is active and waits for a confirmation while this change takes over from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supersedes: Option<Box<Journal>>,
    /// The manifest that a rollback leaves; it is pinned, so that nothing brings it back by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaves: Option<Blake3>,
    /// The boots that saw it switched and not yet proven: one that does not come through its own services a second time is
    /// given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boots: Option<Boots>,
    /// Whether the manifest goes on to peers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub relay: bool,
    /// Why it was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Reason>,
}

impl Journal {
    /// The journal of the generation that is active and waits for a confirmation.
    pub fn waiting(&self) -> Option<&Journal> {
        match self.phase {
            Phase::Waiting => Some(self),
            Phase::Intent | Phase::Staged | Phase::Prechecked => self.supersedes.as_deref(),
            Phase::Switched | Phase::Confirmed | Phase::RolledBack => None,
        }
    }

    /// Whether a generation is of this journal's manifest: its name begins with serial and fingerprint.
    pub fn is_of_same_manifest(&self, generation: &Name) -> bool {
        generation::is_of(generation, self.serial, self.manifest)
    }
}

impl Document for Journal {
    const KIND: Kind = Kind::Journal;

    fn validate(&self) -> Vec<Reason> {
        let mut reasons = Vec::new();
        let mut wrong = |message: String| reasons.push(Reason::new(Code::BadValue, message));
        if self.services_done > self.services.len() as u64 {
            wrong(format!("`servicesDone` is {} of {}", self.services_done, self.services.len()));
        }
        if self.rebuilt > self.rebuild {
            wrong(format!("`rebuilt` is {} of {}", self.rebuilt, self.rebuild));
        }
        if self.phase == Phase::Waiting && self.waiting.is_none() {
            wrong("`phase` is `waiting`, and `waiting` is absent".to_owned());
        }
        if let Some(inner) = &self.supersedes {
            if inner.phase != Phase::Waiting || inner.supersedes.is_some() {
                wrong("`supersedes` is not the journal of one that waits".to_owned());
            }
            reasons.extend(inner.validate());
        }
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(boot: &str, elapsed_ms: u64) -> Moment {
        Moment { boot_id: boot.to_owned(), elapsed_ms }
    }

    #[test]
    fn one_reboot_restarts_the_window_and_a_second_ends_it() {
        let waiting = Waiting::new(Duration::from_millis(1000), at("a", 500));
        assert_eq!(waiting.judge(&at("a", 500)), Verdict::Holds(Duration::from_millis(1000)));
        assert_eq!(waiting.judge(&at("a", 1499)), Verdict::Holds(Duration::from_millis(1)));
        assert_eq!(waiting.judge(&at("a", 1500)), Verdict::Expired);
        assert_eq!(waiting.judge(&at("b", 0)), Verdict::Restarts);
        // A platform that does not say which boot it is: time that ran backwards is another boot.
        assert_eq!(Waiting::new(Duration::from_millis(9), at("", 500)).judge(&at("", 499)), Verdict::Restarts);
        let again = waiting.restarted(at("b", 10));
        assert_eq!(again.judge(&at("b", 1009)), Verdict::Holds(Duration::from_millis(1)));
        assert_eq!(again.judge(&at("b", 1010)), Verdict::Expired);
        assert_eq!(again.judge(&at("a", 501)), Verdict::RebootedAgain);
    }
}
