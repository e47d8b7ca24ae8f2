//! `edgectl`: the operator's hands on the relay daemon of one node.

mod config;
mod deadletter;
mod show;
mod status;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use autonomy_edge::control::{Question, ask};
use autonomy_edge::status::Status;
use autonomy_schema::{Code, Reason, Reasons};
use autonomy_stateroot::StateRoot;
use clap::{Parser, Subcommand, ValueEnum};

/// Wrong usage (DESIGN §6).
const USAGE: u8 = 64;

#[derive(Parser)]
#[command(
    name = "edgectl",
    version,
    about = "Looks at the relay daemon of a node, and steers it",
    arg_required_else_help = true
)]
struct Cli {
    /// The node's state root
    #[arg(long, env = "AUTONOMY_STATE_ROOT", value_name = "DIR", hide_env_values = true, global = true)]
    state_root: Option<PathBuf>,
    /// How results are printed
    #[arg(long, value_enum, default_value_t, global = true)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Text,
    /// For scripts.
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// What is sent on, to whom, how fast, and what failed
    #[command(subcommand)]
    Relay(Relay),
    /// What is being received
    #[command(subcommand)]
    Segments(Segments),
    /// Let the daemon end: it takes no new work, and what is under way ends first
    Drain,
}

#[derive(Subcommand)]
enum Relay {
    /// Peers with their bandwidth against the limit, sets with who has them, rows that are not with their peer
    Status,
    /// Rows whose attempts are used up
    ///
    /// There is no retry, by design: a dead letter is terminal (INV-12), as counting its attempts anew would let a fault repeat for
    /// ever. Find the cause with `inspect`, mend it, and sign a new manifest with a higher serial: it is a new delivery.
    #[command(subcommand, name = "deadletter")]
    DeadLetter(deadletter::Verb),
    /// The configuration in force, and the operator's part of it
    #[command(subcommand)]
    Config(config::Verb),
}

#[derive(Subcommand)]
enum Segments {
    /// The segments of sets that are being received, each with whether it is here
    List,
}

/// What every verb gets.
struct Context {
    path: PathBuf,
    root: StateRoot,
    output: Output,
}

/// How things stand, and whether the daemon said so just now.
struct Known {
    status: Status,
    is_up: bool,
}

impl Context {
    fn ask(&self, question: &Question) -> Result<serde_json::Value, Reasons> {
        ask(&self.path, question)
    }

    /// From the daemon; where it is down, what it wrote last.
    fn known(&self) -> Result<Known, Reasons> {
        match self.ask(&Question::Status) {
            Ok(value) => {
                let status = serde_json::from_value(value);
                let status =
                    status.map_err(|error| Reason::new(Code::IoError, format!("the answer is none: {error}")))?;
                Ok(Known { status, is_up: true })
            }
            Err(reasons) if reasons.has(Code::EdgedDown) => {
                let status = autonomy_edge::status::read(&self.root)?.ok_or(reasons)?;
                show::note(&format!("edged does not run; this is what it wrote at {}\n", status.written));
                Ok(Known { status, is_up: false })
            }
            Err(reasons) => Err(reasons),
        }
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors and go to stdout.
            let code = if error.use_stderr() { USAGE } else { 0 };
            return if error.print().is_ok() { ExitCode::from(code) } else { ExitCode::FAILURE };
        }
    };
    let ran = match (&cli.command, &cli.state_root) {
        // Whatever follows it is its own, the state root too.
        (Command::Relay(Relay::DeadLetter(deadletter::Verb::Retry { .. })), _) => {
            Err(Reason::new(Code::NoRetry, "a dead letter is not tried again, by design").into())
        }
        (_, Some(path)) => run(&cli, path),
        (_, None) => {
            show::note("no state root: give --state-root DIR, or set AUTONOMY_STATE_ROOT\n");
            return ExitCode::from(USAGE);
        }
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(reasons) => {
            show::refusal(&reasons, cli.output);
            ExitCode::from(reasons.exit())
        }
    }
}

fn run(cli: &Cli, path: &Path) -> Result<(), Reasons> {
    let context = Context { path: path.to_owned(), root: StateRoot::open(path)?, output: cli.output };
    match &cli.command {
        Command::Relay(Relay::Status) => status::status(&context),
        Command::Relay(Relay::DeadLetter(verb)) => deadletter::run(&context, verb),
        Command::Relay(Relay::Config(verb)) => config::run(&context, verb),
        Command::Segments(Segments::List) => status::segments(&context),
        Command::Drain => {
            let answer = context.ask(&Question::Drain)?;
            show::result(&answer, context.output, |_| "edged takes no new work, and ends\n".to_owned());
            Ok(())
        }
    }
}
