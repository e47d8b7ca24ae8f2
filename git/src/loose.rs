//! Loose objects whose file ends early. libgit2 1.9 waits for their end in an endless loop, so the end is looked for
//! before libgit2 is let near them (`tests/it/damage.rs` cuts one at every byte).

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};

use flate2::read::ZlibDecoder;
use git2::{Error, ErrorClass, ErrorCode, Oid, Repository};

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

/// Refuses a loose object that ends early. Objects in packs, and those that are not there, pass: libgit2 judges them.
pub(crate) fn check(repository: &Repository, id: Oid, part: Part) -> Result<(), Error> {
    let name = id.to_string();
    let Some((folder, file)) = name.split_at_checked(2) else { return Ok(()) };
    let Ok(file) = File::open(repository.commondir().join("objects").join(folder).join(file)) else { return Ok(()) };
    let mut inflated = ZlibDecoder::new(file);
    let looked_at = match part {
        Part::Header => read_header(&mut inflated),
        // What is larger is refused by its size, which is in the header.
        Part::Whole(cap) => io::copy(&mut inflated.take(cap.saturating_add(HEADER)), &mut io::sink()).map(drop),
    };
    looked_at.map_err(|error| {
        let what = if error.kind() == ErrorKind::UnexpectedEof { "ends early".to_owned() } else { error.to_string() };
        Error::new(ErrorCode::GenericError, ErrorClass::Zlib, format!("loose object {id} is damaged: {what}"))
    })
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
