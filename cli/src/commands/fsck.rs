//! `autonomy fsck`: the whole state root looked at, and mended where that can be done.

use autonomy_plan::render::bytes;
use autonomy_reconciler::fsck::{Report, Severity};
use serde_json::json;

use crate::Global;
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::ui;

/// Check the whole state root: every file, link, digest, signature, mode, floor, journal and log. Exits 11 when damage is
/// found, or remains after a repair. Without `--repair` nothing is written.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Mend what can be mended: damaged generations are staged again beside from what is whole, links are pointed again.
    /// What is right is not touched, what was damaged is kept in `quarantine/`.
    #[arg(long)]
    repair: bool,
    /// A set whose files may be used, for what is whole nowhere on this node.
    #[arg(long, value_name = "SET", requires = "repair")]
    from: Option<String>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    reach: node::ReachArgs,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    check(args, global).map_err(|failure| failure.with_json(args.output == Output::Json))
}

fn check(args: &Args, global: &Global) -> Result<u8, Failure> {
    let (root, path) = node::state_root(global)?;
    let bar = node::hashing();
    let progress = |done, total| node::advance(&bar, done, total);
    let clock = node::clock();
    let options = node::options(global, clock, true, &progress);
    let json = args.output == Output::Json;
    let report = if args.repair {
        let source = args.from.as_ref().map(|from| node::source(from, &args.reach, global)).transpose()?;
        let actor = node::actor("fsck --repair", clock);
        let runner = node::runner(global, &path);
        let from = source.as_ref().map(node::Opened::set);
        let repaired = autonomy_reconciler::fsck::repair(&root, from, &actor, &runner, &options);
        bar.finish_and_clear();
        let repaired = repaired?;
        ui::warn(repaired.warning.as_deref());
        if json {
            ui::out(&format!("{}\n", repaired.to_json()));
        } else {
            let done = repaired.done.iter().map(|done| format!("mended  {done}\n"));
            let failed = repaired.failed.iter().map(|reason| format!("failed  {}\n", reason.message));
            ui::out(&ui::printable(&done.chain(failed).collect::<String>()));
        }
        repaired.report
    } else {
        let report = autonomy_reconciler::fsck::check(&root, &options);
        bar.finish_and_clear();
        let report = report?;
        if json {
            ui::out(&format!("{}\n", json!({ "report": report })));
        }
        report
    };
    if !json {
        ui::out(&ui::printable(&as_text(&report)));
    }
    match report.reasons() {
        Ok(()) => Ok(exit::DONE),
        // What was found is on stdout already, in JSON as well.
        Err(reasons) => Err(Failure::Refused { reasons, json: false, exit: None, told: true }),
    }
}

fn as_text(report: &Report) -> String {
    let mut lines: Vec<String> = Vec::new();
    for finding in &report.findings {
        let mark = if finding.severity == Severity::Damage { "damage" } else { "notice" };
        lines.push(format!("{mark}  {}: {}", finding.path, finding.message));
        lines.push(format!("        {}", finding.remedy));
    }
    let damage = report.findings.iter().filter(|finding| finding.severity == Severity::Damage).count();
    let read = bytes(report.bytes);
    let looked = format!("{} generations, {} objects, {read} read", report.generations, report.objects);
    lines.push(match damage {
        0 => format!("The state root is sound: {looked}."),
        1 => format!("1 damage in {looked}."),
        count => format!("{count} damages in {looked}."),
    });
    lines.join("\n") + "\n"
}
