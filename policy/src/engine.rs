//! The Rego engine with everything taken out that is not a function of bundle and input.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, LimitError, Value};

/// Built-in functions that rules may not call, with their number of arguments. Crate features leave out those that
/// open sockets or show the environment; these remain: the clock, randomness, and those that make much from little
/// within one call, where no budget can stop them.
const REFUSED: [(&str, u8, &str); 7] = [
    ("time.now_ns", 0, "`time.now_ns` differs from run to run; the clock is `input.facts.observed.clock`"),
    ("rand.intn", 2, "`rand.intn` is random; a decision must be reproducible"),
    ("numbers.range", 2, "`numbers.range` can fill the memory in one call; iterate over a list"),
    ("numbers.range_step", 3, "`numbers.range_step` can fill the memory in one call; iterate over a list"),
    ("net.cidr_expand", 1, "`net.cidr_expand` can fill the memory in one call; use `net.cidr_contains`"),
    ("graph.reachable_paths", 2, "`graph.reachable_paths` can fill the memory in one call; use `graph.reachable`"),
    ("bits.lsh", 2, "`bits.lsh` can fill the memory in one call"),
];

/// Rule evaluation looks at the clock each time this much work is done; small, so that slow built-ins count.
const CHECK_INTERVAL: NonZeroU32 = NonZeroU32::MIN;
/// Longest message of the engine that is passed on, in characters.
const MAX_MESSAGE: usize = 2_000;

/// Why the engine has no answer.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The execution timer ran out.
    Time,
    /// Anything else, as the engine tells it.
    Told(String),
}

/// The engine's own error type is not part of our dependencies, so its values are turned at once.
macro_rules! told {
    ($result:expr) => {
        $result.map_err(|error| match error.downcast_ref::<LimitError>() {
            Some(LimitError::TimeLimitExceeded { .. }) => Fault::Time,
            Some(LimitError::MemoryLimitExceeded { .. } | LimitError::RegexSizeLimitExceeded { .. }) | None => {
                Fault::Told(clipped(&error.to_string()))
            }
        })
    };
}

fn clipped(message: &str) -> String {
    let text = message.trim();
    let mut short: String = text.chars().take(MAX_MESSAGE).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// Module to package.
type Packages = BTreeMap<String, String>;

/// A call of a built-in function that is taken out.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(&'static str);

/// An engine with modules and data, and the package of each module (`data.autonomy.update`).
fn load(modules: &BTreeMap<String, String>, data: &serde_json::Value) -> Result<(Engine, Packages), Fault> {
    let mut engine = Engine::new();
    engine.set_rego_v0(false);
    engine.set_strict_builtin_errors(true);
    // Without this, `print` writes to stderr.
    engine.set_gather_prints(true);
    for (name, arguments, why) in REFUSED {
        let refuse = move |_: Vec<Value>| Err(Refused(why).into());
        told!(engine.add_extension(name.to_owned(), arguments, Box::new(refuse)))?;
    }
    let mut packages = Packages::new();
    for (path, text) in modules {
        let package = told!(engine.add_policy(path.clone(), text.clone()))?;
        packages.insert(path.clone(), package);
    }
    told!(engine.add_data(Value::from(data.clone())))?;
    Ok((engine, packages))
}

/// Whether the Rego is sound: syntax, unsafe variables, order of evaluation.
pub(crate) fn compile(modules: &BTreeMap<String, String>, data: &serde_json::Value) -> Result<(), Fault> {
    let (mut engine, _packages) = load(modules, data)?;
    told!(engine.eval_query("true".to_owned(), false)).map(|_| ())
}

/// What `allow` and `deny` of one package say. `None` is undefined.
pub(crate) struct Answer {
    pub(crate) allow: Option<Value>,
    pub(crate) deny: Option<Value>,
}

/// Whether a module of `package` declares `rule`, named within its package.
fn declared(engine: &Engine, packages: &Packages, package: &str, rule: &str) -> Result<bool, Fault> {
    for (path, _) in packages.iter().filter(|(_, of)| of.as_str() == package) {
        if told!(engine.has_declared_rule_rooted_at(path, rule))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Asks package `entry` (tests, `*_test.rego`, never take part) about `input`. The timer counts for each rule anew; the caller bounds the whole.
pub(crate) fn ask(
    modules: &BTreeMap<String, String>,
    data: &serde_json::Value,
    entry: &str,
    input: &str,
    time: Duration,
) -> Result<Option<Answer>, Fault> {
    let modules: BTreeMap<String, String> = modules
        .iter()
        .filter(|(path, _)| !path.ends_with("_test.rego"))
        .map(|(path, text)| (path.clone(), text.clone()))
        .collect();
    let (mut engine, packages) = load(&modules, data)?;
    engine.set_execution_timer_config(ExecutionTimerConfig { limit: time, check_interval: CHECK_INTERVAL });
    let package = format!("data.{entry}");
    if !declared(&engine, &packages, &package, "allow")? {
        return Ok(None);
    }
    let has_deny = declared(&engine, &packages, &package, "deny")?;
    let (allow, deny) = (format!("{package}.allow"), format!("{package}.deny"));
    engine.set_input(told!(Value::from_json_str(input))?);
    let defined = |value: Value| (value != Value::Undefined).then_some(value);
    let allow = defined(told!(engine.eval_rule(allow))?);
    let deny = if has_deny { defined(told!(engine.eval_rule(deny))?) } else { None };
    Ok(Some(Answer { allow, deny }))
}
