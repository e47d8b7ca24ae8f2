//! `autonomy completions`: completion scripts for shells.

use clap::CommandFactory as _;

use crate::failure::{Failure, exit};
use crate::{Cli, ui};

/// `autonomy completions`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The shell.
    shell: clap_complete::Shell,
}

#[expect(clippy::unnecessary_wraps, reason = "every verb has this signature")]
pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "autonomy", &mut script);
    ui::out(&String::from_utf8_lossy(&script));
    Ok(exit::DONE)
}
