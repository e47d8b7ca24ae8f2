//! `edged`: the daemon of the edge wing. Today it has one verb, `precheck`, which looks at the platform before anything else
//! starts, and rebuilds what an operating system that was replaced has lost.
//!
//! Floor 4, behind the wall (INV-10): imports `schema`, `trust`, `stateroot`, `signing` and `authority` (for `--rotate-certs`), `telemetry`,
//! `relay` and `precheck`, and nothing of the mission layer. Deliberately absent: applying, planning, policy; the relay
//! itself, which comes with its own issue.

mod precheck;
mod rotate;
mod show;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

/// Wrong usage (DESIGN §6).
const USAGE: u8 = 64;

#[derive(Parser)]
#[command(name = "edged", version, about = "The daemon of the edge wing of Autonomy")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Look at the platform; where the operating system was replaced, rebuild what lies outside the state root
    ///
    /// Exit codes: 0 clean; 1 configuration, clock, space or assurance; 2 state root; 3 a certificate or a revocation list is
    /// unreadable, wrong, or ends within the window; 5 reconstruction failed; 64 usage. The lowest wins.
    Precheck(precheck::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors and go to stdout.
            let code = if error.use_stderr() { USAGE } else { 0 };
            return if error.print().is_ok() { ExitCode::from(code) } else { ExitCode::FAILURE };
        }
    };
    match cli.command {
        Some(Command::Precheck(args)) => ExitCode::from(precheck::run(&args)),
        None => {
            show::message(&format!("{}\n", Cli::command().render_help()));
            ExitCode::from(USAGE)
        }
    }
}
