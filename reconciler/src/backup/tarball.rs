//! The one form of tar that a backup has: GNU headers with fixed fields, long names in `././@LongLink`, two zero blocks
//! at the end and nothing after them. Any other header is told, so that no byte of the file can change unseen.

use std::io::{self, Read};

use autonomy_schema::{Code, Mode, Reason, Time};
use tar::{EntryType, Header};

/// Bytes of a block.
const BLOCK: usize = 512;
/// Longest name that is read: a path of [`autonomy_schema::path::MAX_PATH_BYTES`], a slash and a zero fit.
const MAX_NAME_BYTES: u64 = 2048;
/// The name of an entry that holds the long name of the next.
const LONG_NAME: &str = "././@LongLink";

/// What an entry of the archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A regular file of so many bytes.
    File(u64),
    /// A folder.
    Folder,
    /// A second name of an earlier file.
    Link(String),
    /// A symbolic link.
    Symlink(String),
    /// Anything else; never written.
    Other,
}

/// One entry, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) path: String,
    pub(super) kind: Kind,
    pub(super) mode: Mode,
    pub(super) time: Time,
}

/// The header blocks of an entry.
pub(super) fn header(member: &Member) -> io::Result<Vec<u8>> {
    let (kind, size, link) = match &member.kind {
        Kind::File(size) => (EntryType::Regular, *size, ""),
        Kind::Folder => (EntryType::Directory, 0, ""),
        Kind::Link(target) => (EntryType::Link, 0, target.as_str()),
        Kind::Symlink(target) => (EntryType::Symlink, 0, target.as_str()),
        Kind::Other => return Err(io::Error::other("a special file has no place in a backup")),
    };
    let name = if kind == EntryType::Directory { format!("{}/", member.path) } else { member.path.clone() };
    let mut blocks = Vec::new();
    let mut header = Header::new_gnu();
    for (text, long) in [(link, EntryType::GNULongLink), (name.as_str(), EntryType::GNULongName)] {
        if text.len() > 100 {
            blocks.extend_from_slice(&long_name(text, long)?);
        }
    }
    put_names(&mut header, &name, link);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(member.mode.bits());
    header.set_mtime(u64::try_from(member.time.unix()).unwrap_or(0));
    owner(&mut header);
    header.set_cksum();
    blocks.extend_from_slice(header.as_bytes());
    Ok(blocks)
}

/// What fits of both names; the rest stands in the entry before.
fn put_names(header: &mut Header, name: &str, link: &str) {
    let fields = header.as_old_mut();
    for (field, text) in [(&mut fields.name, name), (&mut fields.linkname, link)] {
        let fits = text.len().min(field.len());
        field[..fits].copy_from_slice(&text.as_bytes()[..fits]);
    }
}

/// Nobody's: who restores it owns it.
fn owner(header: &mut Header) {
    header.set_uid(0);
    header.set_gid(0);
}

fn long_name(text: &str, kind: EntryType) -> io::Result<Vec<u8>> {
    let mut header = Header::new_gnu();
    put_names(&mut header, LONG_NAME, "");
    header.set_entry_type(kind);
    let size = text.len() as u64 + 1;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    owner(&mut header);
    header.set_cksum();
    let mut blocks = header.as_bytes().to_vec();
    blocks.extend_from_slice(text.as_bytes());
    blocks.push(0);
    blocks.resize(blocks.len() + usize::try_from(padding(size)).map_err(io::Error::other)?, 0);
    Ok(blocks)
}

