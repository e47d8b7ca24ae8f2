//! `autonomy trust`: the keys that nodes trust, and how they change.

use clap::Subcommand;

use crate::Global;
use crate::failure::Failure;

mod import;
mod make;
mod new;
mod revoke;
mod rotate;
mod show;
mod verify;

pub(crate) use make::expiry;
pub(crate) use revoke::{Named, fingerprint, parse_manifest};

/// `autonomy trust`.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make and sign a trust root.
    New(new::Args),
    /// Make and sign the trust root after another one.
    Rotate(rotate::Args),
    /// Make a revocation list, to be signed by role `manifest` or `root`.
    Revoke(revoke::Args),
    /// Show the trust root that the node has pinned, or that of a file. Writes nothing.
    Show(show::Args),
    /// Walk the trust roots of a folder as a node would. Writes nothing.
    Verify(verify::Args),
    /// Take newer trust roots, and a newer revocation list, from a folder.
    Import(import::Args),
}

pub(crate) fn run(command: &Command, global: &Global) -> Result<u8, Failure> {
    match command {
        Command::New(args) => new::run(args),
        Command::Rotate(args) => rotate::run(args),
        Command::Revoke(args) => revoke::run(args),
        Command::Show(args) => show::run(args, global),
        Command::Verify(args) => verify::run(args, global),
        Command::Import(args) => import::run(args, global),
    }
}
