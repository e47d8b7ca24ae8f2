//! Packs: the segments of artifacts that a medium does not carry whole (`docs/formats/packs.md`).
//!
//! A table, then the bytes of the segments in its order. Every segment is checked against its BLAKE3 when it is packed and
//! again when it is used, so a pack proves nothing and need not be trusted.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use autonomy_schema::segments::MAX_SEGMENT;
use autonomy_schema::{Blake3, Code, Reason, RelPath};
use autonomy_stateroot::{SetSource, read_failed, read_refused};

/// Media type of a pack.
pub const PACK_TYPE: &str = "application/vnd.autonomy.set.pack.v1";
/// Largest pack in bytes: a quarter of what FAT32 takes, so that a bad sector costs no more than that.
pub const MAX_PACK_BYTES: u64 = 1 << 30;
/// Most segments of a pack: its table stays below 10 MiB.
const MAX_PACK_SEGMENTS: u32 = 1 << 18;
/// How a pack begins; the last byte is the version.
const MAGIC: [u8; 8] = *b"AUTPACK\x01";
/// The magic, and the number of segments.
const HEAD: u64 = 12;
/// BLAKE3 and length.
const ENTRY: u64 = ENTRY_BYTES as u64;
const ENTRY_BYTES: usize = 36;

/// A segment that goes into a pack, and where its bytes are.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    /// BLAKE3 of its bytes.
    pub id: Blake3,
    /// Their number.
    pub length: u32,
    /// Which of [`Cuts::files`].
    pub file: u32,
    /// Where in it.
    pub offset: u64,
}

/// The segments of a set that go into packs, in order.
#[derive(Debug, Default)]
pub struct Cuts {
    /// Files of the set.
    pub files: Vec<RelPath>,
    /// Segments of them.
    pub segments: Vec<Cut>,
}

impl Cuts {
    /// Which segments go into which pack.
    pub(crate) fn packs(&self, cap: u64) -> Vec<Range<usize>> {
        let mut packs = Vec::new();
        let (mut begin, mut size) = (0, HEAD);
        for (at, cut) in self.segments.iter().enumerate() {
            let more = ENTRY + u64::from(cut.length);
            if at > begin && (size + more > cap || at - begin >= MAX_PACK_SEGMENTS as usize) {
                packs.push(begin..at);
                (begin, size) = (at, HEAD);
            }
            size += more;
        }
        if begin < self.segments.len() {
            packs.push(begin..self.segments.len());
        }
        packs
    }

    /// Bytes of a pack.
    pub(crate) fn size(&self, pack: &Range<usize>) -> u64 {
        let segments = self.segments.get(pack.clone()).unwrap_or_default();
        HEAD + segments.iter().map(|cut| ENTRY + u64::from(cut.length)).sum::<u64>()
    }
}

/// A pack while it is made: what comes out is a pure function of the segments.
pub(crate) struct Packing<'a> {
    set: &'a dyn SetSource,
    cuts: Arc<Cuts>,
    /// What is not packed yet.
    left: Range<usize>,
    /// What is read out next.
    ready: io::Cursor<Vec<u8>>,
    /// The file that is being read, and where.
    file: Option<(u32, u64, Box<dyn Read + Send>)>,
}

impl<'a> Packing<'a> {
    pub(crate) fn new(set: &'a dyn SetSource, cuts: &Arc<Cuts>, pack: &Range<usize>) -> Self {
        let segments = cuts.segments.get(pack.clone()).unwrap_or_default();
        let mut table = Vec::with_capacity(12 + segments.len() * ENTRY_BYTES);
        table.extend_from_slice(&MAGIC);
        // `packs` keeps the number below its cap.
        table.extend_from_slice(&u32::try_from(segments.len()).unwrap_or(u32::MAX).to_le_bytes());
        for cut in segments {
            table.extend_from_slice(cut.id.as_bytes());
            table.extend_from_slice(&cut.length.to_le_bytes());
        }
        Self { set, cuts: Arc::clone(cuts), left: pack.clone(), ready: io::Cursor::new(table), file: None }
    }

    /// The bytes of the next segment.
    fn segment(&mut self, cut: Cut) -> io::Result<Vec<u8>> {
        let name = self.cuts.files.get(cut.file as usize).ok_or(io::ErrorKind::NotFound)?;
        let mut file = match self.file.take() {
            Some((file, at, reader)) if file == cut.file && at == cut.offset => reader,
            _ => self.set.open_at(name, cut.offset).map_err(|error| read_refused(error.to_reason()))?,
        };
        let mut bytes = vec![0; cut.length as usize];
        file.read_exact(&mut bytes).map_err(|error| {
            if error.kind() != io::ErrorKind::UnexpectedEof {
                return read_refused(read_failed(name.as_str(), &error));
            }
            let message =
                format!("`{name}` ends before the {} bytes at {} that its index names", cut.length, cut.offset);
            read_refused(Reason::new(Code::SizeMismatch, message))
        })?;
        let found = Blake3::of(&bytes);
        if found != cut.id {
            let message = format!("`{name}` differs from its segment index at byte {}: {found}", cut.offset);
            return Err(read_refused(Reason::new(Code::DigestMismatch, message)));
        }
        self.file = Some((cut.file, cut.offset + u64::from(cut.length), file));
        Ok(bytes)
    }
}

impl Read for Packing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.ready.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let Some(cut) = self.left.next().and_then(|at| self.cuts.segments.get(at).copied()) else { return Ok(0) };
            self.ready = io::Cursor::new(self.segment(cut)?);
        }
    }
}

/// Reads the table of a pack of `size` bytes; each segment is told with its length and the offset of its bytes. A table
/// that contradicts itself or the size is refused, after what it said so far.
pub fn read_table(pack: impl Read, size: u64, mut each: impl FnMut(Blake3, u32, u64)) -> Result<(), Reason> {
    let wrong = |why: String| Reason::new(Code::BadValue, format!("this is no pack: {why}"));
    let failed = |error: io::Error| {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return wrong("it ends within its table".to_owned());
        }
        read_failed("a pack", &error)
    };
    let mut pack = io::BufReader::with_capacity(64 << 10, pack);
    let (mut magic, mut count) = ([0; 8], [0; 4]);
    pack.read_exact(&mut magic).map_err(failed)?;
    if magic != MAGIC {
        return Err(wrong("it begins otherwise".to_owned()));
    }
    pack.read_exact(&mut count).map_err(failed)?;
    let count = u32::from_le_bytes(count);
    if count > MAX_PACK_SEGMENTS {
        return Err(wrong(format!("it claims {count} segments; at most {MAX_PACK_SEGMENTS} are read")));
    }
    let mut offset = HEAD + u64::from(count) * ENTRY;
    for _ in 0..count {
        let (mut id, mut length) = ([0; 32], [0; 4]);
        pack.read_exact(&mut id).map_err(failed)?;
        pack.read_exact(&mut length).map_err(failed)?;
        let length = u32::from_le_bytes(length);
        if length == 0 || length > MAX_SEGMENT {
            return Err(wrong(format!("it claims a segment of {length} bytes; expected 1 to {MAX_SEGMENT}")));
        }
        if offset + u64::from(length) > size {
            break;
        }
        each(Blake3::from_bytes(id), length, offset);
        offset += u64::from(length);
    }
    if offset == size {
        return Ok(());
    }
    Err(wrong(format!("what it lists does not come to its {size} bytes")))
}

#[cfg(test)]
mod tests;
