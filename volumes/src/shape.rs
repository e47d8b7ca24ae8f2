//! How a stream of bytes lies in volumes: arithmetic alone.
//!
//! The stream is cut into blocks. Each data volume holds the same number of consecutive blocks, save the last, which
//! may hold fewer. Block `n` of every volume together are stripe `n`; the parity volumes hold its parity.

use crate::header::HEADER_BYTES;

/// Bytes of the stream in one block.
pub const BLOCK: usize = 64 << 10;
/// The same, for arithmetic on offsets.
pub const BLOCK_BYTES: u64 = BLOCK as u64;
/// Bytes of a checksum before each block.
pub const SUM: usize = 32;
/// Bytes of a block in its volume.
pub const STORED_BYTES: u64 = (SUM + BLOCK) as u64;
/// FAT32 keeps no larger file.
pub const MAX_VOLUME_BYTES: u64 = u32::MAX as u64;
/// Names have three digits, and every volume costs an open file.
pub const MAX_VOLUMES: u16 = 1000;
/// Two headers.
const FRAME_BYTES: u64 = 2 * HEADER_BYTES as u64;

/// The numbers that say where everything is. Checked when it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    data: u16,
    parity: u8,
    stripes: u64,
    stream_bytes: u64,
}

/// A stream does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// Not one block fits into a volume.
    Small,
    /// More volumes than may be; the number of data volumes.
    Many(u64),
}

impl Shape {
    /// The fewest volumes of at most `volume_bytes` for a stream, filled evenly.
    pub(crate) fn plan(stream_bytes: u64, volume_bytes: u64, parity: u8) -> Result<Shape, Misfit> {
        let room = volume_bytes.min(MAX_VOLUME_BYTES).saturating_sub(FRAME_BYTES) / STORED_BYTES;
        if room == 0 {
            return Err(Misfit::Small);
        }
        let blocks = stream_bytes.div_ceil(BLOCK_BYTES).max(1);
        let wanted = blocks.div_ceil(room);
        let stripes = blocks.div_ceil(wanted);
        // Filled evenly, fewer volumes can be enough: 9 blocks for 5 volumes are 2 in each.
        let data = u16::try_from(blocks.div_ceil(stripes)).map_err(|_too_large| Misfit::Many(wanted))?;
        Shape::new(data, parity, stripes, stream_bytes).ok_or(Misfit::Many(wanted))
    }

    /// A shape as a header claims it, if it can be.
    pub(crate) fn new(data: u16, parity: u8, stripes: u64, stream_bytes: u64) -> Option<Shape> {
        let volumes = data.checked_add(u16::from(parity))?;
        let blocks = stream_bytes.div_ceil(BLOCK_BYTES);
        let most = (MAX_VOLUME_BYTES - FRAME_BYTES) / STORED_BYTES;
        let fits = data > 0
            && volumes <= MAX_VOLUMES
            && (1..=most).contains(&stripes)
            && blocks > stripes * u64::from(data - 1)
            && blocks <= stripes * u64::from(data);
        fits.then_some(Shape { data, parity, stripes, stream_bytes })
    }

    /// Number of data volumes.
    pub(crate) fn data(&self) -> u16 {
        self.data
    }

    /// Number of parity volumes.
    pub(crate) fn parity(&self) -> u8 {
        self.parity
    }

    /// Number of all volumes.
    pub(crate) fn volumes(&self) -> u16 {
        self.data + u16::from(self.parity)
    }

    /// Blocks of a full volume.
    pub(crate) fn stripes(&self) -> u64 {
        self.stripes
    }

    /// Bytes of the stream.
    pub(crate) fn stream_bytes(&self) -> u64 {
        self.stream_bytes
    }

    /// Blocks of the stream.
    pub(crate) fn blocks(&self) -> u64 {
        self.stream_bytes.div_ceil(BLOCK_BYTES)
    }

    /// Blocks that `volume` holds; what is missing to a stripe is zeros.
    pub(crate) fn blocks_in(&self, volume: u16) -> u64 {
        if volume + 1 == self.data {
            self.blocks() - self.stripes * u64::from(volume)
        } else if volume < self.volumes() {
            self.stripes
        } else {
            0
        }
    }

    /// The volume and the stripe of a block of the stream.
    pub(crate) fn place(&self, block: u64) -> (u16, u64) {
        let volume = u16::try_from(block / self.stripes).unwrap_or(u16::MAX);
        (volume, block % self.stripes)
    }

    /// Bytes of the file of `volume`.
    pub(crate) fn file_bytes(&self, volume: u16) -> u64 {
        FRAME_BYTES + self.blocks_in(volume) * STORED_BYTES
    }
}

/// Where the block of a stripe begins in its volume.
pub(crate) fn block_at(stripe: u64) -> u64 {
    HEADER_BYTES as u64 + stripe * STORED_BYTES
}

/// The file name of a volume.
pub fn name(volume: u16) -> String {
    format!("vol-{volume:03}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_has_one_place_and_no_volume_is_too_large() {
        let one = FRAME_BYTES + STORED_BYTES;
        for blocks in 1..60u64 {
            for room in 1..12u64 {
                let cap = FRAME_BYTES + room * STORED_BYTES + 17;
                let shape = Shape::plan(blocks * BLOCK_BYTES - 5, cap, 3).expect("fits");
                let held: u64 = (0..shape.data()).map(|volume| shape.blocks_in(volume)).sum();
                assert_eq!(held, blocks);
                assert!((0..shape.volumes()).all(|volume| (one..=cap).contains(&shape.file_bytes(volume))));
                let (volume, stripe) = shape.place(blocks - 1);
                assert_eq!((volume + 1, stripe + 1), (shape.data(), shape.blocks_in(volume)));
            }
        }
    }

    #[test]
    fn limits_are_kept() {
        assert_eq!(Shape::plan(1, FRAME_BYTES + STORED_BYTES - 1, 0), Err(Misfit::Small));
        assert_eq!(Shape::plan(1001 * BLOCK_BYTES, FRAME_BYTES + STORED_BYTES, 0), Err(Misfit::Many(1001)));
        assert_eq!(Shape::plan(1000 * BLOCK_BYTES, FRAME_BYTES + STORED_BYTES, 1), Err(Misfit::Many(1000)));
        let large = Shape::plan(100 << 30, u64::MAX, 2).expect("fits");
        assert!(large.file_bytes(0) <= MAX_VOLUME_BYTES);
        assert_eq!(large.data(), 26);
        assert_eq!(Shape::plan(u64::MAX, u64::MAX, 0), Err(Misfit::Many(4_297_131_074)));
    }

    #[test]
    fn claims_that_contradict_each_other_are_no_shape() {
        assert!(Shape::new(2, 1, 3, 4 * BLOCK_BYTES).is_some());
        for (data, stripes, bytes) in [
            (0, 3, 4 * BLOCK_BYTES),
            (2, 0, 4 * BLOCK_BYTES),
            (2, 3, 3 * BLOCK_BYTES),
            (2, 3, 6 * BLOCK_BYTES + 1),
            (2, 3, 0),
            (1000, 1, 1000 * BLOCK_BYTES),
            (u16::MAX, 1, 65535 * BLOCK_BYTES),
            (1, u64::MAX, BLOCK_BYTES),
            (2, u64::MAX, u64::MAX),
        ] {
            assert_eq!(Shape::new(data, 1, stripes, bytes), None, "{data} {stripes} {bytes}");
        }
    }
}
