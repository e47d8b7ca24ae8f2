//! `autonomy plan`: what an apply would do, and why.

use autonomy_plan::render;
use autonomy_reconciler::Prepared;
use autonomy_schema::{Code, Reasons, Time};
use clap::ValueEnum;

use crate::Global;
use crate::failure::{Failure, exit};
use crate::{node, ui};

/// How a plan is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For scripts.
    Json,
    /// For merge requests.
    Markdown,
}

/// Show what an apply would change on this node, and why. Writes nothing.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The set.
    source: String,
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Format,
    /// Exit 2 when there are changes.
    #[arg(long)]
    detailed_exitcode: bool,
    /// The clock to use.
    #[arg(long, value_name = "TIME")]
    now: Option<Time>,
    /// Read every file, whatever the stat cache says.
    #[arg(long)]
    verify_content: bool,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    let prepared = prepare(args, global).map_err(|failure| failure.with_json(args.output == Format::Json))?;
    ui::out(&rendered(&prepared, args.output)?);
    if let Some(reasons) = Reasons::new(prepared.reasons()) {
        // The plan on stdout has the reasons already; stderr has them as lines.
        return Err(Failure::refused(reasons, false));
    }
    let pending = args.detailed_exitcode && prepared.plan.has_changes();
    Ok(if pending { exit::PENDING } else { exit::DONE })
}

fn prepare(args: &Args, global: &Global) -> Result<Prepared, Failure> {
    let (root, _) = node::state_root(global)?;
    let source = node::source(&args.source)?;
    let bar = node::hashing();
    let progress = |done, total| node::advance(&bar, done, total);
    let options = node::options(args.now.unwrap_or_else(node::clock), args.verify_content, &progress);
    let prepared = autonomy_reconciler::prepare(&root, &source, &options);
    bar.finish_and_clear();
    Ok(prepared?)
}

/// The plan in the wanted form.
pub(crate) fn rendered(prepared: &Prepared, format: Format) -> Result<String, Failure> {
    match format {
        Format::Text => Ok(render::text(&prepared.doc, &prepared.texts, ui::stdout_has_color())),
        Format::Markdown => Ok(render::markdown(&prepared.doc, &prepared.texts)),
        Format::Json => render::json(&prepared.doc).map_err(|error| Failure::because(Code::IoError, error.to_string())),
    }
}
