//! `autonomy epoch`: the operating systems that this node has lived under, counted.

use autonomy_schema::evidence::Evidence;
use autonomy_schema::os::OsFingerprint;
use autonomy_schema::{Code, Reasons, document};
use autonomy_stateroot::{EvidenceSlot, StateRoot};
use clap::Subcommand;
use serde_json::json;

use crate::Global;
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::ui;

/// Operating systems that this node has lived under.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show which operating system is recorded, since when, and what the evidence of its replacement says. Signatures are not
    /// judged here. Writes nothing.
    Show(ShowArgs),
    /// Judge the evidence: who signed it, and that each follows from the one before it. Writes nothing.
    Verify(ShowArgs),
}

/// How it is shown.
#[derive(clap::Args)]
pub(crate) struct ShowArgs {
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(command: &Command, global: &Global) -> Result<u8, Failure> {
    let (args, result) = match command {
        Command::Show(args) => (args, show(args, global)),
        Command::Verify(args) => (args, verify(args, global)),
    };
    result.map_err(|failure| failure.with_json(args.output == Output::Json))
}

fn verify(args: &ShowArgs, global: &Global) -> Result<u8, Failure> {
    let (root, _) = node::state_root(global)?;
    let chain = autonomy_precheck::evidence::verify(&root)?;
    let recorded = root.os_fingerprint()?;
    if args.output == Output::Json {
        let value = json!({
            "boot_epoch": epoch(recorded.as_ref(), chain.as_ref().map(|chain| &chain.current)),
            "verified": chain.as_ref().map_or(0, |chain| 1 + usize::from(chain.previous.is_some())),
            "chain": chain,
        });
        ui::out(&format!("{value}\n"));
        return Ok(exit::DONE);
    }
    let text = match chain {
        None => "No operating system was replaced here, so there is no evidence.\n".to_owned(),
        Some(chain) => {
            let before = match &chain.previous {
                Some(previous) => {
                    format!("it follows from that of boot epoch {}, which is sound as well", previous.boot_epoch)
                }
                None => "it is the first".to_owned(),
            };
            let lines = summary(&chain.current).join("\n");
            format!("The evidence is signed by the attest key of this node; {before}.\n{lines}\n")
        }
    };
    ui::out(&ui::printable(&text));
    Ok(exit::DONE)
}

fn show(args: &ShowArgs, global: &Global) -> Result<u8, Failure> {
    let (root, _) = node::state_root(global)?;
    let recorded = root.os_fingerprint()?;
    let current = evidence(&root, EvidenceSlot::Current)?;
    let previous = evidence(&root, EvidenceSlot::Previous)?;
    if args.output == Output::Json {
        // A node that was never looked at is in epoch 0, as its receipts say.
        let value = json!({
            "boot_epoch": epoch(recorded.as_ref(), current.as_ref()),
            "composite": recorded.as_ref().map(|os| os.composite),
            "captured_at": recorded.as_ref().map(|os| os.captured_at),
            "evidence": { "current": current, "previous": previous },
        });
        ui::out(&format!("{value}\n"));
        return Ok(exit::DONE);
    }
    ui::out(&ui::printable(&as_text(recorded.as_ref(), current.as_ref(), previous.as_ref())));
    Ok(exit::DONE)
}

/// The boot epoch: after a power cut the evidence of a new one may be ahead of the record.
fn epoch(recorded: Option<&OsFingerprint>, current: Option<&Evidence>) -> u64 {
    let (recorded, proven) = (recorded.map_or(0, |os| os.boot_epoch), current.map_or(0, |it| it.boot_epoch));
    recorded.max(proven)
}

/// Evidence as it lies there.
fn evidence(root: &StateRoot, slot: EvidenceSlot) -> Result<Option<Evidence>, Failure> {
    let Some(found) = root.evidence(slot)? else { return Ok(None) };
    let name = match slot {
        EvidenceSlot::Current => "epoch/current/evidence.json",
        EvidenceSlot::Previous => "epoch/previous/evidence.json",
    };
    let damaged = |reasons: Reasons| {
        let why = reasons.one_line();
        Failure::because(Code::CorruptState, format!("`{name}`: {why}"))
    };
    document::parse(&found.bytes).map(Some).map_err(damaged)
}

fn as_text(recorded: Option<&OsFingerprint>, current: Option<&Evidence>, previous: Option<&Evidence>) -> String {
    let mut lines = Vec::new();
    match recorded {
        None => lines.push("No operating system is recorded on this node.".to_owned()),
        Some(os) => {
            lines.push(format!("{:<10} {}", "Boot epoch", epoch(recorded, current)));
            lines.push(format!("{:<10} {}", "Composite", os.composite));
            lines.push(format!("{:<10} {}", "Since", os.captured_at));
        }
    }
    match current {
        None => lines.push(format!("{:<10} none: no operating system was replaced here", "Evidence")),
        Some(evidence) => lines.extend(summary(evidence)),
    }
    if let Some(previous) = previous {
        lines.push(format!("{:<10} of boot epoch {}, {}", "Before it", previous.boot_epoch, previous.time));
    }
    lines.join("\n") + "\n"
}

/// What evidence says.
fn summary(evidence: &Evidence) -> Vec<String> {
    let files = match evidence.files.len() {
        1 => "1 file was".to_owned(),
        count => format!("{count} files were"),
    };
    let manifest = evidence.manifest.map_or_else(
        || "no manifest was active".to_owned(),
        |manifest| format!("{files} put in place for manifest blake3:{}", manifest.short()),
    );
    let mut lines =
        vec![format!("{:<10} of boot epoch {}, {}: {manifest}", "Evidence", evidence.boot_epoch, evidence.time)];
    let shown = |text: &str| if text.is_empty() { "nothing".to_owned() } else { text.replace('\n', "\\n") };
    lines.extend(
        evidence
            .changed
            .iter()
            .map(|it| format!("{:<10} {} {} → {}", "Changed", it.component, shown(&it.old), shown(&it.new))),
    );
    lines
}
