//! Documents that must be refused. Each folder of `tests/invalid` is named after what is wrong and holds one
//! document and `expected`: a line per reason, the code and, for authored YAML, line and column. The harness
//! demands exactly these. What would be too large for a file is built below.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use autonomy_schema::author::{self, AuthoredManifest, Diagnostic, Located};
use autonomy_schema::backup::Backup;
use autonomy_schema::document::{Document, MAX_DOCUMENT_BYTES, parse};
use autonomy_schema::facts::Facts;
use autonomy_schema::floors::Floors;
use autonomy_schema::journal::Journal;
use autonomy_schema::lock::Lock;
use autonomy_schema::node::Node;
use autonomy_schema::plan_doc::PlanDoc;
use autonomy_schema::policy_override::PolicyOverride;
use autonomy_schema::receipt::Receipt;
use autonomy_schema::revocation::Revocation;
use autonomy_schema::root::TrustRoot;
use autonomy_schema::version::Kind;
use autonomy_schema::{Code, Reasons, StateManifest};

fn reject<T: Document>(bytes: &[u8]) -> Option<Reasons> {
    parse::<T>(bytes).err()
}

fn reject_kind(kind: Kind, bytes: &[u8]) -> Option<Reasons> {
    match kind {
        Kind::StateManifest => reject::<StateManifest>(bytes),
        Kind::Lock => reject::<Lock>(bytes),
        Kind::TrustRoot => reject::<TrustRoot>(bytes),
        Kind::Facts => reject::<Facts>(bytes),
        Kind::Plan => reject::<PlanDoc>(bytes),
        Kind::Journal => reject::<Journal>(bytes),
        Kind::Floors => reject::<Floors>(bytes),
        Kind::Node => reject::<Node>(bytes),
        Kind::Backup => reject::<Backup>(bytes),
        Kind::Receipt => reject::<Receipt>(bytes),
        Kind::Revocation => reject::<Revocation>(bytes),
        Kind::OsFingerprint => reject::<autonomy_schema::os::OsFingerprint>(bytes),
        Kind::Evidence => reject::<autonomy_schema::evidence::Evidence>(bytes),
        Kind::PolicyOverride => reject::<PolicyOverride>(bytes),
    }
}

/// As render reads it, without the files that it names.
fn reject_authored(file: &str, bytes: &[u8]) -> Vec<Diagnostic> {
    let read = || -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        let located = Located::parse_bytes(file, bytes)?;
        let authored = located.decode::<AuthoredManifest>(Kind::StateManifest)?;
        Ok(located.locate(author::check(&authored).expect("canonical")))
    };
    read().unwrap_or_else(|diagnostics| diagnostics)
}

fn shown(diagnostics: &[Diagnostic]) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics {
        let mark = diagnostic.mark.as_ref().expect("every diagnostic of a file has a place");
        assert!(!diagnostic.help.is_empty() && !diagnostic.message.is_empty());
        writeln!(text, "{} {}:{}", diagnostic.code, mark.line, mark.column).expect("writes");
    }
    text
}

