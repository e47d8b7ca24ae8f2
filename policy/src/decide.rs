//! `decide`: one question, one answer, within a budget. Whatever is not a clean answer is an error, and an error is a
//! no.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use autonomy_schema::reason::{Code, Reason};
use regorus::Value as Rego;
use serde_json::Value;

use crate::bundle::Bundle;
use crate::engine::{self, Answer, Fault, Ready};

/// How often the evaluating thread is looked after.
const LOOK: Duration = Duration::from_millis(5);
/// Stack of the evaluating thread: rules nest as deep as there are rules (`recursion::MAX_RULES`), and a level takes
/// about 5 KiB, several times that with nested expressions. Only what is touched is ever real.
pub const STACK_BYTES: usize = 128 << 20;

/// What one decision may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Wall-clock time of the whole evaluation, parsing included.
    pub time: Duration,
    /// Growth of the process's resident memory while it runs. Looked at every few milliseconds, so it is overstepped
    /// by what is written in between.
    pub memory_bytes: u64,
    /// Size of the input as JSON.
    pub input_bytes: usize,
    /// Number of deny messages.
    pub messages: usize,
    /// Length of one deny message.
    pub message_bytes: usize,
}

impl Budget {
    /// For an update: rare, with a manifest, plan and facts of up to 20,000 artifacts, on slow nodes too.
    pub const UPDATE: Budget = Budget {
        time: Duration::from_secs(5),
        memory_bytes: 512 << 20,
        input_bytes: 64 << 20,
        messages: 1_000,
        message_bytes: 4_096,
    };

    /// For a call of a tool: many a second, each small. Only one that loops comes near the time; what a rule can write into
    /// memory meanwhile is bounded by it.
    pub const TOOL: Budget = Budget {
        time: Duration::from_millis(250),
        memory_bytes: 256 << 20,
        input_bytes: 4 << 20,
        messages: 100,
        message_bytes: 4_096,
    };
}

/// What the policy said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether `allow` is true.
    pub allow: bool,
    /// The `deny` messages, sorted.
    pub deny: Vec<String>,
}

impl Decision {
    /// Deny wins.
    pub fn permits(&self) -> bool {
        self.allow && self.deny.is_empty()
    }
}

/// Why there is no decision. Each of them refuses.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// The bundle demands another version of this tool.
    #[error("the policy needs version `{0}` of this tool")]
    Runtime(String),
    /// The question names no package.
    #[error("`{0}` is no package name such as `autonomy.update`")]
    Entry(String),
    /// The input cannot be written as JSON.
    #[error("the input cannot be written")]
    Input(#[source] serde_json::Error),
    /// The input is too large.
    #[error("the input has {0} bytes; at most {1}")]
    InputTooLarge(usize, usize),
    /// Nobody answers.
    #[error("the policy has no rule `data.{0}.allow`")]
    MissingRule(String),
    /// Rego that does not compile, or an error while it ran.
    #[error("the policy failed: {0}")]
    Rego(String),
    /// Too long.
    #[error("the policy gave no answer within {0:?}")]
    Time(Duration),
    /// Too much memory.
    #[error("the policy took more than {0} bytes of memory")]
    Memory(u64),
    /// `allow` is something else.
    #[error("`data.{0}.allow` is not a boolean")]
    NotBoolean(String),
    /// `deny` is something else.
    #[error("`data.{0}.deny` is not a set of strings")]
    NotStrings(String),
    /// Too many or too long messages.
    #[error("`data.{0}.deny` holds too many or too long messages")]
    ResultTooLarge(String),
    /// No thread.
    #[error("the evaluation cannot be started")]
    Thread(#[source] io::Error),
    /// The engine broke.
    #[error("the policy engine broke off")]
    Broken,
}

impl EvalError {
    /// The refusal that it is.
    pub fn to_reason(&self) -> Reason {
        let cause = std::error::Error::source(self).map_or_else(String::new, |source| format!(": {source}"));
        Reason::new(Code::PolicyError, format!("{self}{cause}"))
    }
}

/// Asks `data.<entry>` of the bundle about `input`: boolean `allow`, and `deny`, a set of strings that may be absent.
///
/// The evaluation runs on a thread of its own. One that oversteps its budget inside a single built-in call cannot be
/// stopped: it is left behind and its answer never taken. A long-lived process should ask a [`Prepared`](crate::Prepared).
pub fn decide(bundle: &Bundle, entry: &str, input: &Value, budget: &Budget) -> Result<Decision, EvalError> {
    check(bundle, entry)?;
    let text = serde_json::to_string(input).map_err(EvalError::Input)?;
    if text.len() > budget.input_bytes {
        return Err(EvalError::InputTooLarge(text.len(), budget.input_bytes));
    }
    let question = Question {
        modules: bundle.modules().clone(),
        data: bundle.data().clone(),
        entry: entry.to_owned(),
        input: text,
        budget: *budget,
    };
    on_thread(Limits { time: budget.time, memory_bytes: budget.memory_bytes }, move || question.answer())
}

/// What a piece of work on a thread of its own may cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) time: Duration,
    pub(crate) memory_bytes: u64,
}

