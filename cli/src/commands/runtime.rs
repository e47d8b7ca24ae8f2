//! `autonomy runtime`: tools for agents, each call decided by the signed policy.

use clap::Subcommand;

use crate::Global;
use crate::failure::Failure;

mod start;

/// `autonomy runtime`.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Serve tools over HTTP; the policy of the active generation decides every call.
    Start(Box<start::Args>),
}

pub(crate) fn run(command: &Command, global: &Global) -> Result<u8, Failure> {
    match command {
        Command::Start(args) => start::run(args, global),
    }
}
