//! The authored side: YAML files merged, decoded and checked, and the paths that they name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use autonomy_schema::author::{self, AuthoredArtifact, AuthoredManifest, Diagnostic, Located};
use autonomy_schema::document::MAX_DOCUMENT_BYTES;
use autonomy_schema::manifest::ArtifactType;
use autonomy_schema::version::Kind;
use autonomy_schema::{Code, Name};

use crate::failure::Failure;
use crate::files;

/// The file that makes a folder a source.
const MANIFEST: &str = "manifest.yaml";

/// An authored manifest, its places and its texts.
pub(crate) struct Source {
    /// Merged.
    pub(super) located: Located,
    /// Decoded and free of contradictions.
    pub(super) authored: AuthoredManifest,
    texts: BTreeMap<String, String>,
    stand_ins: StandIns,
}

/// Files that are rendered in the place of what artifacts name as their source, by artifact. The sources of these
/// artifacts need not exist.
pub(crate) type StandIns = BTreeMap<Name, PathBuf>;

/// An artifact, and where it is read.
pub(crate) struct SourcedArtifact<'a> {
    /// What the author says of it.
    pub(crate) authored: &'a AuthoredArtifact,
    /// The field that names its source.
    pub(crate) field: String,
    /// The file or folder to read: its source, or its stand-in.
    pub(crate) path: PathBuf,
}

impl Source {
    /// Reads `folder`, over its base where it is an overlay.
    pub(crate) fn load(folder: &Path, stand_ins: &StandIns) -> Result<Self, Failure> {
        let mut texts = BTreeMap::new();
        let own = read(&folder.join(MANIFEST), &mut texts);
        let base = base_of(folder)?.map(|base| read(&base.join(MANIFEST), &mut texts)).transpose();
        // Both are read before either fails, so that one run tells the errors of both.
        let (own, base) = match (own, base) {
            (Ok(own), Ok(base)) => (own, base),
            (own, base) => return Err(both(own.err(), base.err(), texts)),
        };
        let located = base.map_or_else(|| own.clone(), |base| base.merged(own.clone()));
        let fail = |diagnostics, texts: &BTreeMap<_, _>| Failure::Authored { diagnostics, texts: texts.clone() };
        let authored =
            located.decode::<AuthoredManifest>(Kind::StateManifest).map_err(|problems| fail(problems, &texts))?;
        let source = Self { located, authored, texts, stand_ins: stand_ins.clone() };
        let problems = source.check()?;
        if problems.is_empty() { Ok(source) } else { Err(source.failure(problems)) }
    }

    /// Everything that can be told before a file is read.
    fn check(&self) -> Result<Vec<Diagnostic>, Failure> {
        let reasons = author::check(&self.authored)
            .map_err(|error| Failure::because(Code::BadValue, format!("cannot check the manifest: {error}")))?;
        let mut problems = self.located.locate(reasons);
        let artifacts = self.authored.spec.artifacts.iter().enumerate();
        let named = |(_, artifact): (usize, &author::AuthoredArtifact)| {
            artifact.name.as_str() == "agent" && artifact.kind == ArtifactType::File
        };
        if !artifacts.clone().any(named) {
            let message =
                "`spec.artifacts` has no file named `agent`; the lock binds one, and `autonomy run` starts it";
            problems.push(self.problem("spec.artifacts", Code::MissingField, message.to_owned()));
        }
        for artifact in self.artifacts() {
            let opened = match artifact.authored.kind {
                ArtifactType::File => files::open_regular(&artifact.path).map(|_| ()),
                ArtifactType::Tree => std::fs::read_dir(&artifact.path).map(|_| ()),
            };
            if let Err(error) = opened {
                problems.push(self.unreadable_artifact(&artifact, &error));
            }
        }
        Ok(problems)
    }

