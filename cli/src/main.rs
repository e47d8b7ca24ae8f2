//! `autonomy`: the command line of operators and nodes. Arguments in, rendering, hints and exit codes out.
//!
//! Floor 6, the last door: libraries return facts, this crate speaks to people. One verb, one file below
//! `commands/`. Deliberately absent: decisions (crates `trust`, `plan`, `policy`) and writes to a state root (crates
//! `apply`, `reconciler`).

mod commands;
mod failure;
mod files;
mod keys;
mod node;
mod ui;
mod watcher;

use std::process::ExitCode;

use clap::Parser;

use crate::failure::{Failure, exit};

/// Seed once, update everywhere: signed desired state for nodes without a network.
#[derive(Parser)]
#[command(name = "autonomy", version, disable_help_subcommand = true, max_term_width = 120)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: commands::Command,
}

/// Options of every verb.
#[derive(clap::Args)]
struct Global {
    /// The node's state root.
    #[arg(long, env = "AUTONOMY_STATE_ROOT", global = true, value_name = "DIR", hide_env_values = true)]
    state_root: Option<std::path::PathBuf>,
    /// The root of the operating system: what the node runs on is read there, and reconstruction writes there.
    #[arg(
        long,
        env = "AUTONOMY_OS_ROOT",
        global = true,
        value_name = "DIR",
        default_value = "/",
        hide_env_values = true
    )]
    os_root: std::path::PathBuf,
    /// Say more on stderr; twice for traces.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

/// An umask may keep others out; one that keeps the owner out of what was just made would end every verb half-way.
fn keep_owner_rights() {
    let umask = rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    rustix::process::umask(umask & (rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO));
}

fn main() -> ExitCode {
    keep_owner_rights();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors and go to stdout.
            let code = if error.use_stderr() { exit::USAGE } else { exit::DONE };
            return match error.print() {
                Ok(()) => ExitCode::from(code),
                Err(_closed_pipe) => ExitCode::from(exit::FAILURE),
            };
        }
    };
    ui::trace(cli.global.verbose);
    match commands::run(cli.command, &cli.global) {
        Ok(code) => ExitCode::from(failure::after_output(code)),
        Err(failure) => ExitCode::from(Failure::report(&failure)),
    }
}
