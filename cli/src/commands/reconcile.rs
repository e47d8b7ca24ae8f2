//! `autonomy reconcile`: the node follows a source.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use autonomy_apply::{Event, Observer};
use autonomy_reconciler::follow::serve::{Listen, serve};
use autonomy_reconciler::follow::{Follow, Follower, Health, Outcome, Round, Stop};
use autonomy_reconciler::{Reach, Source};
use autonomy_schema::Code;
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::Global;
use crate::failure::{Failure, exit};
use crate::{node, ui};

/// Shortest interval: a source is not asked in a busy loop.
const SHORTEST: Duration = Duration::from_secs(1);

/// Follow a source: fetch, verify, plan, admit, apply, again and again.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to follow; with `--once` the inbox when absent: `inbox`, a folder, `oci:PATH`, or `git+file://…`, `git+https://…`, `git+ssh://…` with `?ref=R&path=P`.
    #[arg(long, value_name = "SOURCE", required_unless_present = "once")]
    source: Option<String>,
    /// How often to look, such as `30s` or `5m`; after failures the waits double, up to 15 minutes.
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    interval: autonomy_schema::Duration,
    /// One round, with its exit code.
    #[arg(long)]
    once: bool,
    /// Serve `/healthz`, `/readyz` and `/metrics` on `unix:PATH` or `127.0.0.1:PORT`.
    #[arg(long, value_name = "WHERE", conflicts_with = "once")]
    listen: Option<Listen>,
    /// Tell each round that was not idle as a line of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: node::ReachArgs,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    let (root, path) = node::state_root(global)?;
    let interval = Duration::from_millis(args.interval.millis());
    if interval < SHORTEST {
        return Err(Failure::Usage("--interval must be at least 1s".to_owned()));
    }
    let stop = Arc::new(Stop::default());
    let reach = Reach { cancel: Some(stop.flag()), ..args.reach.reach(global) };
    let source = Source::parse(args.source.as_deref().unwrap_or("inbox"), reach)?;
    let workspace = node::loop_workspace(&path);
    let runner = node::runner(global, &path);
    let mut follower = Follower::new(Follow {
        root: &root,
        source: &source,
        workspace: &workspace,
        who: node::who(),
        runner: &runner,
        os_root: &global.os_root,
        units: &autonomy_apply::unit_state,
        clock: &node::clock,
        interval,
        stop: &stop,
    });
    end_on_signals(&stop)?;
    if args.once {
        let round = follower.round(&mut Quiet);
        tell(args, &round);
        return once(round);
    }
    let health = Arc::new(Health::default());
    let _endpoint = args.listen.as_ref().map(|listen| endpoint(listen, &health)).transpose()?;
    loop {
        let round = follower.round(&mut Quiet);
        health.note(&round, follower.failures());
        tell(args, &round);
        if stop.requested().is_some() || stop.wait(round.wait) {
            ui::err("Ended between safe steps; nothing is half done.\n");
            return Ok(exit::DONE);
        }
    }
}

/// SIGTERM and SIGINT end the loop; an apply that is under way stops at its next safe step before the switch, or is
/// finished after it.
fn end_on_signals(stop: &Arc<Stop>) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGTERM, SIGINT])
        .map_err(|error| Failure::because(Code::IoError, format!("cannot listen to signals: {error}")))?;
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        for signal in signals.forever() {
            let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
            stop.request(format!("the loop was ended by {name}"));
        }
    });
    Ok(())
}

fn endpoint(listen: &Listen, health: &Arc<Health>) -> Result<autonomy_reconciler::follow::serve::Endpoint, Failure> {
    let endpoint = serve(listen, Arc::clone(health)).map_err(|error| {
        let place = match listen {
            Listen::Unix(path) => path.clone(),
            Listen::Loopback(address) => PathBuf::from(address.to_string()),
        };
        Failure::io("listen on", &place, &error)
    })?;
    ui::err(&format!("Health and metrics on {}\n", endpoint.at));
    Ok(endpoint)
}

/// The exit code of a single round.
fn once(round: Round) -> Result<u8, Failure> {
    match round.outcome {
        Outcome::Applied(_) | Outcome::Relayed | Outcome::Rotated | Outcome::Unchanged | Outcome::Idle => {
            Ok(exit::DONE)
        }
        Outcome::Returned(reasons)
        | Outcome::Held(reasons)
        | Outcome::Refused(reasons)
        | Outcome::Failed(reasons)
        | Outcome::Superseded(reasons) => Err(Failure::Refused { reasons, json: false, exit: None, told: true }),
    }
}

/// One line for each round that was not idle.
fn tell(args: &Args, round: &Round) {
    if let Some(warning) = &round.warning {
        ui::err(&ui::printable(&format!("warning: {warning}\n")));
    }
    if round.outcome == Outcome::Idle {
        return;
    }
    let reasons = round.outcome.reasons().map(autonomy_schema::Reasons::as_slice);
    let generation = if let Outcome::Applied(generation) = &round.outcome { Some(generation) } else { None };
    if args.json {
        let value = json!({
            "type": "round", "at": round.at, "tip": round.tip, "outcome": round.outcome.word(),
            "generation": generation, "reasons": reasons,
        });
        ui::out(&format!("{value}\n"));
        return;
    }
    let what = match &round.outcome {
        Outcome::Applied(generation) => format!("applied: {generation} is active"),
        Outcome::Relayed => "relayed: the set went into the outbox".to_owned(),
        Outcome::Rotated => "rotated: a newer trust root is pinned".to_owned(),
        Outcome::Unchanged => "unchanged: the node has what the source says".to_owned(),
        other @ (Outcome::Idle
        | Outcome::Returned(_)
        | Outcome::Held(_)
        | Outcome::Refused(_)
        | Outcome::Failed(_)
        | Outcome::Superseded(_)) => {
            let reasons = reasons.unwrap_or_default().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            format!("{}: {reasons}", other.word())
        }
    };
    let tip = round.tip.as_ref().map_or_else(String::new, |tip| format!(" {tip}"));
    ui::out(&format!("{}\n", ui::printable(&format!("{}{tip} {what}", round.at)).replace('\n', "\\n")));
}

/// Phases are in the records; the loop tells rounds.
struct Quiet;

impl Observer for Quiet {
    fn event(&mut self, event: &Event<'_>) {
        tracing::debug!(?event, "apply");
    }
}
