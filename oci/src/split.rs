//! Writing a layout in volumes: the same files as in a folder, never staged anywhere in full.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use autonomy_schema::{Code, Reason, RelPath};
use autonomy_stateroot::{read_failed, read_refused};
use autonomy_volumes::{Member, VolumeOptions, WriteError as VolumesError, Written, shape};

use crate::blobs::{Blob, SetPlan};
use crate::layout::{INDEX, MARKER, RECEIPTS_FOLDER, blob};
use crate::spec::Index;
use crate::writer::{WriteError, marker_text, medium, unwritable};

/// Fewest bytes of a volume: one block.
pub const MIN_VOLUME_BYTES: u64 = 73_760;

/// How a layout is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// Most bytes of a volume; never more than FAT32 keeps.
    pub volume_bytes: u64,
    /// Volumes that may be lost.
    pub parity: u8,
}

/// Writes a layout with these artifacts, and no others, in volumes directly below `to`, which is made when it is absent.
/// Volumes that lie there give way once the new ones are whole. `progress` is told bytes done and bytes in all.
pub fn write_volumes(
    to: &Path,
    artifacts: &[SetPlan<'_>],
    split: Split,
    progress: &dyn Fn(u64, u64),
) -> Result<Written, WriteError> {
    fs::create_dir_all(to).map_err(|source| medium("make", to, source))?;
    may_hold_volumes(to)?;
    let index =
        Index { manifests: artifacts.iter().map(|artifact| artifact.entry.clone()).collect(), ..Index::default() };
    let index = index.to_bytes().map_err(|error| unwritable(&error))?;
    let mut members = vec![bytes(MARKER, marker_text()?), bytes(INDEX, index)];
    let mut known = BTreeSet::new();
    for wanted in artifacts.iter().flat_map(|artifact| &artifact.blobs) {
        if known.insert(wanted.digest) {
            members.push(member(wanted)?);
        }
    }
    let options = VolumeOptions { volume_bytes: split.volume_bytes, parity: split.parity, replace: true };
    autonomy_volumes::write(to, &members, options, progress).map_err(|error| failed(to, error))
}

/// Refuses a folder where something lies that no import would take beside volumes.
fn may_hold_volumes(to: &Path) -> Result<(), WriteError> {
    for entry in fs::read_dir(to).map_err(|source| medium("read", to, source))? {
        let entry = entry.map_err(|source| medium("read", to, source))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let volume = name.strip_prefix('.').and_then(|name| name.strip_suffix(".tmp")).unwrap_or(&name);
        if name != RECEIPTS_FOLDER && !(0..shape::MAX_VOLUMES).any(|number| shape::name(number) == volume) {
            let message =
                format!("`{}` holds `{}`, and nothing lies beside volumes", to.display(), name.escape_debug());
            return Err(Reason::new(Code::ExtraneousFile, message).with_remedy("choose an empty folder").into());
        }
    }
    Ok(())
}

fn bytes<'a>(name: &'static str, bytes: Vec<u8>) -> Member<'a> {
    let size = bytes.len() as u64;
    let open = move || Ok(Box::new(io::Cursor::new(bytes.clone())) as Box<dyn Read + 'a>);
    Member { path: RelPath::fixed(name), size, open: Box::new(open) }
}

fn member<'m>(wanted: &'m Blob<'_>) -> Result<Member<'m>, WriteError> {
    let path = blob(wanted.digest).parse::<RelPath>().map_err(|error| WriteError::Refused(error.to_reason()))?;
    let open = || wanted.stream().map(|stream| Box::new(stream) as Box<dyn Read + 'm>).map_err(read_refused);
    Ok(Member { path, size: wanted.size, open: Box::new(open) })
}

fn failed(to: &Path, error: VolumesError) -> WriteError {
    let said = error.to_string();
    let refused = |code| WriteError::Refused(Reason::new(code, said.clone()));
    match error {
        VolumesError::Folder(source) => medium("use", to, source),
        VolumesError::Volume { volume, source } => medium("write", &to.join(volume), source),
        VolumesError::Member { path, source } => WriteError::Refused(read_failed(path.as_str(), &source)),
        VolumesError::Changed { .. } => refused(Code::SizeMismatch),
        VolumesError::Busy => {
            WriteError::Refused(Reason::new(Code::Locked, said).with_remedy("wait for it, or choose another folder"))
        }
        VolumesError::TooManyVolumes { .. } => WriteError::Refused(
            Reason::new(Code::LimitExceeded, said).with_remedy("give larger volumes with --split, or less --parity"),
        ),
        VolumesError::TooSmall(_) | VolumesError::Occupied(_) | VolumesError::Members(_) => refused(Code::BadValue),
        VolumesError::ReadBack(_) | VolumesError::Parity(_) => refused(Code::IoError),
    }
}
