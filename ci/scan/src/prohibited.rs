//! Runs every source rule over every file.

use std::path::Path;

use crate::activation;
use crate::behaviour::has_behaviour;
use crate::files::{SourceFile, collect};
use crate::finding::{Finding, ScanError};
use crate::rules::{
    MACHINE_PATHS, MACROS, MAX_LIB_LINES, MAX_LINES, NAMES, NameRule, PATHS, PathRule, REGISTRIES, UNSAFE, WORDS,
};
use crate::tokens::{self, Kind, Seen};

/// The room of activation (INV-06).
const ACTIVATION: &str = "apply/src/activate.rs";

/// Scans the files below `root`.
pub(crate) fn scan(root: &Path) -> Result<(Vec<Finding>, String), ScanError> {
    let files = collect(root)?;
    let mut findings = Vec::new();
    for file in &files {
        findings.extend(text_findings(file));
        findings.extend(length_findings(file));
        if file.is_rust() {
            findings.extend(token_findings(file));
        }
    }
    findings.extend(crate_findings(&files));
    Ok((findings, format!("{} files", files.len())))
}

/// Words, machine paths and registry hosts, line by line.
fn text_findings(file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        let mut found = |rule, what: &str| findings.push(Finding::on(&file.path, at + 1, rule, format!("`{what}`")));
        if file.is_code() {
            for word in WORDS.iter().filter(|word| has_word(line, word)) {
                found("unfinished", word);
            }
        }
        for path in MACHINE_PATHS.iter().filter(|path| has_path(line, path)) {
            found("machine-path", path);
        }
        for host in REGISTRIES.iter().filter(|host| line.contains(**host)) {
            found("registry", host);
        }
    }
    findings
}

fn has_word(line: &str, word: &str) -> bool {
    let part_of_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        !part_of_word(before.chars().next_back()) && !part_of_word(after.chars().next())
    })
}

/// Whether an absolute path starts with `path` in this line, rather than a relative one holding the same words.
fn has_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '}' | '*' | '~' | ')'))
    })
}

fn length_findings(file: &SourceFile) -> Vec<Finding> {
    let lines = file.text.lines().count();
    let limit = if file.path.ends_with("src/lib.rs") { MAX_LIB_LINES } else { MAX_LINES };
    if file.is_code() && lines > limit {
        return vec![Finding::at(&file.path, "too-long", format!("{lines} lines; the limit is {limit}"))];
    }
    Vec::new()
}

fn token_findings(file: &SourceFile) -> Vec<Finding> {
    let seen = match tokens::read(&file.text) {
        Ok(seen) => seen,
        Err(error) => return vec![Finding::at(&file.path, "unreadable", error)],
    };
    let rules: Vec<&PathRule> = PATHS.iter().filter(|rule| binds(rule.crates, rule.except, file)).collect();
    let names: Vec<&NameRule> = NAMES.iter().filter(|rule| binds(rule.crates, &[], file)).collect();
    let mut findings = Vec::new();
    let mut unsafe_allowed = UNSAFE.iter().find(|(path, _)| *path == file.path).map_or(0, |(_, count)| *count);
    for Seen { kind, line, in_test } in seen {
        let mut found = |rule, what: String| findings.push(Finding::on(&file.path, line, rule, what));
        match kind {
            Kind::Ignore => found("ignored-test", "a test that is not run proves nothing".to_owned()),
            Kind::Unsafe if unsafe_allowed > 0 => unsafe_allowed -= 1,
            Kind::Unsafe => found("unsafe", "the keyword `unsafe`".to_owned()),
            Kind::Macro(name) if MACROS.contains(&name.as_str()) => found("unfinished", format!("`{name}!`")),
            Kind::Path(segments) if !in_test => {
                for rule in rules.iter().filter(|rule| rule.paths.iter().any(|path| leads(path, &segments))) {
                    found(rule.name, format!("`{}`", segments.join("::")));
                }
                for rule in &names {
                    for segment in segments.iter().filter(|name| rule.words.iter().any(|word| says(name, word))) {
                        found(rule.name, format!("`{segment}`"));
                    }
                }
            }
            Kind::Macro(_) | Kind::Path(_) => {}
        }
    }
    findings
}

