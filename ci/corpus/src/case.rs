//! One case, and how it is written down.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

/// Files by path, as in a set or in the folder of a case.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// The line that marks a case as written by this program, which may then replace or remove it.
pub(crate) const MARK: &str = "# Written by examples/hostile/generate: change ci/corpus, and run it again.\n";
/// Columns of a story.
const WIDTH: usize = 112;

/// One case of the corpus.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) story: &'static str,
    given: &'static str,
    pub(crate) files: Files,
    prepare: Vec<(&'static str, Value)>,
    run: Vec<&'static str>,
    pub(crate) exit: u8,
    pub(crate) codes: Vec<&'static str>,
    says: Option<&'static str>,
    changes: bool,
}

/// An attack on the node that runs the first release, by `apply set`.
pub(crate) fn attack(name: &'static str, exit: u8, codes: &[&'static str], story: &'static str) -> Case {
    let mut codes = codes.to_vec();
    codes.sort_unstable();
    Case {
        name,
        story,
        given: "running",
        files: Files::new(),
        prepare: Vec::new(),
        run: Vec::new(),
        exit,
        codes,
        says: None,
        changes: false,
    }
}

/// What must be accepted, and changes the node.
pub(crate) fn control(name: &'static str, story: &'static str) -> Case {
    Case { changes: true, ..attack(name, 0, &[], story) }
}

impl Case {
    /// The node: `nothing`, `fresh` or `running`.
    pub(crate) fn given(mut self, given: &'static str) -> Self {
        self.given = given;
        self
    }

    /// The set that is attacked with: only what differs from `next` is written.
    pub(crate) fn set(mut self, next: &Files, set: Files) -> Self {
        for gone in next.keys().filter(|path| !set.contains_key(*path)) {
            self.prepare.push(("remove", format!("set/{gone}").into()));
        }
        let differ = set.into_iter().filter(|(path, bytes)| next.get(path) != Some(bytes));
        self.files.extend(differ.map(|(path, bytes)| (format!("set/{path}"), bytes)));
        self
    }

    /// A file beside the set.
    pub(crate) fn file(mut self, path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path.into(), bytes.into());
        self
    }

    /// A step that is taken before.
    pub(crate) fn step(mut self, what: &'static str, arguments: impl Into<Value>) -> Self {
        self.prepare.push((what, arguments.into()));
        self
    }

    /// The verb line, instead of `apply set --auto-approve`.
    pub(crate) fn run(mut self, line: &[&'static str]) -> Self {
        self.run = line.to_vec();
        self
    }

    /// A text that a reason must hold.
    pub(crate) fn says(mut self, text: &'static str) -> Self {
        self.says = Some(text);
        self
    }

    /// An accepted verb that changes nothing.
    pub(crate) fn unchanged(mut self) -> Self {
        self.changes = false;
        self
    }

    /// `case.yaml`.
    pub(crate) fn yaml(&self) -> String {
        let mut text = format!("{MARK}story: >-\n{}", folded(self.story));
        let mut add = |line: String| {
            text.push_str(&line);
            text.push('\n');
        };
        if self.given != "running" {
            add(format!("given: {}", self.given));
        }
        if !self.prepare.is_empty() {
            add("prepare:".to_owned());
            for (what, arguments) in &self.prepare {
                add(format!("  - {what}: {}", flow(arguments)));
            }
        }
        if !self.run.is_empty() {
            add(format!("run: {}", list(&self.run)));
        }
        add("expect:".to_owned());
        add(format!("  exit: {}", self.exit));
        if !self.codes.is_empty() {
            add(format!("  codes: {}", list(&self.codes)));
        }
        if let Some(says) = self.says {
            add(format!("  says: {}", scalar(says)));
        }
        if self.changes {
            add("  changes: true".to_owned());
        }
        text
    }
}

fn folded(story: &str) -> String {
    let mut text = String::new();
    let mut line = String::from(" ");
    for word in story.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = String::from(" ");
        }
        line.push(' ');
        line.push_str(word);
    }
    text + &line + "\n"
}

fn list(items: &[&str]) -> String {
    format!("[{}]", items.iter().map(|item| scalar(item)).collect::<Vec<_>>().join(", "))
}

fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| format!("{key}: {}", flow(value)));
            format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// A text: plain where nobody could read it otherwise, else quoted with everything strange escaped.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '=');
    let starts = text.starts_with(|c: char| c.is_ascii_lowercase()) || text.starts_with("--");
    if starts && text.chars().all(plain) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            ' '..='~' => quoted.push(c),
            // Writing to a string cannot fail.
            other => _ = write!(quoted, "\\U{:08X}", u32::from(other)),
        }
    }
    quoted.push('"');
    quoted
}