/// Zero bytes after a content of `size` bytes.
pub(super) fn padding(size: u64) -> u64 {
    // Not `next_multiple_of`, which overflows on a size that only a forged header has.
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

/// Reads the headers of an archive in order. Between two calls the caller takes the content and its padding.
pub(super) struct Headers<R> {
    file: R,
    /// Where the next byte lies.
    pub(super) at: u64,
    first: bool,
}

/// A member, and whether its header is byte for byte what [`header`] writes.
pub(super) struct Found {
    pub(super) member: Member,
    pub(super) exact: bool,
}

impl<R: Read> Headers<R> {
    pub(super) fn new(file: R) -> Self {
        Self { file, at: 0, first: true }
    }

    /// The next entry; `None` at the end, which must be the end of the file too.
    pub(super) fn next(&mut self) -> Result<Option<Found>, Reason> {
        let mut raw = Vec::new();
        let (mut name, mut link) = (None, None);
        loop {
            let block = self.block()?;
            if block.iter().all(|byte| *byte == 0) {
                return if raw.is_empty() { self.end().map(|()| None) } else { Err(self.damaged("a header")) };
            }
            let header = Header::from_byte_slice(&block);
            self.check_sum(header)?;
            raw.extend_from_slice(&block);
            let kind = header.entry_type();
            let slot = if kind.is_gnu_longname() {
                &mut name
            } else if kind.is_gnu_longlink() {
                &mut link
            } else {
                return self.member(header, name, link, &raw).map(Some);
            };
            *slot = Some(self.long(header, &mut raw)?);
        }
    }

    /// Takes `buffer.len()` bytes of content.
    pub(super) fn take(&mut self, buffer: &mut [u8]) -> Result<(), Reason> {
        self.file.read_exact(buffer).map_err(|error| self.cut_off(&error))?;
        self.at += buffer.len() as u64;
        Ok(())
    }

    /// Takes the zero bytes after a content.
    pub(super) fn skip_padding(&mut self, size: u64) -> Result<(), Reason> {
        let mut buffer = [0; BLOCK];
        let count = usize::try_from(padding(size)).unwrap_or_default();
        self.take(&mut buffer[..count])?;
        if buffer.iter().any(|byte| *byte != 0) { Err(self.damaged("the padding")) } else { Ok(()) }
    }

    fn block(&mut self) -> Result<[u8; BLOCK], Reason> {
        let mut block = [0; BLOCK];
        self.take(&mut block)?;
        Ok(block)
    }

    fn check_sum(&mut self, header: &Header) -> Result<(), Reason> {
        let first = std::mem::replace(&mut self.first, false);
        let sum: u32 = header.as_bytes().iter().map(|byte| u32::from(*byte)).sum();
        // The field itself counts as blanks.
        let own: u32 = header.as_old().cksum.iter().map(|byte| u32::from(*byte)).sum();
        if header.cksum().ok() == Some(sum - own + 8 * 32) {
            return Ok(());
        }
        if first {
            let message = "the file is no backup: it does not begin with the header of a tar archive";
            return Err(Reason::new(Code::WrongType, message).with_remedy("name the file that `autonomy backup` wrote"));
        }
        Err(self.damaged("a header"))
    }

    /// The content of a long name.
    fn long(&mut self, header: &Header, raw: &mut Vec<u8>) -> Result<Vec<u8>, Reason> {
        let size = header.entry_size().map_err(|_not_octal| self.damaged("a header"))?;
        if size > MAX_NAME_BYTES {
            let message = format!("a name in the archive has {size} bytes; the cap is {MAX_NAME_BYTES}");
            return Err(Reason::new(Code::UnsafePath, message));
        }
        let mut content = vec![0; usize::try_from(size + padding(size)).unwrap_or_default()];
        self.take(&mut content)?;
        raw.extend_from_slice(&content);
        content.truncate(usize::try_from(size).unwrap_or_default());
        if content.last() == Some(&0) {
            content.pop();
        }
        Ok(content)
    }

    fn member(
        &self,
        header: &Header,
        name: Option<Vec<u8>>,
        link: Option<Vec<u8>>,
        raw: &[u8],
    ) -> Result<Found, Reason> {
        let text = |bytes: Vec<u8>| {
            String::from_utf8(bytes).map_err(|error| {
                let shown = String::from_utf8_lossy(error.as_bytes()).escape_default().to_string();
                Reason::new(Code::UnsafePath, format!("the name `{shown}` in the archive is not UTF-8"))
            })
        };
        let path = text(name.unwrap_or_else(|| header.path_bytes().into_owned()))?;
        let link = link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        let link = text(link.unwrap_or_default())?;
        let size = header.entry_size().map_err(|_not_octal| self.damaged("a header"))?;
        let kind = match header.entry_type() {
            kind if kind.is_file() => Kind::File(size),
            kind if kind.is_dir() => Kind::Folder,
            kind if kind.is_hard_link() => Kind::Link(link),
            kind if kind.is_symlink() => Kind::Symlink(link),
            _special => Kind::Other,
        };
        let path = match &kind {
            Kind::Folder => path.strip_suffix('/').unwrap_or(&path).to_owned(),
            Kind::File(_) | Kind::Link(_) | Kind::Symlink(_) | Kind::Other => path,
        };
        let mode = Mode::from_bits(header.mode().unwrap_or_default());
        let time = Time::from_unix(header.mtime().ok().and_then(|time| i64::try_from(time).ok()).unwrap_or_default());
        let member = Member { path, kind, mode, time };
        let exact = self::header(&member).is_ok_and(|written| written == raw);
        Ok(Found { member, exact })
    }

    /// The second zero block, and then nothing.
    fn end(&mut self) -> Result<(), Reason> {
        if self.block()?.iter().any(|byte| *byte != 0) {
            return Err(self.damaged("the end"));
        }
        let mut more = [0];
        match self.file.read(&mut more) {
            Ok(0) => Ok(()),
            Ok(_) => Err(Reason::new(Code::ExtraneousFile, format!("bytes follow the archive's end at {}", self.at))),
            Err(error) => Err(self.cut_off(&error)),
        }
    }

    fn damaged(&self, what: &str) -> Reason {
        let message = format!("{what} before byte {} of the archive is not as `autonomy backup` writes it", self.at);
        Reason::new(Code::DigestMismatch, message).with_remedy("take another copy of the backup")
    }

    fn cut_off(&self, error: &io::Error) -> Reason {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            let message = format!("the archive is cut off after byte {}", self.at);
            return Reason::new(Code::MissingFile, message).with_remedy("take another copy of the backup");
        }
        Reason::new(Code::IoError, format!("cannot read the archive after byte {}: {error}", self.at))
    }
}
