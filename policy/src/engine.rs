//! The Rego engine with everything taken out that is not a function of bundle and input.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use regorus::unstable::{Lexer, Module, Ref, Rule, TokenKind};
use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, Value};

use crate::{nesting, recursion};

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
        $result.map_err(|error| match error.downcast_ref::<regorus::LimitError>() {
            Some(regorus::LimitError::TimeLimitExceeded { .. }) => $crate::engine::Fault::Time,
            Some(
                regorus::LimitError::MemoryLimitExceeded { .. } | regorus::LimitError::RegexSizeLimitExceeded { .. },
            )
            | None => $crate::engine::Fault::Told($crate::engine::clipped(&error.to_string())),
        })
    };
}

pub(crate) use told;

pub(crate) fn clipped(message: &str) -> String {
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
        nesting::check(path, text)?;
        let package = told!(engine.add_policy(path.clone(), text.clone()))?;
        packages.insert(path.clone(), package);
    }
    recursion::check(engine.get_modules().iter().map(AsRef::as_ref))?;
    told!(engine.add_data(Value::from(data.clone())))?;
    Ok((engine, packages))
}

/// Whether the Rego is sound: syntax, unsafe variables, order of evaluation.
pub(crate) fn compile(modules: &BTreeMap<String, String>, data: &serde_json::Value) -> Result<(), Fault> {
    let (mut engine, _packages) = load(modules, data)?;
    told!(engine.eval_query("true".to_owned(), false)).map(|_| ())
}

/// A parsed module.
pub(crate) type ModuleRef = Ref<Module>;

/// A parsed rule.
pub(crate) type RuleRef = Ref<Rule>;

/// The parsed modules of an engine.
pub(crate) fn modules(engine: &mut Engine) -> Vec<ModuleRef> {
    engine.get_modules().clone()
}

/// Modules and data, compiled, with a timer that counts for each rule that is asked anew.
pub(crate) fn timed(
    modules: &BTreeMap<String, String>,
    data: &serde_json::Value,
    time: Duration,
) -> Result<Engine, Fault> {
    let (mut engine, _packages) = load(modules, data)?;
    ready(&mut engine, time)?;
    Ok(engine)
}

/// Sets the timer; and has the rules ordered and checked now, not within the first question.
fn ready(engine: &mut Engine, time: Duration) -> Result<(), Fault> {
    engine.set_execution_timer_config(ExecutionTimerConfig { limit: time, check_interval: CHECK_INTERVAL });
    told!(engine.eval_query("true".to_owned(), false)).map(|_| ())
}

/// The modules that take part in decisions: tests never do.
pub(crate) fn deciding(modules: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    modules.iter().filter(|(path, _)| !is_test(path)).map(|(path, text)| (path.clone(), text.clone())).collect()
}

/// What `allow` and `deny` of one package say. `None` is undefined.
pub(crate) struct Answer {
    pub(crate) allow: Option<Value>,
    pub(crate) deny: Option<Value>,
}

/// Whether a module declares the rule of this full path. The engine's selector is relative to the module's package,
/// and a rule may be written in a package above (`package autonomy`, `update.deny contains …`).
fn declared(engine: &Engine, packages: &Packages, rule: &str) -> Result<bool, Fault> {
    for (path, package) in packages {
        if let Some(relative) = rule.strip_prefix(package.as_str()).and_then(|rest| rest.strip_prefix('.'))
            && told!(engine.has_declared_rule_rooted_at(path, relative))?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Modules and data that are compiled, and one package of them that is asked.
#[derive(Clone)]
pub(crate) struct Ready {
    engine: Engine,
    allow: String,
    deny: Option<String>,
}

impl Ready {
    /// Compiles what takes part in decisions: tests (`*_test.rego`) never do. The timer counts for each rule anew; the caller
    /// bounds the whole. `None` when the package has no `allow`.
    pub(crate) fn new(
        modules: &BTreeMap<String, String>,
        data: &serde_json::Value,
        entry: &str,
        time: Duration,
    ) -> Result<Option<Self>, Fault> {
        let (mut engine, packages) = load(&deciding(modules), data)?;
        let (allow, deny) = (format!("data.{entry}.allow"), format!("data.{entry}.deny"));
        if !declared(&engine, &packages, &allow)? {
            return Ok(None);
        }
        let deny = declared(&engine, &packages, &deny)?.then_some(deny);
        ready(&mut engine, time)?;
        Ok(Some(Self { engine, allow, deny }))
    }

    pub(crate) fn ask(&mut self, input: Value) -> Result<Answer, Fault> {
        self.engine.set_input(input);
        let allow = self.value(self.allow.clone())?;
        let deny = match self.deny.clone() {
            Some(deny) => self.value(deny)?,
            None => None,
        };
        // What `print` said is for tests; here it would be kept for ever.
        told!(self.engine.take_prints())?;
        Ok(Answer { allow, deny })
    }

    /// The value of a rule; `None` is undefined.
    fn value(&mut self, rule: String) -> Result<Option<Value>, Fault> {
        let value = told!(self.engine.eval_rule(rule))?;
        Ok((value != Value::Undefined).then_some(value))
    }
}

/// The package of a module, such as `autonomy/tool`, without parsing the rest of it. Only the plain form is known: names
/// joined by dots, on the line of the word `package`.
pub(crate) fn package(path: &str, text: &str) -> Result<String, String> {
    let source = regorus::Source::from_contents(path.to_owned(), text.to_owned()).map_err(|error| error.to_string())?;
    let mut lexer = Lexer::new(&source);
    let mut next = || lexer.next_token().map_err(|error| clipped(&error.to_string()));
    let first = next()?;
    if first.0 != TokenKind::Ident || first.1.text() != "package" {
        return Err("it does not begin with its package".to_owned());
    }
    let mut package = String::new();
    let mut wants_name = true;
    loop {
        let token = next()?;
        let (word, on_line) = (token.1.text(), token.1.line == first.1.line);
        if wants_name && on_line && token.0 == TokenKind::Ident {
            package.push_str(word);
        } else if !wants_name && on_line && word == "." {
            package.push('/');
        } else if wants_name || on_line || matches!(word, "." | "[") {
            return Err("its package is not written as names joined by dots".to_owned());
        } else {
            return Ok(package);
        }
        wants_name = !wants_name;
    }
}

/// The same value.
pub(crate) fn value(input: &serde_json::Value) -> Value {
    Value::from(input.clone())
}

/// The value of a JSON text.
pub(crate) fn input(text: &str) -> Result<Value, Fault> {
    told!(Value::from_json_str(text))
}

/// Whether a module holds tests.
pub(crate) fn is_test(path: &str) -> bool {
    path.ends_with("_test.rego")
}
