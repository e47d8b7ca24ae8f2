//! Packs: many segments in one request (`application/vnd.autonomy.pack.v1`), read as they arrive.
//!
//! A pack is a sequence of frames: 32 bytes of BLAKE3, the length in 4 bytes little endian, the bytes. The reader holds one
//! segment at most, whatever a peer sends. It does not hash: whether the bytes are what the name says is the caller's to ask.

use autonomy_schema::Blake3;
use autonomy_schema::segments::MAX_SEGMENT;

/// The media type of a pack.
pub const MEDIA_TYPE: &str = "application/vnd.autonomy.pack.v1";
/// Bytes before those of a segment.
pub const HEAD_BYTES: usize = 36;
/// Bytes of a whole pack at most: what may be lost when a connection ends, and what one group commit covers.
pub const MAX_BYTES: u64 = 8 << 20;
/// Most segments in a pack, so that its answer stays below the 1 MiB that a sender reads.
pub const MAX_SEGMENTS: usize = 8192;

/// Bytes of a segment of `length` bytes in a pack.
pub fn framed(length: u32) -> u64 {
    HEAD_BYTES as u64 + u64::from(length)
}

/// What stands before the bytes of a segment.
pub fn head(id: &Blake3, length: u32) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..32].copy_from_slice(id.as_bytes());
    head[32..].copy_from_slice(&length.to_le_bytes());
    head
}

/// One segment of a pack, as the sender named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The name that the sender gave; nobody has checked it.
    pub id: Blake3,
    /// 1 to 65536 bytes.
    pub bytes: Vec<u8>,
}

/// Bytes that are no pack.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// A frame of zero bytes.
    #[error("segment {at} of the pack has no bytes; expected 1 to 65536")]
    Empty {
        /// Position of the frame, counted from 0.
        at: u64,
    },
    /// A frame above the largest segment.
    #[error("segment {at} of the pack claims {length} bytes; expected 1 to 65536")]
    TooLong {
        /// Position of the frame, counted from 0.
        at: u64,
        /// What it claims.
        length: u32,
    },
    /// A pack above [`MAX_BYTES`]; told before the bytes that exceed it are kept.
    #[error("the pack has more than {MAX_BYTES} bytes; send several")]
    Oversize,
    /// The pack ends within a frame.
    #[error("the pack ends within segment {at}: {missing} bytes are missing")]
    Truncated {
        /// Position of the frame, counted from 0.
        at: u64,
        /// Bytes that its head, or what follows it, still needs.
        missing: usize,
    },
}

/// Reads a pack from chunks of any size.
#[derive(Debug, Default)]
pub struct Reader {
    head: Vec<u8>,
    /// The frame under way, and the bytes that it still needs.
    frame: Option<(Frame, usize)>,
    /// Frames that were given out.
    given: u64,
    /// Bytes that were taken.
    taken: u64,
}

impl Reader {
    /// A reader before the first byte.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes off the front of `chunk` until a frame is whole; `None` once `chunk` is used up. After an error the pack
    /// is not to be read on.
    pub fn next(&mut self, chunk: &mut &[u8]) -> Result<Option<Frame>, PackError> {
        while !chunk.is_empty() {
            let Some((mut frame, needed)) = self.frame.take() else {
                let taken = self.take(chunk, HEAD_BYTES - self.head.len())?;
                self.head.extend_from_slice(taken);
                if self.head.len() == HEAD_BYTES {
                    self.frame = Some(self.begin()?);
                    self.head.clear();
                }
                continue;
            };
            let taken = self.take(chunk, needed)?;
            frame.bytes.extend_from_slice(taken);
            if taken.len() == needed {
                self.given += 1;
                return Ok(Some(frame));
            }
            self.frame = Some((frame, needed - taken.len()));
        }
        Ok(None)
    }

    /// The pack has ended: whether it ended between two frames.
    pub fn end(&self) -> Result<(), PackError> {
        let missing = match &self.frame {
            Some((_, needed)) => *needed,
            None if self.head.is_empty() => return Ok(()),
            None => HEAD_BYTES - self.head.len(),
        };
        Err(PackError::Truncated { at: self.given, missing })
    }

    /// At most `wanted` bytes off the front of `chunk`.
    fn take<'a>(&mut self, chunk: &mut &'a [u8], wanted: usize) -> Result<&'a [u8], PackError> {
        let (taken, rest) = chunk.split_at(wanted.min(chunk.len()));
        self.taken += taken.len() as u64;
        if self.taken > MAX_BYTES {
            return Err(PackError::Oversize);
        }
        *chunk = rest;
        Ok(taken)
    }

    /// The frame that the whole head announces.
    fn begin(&self) -> Result<(Frame, usize), PackError> {
        let mut id = [0; 32];
        let mut length = [0; 4];
        id.copy_from_slice(&self.head[..32]);
        length.copy_from_slice(&self.head[32..]);
        let length = u32::from_le_bytes(length);
        match length {
            0 => Err(PackError::Empty { at: self.given }),
            1..=MAX_SEGMENT => {
                // At most 64 KiB, whatever is claimed; a peer has one frame under way in each of its few bodies.
                let bytes = Vec::with_capacity(length as usize);
                Ok((Frame { id: Blake3::from_bytes(id), bytes }, length as usize))
            }
            _ => Err(PackError::TooLong { at: self.given, length }),
        }
    }
}
