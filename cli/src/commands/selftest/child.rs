//! This very program as a child: in the folder of a case, on the state root of the case, with a limit on its time and
//! on what it says.

use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::case::Verb;

/// The state root, below the folder of the case.
pub(super) const NODE: &str = "node";
/// Where a child keeps what it fetches, below the folder of the case.
pub(super) const TEMPORARY: &str = "tmp";
/// How long a verb may take; honest ones take under a second.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// How much of its messages is read; an attack must not be able to make the verb say more.
const OUTPUT_CAP: u64 = 4 << 20;
/// How often the child is asked whether it is done.
const POLL: Duration = Duration::from_millis(2);
/// Where services and units are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a verb did.
#[derive(Debug)]
pub(super) struct Ran {
    /// Its exit code; `None` when a signal ended it.
    pub(super) exit: Option<i32>,
    /// Messages, capped.
    pub(super) stderr: String,
    /// Why it was killed, if it was.
    pub(super) killed: Option<String>,
}

/// Runs a verb of this program in `folder`.
pub(super) fn run(folder: &Path, verb: &Verb) -> io::Result<Ran> {
    // The program that runs now, also when its file was replaced since.
    let mut child = Command::new("/proc/self/exe")
        .args(verb.arguments())
        .current_dir(folder)
        .env_clear()
        .env("PATH", PATH)
        .env("NO_COLOR", "1")
        .env("LC_ALL", "C.UTF-8")
        .env("TMPDIR", folder.join(TEMPORARY))
        .env("AUTONOMY_STATE_ROOT", NODE)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let messages = listen(child.stderr.take());
    let (status, mut killed) = wait(&mut child)?;
    let messages = messages.join().unwrap_or_default();
    if messages.len() as u64 > OUTPUT_CAP {
        killed.get_or_insert_with(|| format!("it said more than {OUTPUT_CAP} bytes"));
    }
    Ok(Ran { exit: status.code(), stderr: String::from_utf8_lossy(&messages).into_owned(), killed })
}

/// Reads a stream up to the cap; what comes after it meets a closed pipe.
fn listen(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(stream) = stream
            && let Err(error) = stream.take(OUTPUT_CAP + 1).read_to_end(&mut bytes)
        {
            tracing::debug!(%error, "the pipe of a child broke");
        }
        bytes
    })
}

fn wait(child: &mut Child) -> io::Result<(ExitStatus, Option<String>)> {
    let deadline = Instant::now() + TIME_LIMIT;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, None));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            let status = child.wait()?;
            return Ok((status, Some(format!("it took longer than {} s", TIME_LIMIT.as_secs()))));
        }
        thread::sleep(POLL);
    }
}
