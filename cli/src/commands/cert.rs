//! `autonomy cert`: the certificates with which nodes speak to each other.

use clap::Subcommand;

use crate::Global;
use crate::failure::Failure;

mod ca;
mod check;
mod crl;
mod files;
mod import;
mod issue;
mod renew;
mod revoke;
mod show;

/// `autonomy cert`.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// The CA of a fleet.
    #[command(subcommand)]
    Ca(ca::Command),
    /// Issue a certificate with a new key for a node, into a folder or into its state root.
    Issue(issue::Args),
    /// Issue a new certificate for a node that has one, for the same key or a new one.
    Renew(renew::Args),
    /// Revoke a certificate, and make the revocation list that says so.
    Revoke(revoke::Args),
    /// Make a fresh revocation list.
    Crl(crl::Args),
    /// Show what certificates or revocation lists say. Judges and writes nothing.
    Show(show::Args),
    /// Judge a node's certificates: chain, key, name, times, uses, revocation. Writes nothing.
    Check(check::Args),
    /// Install certificates of another PKI in the state root, once they are judged to be good.
    Import(import::Args),
}

pub(crate) fn run(command: &Command, global: &Global) -> Result<u8, Failure> {
    match command {
        Command::Ca(command) => ca::run(command),
        Command::Issue(args) => issue::run(args, global).map_err(|failure| failure.with_json(args.json())),
        Command::Renew(args) => renew::run(args, global).map_err(|failure| failure.with_json(args.json())),
        Command::Revoke(args) => revoke::run(args).map_err(|failure| failure.with_json(args.json())),
        Command::Crl(args) => crl::run(args).map_err(|failure| failure.with_json(args.json())),
        Command::Show(args) => show::run(args).map_err(|failure| failure.with_json(args.json())),
        Command::Check(args) => check::run(args, global).map_err(|failure| failure.with_json(args.json())),
        Command::Import(args) => import::run(args, global).map_err(|failure| failure.with_json(args.json())),
    }
}
