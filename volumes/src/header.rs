//! The header of a volume: at its beginning and, for when that is damaged, once more at its end.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use autonomy_schema::{Blake3, canonical};
use serde::{Deserialize, Serialize};

use crate::index::MAX_INDEX_BYTES;
use crate::shape::{BLOCK_BYTES, Shape};

/// Bytes of one header.
pub const HEADER_BYTES: usize = 4096;
const MAGIC: &[u8; 8] = b"AUTVOL01";
/// Where the JSON begins: after the magic and its length.
const JSON_AT: usize = 12;
/// Where the checksum begins.
const SUM_AT: usize = HEADER_BYTES - 32;

/// What every volume says of its set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) set: Blake3,
    pub(crate) shape: Shape,
    pub(crate) index: Blake3,
    pub(crate) index_bytes: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Json {
    block_bytes: u64,
    data: u16,
    index: Blake3,
    index_bytes: u64,
    parity: u8,
    set: Blake3,
    stream_bytes: u64,
    stripes: u64,
    volume: u16,
}

impl Label {
    /// The header of `volume`.
    pub(crate) fn to_bytes(&self, volume: u16) -> Result<[u8; HEADER_BYTES], canonical::CanonicalError> {
        let json = canonical::to_bytes(&Json {
            block_bytes: BLOCK_BYTES,
            data: self.shape.data(),
            index: self.index,
            index_bytes: self.index_bytes,
            parity: self.shape.parity(),
            set: self.set,
            stream_bytes: self.shape.stream_bytes(),
            stripes: self.shape.stripes(),
            volume,
        })?;
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        // Five numbers and two digests: always below 1 KiB.
        bytes[8..JSON_AT].copy_from_slice(&u32::try_from(json.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes[JSON_AT..JSON_AT + json.len()].copy_from_slice(&json);
        let sum = blake3::hash(&bytes[..SUM_AT]);
        bytes[SUM_AT..].copy_from_slice(sum.as_bytes());
        Ok(bytes)
    }

    /// Parses the header of `volume`; `None` for anything that [`Label::to_bytes`] would not write.
    fn parse(bytes: &[u8; HEADER_BYTES], volume: u16) -> Option<Label> {
        let (body, sum) = bytes.split_at(SUM_AT);
        if !body.starts_with(MAGIC) || blake3::hash(body).as_bytes() != sum {
            return None;
        }
        let (length, rest) = body[MAGIC.len()..].split_first_chunk::<4>()?;
        let json = rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        let json: Json = serde_json::from_slice(json).ok()?;
        let label = Label {
            set: json.set,
            shape: Shape::new(json.data, json.parity, json.stripes, json.stream_bytes)?,
            index: json.index,
            index_bytes: json.index_bytes,
        };
        let sound = json.block_bytes == BLOCK_BYTES
            && json.volume == volume
            && volume < label.shape.volumes()
            && label.index_bytes <= label.shape.stream_bytes().min(MAX_INDEX_BYTES)
            && label.to_bytes(volume).is_ok_and(|again| again == *bytes);
        sound.then_some(label)
    }

    /// Reads the header of `volume` from its file, from the end if the beginning is damaged.
    pub(crate) fn read(file: &File, volume: u16, size: u64) -> Option<Label> {
        let end = size.saturating_sub(HEADER_BYTES as u64);
        [0, end].into_iter().find_map(|at| {
            let mut bytes = [0; HEADER_BYTES];
            file.read_exact_at(&mut bytes, at).ok()?;
            Label::parse(&bytes, volume)
        })
    }

    /// Writes both headers of `volume`.
    pub(crate) fn write(&self, file: &File, volume: u16) -> io::Result<()> {
        let bytes = self.to_bytes(volume).map_err(io::Error::other)?;
        file.write_all_at(&bytes, 0)?;
        file.write_all_at(&bytes, self.shape.file_bytes(volume) - HEADER_BYTES as u64)
    }
}
