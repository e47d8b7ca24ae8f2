//! Starting processes: the only file of this crate that does. Argument vectors, no shell, a bare environment, a time
//! limit and a cap on what is kept of the output. `apply` starts its own by it as well.

use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// How much of the output is kept for the reason.
const OUTPUT_CAP: u64 = 4096;
/// How often a child is asked whether it is done.
const POLL: Duration = Duration::from_millis(10);
/// How long a failed command's pipe may stay open: a child of its own may hold it for ever.
pub const LAST_WORDS: Duration = Duration::from_millis(200);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("cannot start `{program}`: {source}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// It took too long and was killed.
    #[error("`{program}` took longer than {seconds} s and was killed")]
    Timeout {
        /// The program.
        program: String,
        /// The limit.
        seconds: u64,
    },
    /// It said no.
    #[error("`{program}` ended with {status}{output}")]
    Failed {
        /// The program.
        program: String,
        /// Exit code or signal.
        status: ExitStatus,
        /// The end of its output, on a line of its own.
        output: String,
    },
}

/// Runs to the end, within the limit; gives the end of what it wrote to stdout.
pub fn run(mut command: Command, program: &str, timeout: Duration) -> Result<Option<Receiver<String>>, CommandError> {
    command.env_clear().env("PATH", PATH).env("LANG", "C.UTF-8");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own, so that a time-out ends its children too.
    command.process_group(0);
    let start = |source| CommandError::Start { program: program.to_owned(), source };
    let mut child = command.spawn().map_err(start)?;
    let [out, err] = [child.stdout.take().map(keep_end), child.stderr.take().map(keep_end)];
    let status = wait(&mut child, timeout).map_err(start)?;
    let Some(status) = status else {
        return Err(CommandError::Timeout { program: program.to_owned(), seconds: timeout.as_secs() });
    };
    if status.success() {
        return Ok(out);
    }
    let mut output = String::new();
    for text in [out, err].into_iter().flatten().filter_map(|reader| reader.recv_timeout(LAST_WORDS).ok()) {
        // What steers a terminal is no reason, and would be escaped at six times its length.
        let text: String = text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
        if !text.trim().is_empty() {
            output.push_str("; it said: ");
            output.push_str(text.trim());
        }
    }
    Err(CommandError::Failed { program: program.to_owned(), status, output })
}

/// Reads a pipe to its end so that the child never blocks, and keeps the last bytes.
fn keep_end(mut pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let cap = usize::try_from(OUTPUT_CAP).unwrap_or(usize::MAX);
        let mut kept = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(count) = pipe.read(&mut buffer) {
            if count == 0 {
                break;
            }
            kept.extend_from_slice(&buffer[..count]);
            let excess = kept.len().saturating_sub(cap);
            kept.drain(..excess);
        }
        // Nobody listens after a success.
        sender.send(String::from_utf8_lossy(&kept).into_owned()).ok();
    });
    receiver
}

/// Waits within the limit; `None` after it, with the whole group killed.
fn wait(child: &mut Child, timeout: Duration) -> std::io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() > timeout {
            if let Ok(pid) = i32::try_from(child.id()) {
                // The group may be gone already; the wait below tells.
                killpg(Pid::from_raw(pid), Signal::SIGKILL).ok();
            }
            child.kill().ok();
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<(), CommandError> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        run(command, "/bin/sh", Duration::from_millis(300)).map(drop)
    }

    #[test]
    fn a_command_runs_fails_with_its_output_or_is_killed_with_its_children() {
        shell("test -z \"$HOME\"").expect("a bare environment");
        let failed = shell("echo no disk >&2; exit 3").expect_err("fails").to_string();
        assert!(failed.contains("no disk") && failed.contains("exit status: 3"), "{failed}");
        let killed = shell("sleep 60").expect_err("too slow").to_string();
        assert!(killed.contains("was killed"), "{killed}");
        let absent = run(Command::new("/absent"), "/absent", Duration::from_secs(1)).expect_err("absent").to_string();
        assert!(absent.contains("cannot start"), "{absent}");
    }
}
