//! An artifact as a stream, segment by segment.

use std::io::{self, Cursor, Read};
use std::sync::Arc;

use autonomy_schema::segments::Segment;
use autonomy_schema::{Blake3, Code, Reason};
use autonomy_stateroot::{read_failed, read_refused};

use super::places::{Place, Places};

/// Files that are held open at once.
const MAX_OPEN: usize = 8;
/// A gap up to this many bytes is read over rather than sought over.
const MAX_GAP: u64 = 64 << 10;

/// Reads one artifact.
pub(super) struct Assembled {
    path: String,
    index: Box<dyn Iterator<Item = io::Result<Segment>> + Send>,
    places: Arc<Places>,
    /// What is read out next: one segment.
    ready: Cursor<Vec<u8>>,
    /// The files that were used last, the newest last.
    open: Vec<Open>,
}

struct Open {
    origin: u32,
    at: u64,
    file: Box<dyn Read + Send>,
}

impl Assembled {
    pub(super) fn new(
        path: &str,
        index: Box<dyn Iterator<Item = io::Result<Segment>> + Send>,
        places: Arc<Places>,
    ) -> Self {
        Self { path: path.to_owned(), index, places, ready: Cursor::default(), open: Vec::new() }
    }

    /// The bytes of a segment, checked.
    fn segment(&mut self, segment: Segment) -> io::Result<Vec<u8>> {
        let lost = || Reason::new(Code::MissingFile, format!("`{}` lacks the segment {}", self.path, segment.id));
        let place = *self.places.get(&segment.id).ok_or_else(|| read_refused(lost()))?;
        let name = || self.places.name(place.origin);
        let mut open = match self.open.iter().position(|open| open.origin == place.origin) {
            Some(at) => self.open.remove(at),
            None => Open { origin: place.origin, at: u64::MAX, file: Box::new(io::empty()) },
        };
        let bytes = open.read(&self.places, place).map_err(|error| {
            if error.kind() != io::ErrorKind::UnexpectedEof {
                return read_refused(read_failed(&name(), &error));
            }
            let message = format!("{} ends before the {} bytes at {}", name(), place.length, place.offset);
            read_refused(Reason::new(Code::SizeMismatch, message))
        })?;
        let found = Blake3::of(&bytes);
        if found != segment.id {
            let message = format!(
                "{} is damaged: the {} bytes at {} are {found}, and {} of `{}` is expected there",
                name(),
                place.length,
                place.offset,
                segment.id,
                self.path
            );
            return Err(read_refused(Reason::new(Code::DigestMismatch, message)));
        }
        if self.open.len() >= MAX_OPEN {
            self.open.remove(0);
        }
        self.open.push(open);
        Ok(bytes)
    }
}

impl Open {
    fn read(&mut self, places: &Places, place: Place) -> io::Result<Vec<u8>> {
        match place.offset.checked_sub(self.at) {
            Some(gap) if gap <= MAX_GAP => drop(io::copy(&mut (&mut self.file).take(gap), &mut io::sink())?),
            Some(_) | None => {
                let file = places.open_at(self.origin, place.offset);
                self.file = file.map_err(|error| read_refused(error.to_reason()))?;
            }
        }
        // At most `MAX_SEGMENT`.
        let mut bytes = vec![0; place.length as usize];
        self.file.read_exact(&mut bytes)?;
        self.at = place.offset + u64::from(place.length);
        Ok(bytes)
    }
}

impl Read for Assembled {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.ready.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let Some(segment) = self.index.next() else { return Ok(0) };
            self.ready = Cursor::new(self.segment(segment?)?);
        }
    }
}
