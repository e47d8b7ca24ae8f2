//! Blobs: pulled into a partial file, pushed in chunks; both go on where they broke off.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use autonomy_schema::Sha256;
use autonomy_stateroot::read_failed;
use reqwest::{Method, StatusCode};
use sha2::Digest as _;
use url::Url;

use super::Registry;
use super::error::RegistryError;
use super::http::{Ask, header, place};
use crate::spec::Descriptor;

/// What is sent at once, unless the registry asks for more.
const CHUNK_BYTES: u64 = 4 << 20;
/// A registry that asks for more at once is refused: a chunk is held in memory.
const MAX_CHUNK_BYTES: u64 = 16 << 20;

/// Gives the bytes of a blob from an offset on.
pub type Reopen<'a> = dyn Fn(u64) -> io::Result<Box<dyn Read + 'a>> + 'a;

impl Registry {
    /// Whether the registry has a blob.
    pub fn blob_exists(&self, digest: Sha256) -> Result<bool, RegistryError> {
        self.http.attempts(|| self.has(digest))
    }

    fn has(&self, digest: Sha256) -> Result<bool, RegistryError> {
        let url = self.path(&format!("blobs/{digest}"));
        let response = self.http.send(&Ask::new(Method::HEAD, url.clone()))?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        self.http.accept(&url, response, "the blob").map(|_| true)
    }

    /// A small blob as a whole.
    pub fn pull_bytes(&self, descriptor: &Descriptor, cap: u64) -> Result<Vec<u8>, RegistryError> {
        let what = format!("the blob {}", descriptor.digest);
        if descriptor.size > cap {
            return Err(RegistryError::TooLarge { what, cap });
        }
        let size = |found: String| RegistryError::Size { what: what.clone(), expected: descriptor.size, found };
        let url = self.path(&format!("blobs/{}", descriptor.digest));
        let ask = Ask::new(Method::GET, url.clone());
        self.http.attempts(|| {
            let response = self.http.send(&ask)?;
            let mut response = self.http.accept(&url, response, &what)?;
            let mut bytes = Vec::new();
            self.http.body(&url, &mut response, |piece| {
                bytes.extend_from_slice(piece);
                if bytes.len() as u64 > descriptor.size {
                    Err(size("the server sends more".to_owned()))
                } else {
                    Ok(())
                }
            })?;
            if (bytes.len() as u64) < descriptor.size {
                return Err(size(format!("the server sends {}", bytes.len())));
            }
            let found = Sha256::of(&bytes);
            if found == descriptor.digest {
                return Ok(bytes);
            }
            Err(RegistryError::Digest { what: what.clone(), expected: descriptor.digest.to_string(), found })
        })
    }

