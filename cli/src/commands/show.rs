//! `autonomy show`: a saved plan, as it was when it was made.

use std::path::PathBuf;

use autonomy_plan::render::{Detail, Texts};
use autonomy_schema::Document as _;
use autonomy_schema::plan_doc::PlanDoc;

use crate::commands::plan::{self, Format, Look};
use crate::failure::{Failure, exit};
use crate::{files, ui};

/// Show a saved plan. Diffs of texts are not saved, so they are not shown.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The file that `autonomy plan --out` wrote.
    file: PathBuf,
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    look: Look,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let bytes = files::read(&args.file, PlanDoc::MAX_BYTES as u64)?;
    let doc = autonomy_reconciler::parse_saved(&bytes)
        .map_err(|reasons| Failure::from(reasons).with_json(args.output == Format::Json))?;
    ui::out(&plan::rendered(&doc, &Texts::default(), args.output, args.look.style(Detail::Full))?);
    Ok(exit::DONE)
}
