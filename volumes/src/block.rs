//! One block as it lies in a volume: a checksum that is bound to its place, then 64 KiB.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::shape::{self, BLOCK, SUM};

/// A block with room for its checksum.
pub(crate) struct Block(Box<[u8]>);

impl Block {
    pub(crate) fn zeros() -> Block {
        Block(vec![0; SUM + BLOCK].into_boxed_slice())
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.0[SUM..]
    }

    pub(crate) fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.0[SUM..]
    }

    /// Fills in the checksum, writes, and gives the checksum.
    pub(crate) fn store(&mut self, file: &File, volume: u16, stripe: u64) -> io::Result<[u8; SUM]> {
        let sum = checksum(self.payload(), volume, stripe);
        self.0[..SUM].copy_from_slice(&sum);
        file.write_all_at(&self.0, shape::block_at(stripe))?;
        Ok(sum)
    }

    /// Reads; `false` if it cannot be read whole or is not what was written there.
    pub(crate) fn load(&mut self, file: &File, volume: u16, stripe: u64) -> bool {
        file.read_exact_at(&mut self.0, shape::block_at(stripe)).is_ok()
            && checksum(self.payload(), volume, stripe) == self.0[..SUM]
    }
}

/// The checksum of a block at its place, so that blocks that changed places are found too.
fn checksum(payload: &[u8], volume: u16, stripe: u64) -> [u8; SUM] {
    let mut hasher = blake3::Hasher::new_derive_key("autonomy volumes block v1");
    hasher.update(&volume.to_le_bytes());
    hasher.update(&stripe.to_le_bytes());
    hasher.update(payload);
    hasher.finalize().into()
}
