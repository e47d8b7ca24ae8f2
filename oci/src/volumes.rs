//! A layout that was split into volumes (`docs/formats/volumes.md`), read as if it were a folder. What is lost or damaged is
//! computed again while it is read; the medium is not changed.

use std::io::{self, Read};
use std::path::Path;

use autonomy_schema::{Code, Reason, RelPath};
use autonomy_stateroot::{DirSet, SetSource, SourceError, SourceFile, SourceKind, read_refused};
use autonomy_volumes::{Incomplete, MemberReader, OpenError, VolumeReport, VolumeSet, VolumeState};

/// The volumes of a folder.
pub(crate) struct Volumes {
    folder: DirSet,
    set: VolumeSet,
}

impl Volumes {
    /// Opens the volumes directly below `path`; `None` when there are none.
    pub(crate) fn open(path: &Path, folder: DirSet) -> Result<Option<Self>, Reason> {
        match VolumeSet::open(path) {
            Ok(set) => Ok(Some(Self { folder, set })),
            Err(OpenError::NoVolumes) => Ok(None),
            Err(error) => Err(refusal(&error)),
        }
    }
}

impl SetSource for Volumes {
    /// The members, and what lies beside the volumes.
    fn list(&self) -> Result<Vec<SourceFile>, SourceError> {
        let known = self.set.report();
        let is_ours = |name: &str| known.iter().any(|volume| is_volume(volume, name));
        let beside = self.folder.list()?.into_iter().filter(|file| !is_ours(&file.path));
        let members = self.set.members().iter().map(|member| SourceFile {
            path: member.path.to_string(),
            kind: SourceKind::File,
            size: member.size,
            identity: None,
        });
        let mut all: Vec<SourceFile> = members.chain(beside).collect();
        all.sort();
        Ok(all)
    }

    fn open(&self, path: &RelPath) -> Result<Box<dyn Read + Send>, SourceError> {
        self.open_at(path, 0)
    }

    fn open_at(&self, path: &RelPath, offset: u64) -> Result<Box<dyn Read + Send>, SourceError> {
        match self.set.open_member(path, offset) {
            Some(reader) => Ok(Box::new(Member(reader))),
            None => self.folder.open_at(path, offset),
        }
    }

    fn describe(&self) -> String {
        self.folder.describe()
    }

    fn warnings(&self) -> Vec<String> {
        let report = self.set.report();
        let harmed = report.iter().filter_map(|volume| {
            let how = match volume.state {
                VolumeState::Missing => "is missing".to_owned(),
                VolumeState::BadHeader => "has no readable header".to_owned(),
                VolumeState::Present if volume.damaged == 1 => "has a damaged block".to_owned(),
                VolumeState::Present if volume.damaged > 1 => format!("has {} damaged blocks", volume.damaged),
                VolumeState::Present => return None,
            };
            Some(format!("`{}` of `{}` {how}", volume.name, self.describe()))
        });
        let harmed: Vec<String> = harmed.collect();
        let parity = usize::from(self.set.parity());
        let standing = match parity.checked_sub(harmed.len()) {
            Some(0) => "parity makes it good, and no more may be lost: export anew".to_owned(),
            Some(left) => format!("parity makes it good, and {left} more may be lost"),
            None => format!("parity makes good {parity} of the {} that are lost or damaged", harmed.len()),
        };
        harmed.into_iter().map(|what| format!("{what}; {standing}")).collect()
    }
}

/// Whether a name is that of a volume of this set, or of one that was being written when power was lost: a set that is to
/// take the place of this one may have more.
fn is_volume(volume: &VolumeReport, name: &str) -> bool {
    volume.name == name || is_unfinished(name)
}

fn is_unfinished(name: &str) -> bool {
    let digits = name.strip_prefix(".vol-").and_then(|name| name.strip_suffix(".tmp"));
    digits.is_some_and(|digits| digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A member, whose failures say which volumes are needed.
struct Member(MemberReader);

impl Read for Member {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into).map_err(|error| match Incomplete::of(&error) {
            Some(incomplete) => read_refused(lost(incomplete)),
            None => error,
        })
    }
}

fn lost(incomplete: &Incomplete) -> Reason {
    let needed =
        if incomplete.needed == 1 { "one of them".to_owned() } else { format!("{} of them", incomplete.needed) };
    let volumes: Vec<String> = incomplete.volumes.iter().map(|name| format!("`{name}`")).collect();
    let message = format!("more is lost or damaged than parity makes good: {}", volumes.join(", "));
    Reason::new(Code::MissingFile, message).with_remedy(format!("bring {needed}, whole, or export anew"))
}

/// What an opening that failed comes to.
fn refusal(error: &OpenError) -> Reason {
    let plain = |code| Reason::new(code, error.to_string());
    let because = |source: &io::Error| Reason::new(Code::IoError, format!("{error}: {source}"));
    match error {
        OpenError::Folder(source) | OpenError::Volume { source, .. } | OpenError::Read(source) => because(source),
        OpenError::NotAFile(_) => plain(Code::SymlinkRefused),
        OpenError::NoVolumes => plain(Code::SourceNotFound),
        OpenError::NoHeader(_) => plain(Code::MissingFile).with_remedy("export anew: this medium is worn out"),
        OpenError::Mixture { .. } => {
            plain(Code::ExtraneousFile).with_remedy("keep the volumes of one export alone, or export anew")
        }
        OpenError::Incomplete(incomplete) => {
            let reason = lost(incomplete);
            Reason { message: format!("{error}: {}", reason.message), ..reason }
        }
        OpenError::Index(cause) => Reason::new(Code::BadValue, format!("{error}: {cause}")),
    }
}
