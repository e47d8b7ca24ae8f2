//! The body of a set: an uncompressed ustar on its way to the disk, then a set that is read where it lies in it.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use autonomy_schema::{Code, Reason, Reasons, RelPath};
use autonomy_stateroot::{DiskError, SetSource, SourceError, SourceFile, SourceKind, StateRoot, durable, layout};
use tar::{EntryType, Header};

/// Most entries of a body: the documents, two indices for each of 4096 artifacts, and 256 roots with their signatures.
const MAX_ENTRIES: usize = 10_000;
/// Bytes of a block of a tar archive.
const BLOCK: usize = 512;

/// The body of a set while it comes. One that is dropped is forgotten, and its bytes go with the next call.
#[derive(Debug)]
pub struct Incoming {
    pub(super) path: RelPath,
    pub(super) size: u64,
    /// Room that was taken for it.
    pub(super) reserved: u64,
    /// Held as long as somebody writes.
    pub(super) _alive: Arc<()>,
}

/// Where the body of this number is written.
pub(super) fn place(number: u64) -> Result<RelPath, DiskError> {
    durable::child(&layout::edge_sets(), &format!(".body-{number}"))
}

/// A set in a ustar archive of the state root.
pub(super) struct TarSet {
    root: StateRoot,
    path: RelPath,
    /// Where each file begins, and its size.
    files: BTreeMap<String, (u64, u64)>,
}

impl TarSet {
    /// Reads the headers of the archive of `size` bytes. A name that is not safe, a link, a file twice, and every form of tar
    /// that says more than ustar does are refused.
    pub(super) fn open(root: &StateRoot, path: &RelPath, size: u64) -> Result<Self, Reasons> {
        let mut files = BTreeMap::new();
        let (mut at, mut entries) = (0, 0);
        loop {
            let header = match block(root, path, at)? {
                Some(block) if block.iter().any(|byte| *byte != 0) => block,
                Some(_zeros) => break,
                None => return Err(refused(Code::MissingFile, "the archive is cut off: it has no end")),
            };
            at += BLOCK as u64;
            entries += 1;
            if entries > MAX_ENTRIES {
                return Err(refused(Code::LimitExceeded, &format!("the archive has more than {MAX_ENTRIES} entries")));
            }
            let (name, length, is_file) = entry(&header)?;
            if length > size.saturating_sub(at) {
                let message = format!("the archive is cut off: `{name}` has {length} bytes by its header");
                return Err(refused(Code::MissingFile, &message));
            }
            if is_file && files.insert(name.to_string(), (at, length)).is_some() {
                return Err(refused(Code::ExtraneousFile, &format!("the archive holds `{name}` twice")));
            }
            at += length.next_multiple_of(BLOCK as u64);
        }
        rest_is_empty(root, path, at)?;
        Ok(Self { root: root.clone(), path: path.clone(), files })
    }
}

fn refused(code: Code, message: &str) -> Reasons {
    Reason::new(code, message).into()
}

/// The block at an offset; `None` behind the end.
fn block(root: &StateRoot, path: &RelPath, at: u64) -> Result<Option<[u8; BLOCK]>, Reasons> {
    let failed = |source| Reasons::from(DiskError::new("read", path, source).to_reason());
    let mut file = root.disk().open_at(path, at).map_err(|error| Reasons::from(error.to_reason()))?;
    let mut block = [0; BLOCK];
    match file.read_exact(&mut block) {
        Ok(()) => Ok(Some(block)),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Name and size of an entry, and whether it is a file; it may be a folder, of which nothing is kept.
fn entry(block: &[u8; BLOCK]) -> Result<(RelPath, u64, bool), Reasons> {
    let bad = |what: &str| refused(Code::BadValue, &format!("{what} of the archive is not as ustar has it"));
    let header = Header::from_byte_slice(block);
    // The field itself counts as blanks.
    let sum = |bytes: &[u8]| -> u32 { bytes.iter().map(|byte| u32::from(*byte)).sum() };
    let expected = sum(block) - sum(&header.as_old().cksum) + 8 * u32::from(b' ');
    if header.cksum().ok() != Some(expected) || header.as_ustar().is_none() {
        return Err(bad("a header"));
    }
    let kind = header.entry_type();
    if kind.is_hard_link() || kind.is_symlink() {
        return Err(refused(Code::SymlinkRefused, "the archive holds a link"));
    }
    let is_file = kind == EntryType::Regular;
    if !is_file && !kind.is_dir() {
        return Err(bad("an entry"));
    }
    let name = String::from_utf8(header.path_bytes().into_owned()).map_err(|_bytes| bad("a name"))?;
    let name = name.strip_suffix('/').filter(|_| !is_file).unwrap_or(&name);
    let path = name.parse::<RelPath>().map_err(|error| Reasons::from(error.to_reason()))?;
    let size = header.entry_size().map_err(|_not_octal| bad("a size"))?;
    Ok((path, size, is_file))
}

/// Behind the end of the archive there are zeros alone.
fn rest_is_empty(root: &StateRoot, path: &RelPath, at: u64) -> Result<(), Reasons> {
    let mut file = root.disk().open_at(path, at).map_err(|error| Reasons::from(error.to_reason()))?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = file.read(&mut buffer);
        match read.map_err(|source| Reasons::from(DiskError::new("read", path, source).to_reason()))? {
            0 => return Ok(()),
            read if buffer[..read].iter().any(|byte| *byte != 0) => {
                return Err(refused(Code::ExtraneousFile, "bytes follow the end of the archive"));
            }
            _zeros => {}
        }
    }
}

impl SetSource for TarSet {
    fn list(&self) -> Result<Vec<SourceFile>, SourceError> {
        let file = |(path, (_, size)): (&String, &(u64, u64))| SourceFile {
            path: path.clone(),
            kind: SourceKind::File,
            size: *size,
            identity: None,
        };
        Ok(self.files.iter().map(file).collect())
    }

    fn open(&self, path: &RelPath) -> Result<Box<dyn Read + Send>, SourceError> {
        let found = self.files.get(path.as_str()).ok_or_else(|| SourceError::Missing(path.to_string()))?;
        let file = self.root.disk().open_at(&self.path, found.0);
        let file = file.map_err(|error| SourceError::stored(path.as_str(), error))?;
        Ok(Box::new(file.take(found.1)))
    }

    fn describe(&self) -> String {
        "the set that was sent".to_owned()
    }
}
