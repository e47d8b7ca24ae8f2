//! `edged`: the daemon of the edge wing, and its look at the platform before anything else starts.
//!
//! The library beside it does the relaying; the verbs are here.

mod precheck;
mod rotate;
mod run;
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
    /// Relay: take signed sets from peers, and send on what this node runs, over mutual TLS, until SIGTERM
    ///
    /// SIGHUP reads certificates and configuration again. Logs are JSON lines on stderr. Exit codes: 0 drained; 1 configuration,
    /// assurance, address or disk; 3 a certificate cannot be used; 6 another `edged` runs on this state root; 11 the ledger or
    /// another file is damaged; 64 usage.
    Run(run::Args),
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
        Some(Command::Run(args)) => ExitCode::from(run::run(&args)),
        None => {
            show::message(&format!("{}\n", Cli::command().render_help()));
            ExitCode::from(USAGE)
        }
    }
}
