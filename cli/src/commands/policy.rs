//! `autonomy policy`: the bundle of Rego that decides.

use clap::Subcommand;

use crate::Global;
use crate::failure::Failure;

mod build;
mod load;
mod overriding;
mod rollback;
mod status;

pub(crate) use build::{read_folder, refusal};

/// `autonomy policy`.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Build a bundle: the same folder gives the same bytes.
    Build(build::Args),
    /// Load a signed bundle into the slots of a node without a manifest.
    Load(load::Args),
    /// Say which policy decides on this node.
    Status(status::Args),
    /// Go back to the last known good bundle.
    Rollback(rollback::Args),
    /// Make an override for one manifest, to be signed by the root keys.
    Override(overriding::Args),
}

pub(crate) fn run(command: &Command, global: &Global) -> Result<u8, Failure> {
    match command {
        Command::Build(args) => build::run(args),
        Command::Load(args) => load::run(args, global),
        Command::Status(args) => status::run(args, global),
        Command::Rollback(args) => rollback::run(args, global),
        Command::Override(args) => overriding::run(args),
    }
}
