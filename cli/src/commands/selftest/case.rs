//! What is written in a corpus: the world that its attacks share (`_world/world.yaml`), and one attack
//! (`<name>/case.yaml`). Both are read strictly: an unknown or misspelt field is an error with its place.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Component, Path};

use autonomy_schema::Code;
use autonomy_schema::author::{Diagnostic, Located};
use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer};

use crate::failure::Failure;
use crate::files;

/// Largest file of either kind; an honest one has under 2 KiB.
const MAX_BYTES: u64 = 64 << 10;
/// Most steps of one case.
const MAX_STEPS: usize = 32;
/// Longest text that a case writes, times included.
const MAX_WRITTEN: u64 = 16 << 20;
/// Largest file that a case makes. It is sparse, so that it costs nothing.
const MAX_GROWN: u64 = 1 << 40;

/// `_world/world.yaml`: how the node of the corpus is made.
#[derive(Debug, Deserialize)]
pub(super) struct World {
    /// The verb line that makes the state root.
    pub(super) init: Verb,
    /// The verb line that activates the first release.
    pub(super) activate: Verb,
}

/// `<name>/case.yaml`.
#[derive(Debug, Deserialize)]
pub(super) struct Case {
    /// What the attacker does, and why it must fail.
    pub(super) story: String,
    /// The node that is attacked.
    #[serde(default)]
    pub(super) given: Given,
    /// What is done before, in this order.
    #[serde(default)]
    pub(super) prepare: Vec<Step>,
    /// The verb line that must be refused.
    #[serde(default = "apply")]
    pub(super) run: Verb,
    /// What must come of it.
    pub(super) expect: Expect,
}

fn apply() -> Verb {
    Verb(["apply", "set", "--auto-approve"].map(str::to_owned).to_vec())
}

/// The state of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Given {
    /// There is no state root.
    Nothing,
    /// The state root is initialized, and nothing was ever active.
    Fresh,
    /// The first release is active.
    #[default]
    Running,
}

/// What must come of it.
#[derive(Debug, Deserialize)]
pub(super) struct Expect {
    /// The exit code; 0 makes the case a control, which proves that the corpus does not refuse everything.
    pub(super) exit: u8,
    /// All reason codes, and no other.
    #[serde(default)]
    pub(super) codes: BTreeSet<CodeName>,
    /// A text that one of the reasons must hold, where the code alone says too little.
    #[serde(default)]
    pub(super) says: Option<String>,
    /// Whether the state root must have changed; else it must be as it was.
    #[serde(default)]
    pub(super) changes: bool,
}

/// A reason code, sorted by its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct CodeName(pub(super) Code);

impl Ord for CodeName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.as_str().cmp(other.0.as_str())
    }
}

impl PartialOrd for CodeName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for CodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// One thing that is done before the attack: what git cannot hold, or should not.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Step {
    /// Removes a file or folder.
    Remove(Inside),
    /// Makes a folder.
    Folder(Inside),
    /// Makes a named pipe.
    Fifo(Inside),
    /// Makes a symbolic link, in the place of what is there.
    Symlink {
        /// Where.
        path: Inside,
        /// Its text.
        to: String,
    },
    /// Copies a file or folder over what is there.
    Copy {
        /// What.
        from: Inside,
        /// Where to.
        to: Inside,
    },
    /// Writes a file.
    Write {
        /// Which.
        path: Inside,
        /// What it holds.
        text: String,
    },
    /// Adds a text to a file, many times over.
    Append {
        /// Which.
        path: Inside,
        /// The text.
        text: String,
        /// How often.
        #[serde(default = "once")]
        times: u64,
    },
    /// Replaces a text that occurs once in a file.
    Replace {
        /// Which.
        path: Inside,
        /// The text.
        text: String,
        /// What it becomes.
        with: String,
    },
    /// Makes a file this long; what it lacks are zeros that take no space.
    Grow {
        /// Which.
        path: Inside,
        /// How long.
        bytes: u64,
    },
    /// Runs a verb, which must succeed.
    Run(Verb),
    /// Puts `with` in the place of `path` as soon as the verb that is attacked opens `path` for the first time.
    SwapWhenOpened {
        /// Which.
        path: Inside,
        /// What comes in its place.
        with: Inside,
    },
}

fn once() -> u64 {
    1
}