/// Rules about code bind what is compiled into the crate; its test files are free.
fn binds(crates: &[&str], except: &[&str], file: &SourceFile) -> bool {
    let in_crate = crates.iter().any(|folder| file.below(folder).is_some_and(|rest| rest.starts_with("src/")));
    let test_file = file.path.ends_with("/tests.rs") || file.path.contains("/tests/");
    in_crate && !test_file && !except.contains(&file.path.as_str())
}

/// Whether a name has `word` among its words, or as several of them, or in the plural.
fn says(name: &str, word: &str) -> bool {
    let words = words(name);
    (0..words.len()).any(|from| {
        let mut joined = String::new();
        words[from..].iter().any(|part| {
            joined.push_str(part);
            joined == word || joined.strip_suffix('s') == Some(word)
        })
    })
}

/// The words of `snake_case`, `CamelCase` and `UPPER_CASE`, in small letters.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut before = '_';
    for c in name.chars() {
        let begins = !before.is_alphanumeric() || c.is_uppercase() && !before.is_uppercase();
        match words.last_mut() {
            Some(word) if c.is_alphanumeric() && !begins => word.extend(c.to_lowercase()),
            Some(_) | None if c.is_alphanumeric() => words.push(c.to_lowercase().collect()),
            Some(_) | None => {}
        }
        before = c;
    }
    words
}

fn leads(rule: &[&str], segments: &[String]) -> bool {
    match rule {
        ["*", tail @ ..] => {
            segments.len() > tail.len() && segments.iter().rev().zip(tail.iter().rev()).all(|(a, b)| a == b)
        }
        _ => segments.len() >= rule.len() && segments.iter().zip(rule).all(|(a, b)| a == b),
    }
}

/// Rules about whole crates: behaviour, and the parameters of activation.
fn crate_findings(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let manifests = files.iter().filter(|file| file.path.ends_with("/Cargo.toml"));
    for manifest in manifests.filter(|file| file.text.lines().any(|line| line.trim() == "[package]")) {
        let folder = manifest.path.trim_end_matches("/Cargo.toml");
        let sources = files.iter().filter(|file| {
            file.is_rust()
                && file.below(folder).is_some_and(|rest| rest.starts_with("src/"))
                && !file.path.ends_with("/tests.rs")
        });
        // What does not parse has a finding of its own below, or does not compile.
        if !sources.filter_map(|file| syn::parse_file(&file.text).ok()).any(|file| has_behaviour(&file)) {
            findings.push(Finding::at(folder, "empty-crate", "no function in src/ does anything"));
        }
        if folder == "apply" {
            findings.extend(activation_findings(files));
        }
    }
    findings
}

fn activation_findings(files: &[SourceFile]) -> Vec<Finding> {
    let Some(file) = files.iter().find(|file| file.path == ACTIVATION) else {
        return vec![Finding::at(ACTIVATION, "INV-06", "is missing; the activation functions live here")];
    };
    match syn::parse_file(&file.text) {
        Ok(parsed) => activation::findings(ACTIVATION, &parsed),
        Err(error) => vec![Finding::at(ACTIVATION, "unreadable", error.to_string())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_paths_match_where_they_can_start() {
        assert!(has_word("// AB: x", "AB"));
        assert!(!has_word("mktemp CABAB", "AB"));
        assert!(has_path("cd /srv/x", "/srv/"));
        assert!(has_path("\"/srv/x\"", "/srv/"));
        assert!(!has_path("bench/srv/x", "/srv/"));
        assert!(!has_path("$DIR/srv/${x}/srv/", "/srv/"));
    }

    #[test]
    fn a_name_says_its_words_and_no_others() {
        for name in ["VectorClock", "vector_clocks", "MAX_VECTOR_CLOCK", "vectorclock", "MyVectorClockThing"] {
            assert!(says(name, "vectorclock"), "{name}");
        }
        for name in ["operand", "branding", "Aircraft", "cleaders"] {
            assert!(["rand", "raft", "leader"].iter().all(|word| !says(name, word)), "{name}");
        }
        assert!(says("RAFT_LOG", "raft") && says("raft", "raft") && says("r#leader", "leader"));
    }

    #[test]
    fn a_rule_covers_what_lies_below_it() {
        let segments = |text: &str| text.split("::").map(str::to_owned).collect::<Vec<_>>();
        assert!(leads(&["std", "net"], &segments("std::net::TcpStream")));
        assert!(!leads(&["std", "net"], &segments("std::new")));
        assert!(leads(&["*", "now"], &segments("jiff::Timestamp::now")));
        assert!(!leads(&["*", "now"], &segments("now")));
    }
}
