//! Functions that call themselves, and more rules than the stack is made for.
//!
//! The engine finds rules that depend on themselves, but not functions: those overflow the stack, which ends the
//! process. OPA refuses both when it compiles, so do we. Names are resolved as generously as they can be: what could be
//! a call counts as one.

use std::collections::{BTreeMap, BTreeSet};

use regorus::Source;
use regorus::unstable::{Lexer, Module, Rule, RuleHead, TokenKind};

use crate::engine::{Fault, told};

/// Most rules that take part in a decision. Each may nest one deeper than the one before; the stack of the evaluating
/// thread has room for that.
pub(crate) const MAX_RULES: usize = 2_000;

/// A path of names, such as `["autonomy", "update", "f"]`.
type Path = Vec<String>;

/// Refuses too many rules, and functions that can reach themselves.
pub(crate) fn check<'a>(modules: impl Iterator<Item = &'a Module> + Clone) -> Result<(), Fault> {
    let rules: usize = modules.clone().map(|module| module.policy.len()).sum();
    if rules > MAX_RULES {
        return Err(Fault::Told(format!("the policy has {rules} rules; at most {MAX_RULES}")));
    }
    let mut calls: BTreeMap<Path, BTreeSet<Path>> = BTreeMap::new();
    for module in modules {
        functions(module, &mut calls)?;
    }
    match cycle(&calls) {
        None => Ok(()),
        Some(function) => Err(Fault::Told(format!("recursion: function `{}` can call itself", function.join(".")))),
    }
}

/// Adds the functions of a module, each with every path that its text could mean.
fn functions(module: &Module, calls: &mut BTreeMap<Path, BTreeSet<Path>>) -> Result<(), Fault> {
    let package = first(module.package.refr.span().text())?;
    let mut imports: BTreeMap<String, Path> = BTreeMap::new();
    for import in &module.imports {
        let path = full(first(import.refr.span().text())?);
        let alias = import.r#as.as_ref().map(|span| span.text().to_owned()).or_else(|| path.last().cloned());
        imports.extend(alias.map(|alias| (alias, path)));
    }
    for rule in &module.policy {
        let Rule::Spec { span, head: RuleHead::Func { refr, .. }, .. } = rule.as_ref() else { continue };
        let name = [package.clone(), first(refr.span().text())?].concat();
        let found = calls.entry(name).or_default();
        // The first path is the function's own head.
        for path in paths(span.text())?.into_iter().skip(1) {
            if let Some(base) = path.first().and_then(|alias| imports.get(alias)) {
                found.insert([base.as_slice(), &path[1..]].concat());
            }
            found.insert([package.clone(), path.clone()].concat());
            found.insert(full(path));
        }
    }
    Ok(())
}

/// A path from the root: without the leading `data`.
fn full(path: Path) -> Path {
    if path.first().is_some_and(|name| name == "data") { path[1..].to_vec() } else { path }
}

fn first(text: &str) -> Result<Path, Fault> {
    Ok(paths(text)?.into_iter().next().unwrap_or_default())
}

/// Every path in a text: names joined by `.` or by `["…"]`.
fn paths(text: &str) -> Result<Vec<Path>, Fault> {
    let source = told!(Source::from_contents("rule".to_owned(), text.to_owned()))?;
    let mut lexer = Lexer::new(&source);
    let mut found: Vec<Path> = Vec::new();
    // Whether the next name continues the last path.
    let mut open = false;
    let mut bracket = false;
    loop {
        let token = told!(lexer.next_token())?;
        let word = token.1.text();
        match token.0 {
            TokenKind::Eof => return Ok(found),
            TokenKind::Ident if open => {
                found.last_mut().into_iter().for_each(|path| path.push(word.to_owned()));
                open = false;
            }
            TokenKind::Ident => found.push(vec![word.to_owned()]),
            TokenKind::String | TokenKind::RawString if bracket => {
                found.last_mut().into_iter().for_each(|path| path.push(word.trim_matches(['"', '`']).to_owned()));
            }
            TokenKind::Symbol | TokenKind::String | TokenKind::RawString | TokenKind::Number => open = word == ".",
        }
        bracket = word == "[" && token.0 == TokenKind::Symbol;
    }
}

/// A function that can reach itself.
fn cycle(calls: &BTreeMap<Path, BTreeSet<Path>>) -> Option<&Path> {
    let mut done: BTreeSet<&Path> = BTreeSet::new();
    for start in calls.keys() {
        let mut active: Vec<(&Path, Vec<&Path>)> = vec![(start, next(calls, start))];
        while let Some((function, rest)) = active.last_mut() {
            let Some(callee) = rest.pop() else {
                done.insert(function);
                active.pop();
                continue;
            };
            if active.iter().any(|(caller, _)| *caller == callee) {
                return Some(callee);
            }
            if !done.contains(callee) {
                active.push((callee, next(calls, callee)));
            }
        }
    }
    None
}

fn next<'a>(calls: &'a BTreeMap<Path, BTreeSet<Path>>, function: &Path) -> Vec<&'a Path> {
    let reached = calls.get(function).into_iter().flatten();
    reached.filter_map(|path| calls.get_key_value(path).map(|(function, _)| function)).collect()
}
