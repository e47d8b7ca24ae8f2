//! Loose objects whose file ends early. libgit2 1.9 waits for their end in an endless loop, so the end is looked for
//! before libgit2 is let near them (`tests/it/damage.rs` cuts one at every byte).

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use flate2::read::ZlibDecoder;
use git2::{Error, ErrorClass, ErrorCode, Oid, Repository};

use crate::options::MAX_BLOB_BYTES;

/// Largest file of a loose object: compression makes the largest blob that is read hardly larger.
const MAX_FILE_BYTES: u64 = MAX_BLOB_BYTES + (1 << 20);
/// Most folders of objects, and how far one may lead to the next; git itself follows five.
const MAX_ALTERNATES: usize = 32;
const MAX_DEPTH: usize = 5;
/// Longest list of them.
const MAX_ALTERNATES_BYTES: u64 = 64 << 10;
/// Longest header: a type, a blank, a size and a zero.
const HEADER: u64 = 32;

/// How much of an object is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Enough for its type and size.
    Header,
    /// All of it, at most this many bytes of content.
    Whole(u64),
}

/// Refuses a loose object that ends early, that something follows, or whose file is larger than any that is read: libgit2
/// reads such files whole. Objects in packs, and those that are not there, pass: libgit2 judges them.
pub(crate) fn check(repository: &Repository, id: Oid, part: Part) -> Result<(), Error> {
    let name = id.to_string();
    let Some((folder, file)) = name.split_at_checked(2) else { return Ok(()) };
    let mut known = BTreeSet::new();
    let mut folders = vec![(repository.commondir().join("objects"), 0)];
    while let Some((objects, depth)) = folders.pop() {
        if known.len() > MAX_ALTERNATES || depth > MAX_DEPTH || !known.insert(objects.clone()) {
            continue;
        }
        if let Ok(file) = File::open(objects.join(folder).join(file)) {
            look(file, part).map_err(|error| damaged(id, &error))?;
        }
        folders.extend(alternates(&objects).into_iter().map(|folder| (folder, depth + 1)));
    }
    Ok(())
}

/// Other folders of objects that this one names, as `git clone --shared` does.
fn alternates(objects: &Path) -> Vec<PathBuf> {
    let mut text = String::new();
    let read = File::open(objects.join("info/alternates"))
        .and_then(|file| file.take(MAX_ALTERNATES_BYTES).read_to_string(&mut text));
    if read.is_err() {
        return Vec::new();
    }
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| objects.join(line)).collect()
}

fn look(file: File, part: Part) -> io::Result<()> {
    let length = file.metadata()?.len();
    if length > MAX_FILE_BYTES {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("its file has {length} bytes")));
    }
    let mut inflated = ZlibDecoder::new(file);
    match part {
        Part::Header => read_header(&mut inflated),
        Part::Whole(cap) => {
            let count = io::copy(&mut (&mut inflated).take(cap.saturating_add(HEADER)), &mut io::sink())?;
            // What is larger than the cap is refused by its size, which is in the header.
            if count < cap.saturating_add(HEADER) && inflated.total_in() < length {
                return Err(io::Error::new(ErrorKind::InvalidData, "something follows it"));
            }
            Ok(())
        }
    }
}

fn damaged(id: Oid, error: &io::Error) -> Error {
    let what = if error.kind() == ErrorKind::UnexpectedEof { "it ends early".to_owned() } else { error.to_string() };
    Error::new(ErrorCode::GenericError, ErrorClass::Zlib, format!("loose object {id} is damaged: {what}"))
}

fn read_header(inflated: &mut ZlibDecoder<File>) -> io::Result<()> {
    let mut byte = [0];
    for _ in 0..HEADER {
        inflated.read_exact(&mut byte)?;
        if byte == [0] {
            return Ok(());
        }
    }
    Err(io::Error::new(ErrorKind::InvalidData, "it has no header"))
}
