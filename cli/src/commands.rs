//! The verbs, one file each.

use clap::Subcommand;

use crate::Global;
use crate::failure::Failure;

mod apply;
mod backup;
mod cert;
mod completions;
mod confirm;
mod diff;
mod epoch;
mod exec_limited;
mod explain;
mod export;
mod facts;
mod fsck;
mod gc;
mod generations;
mod golden;
mod history;
mod import;
mod init;
mod keygen;
mod lock;
mod oci;
pub(crate) mod plan;
mod policy;
mod pull;
mod push;
mod receipts;
mod reconcile;
mod render;
mod restore;
mod resume;
mod rollback;
mod run;
mod runtime;
mod schema;
mod segments;
mod selftest;
mod show;
pub(crate) mod sign;
mod status;
mod suspend;
mod trace;
mod trust;
mod unpin;
mod verify;

/// What to do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Render an authored manifest (with its overlay) into a set that can be signed.
    Render(render::Args),
    /// Print the JSON Schema of a document kind.
    Schema(schema::Args),
    /// Build, fingerprint or verify a lock.
    #[command(subcommand)]
    Lock(lock::Command),
    /// Policy bundles, and overrides.
    #[command(subcommand)]
    Policy(policy::Command),
    /// Make a signing key pair (cosign's encrypted format).
    Keygen(keygen::Args),
    /// Trust roots and revocation lists: make, rotate, look at, import.
    #[command(subcommand)]
    Trust(trust::Command),
    /// Certificates of nodes: a CA, issue, renew, revoke, look at, judge, import.
    #[command(subcommand)]
    Cert(cert::Command),
    /// Sign a document: adds one line to its `.sigstore.jsonl`.
    Sign(sign::Args),
    /// Verify a set: signatures, scope, floors, and every byte. Writes nothing.
    Verify(verify::Args),
    /// Make a folder a state root: who the node is, and whom it trusts.
    Init(init::Args),
    /// Show what the node knows of itself. Writes nothing.
    Facts(facts::Args),
    /// Operating systems that this node has lived under.
    #[command(subcommand)]
    Epoch(epoch::Command),
    /// Show what is active, what is unfinished, and who holds the lock. Writes nothing.
    Status(status::Args),
    /// Show what an apply would change on this node, and why. Writes nothing.
    Plan(plan::Args),
    /// Show a saved plan.
    Show(show::Args),
    /// Compare a set with what the node runs.
    Diff(diff::Args),
    /// Make a set the active generation of this node.
    Apply(apply::Args),
    /// Confirm that the new release works, so that the node keeps it.
    Confirm(confirm::Args),
    /// Return to a generation that the node had.
    Rollback(rollback::Args),
    /// Let a manifest that failed here be tried again.
    Unpin(unpin::Args),
    /// Tell who changed this node, when, why, and how it ended. Writes nothing.
    History(history::Args),
    /// List the generations of this node. Writes nothing.
    Generations(generations::Args),
    /// Check the whole state root, and mend what can be mended.
    Fsck(fsck::Args),
    /// Remove generations and objects that nothing needs.
    Gc(gc::Args),
    /// Records of rendered manifests and plans, for merge requests.
    #[command(subcommand)]
    Golden(golden::Command),
    /// Follow a source: fetch, verify, plan, admit, apply, again and again.
    Reconcile(reconcile::Args),
    /// Hold changes on this node.
    Suspend(suspend::Args),
    /// Let changes pass again.
    Resume(resume::Args),
    /// Write everything that this node is into one file.
    Backup(backup::Args),
    /// Make an empty folder the node of a backup, or fill what this node lost.
    Restore(restore::Args),
    /// Supervise the active generation's agent where there is no systemd.
    Run(run::Args),
    /// Tools for agents, each call decided by the signed policy.
    #[command(subcommand)]
    Runtime(runtime::Command),
    /// Let this build prove itself.
    #[command(subcommand)]
    Selftest(selftest::Command),
    /// Write a signed set into an OCI image layout, such as on a USB stick.
    Export(export::Args),
    /// Put the sets of a medium into the inbox, for `reconcile`.
    Import(import::Args),
    /// What nodes signed for: verify the receipts that a medium brought back.
    #[command(subcommand)]
    Receipts(receipts::Command),
    /// Show the chain of custody of a set: who had it when, and from whom. Writes nothing but the picture.
    Trace(trace::Args),
    /// Segments of artifacts: what the node's artifacts have in common.
    #[command(subcommand)]
    Segments(segments::Command),
    /// Push a signed set to a registry, with what belongs to its release.
    Push(push::Args),
    /// Pull a set from a registry into a folder, and verify it. What came before is not fetched again.
    Pull(pull::Args),
    /// Registries: look at one, attach locks, policies and signatures, verify, copy.
    #[command(subcommand)]
    Oci(oci::Command),
    /// Explain a reason code.
    Explain(explain::Args),
    /// Start a command within limits: how the health command is run.
    #[command(hide = true)]
    ExecLimited(exec_limited::Args),
    /// Print a completion script for a shell.
    Completions(completions::Args),
}

/// Runs the verb; gives its exit code.
pub(crate) fn run(command: Command, global: &Global) -> Result<u8, Failure> {
    match command {
        Command::Render(args) => render::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Lock(command) => lock::run(&command),
        Command::Policy(command) => policy::run(&command, global),
        Command::Keygen(args) => keygen::run(&args),
        Command::Trust(command) => trust::run(&command, global),
        Command::Cert(command) => cert::run(&command, global),
        Command::Sign(args) => sign::run(&args),
        Command::Verify(args) => verify::run(&args, global),
        Command::Init(args) => init::run(&args, global),
        Command::Facts(args) => facts::run(&args, global),
        Command::Epoch(command) => epoch::run(&command, global),
        Command::Status(args) => status::run(&args, global),
        Command::Plan(args) => plan::run(&args, global),
        Command::Show(args) => show::run(&args),
        Command::Diff(args) => diff::run(&args, global),
        Command::Apply(args) => apply::run(&args, global),
        Command::Confirm(args) => confirm::run(&args, global),
        Command::Rollback(args) => rollback::run(&args, global),
        Command::Unpin(args) => unpin::run(&args, global),
        Command::History(args) => history::run(&args, global),
        Command::Generations(args) => generations::run(&args, global),
        Command::Fsck(args) => fsck::run(&args, global),
        Command::Gc(args) => gc::run(&args, global),
        Command::Golden(command) => golden::run(&command),
        Command::Reconcile(args) => reconcile::run(&args, global),
        Command::Suspend(args) => suspend::run(&args, global),
        Command::Resume(args) => resume::run(&args, global),
        Command::Backup(args) => backup::run(&args, global),
        Command::Restore(args) => restore::run(&args, global),
        Command::Run(args) => run::run(&args, global),
        Command::Runtime(command) => runtime::run(&command, global),
        Command::Selftest(command) => selftest::run(&command),
        Command::Export(args) => export::run(&args, global),
        Command::Import(args) => import::run(&args, global),
        Command::Receipts(command) => receipts::run(&command, global),
        Command::Trace(args) => trace::run(&args, global),
        Command::Segments(command) => segments::run(&command, global),
        Command::Push(args) => push::run(&args, global),
        Command::Pull(args) => pull::run(&args, global),
        Command::Oci(command) => oci::run(&command, global),
        Command::Explain(args) => explain::run(&args),
        Command::ExecLimited(args) => Ok(exec_limited::run(&args)),
        Command::Completions(args) => completions::run(&args),
    }
}
