//! The form that people write: YAML with places. A parse keeps file, line and column of every value through
//! merging, so that an error in a merged document still names the line that caused it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::document::{Document, MAX_DOCUMENT_BYTES, Problem, decode};
use crate::reason::{Code, Reason};
use crate::version::{ApiVersion, Kind};

mod manifest;
mod merge;
mod resolve;
mod yaml;

pub use manifest::{AuthoredArtifact, AuthoredInputs, AuthoredManifest, AuthoredPolicy, AuthoredRelease, AuthoredSpec};
pub use resolve::{BuiltLock, BuiltPolicy, Inputs, ResolveError, check, resolve};

/// A place in an authored file; line and column count from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// The file, as the caller named it.
    pub file: String,
    /// Line.
    pub line: u64,
    /// Column.
    pub column: u64,
}

/// What is wrong with an authored file, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    /// Where; absent when nothing of the file is to blame, such as a missing file.
    pub mark: Option<Mark>,
    /// The code.
    pub code: Code,
    /// The sentence.
    pub message: String,
    /// What would be right.
    pub help: String,
}

impl Diagnostic {
    /// The same as a reason, with the place in the sentence.
    pub fn to_reason(&self) -> Reason {
        let place = self.mark.as_ref().map_or_else(String::new, |m| format!("{}:{}:{}: ", m.file, m.line, m.column));
        Reason::new(self.code, format!("{place}{}", self.message)).with_remedy(self.help.clone())
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.to_reason(), f)
    }
}

/// A tree of values, each with its place, keyed by dotted path (`spec.artifacts.0.path`).
#[derive(Debug, Clone, PartialEq)]
pub struct Located {
    value: Value,
    marks: BTreeMap<String, Mark>,
}

