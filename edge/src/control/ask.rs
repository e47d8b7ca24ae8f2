//! The asking end, for `edgectl`. Blocking.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use autonomy_schema::{Code, Reason, Reasons};

use super::{Answer, MAX_ANSWER, Question, short_path};

/// How long an answer may take: a commit on a slow medium is within it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks the daemon of a state root.
pub fn ask(state_root: &Path, question: &Question) -> Result<serde_json::Value, Reasons> {
    let connected = short_path(state_root).and_then(|(_folder, path)| UnixStream::connect(path));
    let stream = connected.map_err(|error| down(&error))?;
    let failed = |error: io::Error| Reason::new(Code::IoError, format!("cannot speak to `edged`: {error}"));
    let exchange = || -> io::Result<Vec<u8>> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut line = serde_json::to_vec(question).map_err(io::Error::other)?;
        line.push(b'\n');
        (&stream).write_all(&line)?;
        let mut answer = Vec::new();
        BufReader::new((&stream).take(MAX_ANSWER)).read_until(b'\n', &mut answer)?;
        Ok(answer)
    };
    let answer = exchange().map_err(failed)?;
    if answer.is_empty() {
        let message = "`edged` hung up without an answer: it hears its own user and root alone";
        return Err(Reason::new(Code::IoError, message).into());
    }
    match serde_json::from_slice(&answer).map_err(|error| failed(error.into()))? {
        Answer::Done { ok } => Ok(ok),
        Answer::Refused { reasons } => {
            Err(Reasons::new(reasons).unwrap_or_else(|| Reason::new(Code::IoError, "`edged` refused it").into()))
        }
    }
}

fn down(error: &io::Error) -> Reason {
    let message = if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
        "`edged` does not run on this state root".to_owned()
    } else {
        format!("`edged` cannot be asked: {error}")
    };
    Reason::new(Code::EdgedDown, message)
}