    /// The artifacts, in the author's order.
    pub(crate) fn artifacts(&self) -> impl Iterator<Item = SourcedArtifact<'_>> {
        let artifacts = self.authored.spec.artifacts.iter().enumerate();
        artifacts.map(|(at, authored)| {
            let field = format!("spec.artifacts.{at}.source");
            let stand_in = self.stand_ins.get(&authored.name).cloned();
            let path = stand_in.unwrap_or_else(|| self.path(&field, &authored.source));
            SourcedArtifact { authored, field, path }
        })
    }

    /// The file that `value` means: relative to the YAML file that says so.
    pub(super) fn path(&self, field: &str, value: &str) -> PathBuf {
        let file = self.located.mark(field).map_or("", |mark| mark.file.as_str());
        Path::new(file).parent().unwrap_or(Path::new("")).join(value)
    }

    /// A diagnostic at `field`.
    pub(super) fn problem(&self, field: &str, code: Code, message: String) -> Diagnostic {
        Diagnostic { mark: self.located.mark(field).cloned(), code, message, help: code.remedy().to_owned() }
    }

    /// A file that `field` names and that cannot be read.
    pub(super) fn unreadable(&self, field: &str, value: &str, error: &std::io::Error) -> Diagnostic {
        self.unreadable_at(field, value, &self.path(field, value), error)
    }

    /// The same of an artifact, whose file may be a stand-in.
    pub(super) fn unreadable_artifact(&self, artifact: &SourcedArtifact<'_>, error: &std::io::Error) -> Diagnostic {
        self.unreadable_at(&artifact.field, &artifact.authored.source, &artifact.path, error)
    }

    fn unreadable_at(&self, field: &str, value: &str, path: &Path, error: &std::io::Error) -> Diagnostic {
        let code = if error.kind() == std::io::ErrorKind::NotFound { Code::SourceNotFound } else { Code::IoError };
        let message = format!("`{field}` is `{value}`, and {} cannot be read: {error}", path.display());
        let mut problem = self.problem(field, code, message);
        "paths are relative to the YAML file that names them; is it built?".clone_into(&mut problem.help);
        problem
    }

    /// The failure that shows `diagnostics` with their snippets.
    pub(super) fn failure(&self, mut diagnostics: Vec<Diagnostic>) -> Failure {
        diagnostics.sort();
        diagnostics.dedup();
        Failure::Authored { diagnostics, texts: self.texts.clone() }
    }
}

/// Why a YAML file gave no tree.
enum Unread {
    Failed(Failure),
    Wrong(Vec<Diagnostic>),
}

fn read(path: &Path, texts: &mut BTreeMap<String, String>) -> Result<Located, Unread> {
    let Some(name) = path.to_str() else {
        return Err(Unread::Failed(Failure::Usage(format!("{} is not UTF-8", path.display()))));
    };
    let bytes = files::read(path, MAX_DOCUMENT_BYTES as u64).map_err(Unread::Failed)?;
    texts.insert(name.to_owned(), String::from_utf8_lossy(&bytes).into_owned());
    Located::parse_bytes(name, &bytes).map_err(Unread::Wrong)
}

fn both(own: Option<Unread>, base: Option<Unread>, texts: BTreeMap<String, String>) -> Failure {
    let mut diagnostics = Vec::new();
    for unread in [base, own].into_iter().flatten() {
        match unread {
            Unread::Failed(failure) => return failure,
            Unread::Wrong(wrong) => diagnostics.extend(wrong),
        }
    }
    Failure::Authored { diagnostics, texts }
}

/// The folder `base` beside the folder `overlays` that `folder` lies in, if it is one of those.
fn base_of(folder: &Path) -> Result<Option<PathBuf>, Failure> {
    // As it was named where the name says enough, so that errors show the path that the operator knows.
    let named = folder.parent().filter(|parent| parent.file_name().is_some_and(|name| name == "overlays"));
    let above = if let Some(above) = named.and_then(Path::parent) {
        above.to_path_buf()
    } else {
        let real = folder.canonicalize().map_err(|error| Failure::io("read the folder", folder, &error))?;
        let overlays = real.parent().filter(|parent| parent.file_name().is_some_and(|name| name == "overlays"));
        let Some(above) = overlays.and_then(Path::parent) else { return Ok(None) };
        above.to_path_buf()
    };
    let base = above.join("base");
    Ok(base.is_dir().then_some(base))
}
