//! `autonomy cert ca`: the CA of a fleet.

use std::path::PathBuf;

use autonomy_authority::{Authority, NAMES};
use autonomy_schema::{Duration, Name};
use clap::Subcommand;
use serde_json::json;

use crate::commands::cert::files as pem;
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::{files, ui};

/// `autonomy cert ca`.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a CA: a key, its certificate, and a folder that records what it issues and revokes.
    Init(Args),
}

/// `autonomy cert ca init`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The CA's folder; it is made. Its key is not encrypted: keep the folder where only you can read it.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The fleet whose nodes it names.
    #[arg(long)]
    fleet: Name,
    /// How long the CA is valid.
    #[arg(long, value_name = "DURATION", default_value_t = autonomy_signing::DEFAULT_CA_VALIDITY)]
    valid_for: Duration,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(command: &Command) -> Result<u8, Failure> {
    let Command::Init(args) = command;
    init(args).map_err(|failure| failure.with_json(args.output == Output::Json))
}

fn init(args: &Args) -> Result<u8, Failure> {
    let now = node::clock();
    pem::make_folder(&args.dir)?;
    let why =
        "a CA's folder is never overwritten; choose another one, or remove what an interrupted `cert ca init` left";
    for name in NAMES {
        files::must_not_exist(&args.dir.join(name), why)?;
    }
    files::must_not_exist(&args.dir.join("node.yaml"), "it is the state root of a node; a CA has a folder of its own")?;
    let certificate = autonomy_authority::create(&args.dir, &args.fleet, args.valid_for, now)?;
    Authority::open(&args.dir)?.list(autonomy_signing::DEFAULT_CRL_VALIDITY, now)?;
    let cards = autonomy_trust::describe_certificates(certificate.as_bytes());
    let Some(card) = cards.ok().and_then(|cards| cards.into_iter().next()) else { return Ok(exit::FAILURE) };
    if args.output == Output::Json {
        let told = json!({ "ca": args.dir, "fleet": args.fleet, "subject": card.subject, "serial": card.serial,
            "expires": card.expires, "digest": card.digest });
        ui::out(&format!("{told}\n"));
    } else {
        let (dir, fleet) = (args.dir.display().to_string(), &args.fleet);
        ui::out(&ui::printable(&format!(
            "CA of fleet `{fleet}` in {dir}: {}, valid until {}\ncertificate {}\n",
            card.subject, card.expires, card.digest,
        )));
    }
    Ok(exit::DONE)
}