    /// Pushes bytes that the registry lacks.
    pub fn push_bytes(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor, RegistryError> {
        let descriptor = Descriptor::of(media_type, bytes);
        let rest = |at: u64| {
            let from = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
            Ok(Box::new(io::Cursor::new(bytes[from..].to_vec())) as Box<dyn Read>)
        };
        self.push_blob(&descriptor, &rest, &|_| ())?;
        Ok(descriptor)
    }

    /// Pulls a blob into a file, from where the file ends; `progress` is told how much of it is there. The file is not
    /// synced.
    pub fn pull_blob(&self, descriptor: &Descriptor, into: &Path, progress: &dyn Fn(u64)) -> Result<(), RegistryError> {
        let broken = |error: io::Error| broken(into, &error);
        let nofollow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
        let mut how = OpenOptions::new();
        how.read(true).write(true).create(true).truncate(false).custom_flags(nofollow);
        let opened = how.open(into);
        let mut file = opened.map_err(broken)?;
        let what = format!("the blob {}", descriptor.digest);
        let mut kept = file.metadata().map_err(broken)?.len() > 0;
        loop {
            self.http.attempts(|| self.pull_rest(descriptor, &mut file, into, progress))?;
            let (found, _) = hashed(&mut file).map_err(broken)?;
            if found == descriptor.digest {
                return Ok(());
            }
            file.set_len(0).map_err(broken)?;
            if !kept {
                return Err(RegistryError::Digest { what, expected: descriptor.digest.to_string(), found });
            }
            // What was there before may have been the wrong half.
            kept = false;
        }
    }

    fn pull_rest(
        &self,
        wanted: &Descriptor,
        file: &mut File,
        into: &Path,
        progress: &dyn Fn(u64),
    ) -> Result<(), RegistryError> {
        let broken = |error: io::Error| broken(into, &error);
        let what = format!("the blob {}", wanted.digest);
        let size = |found: String| RegistryError::Size { what: what.clone(), expected: wanted.size, found };
        let mut have = file.metadata().map_err(broken)?.len();
        if have > wanted.size {
            file.set_len(0).map_err(broken)?;
            have = 0;
        }
        if have == wanted.size && have > 0 {
            return Ok(());
        }
        let url = self.path(&format!("blobs/{}", wanted.digest));
        let mut ask = Ask::new(Method::GET, url.clone());
        if have > 0 {
            ask = ask.with("Range", format!("bytes={have}-"));
        }
        let response = self.http.send(&ask)?;
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE && have > 0 {
            file.set_len(0).map_err(broken)?;
            return self.pull_rest(wanted, file, into, progress);
        }
        let mut response = self.http.accept(&url, response, &what)?;
        if response.status() == StatusCode::PARTIAL_CONTENT {
            let expected = format!("bytes {have}-{}/{}", wanted.size.saturating_sub(1), wanted.size);
            let found = header(response.headers(), "content-range");
            if found != expected {
                return Err(size(format!("the server sends the range `{}`", super::error::shown(found))));
            }
        } else {
            self.http.lost(have);
            have = 0;
            file.set_len(0).map_err(broken)?;
        }
        if let Some(length) = response.content_length().filter(|length| *length != wanted.size - have) {
            return Err(size(format!("the server announces {length} from byte {have} on")));
        }
        file.seek(SeekFrom::Start(have)).map_err(broken)?;
        let mut at = have;
        self.http.body(&url, &mut response, |piece| {
            at += piece.len() as u64;
            if at > wanted.size {
                return Err(size("the server sends more".to_owned()));
            }
            file.write_all(piece).map_err(broken)?;
            self.http.moved(piece.len() as u64);
            progress(at);
            Ok(())
        })?;
        if at < wanted.size {
            let detail = format!("the blob ended after {at} of {} bytes", wanted.size);
            return Err(RegistryError::Unreachable { place: place(&url), detail });
        }
        Ok(())
    }

    /// Pushes a blob that the registry lacks, in chunks; `open` gives its bytes from an offset on, `progress` is told how
    /// many of them are there.
    pub fn push_blob(
        &self,
        descriptor: &Descriptor,
        open: &Reopen<'_>,
        progress: &dyn Fn(u64),
    ) -> Result<(), RegistryError> {
        let mut session = None;
        self.http.attempts(|| {
            if self.has(descriptor.digest)? {
                return Ok(());
            }
            self.upload(descriptor, open, &mut session, progress)
        })
    }

    fn upload(
        &self,
        descriptor: &Descriptor,
        open: &Reopen<'_>,
        session: &mut Option<Upload>,
        progress: &dyn Fn(u64),
    ) -> Result<(), RegistryError> {
        let what = format!("the blob {}", descriptor.digest);
        let unread = |error: io::Error| RegistryError::Source(read_failed(&what, &error));
        let Upload { mut at, mut url, chunk: at_once } = match session.take() {
            Some(upload) => {
                let before = upload.at;
                let upload = self.uploaded(upload, descriptor.size)?;
                self.http.lost(before.saturating_sub(upload.at));
                upload
            }
            None => self.start_upload()?,
        };
        let keep = |at, url: &Url| Some(Upload { at, url: url.clone(), chunk: at_once });
        *session = keep(at, &url);
        let mut reader = open(at).map_err(unread)?;
        while at < descriptor.size {
            self.http.cancelled()?;
            let count = at_once.min(descriptor.size - at);
            // Grown while it is read it would be held twice.
            let mut chunk = Vec::with_capacity(usize::try_from(count).unwrap_or_default());
            reader.by_ref().take(count).read_to_end(&mut chunk).map_err(unread)?;
            if chunk.len() as u64 != count {
                let found = format!("its source ended after {}", at + chunk.len() as u64);
                return Err(RegistryError::Size { what, expected: descriptor.size, found });
            }
            let ask = Ask::new(Method::PATCH, url.clone())
                .with("Content-Type", "application/octet-stream")
                .with("Content-Range", format!("{at}-{}", at + count - 1))
                .body(chunk);
            let response = self.http.send(&ask)?;
            let response = self.http.accept(&url, response, &what)?;
            url = self.http.location(&url, &response)?;
            at += count;
            *session = keep(at, &url);
            self.http.moved(count);
            progress(at);
        }
        let mut last = url;
        last.query_pairs_mut().append_pair("digest", &descriptor.digest.to_string());
        let response = self.http.send(&Ask::new(Method::PUT, last.clone()))?;
        self.http.accept(&last, response, &what).map(|_| ())
    }

    fn start_upload(&self) -> Result<Upload, RegistryError> {
        let url = self.path("blobs/uploads/");
        let response = self.http.send(&Ask::new(Method::POST, url.clone()))?;
        let response = self.http.accept(&url, response, "the repository")?;
        // "OCI-Chunk-Min-Length" of distribution-spec 1.1, "Pushing a blob in chunks".
        let least = header(response.headers(), "oci-chunk-min-length").parse::<u64>().unwrap_or_default();
        if least > MAX_CHUNK_BYTES {
            let detail = format!("it wants chunks of {least} bytes; at most {MAX_CHUNK_BYTES} are held in memory");
            return Err(RegistryError::Malformed { place: place(&url), detail });
        }
        Ok(Upload { at: 0, url: self.http.location(&url, &response)?, chunk: least.max(CHUNK_BYTES) })
    }

    /// How far an upload came; a new one where that is not clear.
    fn uploaded(&self, upload: Upload, size: u64) -> Result<Upload, RegistryError> {
        let response = self.http.send(&Ask::new(Method::GET, upload.url.clone()))?;
        let range = header(response.headers(), "range");
        let last = range.trim_start_matches("bytes=").strip_prefix("0-").and_then(|last| last.parse::<u64>().ok());
        // `0-0` is one byte or none, depending on the registry.
        match last {
            Some(last) if response.status().is_success() && last > 0 && last < size => {
                let url = self.http.location(&upload.url, &response).unwrap_or(upload.url);
                Ok(Upload { at: last + 1, url, ..upload })
            }
            _ => self.start_upload(),
        }
    }
}

/// An upload that was begun.
struct Upload {
    /// Bytes that the registry has.
    at: u64,
    /// Where the next ones go.
    url: Url,
    /// How many are sent at once.
    chunk: u64,
}

fn broken(path: &Path, error: &io::Error) -> RegistryError {
    RegistryError::File { path: path.to_path_buf(), problem: format!("cannot be written: {error}") }
}

fn hashed(file: &mut File) -> io::Result<(Sha256, u64)> {
    file.seek(SeekFrom::Start(0))?;
    let mut hasher = sha2::Sha256::new();
    let (mut buffer, mut size) = (vec![0; 256 << 10], 0);
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((Sha256::from_bytes(hasher.finalize().into()), size));
        }
        hasher.update(&buffer[..count]);
        size += count as u64;
    }
}