/// What is found in a folder of the corpus.
fn found(folder: &Path) -> (String, String) {
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").path()).collect();
    files.retain(|path| path.file_name().is_some_and(|name| name != "expected"));
    let [file] = files.as_slice() else { panic!("{}: expected one document", folder.display()) };
    let name = file.file_name().and_then(|name| name.to_str()).expect("name");
    let bytes = std::fs::read(file).expect("reads");
    match name {
        "manifest.yaml" => {
            let diagnostics = reject_authored(name, &bytes);
            let messages = diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>();
            (shown(&diagnostics), messages.join("\n"))
        }
        "node.yaml" => {
            let text = std::str::from_utf8(&bytes).expect("UTF-8");
            let diagnostics = author::parse_plain::<Node>(name, text).expect_err("refused");
            let messages = diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>();
            (shown(&diagnostics), messages.join("\n"))
        }
        _ => {
            let kind = Kind::ALL.iter().find(|kind| format!("{kind}.json") == name).expect("named after its kind");
            let reasons = reject_kind(*kind, &bytes).map_or_else(Vec::new, Reasons::into_vec);
            let codes: Vec<_> = reasons.iter().map(|reason| reason.code.as_str()).collect();
            let lines = if codes.is_empty() { String::new() } else { codes.join("\n") + "\n" };
            (lines, reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        }
    }
}

#[test]
fn every_document_of_the_corpus_is_refused_with_the_very_reasons() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/invalid");
    let mut folders: Vec<_> =
        std::fs::read_dir(&corpus).expect("corpus").map(|entry| entry.expect("entry").path()).collect();
    folders.sort();
    let mut wrong = String::new();
    for folder in &folders {
        let expected = std::fs::read_to_string(folder.join("expected")).unwrap_or_default();
        let (got, messages) = found(folder);
        if got.is_empty() || got != expected {
            let name = folder.file_name().unwrap_or_default().display();
            writeln!(wrong, "{name}\n  expected: {expected:?}\n  found:    {got:?}\n  {messages}").expect("writes");
        }
    }
    assert!(folders.len() >= 45, "the corpus has {} documents", folders.len());
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn the_corpus_meets_every_code_that_a_document_can_earn() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/invalid");
    let mut met = BTreeSet::new();
    for folder in std::fs::read_dir(&corpus).expect("corpus") {
        let expected = std::fs::read_to_string(folder.expect("entry").path().join("expected")).expect("expected");
        met.extend(expected.lines().filter_map(|line| line.split(' ').next()?.parse::<Code>().ok()));
    }
    let earned = [
        Code::BadDigest,
        Code::BadDuration,
        Code::BadMode,
        Code::BadName,
        Code::BadTime,
        Code::BadValue,
        Code::CaseCollision,
        Code::DigestMismatch,
        Code::DuplicateKey,
        Code::LimitExceeded,
        Code::MissingField,
        Code::NotCanonical,
        Code::NotUtf8,
        Code::RoleMismatch,
        Code::Syntax,
        Code::UnknownCritical,
        Code::UnknownField,
        Code::UnknownVersion,
        Code::UnsafePath,
        Code::WrongType,
    ];
    for code in earned {
        assert!(met.contains(&code), "no document of the corpus is refused with {code}");
    }
}

fn codes_of(reasons: Option<Reasons>) -> Vec<Code> {
    reasons.map_or_else(Vec::new, Reasons::into_vec).iter().map(|reason| reason.code).collect()
}

#[test]
fn a_document_over_the_cap_is_refused_before_it_is_parsed() {
    let mut bytes = vec![b' '; MAX_DOCUMENT_BYTES + 1];
    assert_eq!(codes_of(reject::<StateManifest>(&bytes)), [Code::DocumentTooLarge]);
    let authored = reject_authored("m.yaml", &bytes);
    assert_eq!(authored.iter().map(|d| d.code).collect::<Vec<_>>(), [Code::DocumentTooLarge]);
    bytes[0] = 0xff;
    let authored = reject_authored("m.yaml", &bytes);
    assert_eq!(authored.iter().map(|d| d.code).collect::<Vec<_>>(), [Code::DocumentTooLarge]);
    // At the cap it is read.
    bytes[0] = b' ';
    bytes.truncate(MAX_DOCUMENT_BYTES);
    assert_eq!(codes_of(reject::<StateManifest>(&bytes)), [Code::Syntax]);
}

#[test]
fn nesting_at_the_cap_neither_overflows_the_stack_nor_takes_long() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let depth = MAX_DOCUMENT_BYTES / (open.len() + close.len()) - 1;
        let bomb = format!("{}1{}", open.repeat(depth), close.repeat(depth));
        assert_eq!(codes_of(reject::<StateManifest>(bomb.as_bytes())), [Code::LimitExceeded]);
        let codes: Vec<_> = reject_authored("m.yaml", bomb.as_bytes()).iter().map(|d| d.code).collect();
        assert_eq!(codes, [Code::LimitExceeded], "{open} {:?}", reject_authored("m.yaml", bomb.as_bytes()));
    }
}

#[test]
fn deep_paths_do_not_multiply() {
    // Three thousand paths of five hundred folders each: a copy of every prefix would take most of a gigabyte.
    let mut text = String::from(
        "apiVersion: autonomy/v1\nkind: StateManifest\nmetadata: {name: s, serial: 1, issuedAt: 2026-11-20T09:00:00Z, \
         expiresAt: 2027-02-20T09:00:00Z}\nspec:\n  scope: {fleet: f}\n  release: {version: 1.0.0}\n  policy: {source: p}\n  \
         artifacts:\n",
    );
    let folders = "a/".repeat(500);
    for at in 0..3000 {
        writeln!(text, "  - {{name: n{at}, path: {folders}f{at}, source: s}}").expect("writes");
    }
    let before = std::time::Instant::now();
    assert_eq!(reject_authored("m.yaml", text.as_bytes()), []);
    assert!(before.elapsed().as_secs() < 20, "took {:?}", before.elapsed());
}
