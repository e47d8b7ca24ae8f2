//! The archive of a bundle: gzip over ustar with regular files alone, bounded.

use std::collections::BTreeMap;
use std::io::{self, Read, Write as _};

use autonomy_schema::path::RelPath;
use autonomy_schema::time::Time;
use flate2::bufread::GzDecoder;
use flate2::{Compression, GzBuilder};

/// Most bytes of a packed bundle; the manifest's cap for `policy.tar.gz`.
pub(crate) const MAX_PACKED: u64 = autonomy_schema::set::MAX_POLICY_BYTES;
/// Most bytes that a bundle may unpack to, headers included: a bomb ends here.
pub(crate) const MAX_UNPACKED: u64 = 64 << 20;
/// Most files in one bundle.
pub(crate) const MAX_FILES: usize = 10_000;

/// Why bytes are not the archive of a bundle.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Too many packed bytes.
    #[error("the bundle has {0} bytes; at most {MAX_PACKED}")]
    Packed(u64),
    /// Not gzip, cut off, or damaged.
    #[error("the bundle is no gzip file, or is damaged")]
    Gzip(#[source] io::Error),
    /// A bomb.
    #[error("the bundle unpacks to more than {MAX_UNPACKED} bytes")]
    Unpacked,
    /// Bytes behind the end.
    #[error("bytes follow the end of the bundle")]
    Trailing,
    /// Not tar.
    #[error("the bundle holds no tar archive, or a damaged one")]
    Tar(#[source] io::Error),
    /// Too many files.
    #[error("the bundle holds more than {MAX_FILES} files")]
    Files,
    /// A link, directory, device or extension header.
    #[error("entry `{0}` of the bundle is no regular file")]
    NotAFile(String),
    /// A path that could leave the folder.
    #[error("a path of the bundle is not safe: {0}")]
    Path(String),
    /// Two entries with one path, or paths that differ in case alone.
    #[error("the bundle holds `{0}` twice")]
    Twice(RelPath),
}

/// The files of an archive, by path, and what of it only OPA would write: folders, and paths that begin with `/` or `./`.
pub(crate) struct Unpacked {
    pub(crate) files: BTreeMap<RelPath, Vec<u8>>,
    pub(crate) loose: Option<ArchiveError>,
}

/// Reads an archive.
pub(crate) fn unpack(packed: &[u8]) -> Result<Unpacked, ArchiveError> {
    if packed.len() as u64 > MAX_PACKED {
        return Err(ArchiveError::Packed(packed.len() as u64));
    }
    let mut decoder = GzDecoder::new(packed);
    let mut unpacked = Vec::new();
    (&mut decoder).take(MAX_UNPACKED + 1).read_to_end(&mut unpacked).map_err(ArchiveError::Gzip)?;
    if unpacked.len() as u64 > MAX_UNPACKED {
        return Err(ArchiveError::Unpacked);
    }
    // A second gzip member, or anything else, would be read by other tools and not by us.
    if !decoder.into_inner().is_empty() {
        return Err(ArchiveError::Trailing);
    }
    let mut archive = tar::Archive::new(unpacked.as_slice());
    let mut files = BTreeMap::new();
    let mut folded = std::collections::BTreeSet::new();
    let mut loose = None;
    // Raw: extension headers (pax, GNU long names) are entries of their own here, and refused as such.
    for (number, entry) in archive.entries().map_err(ArchiveError::Tar)?.raw(true).enumerate() {
        let mut entry = entry.map_err(ArchiveError::Tar)?;
        if number == MAX_FILES {
            return Err(ArchiveError::Files);
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if entry.header().entry_type().is_dir() {
            loose.get_or_insert(ArchiveError::NotAFile(name.escape_default().to_string()));
            continue;
        }
        if !entry.header().entry_type().is_file() {
            return Err(ArchiveError::NotAFile(name.escape_default().to_string()));
        }
        let bytes = entry.path_bytes();
        let text = std::str::from_utf8(&bytes)
            .map_err(|_not_utf8| ArchiveError::Path(format!("`{}` is not UTF-8", name.escape_default())))?;
        let bare = text.strip_prefix("./").or_else(|| text.strip_prefix('/'));
        if let (Some(_), Err(error)) = (bare, text.parse::<RelPath>()) {
            loose.get_or_insert(ArchiveError::Path(error.to_string()));
        }
        let path: RelPath = bare
            .unwrap_or(text)
            .parse()
            .map_err(|error: autonomy_schema::path::PathError| ArchiveError::Path(error.to_string()))?;
        if !folded.insert(path.as_str().to_lowercase()) {
            return Err(ArchiveError::Twice(path));
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(ArchiveError::Tar)?;
        // The library ends an entry that is cut off without an error.
        if Some(content.len() as u64) != entry.header().entry_size().ok() {
            return Err(ArchiveError::Tar(io::ErrorKind::UnexpectedEof.into()));
        }
        files.insert(path, content);
    }
    let rest = archive.into_inner();
    if rest.iter().any(|byte| *byte != 0) {
        return Err(ArchiveError::Trailing);
    }
    Ok(Unpacked { files, loose })
}

/// The same bytes for the same files and time, whatever the machine: ustar, sorted by path, owner 0, mode 0644, one
/// time for all; gzip without name and time.
pub(crate) fn pack(files: &BTreeMap<RelPath, Vec<u8>>, time: Time) -> io::Result<Vec<u8>> {
    let encoder = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::best());
    let mut builder = tar::Builder::new(encoder);
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_path(path.as_str())?;
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(u64::try_from(time.unix()).unwrap_or(0));
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        builder.append(&header, content.as_slice())?;
    }
    let mut encoder = builder.into_inner()?;
    encoder.flush()?;
    encoder.finish()
}
