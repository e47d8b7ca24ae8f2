//! `autonomy golden`: what the fleet's repository has on record against what the tool says now, for merge requests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::failure::{Failure, exit};
use crate::node::Output;
use crate::{files, ui};

mod expected;
mod record;

/// Records of rendered manifests and plans.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Compare manifests, fingerprints, plans and schemas with what is on record.
    Check(Args),
}

/// `autonomy golden check`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The fleet's repository.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// The authored manifests, below the repository: `overlays/<site>`, or a single `manifest.yaml`.
    #[arg(long, value_name = "DIR", default_value = "manifests")]
    manifests: PathBuf,
    /// The records, below the repository. `facts/*.json` and `stand-ins/<artifact>` in it are inputs.
    #[arg(long, value_name = "DIR", default_value = "golden")]
    golden: PathBuf,
    /// Record what the tool says now.
    #[arg(long)]
    update: bool,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// How a record stands to what the tool says now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Same,
    Changed,
    Missing,
    Stale,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Same => "same",
            State::Changed => "changed",
            State::Missing => "missing",
            State::Stale => "stale",
        }
    }
}

pub(crate) fn run(command: &Command) -> Result<u8, Failure> {
    let Command::Check(args) = command;
    check(args).map_err(|failure| failure.with_json(args.output == Output::Json))
}

fn check(args: &Args) -> Result<u8, Failure> {
    let golden = args.folder.join(&args.golden);
    let recorded = record::read(&golden)?;
    // Everything is made before anything is compared or written: all or nothing.
    let with_schemas = args.update || golden.join(record::SCHEMAS).is_dir();
    let inputs = expected::Inputs { manifests: &args.folder.join(&args.manifests), golden: &golden, with_schemas };
    let expected = expected::make(&inputs)?;
    let names = recorded.keys().chain(expected.keys()).collect::<std::collections::BTreeSet<_>>();
    let states: BTreeMap<&String, State> = names
        .into_iter()
        .map(|name| {
            let state = match (recorded.get(name), expected.get(name)) {
                (Some(before), Some(now)) if before == now => State::Same,
                (Some(_), Some(_)) => State::Changed,
                (None, _) => State::Missing,
                (Some(_), None) => State::Stale,
            };
            (name, state)
        })
        .collect();
    if args.update {
        update(&golden, &expected, &states)?;
    }
    tell(args, &recorded, &expected, &states);
    let differs = states.values().any(|state| *state != State::Same);
    Ok(if differs && !args.update { exit::FAILURE } else { exit::DONE })
}

/// Writes what changed, and removes what nothing stands behind any more.
fn update(
    golden: &Path,
    expected: &BTreeMap<String, Vec<u8>>,
    states: &BTreeMap<&String, State>,
) -> Result<(), Failure> {
    for (name, state) in states {
        let path = golden.join(name);
        match (state, expected.get(*name)) {
            (State::Changed | State::Missing, Some(bytes)) => {
                let folder = path.parent().unwrap_or(golden);
                std::fs::create_dir_all(folder).map_err(|error| Failure::io("create", folder, &error))?;
                files::replace(&path, bytes)?;
            }
            (State::Stale, _) => {
                std::fs::remove_file(&path).map_err(|error| Failure::io("remove", &path, &error))?;
                // The folder of an overlay that has gone; one that holds anything else stays.
                path.parent().map(std::fs::remove_dir);
            }
            (State::Same | State::Changed | State::Missing, _) => {}
        }
    }
    Ok(())
}

fn tell(
    args: &Args,
    recorded: &BTreeMap<String, Vec<u8>>,
    expected: &BTreeMap<String, Vec<u8>>,
    states: &BTreeMap<&String, State>,
) {
    let differ: Vec<_> = states.iter().filter(|(_, state)| **state != State::Same).collect();
    if args.output == Output::Json {
        let list = states.iter().map(|(name, state)| json!({ "file": name, "state": state.word() }));
        ui::out(&format!("{}\n", json!({ "files": list.collect::<Vec<_>>(), "updated": args.update })));
    } else if args.update {
        for (name, state) in &differ {
            let word = if **state == State::Stale { "removed" } else { "recorded" };
            ui::out(&format!("{word} {}\n", ui::printable(name)));
        }
    } else {
        for (name, _) in &differ {
            ui::out(&record::difference(name, recorded.get(**name), expected.get(**name)));
        }
    }
    if differ.is_empty() && args.output == Output::Text {
        ui::out(&format!("golden: {} files as recorded\n", states.len()));
    } else if !args.update && !differ.is_empty() {
        let count = differ.len();
        let files = if count == 1 { "file differs" } else { "files differ" };
        ui::err(&format!("golden: {count} {files}; `autonomy golden check --update` records what the tool says now\n"));
    }
}
