//! A small agent: what the example fleet ships. It says which release it is, then shows that it is alive.
//!
//! `agent [NAME]` prints `agent RELEASE NAME` and a heartbeat each second until a signal ends it; `--selfcheck` prints
//! the release and exits 0; anything else that begins with `-` is a usage error (64). `AGENT_RELEASE` at build time
//! names the release; without it, the version of the package.
//!
//! Deliberately absent: a handler for SIGTERM. It has nothing to save, and the default (the process ends) is right.

#![expect(clippy::print_stdout, reason = "a program: its output is what it is for")]

use std::io;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// The release that this binary is.
const RELEASE: &str = match option_env!("AGENT_RELEASE") {
    Some(release) => release,
    None => env!("CARGO_PKG_VERSION"),
};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let name = match (args.next(), args.next()) {
        (None, _) => String::new(),
        (Some(first), None) if first == "--selfcheck" => {
            println!("agent {RELEASE}: ready");
            return ExitCode::SUCCESS;
        }
        (Some(first), None) if !first.starts_with('-') => format!(" {first}"),
        (Some(_), _) => {
            eprintln!("usage: agent [NAME | --selfcheck]");
            return ExitCode::from(64);
        }
    };
    println!("agent {RELEASE}{name}: started as process {}", std::process::id());
    match beat(&mut io::stdout()) {
        // The reader of the output went away; there is nobody left to show anything to.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("agent {RELEASE}: cannot write: {error}");
            ExitCode::FAILURE
        }
        Ok(never) => match never {},
    }
}

/// One line each second, for ever.
fn beat(out: &mut impl io::Write) -> io::Result<std::convert::Infallible> {
    let mut count: u64 = 0;
    loop {
        thread::sleep(Duration::from_secs(1));
        count += 1;
        writeln!(out, "agent {RELEASE}: heartbeat {count}")?;
        out.flush()?;
    }
}
