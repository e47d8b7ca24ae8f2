//! `tool.file_read` and `tool.file_write`: regular files below one folder, reached through no link.

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use autonomy_schema::{Code, Mode, Reason, RelPath};
use autonomy_stateroot::{DirSet, FileKind, Query as _, RealDisk, SetSource as _, SourceError, durable};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::failed;

/// Largest file that is read or written.
const MAX_BYTES: usize = 1 << 20;

/// Parameters of `tool.file_read`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Read {
    path: String,
}

/// Parameters of `tool.file_write`: one of the two contents.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Write {
    path: String,
    content: Option<String>,
    content_base64: Option<String>,
}

/// A folder, and nothing outside it.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    /// Two writers of one file would share the file that takes its place.
    writing: Mutex<()>,
}

impl Files {
    /// Takes a folder that is there.
    pub(super) fn new(folder: PathBuf) -> Result<Self, Reason> {
        RealDisk::open(&folder).map_err(|error| error.to_reason())?;
        Ok(Self { folder, writing: Mutex::new(()) })
    }

    pub(super) fn read(&self, params: &Read) -> Result<Value, Reason> {
        let path = checked(&params.path)?;
        let unreadable = |error: SourceError| match error {
            SourceError::Missing(path) => failed(format!("there is no file `{path}`")),
            SourceError::NotRegular(_) => error.to_reason(),
            SourceError::NotFound(..)
            | SourceError::TooMany(_)
            | SourceError::TooLarge { .. }
            | SourceError::Incomplete(_)
            | SourceError::Io { .. } => failed(error.to_reason().message),
        };
        let file = DirSet::open(&self.folder).and_then(|folder| folder.open(&path)).map_err(unreadable)?;
        let mut bytes = Vec::new();
        let read = file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| failed(format!("cannot read `{path}`: {error}")))?;
        if bytes.len() > MAX_BYTES {
            return Err(failed(format!("`{path}` is longer than {MAX_BYTES} bytes")));
        }
        let size = bytes.len();
        Ok(match String::from_utf8(bytes) {
            Ok(text) => json!({ "path": path, "size": size, "content": text }),
            Err(error) => json!({ "path": path, "size": size, "content_base64": STANDARD.encode(error.as_bytes()) }),
        })
    }

    pub(super) fn write(&self, params: Write) -> Result<Value, Reason> {
        let path = checked(&params.path)?;
        let bytes = match (params.content, params.content_base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(text)) => {
                STANDARD.decode(text).map_err(|error| failed(format!("`content_base64` is not base64: {error}")))?
            }
            (Some(_), Some(_)) | (None, None) => {
                return Err(failed("one of `content` and `content_base64` must be there".to_owned()));
            }
        };
        if bytes.len() > MAX_BYTES {
            return Err(failed(format!("the content has {} bytes; at most {MAX_BYTES}", bytes.len())));
        }
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = |error: autonomy_stateroot::DiskError| failed(error.to_reason().message);
        let disk = RealDisk::open(&self.folder).map_err(refused)?;
        let there = disk.stat(&path).map_err(refused)?;
        if there.is_some_and(|there| there.kind != FileKind::File) {
            return Err(Reason::new(Code::SymlinkRefused, format!("`{path}` is not a regular file")));
        }
        durable::replace(&disk, &path, &bytes, Mode::PRIVATE).map_err(refused)?;
        Ok(json!({ "path": path, "size": bytes.len() }))
    }
}

/// A path that cannot leave the folder.
fn checked(path: &str) -> Result<RelPath, Reason> {
    path.parse::<RelPath>().map_err(|error| error.to_reason())
}
