//! `autonomy plan`: what an apply would do, and why.

use std::path::PathBuf;

use autonomy_plan::render::{self, Detail, Style, Texts};
use autonomy_schema::plan_doc::PlanDoc;
use autonomy_schema::{Code, Document as _, Reason, Reasons, Time};
use clap::ValueEnum;

use crate::Global;
use crate::failure::{Failure, exit};
use crate::{files, node, ui};

mod fleet;
mod refresh;

pub(crate) use refresh::against_itself;

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

/// How plans look, wherever they are printed.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Look {
    /// Print the closing line alone.
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Keep to ASCII; without it the locale decides.
    #[arg(long)]
    pub(crate) ascii: bool,
}

impl Look {
    /// The style for stdout.
    pub(crate) fn style(self, detail: Detail) -> Style {
        Style {
            color: ui::stdout_has_color(),
            width: ui::stdout_width(),
            ascii: self.ascii || !ui::is_utf8(),
            detail: if self.quiet { Detail::Summary } else { detail },
        }
    }
}

/// Show what an apply would change on this node, and why. Writes nothing to the state root.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The set.
    #[arg(required_unless_present = "refresh_only")]
    source: Option<String>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    look: Look,
    /// Save the plan, for `autonomy show` and `autonomy apply`.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Exit 2 when there are changes.
    #[arg(long)]
    detailed_exitcode: bool,
    /// Show only what differs from the active manifest; no set is needed.
    #[arg(long, conflicts_with_all = ["source", "out", "facts"])]
    refresh_only: bool,
    /// Plan for a node that cannot be reached, from its `autonomy facts --out`; several files plan a fleet.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    facts: Vec<PathBuf>,
    /// With `--facts`: verify the set with this trust root; without it the set may be an unsigned draft.
    #[arg(long, value_name = "FILE", requires = "facts")]
    trust_root: Option<PathBuf>,
    /// With `--facts`: the policy bundle that is active on the node, to be asked here.
    #[arg(long, value_name = "FILE", requires = "facts")]
    policy: Vec<PathBuf>,
    /// A policy override for this manifest, as `autonomy apply --override` takes it.
    #[arg(long = "override", value_name = "FILE", conflicts_with_all = ["facts", "refresh_only"])]
    policy_override: Option<PathBuf>,
    /// The clock to use.
    #[arg(long, value_name = "TIME")]
    now: Option<Time>,
    /// Read every file, whatever the stat cache says.
    #[arg(long)]
    verify_content: bool,
    #[command(flatten)]
    reach: node::ReachArgs,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    let json = args.output == Format::Json;
    let shown = match &args.source {
        None => refresh::run(args, global),
        Some(source) if !args.facts.is_empty() => fleet::run(args, source, global),
        Some(source) => one(args, source, global),
    };
    shown.map_err(|failure| failure.with_json(json))
}

fn one(args: &Args, source: &str, global: &Global) -> Result<u8, Failure> {
    let (root, _) = node::state_root(global)?;
    let source = node::source(source, &args.reach, global)?;
    let by = args.policy_override.as_deref().map(node::override_file).transpose()?;
    let prepared = node::prepared(global, &root, &source, by.as_ref(), args.now, args.verify_content)?;
    let style = args.look.style(Detail::Full);
    ui::out(&rendered(&prepared.doc, &prepared.texts, args.output, style)?);
    ui::warn(prepared.facts.bound.revoked_sentence().as_deref());
    conclude(args, &prepared.doc, prepared.reasons())
}

/// Saves the plan where that was asked for, and gives the exit code; a plan that cannot be applied is not saved.
fn conclude(args: &Args, doc: &PlanDoc, reasons: Vec<Reason>) -> Result<u8, Failure> {
    if let Some(reasons) = Reasons::new(reasons) {
        if let Some(out) = &args.out {
            let out = out.display();
            ui::err(&ui::printable(&format!("{out} was not written: this plan cannot be applied as it stands.\n")));
        }
        // The plan on stdout has the reasons already; stderr has them as lines.
        return Err(Failure::Refused { reasons, json: false, exit: None, told: true });
    }
    if let Some(out) = &args.out {
        let bytes = doc.to_canonical().map_err(|error| Failure::because(Code::IoError, error.to_string()))?;
        files::replace(out, &bytes)?;
        let set = if doc.source.is_some() { "" } else { " --source SET" };
        let out = out.display();
        ui::err(&ui::printable(&format!("Saved as {out}. `autonomy apply {out}{set}` carries out exactly this.\n")));
    }
    let pending = args.detailed_exitcode && !doc.steps.is_empty();
    Ok(if pending { exit::PENDING } else { exit::DONE })
}

/// The plan in the wanted form.
pub(crate) fn rendered(doc: &PlanDoc, texts: &Texts, format: Format, style: Style) -> Result<String, Failure> {
    match format {
        Format::Text => Ok(render::text(doc, texts, style)),
        Format::Markdown => Ok(render::markdown(doc, texts)),
        Format::Json => render::json(doc).map_err(|error| Failure::because(Code::IoError, error.to_string())),
    }
}
