//! `autonomy policy status`: which policy decides here, and why.

use autonomy_policy::slots::{Slot, Slots};
use autonomy_policy::{Active, Origin};
use autonomy_schema::{Code, Reasons};
use serde_json::{Value, json};

use crate::Global;
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::ui;

/// Say which policy decides on this node, and what its slots hold. Everything is verified again. Writes nothing.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    status(args, global).map_err(|failure| failure.with_json(args.output == Output::Json))
}

fn status(args: &Args, global: &Global) -> Result<u8, Failure> {
    let (root, _) = node::state_root(global)?;
    let slots = Slots::new(&root);
    let active = slots.active();
    if args.output == Output::Json {
        let told = json!({
            "active": active.as_ref().map_or(Value::Null, active_json),
            "refusal": active.as_ref().err().map(Reasons::as_slice),
            "slots": { "current": slot_json(&slots, Slot::Current), "lkg": slot_json(&slots, Slot::Lkg) },
        });
        ui::out(&format!("{told}\n"));
    } else {
        let mut text = active_text(&active);
        for slot in [Slot::Current, Slot::Lkg] {
            text.push_str(&slot_text(&slots, slot));
        }
        ui::out(&ui::printable(&text));
    }
    match active {
        Err(reasons) if !reasons.as_slice().iter().all(|reason| reason.code == Code::NoPolicy) => {
            Err(Failure::Refused { reasons, json: false, exit: None, told: true })
        }
        Ok(_) | Err(_) => Ok(exit::DONE),
    }
}

fn active_json(active: &Active) -> Value {
    let manifest = active.bundle.manifest();
    let (origin, generation) = match &active.origin {
        Origin::Generation(name) => ("generation", Some(name)),
        Origin::Current => ("current", None),
        Origin::Lkg => ("lkg", None),
    };
    json!({
        "name": manifest.name, "version": manifest.policy_bundle_version, "digest": active.bundle.digest(),
        "requires": manifest.required_runtime_version, "origin": origin, "generation": generation,
        "fallback": active.fallback.as_ref().map(Reasons::as_slice),
    })
}

fn slot_json(slots: &Slots, slot: Slot) -> Value {
    match slots.held(slot) {
        Ok(None) => Value::Null,
        Ok(Some(held)) => {
            let manifest = held.bundle.manifest();
            json!({
                "name": manifest.name, "version": manifest.policy_bundle_version, "digest": held.bundle.digest(),
                "signers": held.signers,
            })
        }
        Err(reasons) => json!({ "reasons": reasons.as_slice() }),
    }
}

fn active_text(active: &Result<Active, Reasons>) -> String {
    let active = match active {
        Ok(active) => active,
        Err(_) => return "No policy can be asked: every tool call is denied.\n".to_owned(),
    };
    let manifest = active.bundle.manifest();
    let whose = match &active.origin {
        Origin::Generation(name) => format!("of generation {name}"),
        Origin::Current => "of this node (policy/current)".to_owned(),
        Origin::Lkg => "of this node, the last known good one (policy/lkg)".to_owned(),
    };
    let version = &manifest.policy_bundle_version;
    let mut text =
        format!("Policy {} {version}, {whose}, decides.\n  digest  {}\n", manifest.name, active.bundle.digest());
    for reason in active.fallback.iter().flat_map(|reasons| reasons.as_slice()) {
        text.push_str(&format!("  instead of policy/current, as {reason}\n"));
    }
    text
}

fn slot_text(slots: &Slots, slot: Slot) -> String {
    let name = slot.as_str();
    match slots.held(slot) {
        Ok(None) => format!("  {name:<7} empty\n"),
        Ok(Some(held)) => {
            let manifest = held.bundle.manifest();
            let signers = held.signers.len();
            let digest = held.bundle.digest();
            let version = &manifest.policy_bundle_version;
            format!("  {name:<7} {} {version} {digest}, signed by {signers} keys\n", manifest.name)
        }
        Err(reasons) => format!("  {name:<7} cannot be believed: {}\n", reasons.one_line()),
    }
}