impl Located {
    /// As [`Located::parse`], for bytes that may not be UTF-8.
    pub fn parse_bytes(file: &str, bytes: &[u8]) -> Result<Self, Vec<Diagnostic>> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::parse(file, text),
            Err(_) if bytes.len() > MAX_DOCUMENT_BYTES => Err(vec![too_large(file, bytes.len())]),
            Err(error) => {
                let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
                let line = good.matches('\n').count() as u64 + 1;
                let column = good.rsplit('\n').next().unwrap_or_default().chars().count() as u64 + 1;
                let mark = Mark { file: file.to_owned(), line, column };
                let message = format!("the bytes are not UTF-8 after byte {}", error.valid_up_to());
                let help = Code::NotUtf8.remedy().to_owned();
                Err(vec![Diagnostic { mark: Some(mark), code: Code::NotUtf8, message, help }])
            }
        }
    }

    /// Parses YAML: size, UTF-8 (by type), syntax, duplicate keys, alias bombs, number range.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<Diagnostic>> {
        if text.len() > MAX_DOCUMENT_BYTES {
            return Err(vec![too_large(file, text.len())]);
        }
        yaml::parse(file, text).map_err(|diagnostic| vec![diagnostic])
    }

    /// This document with `overlay` over it: RFC 7386, and lists of mappings with `name` or `id` merge by it.
    #[must_use]
    pub fn merged(mut self, overlay: Located) -> Self {
        merge::merge(&mut self, overlay);
        self
    }

    /// The place of the value at `path`, or of the nearest value around it.
    pub fn mark(&self, path: &str) -> Option<&Mark> {
        let mut path = path;
        loop {
            if let Some(mark) = self.marks.get(path) {
                return Some(mark);
            }
            match path.rsplit_once('.') {
                Some((head, _)) => path = head,
                None => return self.marks.get(""),
            }
        }
    }

    fn diagnostic(&self, path: &str, code: Code, message: String) -> Diagnostic {
        Diagnostic { mark: self.mark(path).cloned(), code, message, help: code.remedy().to_owned() }
    }

    /// Checks `apiVersion` and `kind`, decodes, and lists unknown fields.
    pub fn decode<T: DeserializeOwned>(&self, kind: Kind) -> Result<T, Vec<Diagnostic>> {
        if !self.value.is_object() {
            let message = format!("the document is no mapping; expected a {kind}");
            return Err(vec![self.diagnostic("", Code::WrongType, message)]);
        }
        let mut problems = self.header_problems(kind);
        match decode::<T>(self.value.clone()) {
            Ok((document, unknown)) => {
                problems.extend(self.unknown_fields(&unknown, kind));
                if problems.is_empty() { Ok(document) } else { Err(sorted(problems)) }
            }
            Err(Problem { path, code, message, unknown }) => {
                // The header's problems are told already, in better words.
                if problems.is_empty() || !is_of_header(&path, &message) {
                    let place = if path.is_empty() { String::new() } else { format!("`{path}`: ") };
                    problems.push(self.diagnostic(&path, code, format!("{place}{message}")));
                }
                problems.extend(self.unknown_fields(&unknown, kind));
                Err(sorted(problems))
            }
        }
    }

    /// Decodes a document that carries neither `apiVersion` nor `kind`, and lists unknown fields; `what` names it.
    pub fn decode_bare<T: DeserializeOwned>(&self, what: &str) -> Result<T, Vec<Diagnostic>> {
        match decode::<T>(self.value.clone()) {
            Ok((document, unknown)) if unknown.is_empty() => Ok(document),
            Ok((_, unknown)) => Err(self.unknown_fields(&unknown, what)),
            Err(Problem { path, code, message, unknown }) => {
                let place = if path.is_empty() { String::new() } else { format!("`{path}`: ") };
                let mut problems = vec![self.diagnostic(&path, code, format!("{place}{message}"))];
                problems.extend(self.unknown_fields(&unknown, what));
                Err(sorted(problems))
            }
        }
    }

    fn header_problems(&self, kind: Kind) -> Vec<Diagnostic> {
        let mut problems = Vec::new();
        match self.value.get("apiVersion").and_then(Value::as_str) {
            Some(text) if text.parse::<ApiVersion>().is_ok_and(|version| version.minor == 0) => {}
            Some(text) => problems.push(self.diagnostic(
                "apiVersion",
                Code::UnknownVersion,
                format!("`{}` is not a version this tool writes; expected `autonomy/v1`", text.escape_default()),
            )),
            None => problems.push(self.diagnostic(
                "",
                Code::MissingField,
                "no `apiVersion`; expected `autonomy/v1`".to_owned(),
            )),
        }
        match self.value.get("kind").and_then(Value::as_str) {
            Some(text) if text == kind.as_str() => {}
            Some(text) => problems.push(self.diagnostic(
                "kind",
                Code::RoleMismatch,
                format!("the kind is `{}`; expected `{kind}`", text.escape_default()),
            )),
            None => problems.push(self.diagnostic("", Code::MissingField, format!("no `kind`; expected `{kind}`"))),
        }
        problems
    }

    fn unknown_fields(&self, unknown: &BTreeSet<String>, what: impl fmt::Display) -> Vec<Diagnostic> {
        unknown
            .iter()
            .map(|path| self.diagnostic(path, Code::UnknownField, format!("`{path}` is not a field of {what}")))
            .collect()
    }

    /// Turns reasons that name a field in backticks first into diagnostics with the field's place.
    pub fn locate(&self, reasons: Vec<Reason>) -> Vec<Diagnostic> {
        let located = reasons.into_iter().map(|reason| {
            let field = reason.message.split('`').nth(1).unwrap_or_default();
            Diagnostic {
                mark: self.mark(field).cloned(),
                code: reason.code,
                message: reason.message,
                help: reason.remedy,
            }
        });
        sorted(located.collect())
    }
}

/// Parses a plain authored document (no `source:` fields), such as `node.yaml`.
pub fn parse_plain<T: Document>(file: &str, text: &str) -> Result<T, Vec<Diagnostic>> {
    let located = Located::parse(file, text)?;
    let document = located.decode::<T>(T::KIND)?;
    let reasons = document.validate();
    if reasons.is_empty() { Ok(document) } else { Err(located.locate(reasons)) }
}

fn is_of_header(path: &str, message: &str) -> bool {
    let fields = ["apiVersion", "kind"];
    fields.iter().any(|field| path == *field || (path.is_empty() && message.contains(&format!("field `{field}`"))))
}

fn too_large(file: &str, len: usize) -> Diagnostic {
    let mark = Mark { file: file.to_owned(), line: 1, column: 1 };
    let code = Code::DocumentTooLarge;
    let message = format!("the document has {len} bytes; the cap is {MAX_DOCUMENT_BYTES}");
    Diagnostic { mark: Some(mark), code, message, help: code.remedy().to_owned() }
}

fn sorted(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    diagnostics.sort();
    diagnostics.dedup();
    diagnostics
}
