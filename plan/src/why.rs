//! Why a step or a difference is in a plan: the stable codes that are no refusals. Those of refusals are
//! [`autonomy_schema::Code`]; the two share no text, so that `autonomy explain` knows which is meant.

use autonomy_schema::facts::{Drift, DriftKind, DriftPlace};
use autonomy_schema::plan_doc::StepReason;

macro_rules! whys {
    ($($variant:ident $text:literal $explain:literal;)*) => {
        /// Why a step or a difference is in a plan.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Why {
            $(#[doc = $explain] $variant,)*
        }

        impl Why {
            /// Every code.
            pub const ALL: &'static [Why] = &[$(Why::$variant,)*];

            /// The stable text of the code.
            pub const fn as_str(self) -> &'static str {
                match self { $(Why::$variant => $text,)* }
            }

            /// What it means, for `autonomy explain`.
            pub const fn explain(self) -> &'static str {
                match self { $(Why::$variant => $explain,)* }
            }
        }
    };
}

whys! {
    Added "added" "The manifest has it and the active generation does not.";
    AfterHealth "after_health" "Once services and health are well, the node waits for `autonomy confirm`. Without it in time, it returns to the last known good generation by itself.";
    AfterSwitch "after_switch" "It runs once the new generation is active, so that the service takes it up.";
    ContentChanged "content_changed" "The manifest pins other bytes than the active generation holds.";
    DriftContent "drift_content" "A file of the active generation no longer hashes to what its signed manifest pins.";
    DriftExtra "drift_extra" "Something lies in the active generation that its signed manifest does not name.";
    DriftFailed "drift_failed" "A unit that the active manifest starts is in systemd's state `failed`.";
    DriftInvalid "drift_invalid" "`edge/local.toml` holds keys that may not be set there, or cannot be read. `edged` refuses such a file.";
    DriftLowered "drift_lowered" "`trust/floors.json` lies below what the active generation proves that this node has seen. Apply raises floors before it switches and never lowers them, so something else wrote this file.";
    DriftMissing "drift_missing" "A file or unit that the active manifest names is not there.";
    DriftMode "drift_mode" "A file of the active generation has other permission bits than its signed manifest pins.";
    DriftOverride "drift_override" "`edge/local.toml` sets values that go before those of the manifest on this node. That is its purpose; it is shown so that nobody is surprised.";
    DriftStopped "drift_stopped" "A unit that the active manifest starts does not run.";
    DriftType "drift_type" "Something that is no regular file stands where the active generation has a file, or the other way round.";
    FirstActivation "first_activation" "No generation is active on this node yet.";
    HealthCheck "health_check" "It must exit 0 in time once the services run; else the node returns to the last known good generation.";
    LockChanged "lock_changed" "The lock binds another agent, policy or input than the active one.";
    ManifestChanged "manifest_changed" "The manifest is not the one that is active.";
    ModeChanged "mode_changed" "The manifest pins other permission bits for the same bytes.";
    NotInOutbox "not_in_outbox" "The signed set does not wait for this peer yet.";
    PolicyChanged "policy_changed" "The manifest pins another policy bundle than the active one.";
    RebuildAdded "rebuild_added" "The manifest has a reconstruction step for this place outside the state root and the active one has none. What may lie there by other hands is replaced.";
    RebuildChanged "rebuild_changed" "The reconstruction step for this place puts something else there than that of the active manifest.";
    RebuildCheck "rebuild_check" "It must exit 0 once the reconstruction steps before it are done; else the node returns to the last known good generation.";
    RelayChanged "relay_changed" "`spec.relay` gives another `edge.toml` than the active one.";
    Removed "removed" "The active generation has it and the manifest does not.";
    Repair "repair" "The active generation differs from its own manifest; a fresh one takes its place.";
    RollbackAsked "rollback_asked" "Somebody asked to return to a generation that the node had. Floors stay; the manifest that is left is pinned.";
    RootRotated "root_rotated" "The set brings newer trust roots, each signed by a threshold of the one before it. They are pinned, one after the other, once everything is staged and before the switch.";
}

impl Why {
    /// The code of a difference.
    pub(crate) fn drift(kind: DriftKind) -> Self {
        match kind {
            DriftKind::Content => Why::DriftContent,
            DriftKind::Mode => Why::DriftMode,
            DriftKind::Missing => Why::DriftMissing,
            DriftKind::Extra => Why::DriftExtra,
            DriftKind::Type => Why::DriftType,
            DriftKind::Override => Why::DriftOverride,
            DriftKind::Invalid => Why::DriftInvalid,
            DriftKind::Lowered => Why::DriftLowered,
            DriftKind::Stopped => Why::DriftStopped,
            DriftKind::Failed => Why::DriftFailed,
        }
    }

    /// A reason of this kind.
    pub(crate) fn because(self, text: impl Into<String>, fact: impl Into<String>) -> StepReason {
        StepReason { code: self.as_str().to_owned(), text: text.into(), fact: Some(fact.into()), remedy: None }
    }
}

/// What a difference means, and what ends it.
pub(crate) fn of_drift(drift: &Drift) -> StepReason {
    const REBUILD: &str = "apply the active manifest again, which carries out its reconstruction steps";
    const AGAIN: &str = "apply the active manifest again: a fresh generation takes this one's place";
    let (text, remedy) = match (drift.kind, drift.place) {
        (DriftKind::Content, DriftPlace::Os) => ("its content was changed after reconstruction wrote it", REBUILD),
        (DriftKind::Mode, DriftPlace::Os) => ("its mode was changed after reconstruction set it", REBUILD),
        (DriftKind::Missing, DriftPlace::Os) => ("reconstruction put it there, and it is gone", REBUILD),
        (DriftKind::Type, DriftPlace::Os) => ("something of another kind stands in its place", REBUILD),
        (DriftKind::Content, _) => ("its content was changed outside the manifest", AGAIN),
        (DriftKind::Mode, _) => ("its mode was changed outside the manifest", AGAIN),
        (DriftKind::Missing, DriftPlace::Generation) => ("it was removed outside the manifest", AGAIN),
        (DriftKind::Missing, DriftPlace::Node) => {
            ("systemd knows no such unit", "install the unit file, then apply the active manifest again")
        }
        (DriftKind::Extra, _) => ("the manifest does not name it", AGAIN),
        (DriftKind::Type, _) => ("something of another kind stands in its place", AGAIN),
        (DriftKind::Override, _) => (
            "the operator's own settings go before the manifest's on this node",
            "nothing, where that is meant; else remove the keys",
        ),
        (DriftKind::Invalid, _) => ("it cannot be used as it stands", "mend the file or remove it"),
        (DriftKind::Lowered, _) => (
            "it lies below what the active generation proves; an older manifest could have passed",
            "find out who wrote it; applying the active manifest again raises the floors",
        ),
        (DriftKind::Stopped, _) => {
            ("it does not run", "start it, or apply the active manifest again, which restarts it")
        }
        (DriftKind::Failed, _) => {
            ("it has failed", "read its log (`journalctl -u UNIT`); applying the active manifest again restarts it")
        }
    };
    let mut reason = Why::drift(drift.kind).because(text, drift.fact());
    reason.remedy = Some(remedy.to_owned());
    reason
}

#[cfg(test)]
mod tests {
    use super::*;
    use autonomy_schema::Code;

    #[test]
    fn no_code_is_also_that_of_a_refusal() {
        for why in Why::ALL {
            assert!(why.as_str().parse::<Code>().is_err(), "{}", why.as_str());
        }
    }
}