/// A path below the folder of the case. Unlike [`autonomy_schema::RelPath`] it may hold what no honest name has.
#[derive(Debug)]
pub(super) struct Inside(String);

impl Inside {
    pub(super) fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl<'de> Deserialize<'de> for Inside {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let plain = Path::new(&text).components().all(|part| matches!(part, Component::Normal(_)));
        if text.is_empty() || text.contains('\0') || !plain {
            let shown = text.escape_default();
            return Err(de::Error::custom(format!(
                "unsafe_path: `{shown}` is not a path below the folder of the case"
            )));
        }
        Ok(Self(text))
    }
}

/// A verb of this program with its arguments.
#[derive(Debug)]
pub(super) struct Verb(Vec<String>);

impl Verb {
    pub(super) fn arguments(&self) -> &[String] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Verb {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let arguments = Vec::<String>::deserialize(deserializer)?;
        let wrong = |why: &str| Err(de::Error::custom(format!("bad_value: {why}")));
        match arguments.first().map(String::as_str) {
            None | Some("") => {
                return wrong("expected a verb and its arguments, such as `[apply, set, --auto-approve]`");
            }
            Some("selftest") => return wrong("a case cannot run `selftest` again"),
            Some(_) => {}
        }
        if arguments.iter().any(|argument| argument.starts_with("--state-root")) {
            return wrong("the state root of a case is always its own: leave `--state-root` out");
        }
        Ok(Self(arguments))
    }
}

impl Case {
    /// Reads the case in `folder`.
    pub(super) fn read(folder: &Path) -> Result<Self, Failure> {
        let (case, located, text) = read::<Self>(&folder.join("case.yaml"), "a case")?;
        let problems = case.problems();
        if problems.is_empty() {
            return Ok(case);
        }
        let (file, text) = text;
        let reasons = problems.into_iter().map(|message| autonomy_schema::Reason::new(Code::BadValue, message));
        let diagnostics = located.locate(reasons.collect());
        Err(Failure::Authored { diagnostics, texts: BTreeMap::from([(file, text)]) })
    }

    /// Whether it must be accepted.
    pub(super) fn is_control(&self) -> bool {
        self.expect.exit == 0
    }

    /// What is wrong beyond types.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let expect = &self.expect;
        if self.story.trim().is_empty() {
            problems.push("`story` is empty: say what the attacker does, and why it must fail".to_owned());
        }
        if self.is_control() != expect.codes.is_empty() {
            let message = "`expect` needs `codes` for a refusal, and none for an exit code of 0";
            problems.push(message.to_owned());
        }
        if self.prepare.len() > MAX_STEPS {
            problems.push(format!("`prepare` has {} steps; at most {MAX_STEPS}", self.prepare.len()));
        }
        for (at, step) in self.prepare.iter().enumerate() {
            match step {
                Step::Append { text, times, .. } if (text.len() as u64).saturating_mul(*times) > MAX_WRITTEN => {
                    problems.push(format!("`prepare.{at}` would write more than {MAX_WRITTEN} bytes; use `grow`"));
                }
                Step::Grow { bytes, .. } if *bytes > MAX_GROWN => {
                    problems.push(format!("`prepare.{at}` would make a file of more than {MAX_GROWN} bytes"));
                }
                Step::Remove(_)
                | Step::Folder(_)
                | Step::Fifo(_)
                | Step::Symlink { .. }
                | Step::Copy { .. }
                | Step::Write { .. }
                | Step::Append { .. }
                | Step::Replace { .. }
                | Step::Grow { .. }
                | Step::Run(_)
                | Step::SwapWhenOpened { .. } => {}
            }
        }
        problems
    }
}

impl World {
    /// Reads the world in `folder`.
    pub(super) fn read(folder: &Path) -> Result<Self, Failure> {
        read(&folder.join("world.yaml"), "a world").map(|(world, ..)| world)
    }
}

type Text = (String, String);

fn read<T: DeserializeOwned>(path: &Path, what: &str) -> Result<(T, Located, Text), Failure> {
    let bytes = files::read(path, MAX_BYTES)?;
    let file = path.display().to_string();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let authored = |diagnostics: Vec<Diagnostic>| Failure::Authored {
        diagnostics,
        texts: BTreeMap::from([(file.clone(), text.clone())]),
    };
    let located = Located::parse_bytes(&file, &bytes).map_err(authored)?;
    let document = located.decode_bare(what).map_err(authored)?;
    Ok((document, located, (file, text)))
}
