//! `autonomy import`: what lies on a medium, into the inbox.

use std::path::PathBuf;

use autonomy_reconciler::{Import, OnMedium, Standing, preview};
use autonomy_schema::Reasons;
use serde_json::json;

use crate::Global;
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::ui;

/// Verify the sets of a medium and put them into the inbox. Nothing is activated: `autonomy reconcile --once` does that.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A folder that `export` wrote, or a set.
    medium: PathBuf,
    /// Tell what is on it and whether it is trusted; write nothing.
    #[arg(long)]
    preview: bool,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    import(args, global).map_err(|failure| failure.with_json(args.output == Output::Json))
}

fn import(args: &Args, global: &Global) -> Result<u8, Failure> {
    let (root, path) = node::state_root(global)?;
    let clock = node::clock();
    let bar = node::hashing();
    let progress = |done, total| node::advance(&bar, done, total);
    let options = node::options(global, clock, true, &progress);
    let import = if args.preview {
        preview(&root, &args.medium, &options)
    } else {
        let runner = node::runner(global, &path);
        autonomy_reconciler::import(&root, &args.medium, &node::actor("import", clock), &runner, &options)
    };
    bar.finish_and_clear();
    let import = import?;
    for warning in &import.warnings {
        ui::warn(Some(warning));
    }
    show(args, &import);
    match import.refusal() {
        None => Ok(exit::DONE),
        Some(reasons) => Err(Failure::Refused { reasons, json: false, exit: None, told: args.output == Output::Json }),
    }
}

/// The word for where a set stands, and why.
fn standing(args: &Args, set: &OnMedium) -> (&'static str, Option<Reasons>) {
    match &set.standing {
        Standing::Takes if args.preview => ("takes", None),
        Standing::Takes => ("imported", None),
        Standing::Here => ("here", None),
        Standing::NotForUs(reasons) => ("not for this node", Some(reasons.clone())),
        Standing::Refused(reasons) => ("refused", Some(reasons.clone())),
    }
}

fn show(args: &Args, import: &Import) {
    if args.output == Output::Json {
        let sets: Vec<_> = import.sets.iter().map(|set| as_json(args, set)).collect();
        let trust = json!({
            "roots": import.trust.roots, "revocation": import.trust.revocation, "reasons": import.trust.refused,
        });
        return ui::out(&format!("{}\n", json!({ "sets": sets, "trust": trust, "warnings": import.warnings })));
    }
    let (pinned, counts) = if args.preview { ("brings", "brings") } else { ("pinned", "counts from now on") };
    for version in &import.trust.roots {
        ui::out(&format!("{pinned}: trust root version {version}\n"));
    }
    if let Some(number) = import.trust.revocation {
        ui::out(&format!("{counts}: revocation list {number}\n"));
    }
    for set in &import.sets {
        let (word, reasons) = standing(args, set);
        let what = match &set.says {
            Some((manifest, fingerprint)) => {
                let (metadata, release) = (&manifest.metadata, &manifest.spec.release.version);
                format!("{} {release} (serial {}), {fingerprint}", metadata.name, metadata.serial)
            }
            None => set.name.clone(),
        };
        let why: Vec<String> =
            reasons.iter().flat_map(Reasons::as_slice).map(|reason| format!("\n  {reason}")).collect();
        ui::out(&ui::printable(&format!("{word}: {what}{}\n", why.concat())));
    }
    if !args.preview && import.sets.iter().any(|set| matches!(set.standing, Standing::Takes)) {
        ui::out("Next: autonomy plan inbox, autonomy reconcile --once\n");
    }
}

fn as_json(args: &Args, set: &OnMedium) -> serde_json::Value {
    let (word, reasons) = standing(args, set);
    let says = set.says.as_ref();
    json!({
        "name": set.name, "stream": says.map(|(manifest, _)| &manifest.metadata.name),
        "serial": says.map(|(manifest, _)| manifest.metadata.serial), "manifest": says.map(|(_, fingerprint)| fingerprint),
        "release": says.map(|(manifest, _)| &manifest.spec.release.version), "standing": word,
        "reasons": reasons.as_ref().map(Reasons::as_slice).unwrap_or_default(),
    })
}
