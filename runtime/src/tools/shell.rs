//! `tool.shell`: a command as a list of arguments, in one folder, within limits. No shell reads it unless it names one.
//!
//! It is started by this very program (`autonomy exec-limited`): what is set between fork and exec would be unsafe code.

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use autonomy_schema::{Code, Reason};
use serde::Deserialize;
use serde_json::{Value, json};

use super::failed;

/// The trampoline.
const TRAMPOLINE: [&str; 2] = ["/proc/self/exe", "exec-limited"];
/// How long a command may take.
const TIME: Duration = Duration::from_secs(10);
/// How much longer the trampoline may: its own start, and ending what the command left behind.
const GRACE: Duration = Duration::from_secs(10);
/// What is kept of what it writes, to stdout and stderr each.
const MAX_OUTPUT: usize = 256 << 10;
/// Arguments, and their bytes.
const MAX_ARGUMENTS: usize = 256;
const MAX_ARGUMENT_BYTES: usize = 64 << 10;
/// What the trampoline ends with when the time was up, as timeout(1).
pub const TIMED_OUT: u8 = 124;
/// … when the command took too much memory, where that is counted.
pub const TOO_MUCH: u8 = 125;
/// … and when the command could not be started, as shells say it.
pub const NOT_STARTED: u8 = 127;
/// How often it is looked at.
const POLL: Duration = Duration::from_millis(5);

/// Parameters of `tool.shell`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    argv: Vec<String>,
}

/// The folder that commands run in.
#[derive(Debug)]
pub(super) struct Shell {
    folder: PathBuf,
}

impl Shell {
    /// Takes a folder that is there. Commands run as its owner: that is who runs this, or, where root does, somebody else.
    pub(super) fn new(folder: PathBuf) -> Result<Self, Reason> {
        let wrong = |why: String| Reason::new(Code::BadValue, format!("{}: {why}", folder.display()));
        let metadata = std::fs::symlink_metadata(&folder).map_err(|error| wrong(error.to_string()))?;
        if !metadata.is_dir() {
            return Err(wrong("it is not a folder".to_owned()));
        }
        let (own, owner) = (nix::unistd::geteuid().as_raw(), metadata.uid());
        let fits = if own == 0 { owner != 0 } else { owner == own };
        if fits {
            return Ok(Self { folder });
        }
        let why = format!("it belongs to uid {owner}; commands run as the owner of their folder, and never as root");
        Err(wrong(why).with_remedy("give the folder to a user of its own, such as `install -d -o nobody -m 0700 DIR`"))
    }

    pub(super) fn run(&self, params: &Params) -> Result<Value, Reason> {
        let Some(program) = params.argv.first() else { return Err(failed("`argv` is empty".to_owned())) };
        let bytes: usize = params.argv.iter().map(String::len).sum();
        if params.argv.len() > MAX_ARGUMENTS || bytes > MAX_ARGUMENT_BYTES {
            return Err(failed(format!(
                "`argv` has more than {MAX_ARGUMENTS} arguments or {MAX_ARGUMENT_BYTES} bytes"
            )));
        }
        if program.is_empty() || params.argv.iter().any(|argument| argument.contains('\0')) {
            return Err(failed("`argv` holds an empty program or a zero byte".to_owned()));
        }
        let mut command = Command::new(TRAMPOLINE[0]);
        command
            .arg(TRAMPOLINE[1])
            .args(["--parent", &std::process::id().to_string()])
            .args(["--timeout-ms", &TIME.as_millis().to_string()])
            .arg("--jail")
            .arg(&self.folder)
            .arg("--")
            .args(&params.argv)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        run(command)
    }
}

/// What was kept of a stream, and whether there was more.
type Kept = JoinHandle<(Vec<u8>, bool)>;

/// Keeps the beginning of a stream and reads the rest away: a full pipe would stop the command.
fn keep(stream: Option<impl Read + Send + 'static>) -> io::Result<Kept> {
    thread::Builder::new().name("output".to_owned()).spawn(move || {
        let Some(mut stream) = stream else { return (Vec::new(), false) };
        let mut kept = Vec::new();
        // What a command wrote before its pipe broke counts.
        (&mut stream).take(MAX_OUTPUT as u64).read_to_end(&mut kept).ok();
        let more = io::copy(&mut stream, &mut io::sink()).unwrap_or(0);
        (kept, more > 0)
    })
}

fn run(mut command: Command) -> Result<Value, Reason> {
    let broken = |error: io::Error| failed(format!("the command cannot be started: {error}"));
    let mut child = command.spawn().map_err(broken)?;
    let (stdout, stderr) = (keep(child.stdout.take()).map_err(broken)?, keep(child.stderr.take()).map_err(broken)?);
    let started = Instant::now();
    let status = loop {
        match child.try_wait().map_err(broken)? {
            Some(status) => break status,
            None if started.elapsed() > TIME + GRACE => {
                // The trampoline itself hangs; what it guards ends with it.
                child.kill().map_err(broken)?;
                break child.wait().map_err(broken)?;
            }
            None => thread::sleep(POLL),
        }
    };
    let lost = |_panic| failed("the output of the command was lost".to_owned());
    let ((stdout, more_out), (stderr, more_err)) = (stdout.join().map_err(lost)?, stderr.join().map_err(lost)?);
    let told = String::from_utf8_lossy(&stderr).into_owned();
    match status.code().map(u8::try_from) {
        Some(Ok(TIMED_OUT)) if started.elapsed() >= TIME => {
            Err(failed(format!("it took longer than {} s and was ended", TIME.as_secs())))
        }
        Some(Ok(TOO_MUCH)) if told.ends_with(OVER) => {
            Err(failed("it took more memory than it may, and was ended".to_owned()))
        }
        Some(Ok(NOT_STARTED)) => Err(failed(told.trim().chars().take(300).collect())),
        _ => Ok(json!({
            "exit_code": status.code(),
            "stdout": String::from_utf8_lossy(&stdout),
            "stderr": told,
            "truncated": more_out || more_err,
        })),
    }
}

/// The last words of the trampoline when a command took too much memory.
pub const OVER: &str = "took more memory than it may and was ended\n";