/// Does `work` on a thread with a stack that is deep enough for rules, within its limits.
pub(crate) fn on_thread<T: Send + 'static>(
    limits: Limits,
    work: impl FnOnce() -> Result<T, EvalError> + Send + 'static,
) -> Result<T, EvalError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("policy".to_owned())
        .stack_size(STACK_BYTES)
        // The receiver is gone when the budget is overstepped, and then nobody wants the answer.
        .spawn(move || drop(sender.send(work())))
        .map_err(EvalError::Thread)?;
    wait(&receiver, limits)
}

/// Whether a bundle can be asked about a package by this version of the tool.
pub(crate) fn check(bundle: &Bundle, entry: &str) -> Result<(), EvalError> {
    if entry.is_empty() || !entry.split('.').all(is_word) {
        return Err(EvalError::Entry(entry.chars().take(80).collect()));
    }
    check_version(bundle)
}

/// Whether this version of the tool may evaluate the bundle.
pub(crate) fn check_version(bundle: &Bundle) -> Result<(), EvalError> {
    let manifest = bundle.manifest();
    let tool = autonomy_schema::version::TOOL_VERSION;
    let fits = semver::Version::parse(tool).is_ok_and(|tool| bundle.fits(&tool).unwrap_or(false));
    if fits { Ok(()) } else { Err(EvalError::Runtime(manifest.required_runtime_version.clone().unwrap_or_default())) }
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// What the evaluating thread owns.
struct Question {
    modules: BTreeMap<String, String>,
    data: Value,
    entry: String,
    input: String,
    budget: Budget,
}

impl Question {
    fn answer(self) -> Result<Decision, EvalError> {
        let fault = |fault| EvalError::of(fault, &self.budget);
        let ready = Ready::new(&self.modules, &self.data, &self.entry, self.budget.time).map_err(fault)?;
        let mut ready = ready.ok_or_else(|| EvalError::MissingRule(self.entry.clone()))?;
        let input = engine::input(&self.input).map_err(fault)?;
        read(&ready.ask(input).map_err(fault)?, &self.entry, &self.budget)
    }
}

impl EvalError {
    pub(crate) fn of(fault: Fault, budget: &Budget) -> Self {
        match fault {
            Fault::Time => Self::Time(budget.time),
            Fault::Told(message) => Self::Rego(message),
        }
    }
}

/// What an answer means; whatever is not of its type is an error.
pub(crate) fn read(answer: &Answer, entry: &str, budget: &Budget) -> Result<Decision, EvalError> {
    let allow = match &answer.allow {
        None => false,
        Some(value) => match value.as_bool() {
            Ok(allow) => *allow,
            Err(_not_boolean) => return Err(EvalError::NotBoolean(entry.to_owned())),
        },
    };
    let deny = match &answer.deny {
        None => BTreeSet::new(),
        Some(value) => strings(value).ok_or_else(|| EvalError::NotStrings(entry.to_owned()))?,
    };
    let too_long = |message: &&str| message.len() > budget.message_bytes;
    if deny.len() > budget.messages || deny.iter().any(too_long) {
        return Err(EvalError::ResultTooLarge(entry.to_owned()));
    }
    Ok(Decision { allow, deny: deny.into_iter().map(str::to_owned).collect() })
}

fn strings(value: &Rego) -> Option<BTreeSet<&str>> {
    let set = value.as_set().ok()?;
    set.iter().map(|item| item.as_string().ok().map(|text| &**text)).collect()
}

/// Waits for the answer, and gives up when time or memory is overstepped.
fn wait<T>(receiver: &Receiver<Result<T, EvalError>>, budget: Limits) -> Result<T, EvalError> {
    let start = Instant::now();
    let before = resident_bytes();
    loop {
        match receiver.recv_timeout(LOOK) {
            Ok(answer) => return answer,
            Err(RecvTimeoutError::Disconnected) => return Err(EvalError::Broken),
            Err(RecvTimeoutError::Timeout) => {}
        }
        // A little more than the engine's own timer, which gives the better message.
        if start.elapsed() > budget.time + budget.time / 4 {
            return Err(EvalError::Time(budget.time));
        }
        if resident_bytes().saturating_sub(before) > budget.memory_bytes {
            return Err(EvalError::Memory(budget.memory_bytes));
        }
    }
}

/// Resident bytes of this process; 0 where the platform does not say.
pub fn resident_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: Option<u64> = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}
