//! `autonomy plan SET --facts FILE…`: for nodes that cannot be reached. One file gives the plan of that node, several
//! give one line a node.

use std::collections::BTreeMap;
use std::path::Path;

use autonomy_plan::render::{self, Detail, Texts};
use autonomy_policy::Bundle;
use autonomy_reconciler::{Foreseen, Foresight, Trust, foresee};
use autonomy_schema::facts::Facts;
use autonomy_schema::{Code, Reasons, Sha256, set};
use autonomy_stateroot::StatCache;
use serde_json::json;

use super::{Args, Format, conclude, rendered};
use crate::Global;
use crate::commands::init;
use crate::failure::{Failure, exit};
use crate::{files, node, ui};

/// What became of one node.
struct Row {
    node: String,
    exit: u8,
    result: Result<Foreseen, Reasons>,
}

pub(super) fn run(args: &Args, source: &str, global: &Global) -> Result<u8, Failure> {
    let source = node::source(source, &args.reach, global)?;
    let pinned = args.trust_root.as_deref().map(init::trust_root).transpose()?;
    let policies = args.policy.iter().map(|path| bundle(path)).collect::<Result<BTreeMap<_, _>, _>>()?;
    let clock = Some(args.now.unwrap_or_else(node::clock));
    let trust = pinned.as_ref().map(|(root, ..)| Trust { root, hashed: StatCache::default() });
    let mut how = Foresight { trust, policies: &policies, clock };
    let facts = args.facts.iter().map(|path| node::facts_file(path)).collect::<Result<Vec<Facts>, _>>()?;
    if let [one] = facts.as_slice() {
        let Foreseen { doc, reasons } = foresee(source.set(), one.clone(), &mut how)?;
        let style = args.look.style(Detail::Full);
        ui::out(&rendered(&doc, &Texts::default(), args.output, style)?);
        return conclude(args, &doc, reasons);
    }
    if args.out.is_some() {
        return Err(Failure::Usage("--out saves the plan of one node; give one facts file".to_owned()));
    }
    let bar = ui::progress_count(facts.len() as u64, "planning");
    let mut rows: Vec<Row> = Vec::new();
    for facts in facts {
        let node = facts.bound.node.id.to_string();
        let result = foresee(source.set(), facts, &mut how);
        rows.push(Row { exit: code(args, &result), node, result });
        bar.inc(1);
    }
    bar.finish_and_clear();
    rows.sort_by(|a, b| (rank(a.exit), &a.node).cmp(&(rank(b.exit), &b.node)));
    ui::out(&match args.output {
        Format::Text => text(&rows),
        Format::Json => json(&rows),
        Format::Markdown => markdown(&rows),
    });
    Ok(rows.first().map_or(exit::DONE, |row| row.exit))
}

fn bundle(path: &Path) -> Result<(Sha256, Bundle), Failure> {
    let bytes = files::read(path, set::MAX_POLICY_BYTES)?;
    let loaded = Bundle::load(&bytes)
        .map_err(|error| Failure::because(Code::PolicyError, format!("{}: {error}", path.display())))?;
    Ok((loaded.digest(), loaded))
}

fn code(args: &Args, result: &Result<Foreseen, Reasons>) -> u8 {
    match result {
        Err(reasons) => reasons.exit(),
        Ok(Foreseen { doc, reasons }) => match Reasons::new(reasons.clone()) {
            Some(reasons) => reasons.exit(),
            None if args.detailed_exitcode && !doc.steps.is_empty() => exit::PENDING,
            None => exit::DONE,
        },
    }
}

/// Worst first: refusals in the order in which one of several decides the exit code, then changes, then nothing to do.
fn rank(exit: u8) -> u8 {
    match exit {
        exit::DONE => u8::MAX,
        exit::PENDING => u8::MAX - 1,
        refusal => refusal,
    }
}

/// What is said of a node in one line.
fn sentence(row: &Row) -> String {
    let refused = |reasons: &[autonomy_schema::Reason]| {
        let first = reasons.first().map_or_else(String::new, ToString::to_string);
        let more = reasons.len().saturating_sub(1);
        if more == 0 { first } else { format!("{first} (and {more} more)") }
    };
    match &row.result {
        Err(reasons) => refused(reasons.as_slice()),
        Ok(Foreseen { reasons, .. }) if !reasons.is_empty() => refused(reasons),
        Ok(Foreseen { doc, .. }) => render::summary_line(doc),
    }
}

fn text(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.node.chars().count()).max().unwrap_or(0).max("NODE".len());
    let line = |row: &Row| {
        let told = ui::printable(&sentence(row)).replace('\n', "\\n");
        format!("{:width$}  {:>4}  {told}\n", row.node, row.exit)
    };
    std::iter::once(format!("{:width$}  EXIT  PLAN\n", "NODE")).chain(rows.iter().map(line)).collect()
}

fn markdown(rows: &[Row]) -> String {
    let line = |row: &Row| {
        let cells = [row.node.clone(), row.exit.to_string(), sentence(row)];
        let cells: Vec<String> = cells.iter().map(|cell| render::markdown_cell(cell)).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let head = "| node | exit | plan |\n| --- | --- | --- |\n".to_owned();
    std::iter::once(head).chain(rows.iter().map(line)).collect()
}

fn json(rows: &[Row]) -> String {
    let nodes = rows.iter().map(|row| match &row.result {
        Err(reasons) => json!({ "node": row.node, "exit": row.exit, "reasons": reasons.as_slice() }),
        Ok(Foreseen { doc, reasons }) => {
            json!({ "node": row.node, "exit": row.exit, "plan": doc, "reasons": reasons })
        }
    });
    format!("{}\n", json!({ "nodes": nodes.collect::<Vec<_>>() }))
}
