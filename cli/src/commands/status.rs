//! `autonomy status`: what runs, why, what is next, and how old the intent is.

use autonomy_apply::ServiceRunner as _;
use autonomy_reconciler::{Act, Intent, Next, Relaying, Running, Status};
use autonomy_schema::{Name, Reasons, Time};
use serde_json::{Value, json};

use crate::Global;
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::ui;

/// Show what runs, why, what is next, how old the intent is, and who holds the lock. Writes nothing.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// The time to reckon ages from, instead of the clock.
    #[arg(long, value_name = "TIME")]
    now: Option<Time>,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    // The JSON has the damage in itself.
    let json = args.output == Output::Json;
    let (root, path) = node::state_root(global).map_err(|failure| failure.with_json(json))?;
    let now = args.now.unwrap_or_else(node::clock);
    let moment = node::runner(global, &path).moment();
    let status = autonomy_reconciler::status(&root, now, &moment);
    if json {
        ui::out(&format!("{}\n", as_json(&status, now)));
    } else {
        ui::out(&ui::printable(&as_text(&status, now)));
    }
    ui::warn(status.running.as_ref().and_then(revoked).as_deref());
    match Reasons::new(status.damage) {
        None => Ok(exit::DONE),
        Some(reasons) => Err(Failure::Refused { reasons, json: false, exit: None, told: true }),
    }
}

fn revoked(running: &Running) -> Option<String> {
    running.revoked.as_ref().map(|revoked| revoked.sentence(running.manifest, running.serial))
}

fn as_text(status: &Status, now: Time) -> String {
    let mut lines: Vec<(&str, String)> = Vec::new();
    if let Some(node) = &status.node {
        lines.push(("Node", format!("{} of fleet {} ({})", node.node_id, node.fleet, node.hardware)));
    }
    match &status.running {
        Some(running) => {
            lines.push(("Runs", format!("{} {}, serial {}", running.stream, running.release, running.serial)));
            lines.push(("Manifest", running.manifest.to_string()));
            lines.push(("Generation", running.generation.to_string()));
            lines.extend(revoked(running).map(|sentence| ("REVOKED", sentence)));
        }
        None => lines.push(("Runs", "nothing".to_owned())),
    }
    lines.extend(status.why.as_ref().map(|act| ("Why", why(act))));
    if let Some(act) = &status.last_try {
        let reasons = act.reasons().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let outcome = act.outcome.replace('_', " ");
        lines.push(("Last try", format!("{} {outcome} {} by {}: {reasons}", act.verb, act.time, act.actor)));
    }
    let active = status.running.as_ref().map(|running| &running.generation);
    lines.push((
        "Last good",
        match &status.lkg {
            None => "none".to_owned(),
            Some(lkg) if Some(lkg) == active => "what runs".to_owned(),
            Some(lkg) => lkg.to_string(),
        },
    ));
    lines.extend(status.intent.map(|intent| ("Intent", age(&intent, now))));
    for pinned in &status.pinned {
        lines.push(("Pinned", format!("blake3:{}: it failed or was left here; `autonomy unpin {0}`", pinned.short())));
    }
    if let Some(suspension) = &status.suspended {
        lines.push(("Suspended", node::suspension_text(suspension.as_ref()).trim_start().to_owned()));
    }
    lines.extend(
        status.holder.as_ref().map(|holder| ("Lock", format!("held by process {}: {}", holder.pid, holder.command))),
    );
    lines.extend(status.relay.as_ref().map(|relay| ("Relay", relayed(relay))));
    lines.extend(status.next.iter().map(|next| ("Next", step(next))));
    // An act or an address may have several lines; the table has one each.
    let line = |(name, value): (&str, String)| format!("{name:<10} {}", value.replace('\n', "\\n"));
    let text: Vec<String> = lines.into_iter().map(|entry| line(entry).trim_end().to_owned()).collect();
    text.join("\n") + "\n"
}

/// What the relay is at.
fn relayed(relay: &Relaying) -> String {
    let Relaying { pid, peers, connected, unrelayed, dead_letters, truncated } = relay;
    let least = if *truncated { "at least " } else { "" };
    let on_the_way = match unrelayed {
        0 => "nothing on its way".to_owned(),
        _ => format!("{least}{unrelayed} on the way to a peer"),
    };
    let dead = match dead_letters {
        0 => String::new(),
        _ => format!(", {least}{dead_letters} given up: `edgectl relay deadletter list`"),
    };
    let down = if runs(*pid) { "" } else { "; edged does not run" };
    format!("{connected} of {peers} peers connected, {on_the_way}{dead}{down}")
}

/// Whether the process that wrote the status of the relay is there.
fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == "edged")
}

