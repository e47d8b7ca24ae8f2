//! Reading a member: block by block, each verified, each repaired from its stripe where it is lost.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use reed_solomon_simd::ReedSolomonDecoder;

use crate::block::Block;
use crate::set::Body;
use crate::shape::{self, BLOCK, BLOCK_BYTES};

/// More volumes are lost or damaged at one place than there are parity volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incomplete {
    /// The names of the volumes that are lost or damaged there.
    pub volumes: Vec<String>,
    /// How many of them are needed at least.
    pub needed: usize,
}

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lost or damaged at the same place: {}; {} of them needed", self.volumes.join(", "), self.needed)
    }
}

impl std::error::Error for Incomplete {}

impl Incomplete {
    /// What a failed read from a [`MemberReader`] says, if it failed for this.
    pub fn of(error: &io::Error) -> Option<&Incomplete> {
        error.get_ref()?.downcast_ref()
    }
}

/// The content of one member. A failed read is an [`Incomplete`]; the same read fails again.
pub struct MemberReader {
    stripes: Stripes,
    at: u64,
    end: u64,
    /// The block of the stream that `stripes` holds.
    held: Option<u64>,
}

impl MemberReader {
    /// Reads the stream of `body` from `at` to `end`.
    pub(crate) fn new(body: Arc<Body>, at: u64, end: u64) -> Self {
        MemberReader { stripes: Stripes::new(body), at, end, held: None }
    }
}

impl Read for MemberReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() || self.at >= self.end {
            return Ok(0);
        }
        let block = self.at / BLOCK_BYTES;
        if self.held != Some(block) {
            self.held = None;
            let (volume, stripe) = self.stripes.body.shape().place(block);
            self.stripes.load(volume, stripe)?;
            self.held = Some(block);
        }
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let from = (self.at % BLOCK_BYTES) as usize;
        let count = into.len().min(left).min(BLOCK - from);
        into[..count].copy_from_slice(&self.stripes.block.payload()[from..from + count]);
        self.at += count as u64;
        Ok(count)
    }
}

/// Blocks of a set, with what is needed to repair them.
pub(crate) struct Stripes {
    body: Arc<Body>,
    block: Block,
    decoder: Option<ReedSolomonDecoder>,
}

impl Stripes {
    pub(crate) fn new(body: Arc<Body>) -> Self {
        Stripes { body, block: Block::zeros(), decoder: None }
    }

    /// Makes the block of `volume` in `stripe` the one that is held.
    fn load(&mut self, volume: u16, stripe: u64) -> io::Result<()> {
        if self.body.load(&mut self.block, volume, stripe) { Ok(()) } else { self.repair(volume, stripe) }
    }

    /// Looks at every block of `stripe`, and whether what is lost could be repaired.
    pub(crate) fn check(&mut self, stripe: u64) -> Result<(), Incomplete> {
        let shape = *self.body.shape();
        let held = (0..shape.volumes()).filter(|volume| stripe < shape.blocks_in(*volume));
        let lost: Vec<u16> = held.filter(|volume| !self.body.load(&mut self.block, *volume, stripe)).collect();
        let spare = usize::from(shape.parity());
        if lost.len() <= spare || lost.iter().all(|volume| *volume >= shape.data()) {
            return Ok(());
        }
        Err(incomplete(&lost, spare))
    }

    fn repair(&mut self, wanted: u16, stripe: u64) -> io::Result<()> {
        let shape = *self.body.shape();
        let (data, spare) = (usize::from(shape.data()), usize::from(shape.parity()));
        if spare == 0 {
            return Err(io::Error::other(incomplete(&[wanted], 0)));
        }
        let decoder = match self.decoder.as_mut() {
            Some(decoder) => {
                decoder.reset(data, spare, BLOCK).map_err(io::Error::other)?;
                decoder
            }
            None => self.decoder.insert(ReedSolomonDecoder::new(data, spare, BLOCK).map_err(io::Error::other)?),
        };
        let mut lost = vec![wanted];
        for volume in (0..shape.data()).filter(|volume| *volume != wanted) {
            if stripe >= shape.blocks_in(volume) {
                self.block.payload_mut().fill(0);
            } else if !self.body.load(&mut self.block, volume, stripe) {
                lost.push(volume);
                continue;
            }
            decoder.add_original_shard(usize::from(volume), self.block.payload()).map_err(io::Error::other)?;
        }
        let needed = lost.len();
        let mut got = 0;
        for (at, volume) in (shape.data()..shape.volumes()).enumerate() {
            if got == needed {
                break;
            }
            if self.body.load(&mut self.block, volume, stripe) {
                decoder.add_recovery_shard(at, self.block.payload()).map_err(io::Error::other)?;
                got += 1;
            } else {
                lost.push(volume);
            }
        }
        if got < needed {
            return Err(io::Error::other(incomplete(&lost, spare)));
        }
        let restored = decoder.decode().map_err(io::Error::other)?;
        let shard = restored.restored_original(usize::from(wanted)).ok_or(io::ErrorKind::InvalidData)?;
        self.block.payload_mut().copy_from_slice(shard);
        Ok(())
    }
}

fn incomplete(lost: &[u16], spare: usize) -> Incomplete {
    let mut lost = lost.to_vec();
    lost.sort_unstable();
    Incomplete { needed: lost.len().saturating_sub(spare), volumes: lost.into_iter().map(shape::name).collect() }
}
