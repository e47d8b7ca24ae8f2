//! A query of any kind, and which rules were evaluated for its answer: for people, who wonder why.

use regorus::Value as Rego;
use regorus::unstable::{Module, Rule, RuleHead};
use serde_json::Value;

use crate::bundle::Bundle;
use crate::decide::{Budget, EvalError, Limits, check_version, on_thread};
use crate::engine::{self, Fault, ModuleRef, told};
use crate::{nesting, testing};

/// Most rules that are told.
const MAX_RULES: usize = 1_000;

/// What became of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It has this value.
    Value(Value),
    /// It has none: a condition did not hold.
    Undefined,
    /// It is a function, and was called.
    Called,
    /// It is a default.
    Default,
}

/// A rule of which something was evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruled {
    /// `data.<package>.<rule>`.
    pub name: String,
    /// Where it is written.
    pub file: String,
    /// The line of its head.
    pub line: u32,
    /// What became of it.
    pub outcome: Outcome,
}

/// The answer to a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluated {
    /// The values of its last expression, one for each way in which it holds; none when it is undefined.
    pub values: Vec<Value>,
    /// The rules that were evaluated, by file and line.
    pub rules: Vec<Ruled>,
}

/// Evaluates a query such as `data.autonomy.tool.allow` about an input. Tests (`*_test.rego`) take no part.
pub fn evaluate(bundle: &Bundle, query: &str, input: &Value) -> Result<Evaluated, EvalError> {
    check_version(bundle)?;
    let text = serde_json::to_string(input).map_err(EvalError::Input)?;
    let Budget { time, memory_bytes, input_bytes, .. } = Budget::UPDATE;
    if text.len() > input_bytes {
        return Err(EvalError::InputTooLarge(text.len(), input_bytes));
    }
    let (bundle, query) = (bundle.clone(), query.to_owned());
    on_thread(Limits { time, memory_bytes }, move || {
        answer(&bundle, &query, &text).map_err(|fault| EvalError::of(fault, &Budget::UPDATE))
    })
}

fn answer(bundle: &Bundle, query: &str, input: &str) -> Result<Evaluated, Fault> {
    nesting::check("query", query)?;
    let mut engine = engine::timed(&engine::deciding(bundle.modules()), bundle.data(), Budget::UPDATE.time)?;
    engine.set_input(engine::input(input)?);
    let bare = engine.clone();
    engine.set_enable_coverage(true);
    let results = told!(engine.eval_query(query.to_owned(), false))?;
    let mut values = Vec::new();
    for result in results.result {
        let Some(last) = result.expressions.last() else { continue };
        if result.expressions.iter().any(|expression| expression.value == Rego::Undefined) {
            continue;
        }
        values.push(json(&last.value)?);
    }
    let reached = testing::reached(&engine)?;
    let mut rules = Vec::new();
    for module in engine::modules(&mut engine) {
        let file = module.package.refr.span().source.file().clone();
        let Some((covered, _)) = reached.get(&file) else { continue };
        for rule in module.policy.iter().filter(|rule| lines(rule).iter().any(|line| covered.contains(line))) {
            if rules.len() < MAX_RULES {
                let (name, line) = head(&module, rule);
                let outcome = outcome(&bare, &module, rule, &name)?;
                rules.push(Ruled { name, file: file.clone(), line, outcome });
            }
        }
    }
    rules.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    Ok(Evaluated { values, rules })
}

fn json(value: &Rego) -> Result<Value, Fault> {
    serde_json::to_value(value).map_err(|error| Fault::Told(error.to_string()))
}

/// The lines of what is evaluated when a rule is.
fn lines(rule: &Rule) -> Vec<u32> {
    match rule {
        Rule::Default { value, .. } => vec![value.span().line],
        Rule::Spec { head, bodies, .. } => {
            let value = match head {
                RuleHead::Compr { assign, .. } | RuleHead::Func { assign, .. } => {
                    assign.as_ref().map(|assign| assign.value.span().line)
                }
                RuleHead::Set { key, .. } => key.as_ref().map(|key| key.span().line),
            };
            let statements = bodies.iter().flat_map(|body| &body.query.stmts).map(|statement| statement.span.line);
            value.into_iter().chain(statements).collect()
        }
    }
}

/// The full name of a rule, and its line.
fn head(module: &Module, rule: &Rule) -> (String, u32) {
    let refr = match rule {
        Rule::Default { refr, .. }
        | Rule::Spec {
            head: RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. } | RuleHead::Func { refr, .. },
            ..
        } => refr,
    };
    let span = refr.span();
    (format!("data.{}.{}", module.package.refr.span().text(), span.text()), span.line)
}

/// What this one rule comes to, without the others of its name.
fn outcome(bare: &regorus::Engine, module: &ModuleRef, rule: &engine::RuleRef, name: &str) -> Result<Outcome, Fault> {
    match rule.as_ref() {
        Rule::Default { .. } => return Ok(Outcome::Default),
        Rule::Spec { head: RuleHead::Func { .. }, .. } => return Ok(Outcome::Called),
        Rule::Spec { head: RuleHead::Compr { .. } | RuleHead::Set { .. }, .. } => {}
    }
    let mut alone = bare.clone();
    let data = told!(alone.eval_rule_in_module(module, rule, false))?;
    let mut value = &data;
    // A head such as `role[user]` is told by the object that it is part of.
    let path = name.split_once('[').map_or(name, |(before, _)| before);
    for step in path.split('.').skip(1) {
        value = &value[step];
    }
    let empty = value.as_set().is_ok_and(|set| set.iter().next().is_none());
    if *value == Rego::Undefined || empty { Ok(Outcome::Undefined) } else { json(value).map(Outcome::Value) }
}
