//! The room from outside: real folders, damaged by hand.

#![expect(clippy::expect_used, reason = "helpers outside test functions fail the test that calls them")]

mod hostile;
mod losses;
mod property;
mod writing;

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use autonomy_schema::RelPath;
use autonomy_volumes::shape::STORED_BYTES;
use autonomy_volumes::{HEADER_BYTES, Incomplete, Member, VolumeOptions, VolumeSet, WriteError, Written};

/// The size of a volume of `blocks` blocks.
fn volume_of(blocks: u64) -> u64 {
    2 * HEADER_BYTES as u64 + blocks * STORED_BYTES
}

/// Bytes that differ with `seed`.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut hasher = blake3::Hasher::new_derive_key("autonomy test noise");
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

type Files = Vec<(String, Vec<u8>)>;

/// Files of these sizes.
fn files(sizes: &[usize]) -> Files {
    sizes.iter().enumerate().map(|(n, size)| (format!("dir-{}/file-{n}", n % 3), noise(n as u64, *size))).collect()
}

fn write(out: &Path, files: &Files, volume_bytes: u64, parity: u8) -> Result<Written, WriteError> {
    let members: Vec<Member<'_>> = files
        .iter()
        .map(|(path, bytes)| Member {
            path: path.parse().expect("a path"),
            size: bytes.len() as u64,
            open: Box::new(|| Ok(Box::new(&bytes[..]))),
        })
        .collect();
    autonomy_volumes::write(out, &members, VolumeOptions { volume_bytes, parity, replace: false }, &|_, _| {})
}

fn read(set: &VolumeSet, path: &str) -> io::Result<Vec<u8>> {
    let path: RelPath = path.parse().expect("a path");
    let mut bytes = Vec::new();
    set.open_member(&path, 0).expect("a member").read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens and compares all.
fn assert_whole(dir: &Path, files: &Files) -> VolumeSet {
    let set = VolumeSet::open(dir).expect("opens");
    assert_eq!(set.members().len(), files.len());
    for (path, bytes) in files {
        assert!(read(&set, path).expect("reads") == *bytes, "{path} differs");
    }
    set
}

fn vol(dir: &Path, number: u16) -> PathBuf {
    dir.join(format!("vol-{number:03}"))
}

/// Flips a bit of the payload of a block.
fn flip(dir: &Path, volume: u16, block: u64) {
    let mut bytes = fs::read(vol(dir, volume)).expect("reads");
    let at = HEADER_BYTES as u64 + block * STORED_BYTES + 32 + 1234;
    bytes[usize::try_from(at).expect("fits")] ^= 0x10;
    fs::write(vol(dir, volume), bytes).expect("writes");
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("lists");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("entry").file_name().into_string().expect("a name")).collect();
    names.sort();
    names
}

fn incomplete(error: &io::Error) -> Incomplete {
    Incomplete::of(error).expect("incomplete").clone()
}