/// The act behind what runs.
fn why(act: &Act) -> String {
    let verb = match (act.outcome.as_str(), act.verb.as_str()) {
        ("rolled_back", _) => "active again since",
        ("confirmed", _) => "confirmed",
        ("recovered", _) => "finished by a recovery",
        ("cut_off", _) => "no record says how it ended; begun",
        (_, "rollback") => "returned to",
        (_, _) => "applied",
    };
    let reasons = act.reasons();
    let because = if reasons.is_empty() {
        planned_because(act)
    } else {
        reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    let because = if because.is_empty() { because } else { format!(": {because}") };
    format!("{verb} {} by {}{because}", act.time, act.actor)
}

/// Why the plan switched, in the past. What the plan said beyond its code stands behind the first semicolon.
fn planned_because(act: &Act) -> String {
    let Some(why) = act.detail.get("why") else { return String::new() };
    let text = |name: &str| why.get(name).and_then(Value::as_str).unwrap_or_default();
    let plain = match text("code") {
        "first_activation" => "the first release on this node",
        "manifest_changed" => "another manifest came",
        "repair" => "the node differed from its manifest",
        "rollback_asked" => return "somebody asked for it; what was left is pinned".to_owned(),
        _ => return text("text").to_owned(),
    };
    match text("text").split_once("; ") {
        Some((_, more)) => format!("{plain}; {more}"),
        None => plain.to_owned(),
    }
}

fn age(intent: &Intent, now: Time) -> String {
    let seconds = now.unix() - intent.issued_at.unix();
    let age = if seconds < 0 {
        format!("{} ahead of this clock", ui::span(seconds.unsigned_abs()))
    } else {
        format!("{} ago", ui::span(seconds.unsigned_abs()))
    };
    let left = intent.expires_at.unix() - now.max(intent.time_mark.unwrap_or(now)).unix();
    let end = if left > 0 {
        format!("expires {}, in {}", intent.expires_at, ui::span(left.unsigned_abs()))
    } else {
        format!("expired {}; what runs goes on", intent.expires_at)
    };
    format!("issued {}, {age}; {end}", intent.issued_at)
}

fn step(next: &Next) -> String {
    let named = |back: &Option<Name>| back.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
    match next {
        Next::FirstSet => "`autonomy apply SET` makes a first release active".to_owned(),
        Next::ApplyStaged(generation) => {
            format!("{generation} is staged; `autonomy apply` of its set goes on from there")
        }
        Next::Discard(generation) => {
            format!("{generation} was cut off while it was staged; the next locking verb removes it")
        }
        Next::Finish(generation) => {
            format!("{generation} was cut off after its switch; the next locking verb finishes its services")
        }
        Next::FinishReturn(generation) => {
            format!("the way back from {generation} was cut off; the next locking verb finishes it")
        }
        Next::Busy(generation) => format!("the process that holds the lock is at work on {generation}"),
        Next::Confirm { left, rebooted, back, .. } => {
            let after = if *rebooted { ", or after another reboot," } else { "," };
            let left = ui::span(left.millis() / 1000);
            format!("`autonomy confirm` within {left}; without it{after} {} is active again", named(back))
        }
        Next::RestartWindow(generation) => {
            format!("the machine was started anew: the time to confirm {generation} begins again, once")
        }
        Next::Expire { generation, back } => format!(
            "the time to confirm {generation} is over: timer, loop or next locking verb return to {}",
            named(back)
        ),
        Next::Resume => "changes are held until `autonomy resume`".to_owned(),
        Next::NewerIntent => "the manifest has expired: only a newer one can be applied".to_owned(),
        Next::Nothing => "nothing: a newer manifest is awaited".to_owned(),
    }
}

fn as_json(status: &Status, now: Time) -> Value {
    let journal = status.journal.as_ref();
    let unfinished = journal.filter(|journal| !journal.phase.is_final());
    json!({
        "node": status.node.as_ref().map(|node| json!({
            "id": node.node_id, "fleet": node.fleet, "hardware": node.hardware, "labels": node.labels,
        })),
        "active": status.running.as_ref().map(|running| json!({
            "manifest": running.manifest, "stream": running.stream, "serial": running.serial,
            "release": running.release, "generation": running.generation,
            "revoked": running.revoked,
        })),
        "why": status.why,
        "lastTry": status.last_try,
        "lkg": status.lkg,
        "stream": status.stream,
        "unfinished": unfinished.map(|journal| json!({ "phase": journal.phase, "generation": journal.generation })),
        "awaiting": status.awaiting.as_ref().map(|awaiting| json!({
            "generation": awaiting.generation, "manifest": awaiting.manifest, "within": awaiting.waiting.within,
            "reboots": awaiting.waiting.reboots,
        })),
        "lastFailure": journal.and_then(|journal| journal.failure.as_ref()),
        "intent": status.intent.map(|intent| json!({
            "issuedAt": intent.issued_at, "expiresAt": intent.expires_at, "timeMark": intent.time_mark,
            "ageSeconds": now.unix() - intent.issued_at.unix(),
        })),
        "pinned": status.pinned,
        "suspended": status.suspended.as_ref().map(|said| json!({
            "since": said.as_ref().map(|said| said.since),
            "reason": said.as_ref().and_then(|said| said.reason.as_ref()),
            "owner": said.as_ref().and_then(|said| said.owner.as_ref()),
        })),
        "lock": status.holder.as_ref().map(|holder| json!({ "pid": holder.pid, "command": holder.command })),
        "relay": status.relay,
        "next": status.next.iter().map(step).collect::<Vec<_>>(),
        "damage": status.damage,
    })
}
