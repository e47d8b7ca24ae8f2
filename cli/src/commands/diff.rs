//! `autonomy diff`: whether a set is what the node runs.

use autonomy_plan::render::{Detail, Texts};
use autonomy_schema::plan_doc::PlanDoc;

use crate::Global;
use crate::commands::plan::{self, Format, Look};
use crate::failure::{Failure, exit};
use crate::{node, ui};

/// Exit code of a diff that differs.
const DIFFERS: u8 = 1;
/// Exit code of a diff that could not be made, where other verbs exit 1.
const FAILED: u8 = 70;

/// Compare a set with what the node runs; without a set, the node with its own manifest. Exits 0 when they are the
/// same, 1 when they differ, 70 on failure.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The set; the active manifest when absent.
    source: Option<String>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    look: Look,
    /// Read every file, whatever the stat cache says.
    #[arg(long)]
    verify_content: bool,
    #[command(flatten)]
    reach: node::ReachArgs,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    compare(args, global)
        .map_err(|failure| failure.with_json(args.output == Format::Json).exiting(exit::FAILURE, FAILED))
}

fn compare(args: &Args, global: &Global) -> Result<u8, Failure> {
    let (doc, texts) = difference(args, global)?;
    ui::out(&plan::rendered(&doc, &texts, args.output, args.look.style(Detail::Changes))?);
    Ok(if doc.steps.is_empty() && doc.drift.is_empty() { exit::DONE } else { DIFFERS })
}

fn difference(args: &Args, global: &Global) -> Result<(PlanDoc, Texts), Failure> {
    let Some(source) = &args.source else {
        return Ok((plan::against_itself(global, None, args.verify_content)?, Texts::default()));
    };
    let (root, _) = node::state_root(global)?;
    let source = node::source(source, &args.reach, global)?;
    let prepared = node::prepared(global, &root, &source, None, None, args.verify_content)?;
    Ok((prepared.doc, prepared.texts))
}
