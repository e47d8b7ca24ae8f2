//! `test_…` rules: run one by one, each on a fresh state of the compiled bundle; failures say where.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use regorus::unstable::{Module, Rule, RuleHead};
use regorus::{Engine, Value};

use crate::bundle::Bundle;
use crate::decide::{Budget, EvalError, Limits, check_version, on_thread};
use crate::engine::{self, Fault, told};

/// How a rule begins that is a test.
const PREFIX: &str = "test_";
/// Longest run of all tests of a bundle; each of them has the time of an update.
const ALL_TESTS: Duration = Duration::from_secs(60);
/// Most lines that the `print`s of one test may leave.
const MAX_PRINTS: usize = 100;

/// What became of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Its value is `true`.
    Passed,
    /// Its value is something else, or undefined.
    Failed {
        /// The line of the last expression that was reached.
        line: u32,
        /// What the test came to.
        value: String,
    },
    /// It broke off.
    Errored(String),
}

/// One test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tested {
    /// `data.<package>.test_…`.
    pub name: String,
    /// Where it is written.
    pub file: String,
    /// The line of its head.
    pub line: u32,
    /// What became of it.
    pub verdict: Verdict,
    /// What its `print`s said.
    pub prints: Vec<String>,
}

/// Which lines of a file the tests reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileCoverage {
    /// The file.
    pub file: String,
    /// Lines with an expression that was evaluated.
    pub covered: BTreeSet<u32>,
    /// Lines with expressions none of which was.
    pub uncovered: BTreeSet<u32>,
}

impl FileCoverage {
    /// Covered lines in percent of all that could be, rounded down; a file without expressions is covered.
    pub fn percent(&self) -> u64 {
        let (covered, all) = (self.covered.len() as u64, (self.covered.len() + self.uncovered.len()) as u64);
        (covered * 100).checked_div(all).unwrap_or(100)
    }
}

/// What the tests of a bundle came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TestReport {
    /// The tests, by file and line.
    pub tests: Vec<Tested>,
    /// The files that take part in decisions, by name.
    pub coverage: Vec<FileCoverage>,
}

impl TestReport {
    /// Whether none failed and none broke off.
    pub fn all_passed(&self) -> bool {
        self.tests.iter().all(|test| test.verdict == Verdict::Passed)
    }

    /// The tests that did not pass.
    pub fn not_passed(&self) -> impl Iterator<Item = &Tested> {
        self.tests.iter().filter(|test| test.verdict != Verdict::Passed)
    }
}

/// Runs the bundle's tests whose full name contains `filter`.
pub fn test(bundle: &Bundle, filter: &str) -> Result<TestReport, EvalError> {
    check_version(bundle)?;
    let (bundle, filter) = (bundle.clone(), filter.to_owned());
    let limits = Limits { time: ALL_TESTS, memory_bytes: Budget::UPDATE.memory_bytes };
    on_thread(limits, move || {
        run(&bundle, &filter).map_err(|fault| match fault {
            Fault::Time => EvalError::Time(ALL_TESTS),
            Fault::Told(message) => EvalError::Rego(message),
        })
    })
}

/// A test rule as it is written: perhaps in several bodies.
pub(crate) struct Written {
    /// `data.<package>.test_…`.
    pub(crate) name: String,
    pub(crate) file: String,
    pub(crate) line: u32,
    /// The first lines of the statements of its bodies.
    statements: BTreeSet<u32>,
}

fn run(bundle: &Bundle, filter: &str) -> Result<TestReport, Fault> {
    let mut engine = engine::timed(bundle.modules(), bundle.data(), Budget::UPDATE.time)?;
    engine.set_enable_coverage(true);
    let mut lines = Lines::of(&engine::modules(&mut engine));
    let mut tests = Vec::new();
    for written in find(&engine::modules(&mut engine)).into_iter().filter(|test| test.name.contains(filter)) {
        let mut fresh = engine.clone();
        let value = told!(fresh.eval_rule(written.name.clone()));
        let reached = reached(&fresh)?;
        let mut prints = told!(fresh.take_prints())?;
        prints.truncate(MAX_PRINTS);
        tests.push(judged(written, value, &reached, prints));
        lines.add(reached);
    }
    tests.sort_by(|a, b| (&a.file, a.line, &a.name).cmp(&(&b.file, b.line, &b.name)));
    Ok(TestReport { tests, coverage: lines.coverage() })
}

fn judged(written: Written, value: Result<Value, Fault>, reached: &Reached, prints: Vec<String>) -> Tested {
    let Written { name, file, line, statements } = written;
    let verdict = match value {
        Ok(value) if value == Value::from(true) => Verdict::Passed,
        Ok(value) => {
            let covered = reached.get(&file).map(|(covered, _)| covered);
            let last = covered.and_then(|covered| statements.intersection(covered).last().copied());
            let value =
                if value == Value::Undefined { "undefined".to_owned() } else { engine::clipped(&value.to_string()) };
            Verdict::Failed { line: last.unwrap_or(line), value }
        }
        Err(Fault::Time) => Verdict::Errored(format!("it gave no answer within {:?}", Budget::UPDATE.time)),
        Err(Fault::Told(message)) => Verdict::Errored(message),
    };
    Tested { name, file, line, verdict, prints }
}

/// The tests of these modules, by name.
pub(crate) fn find(modules: &[engine::ModuleRef]) -> Vec<Written> {
    let mut found: BTreeMap<String, Written> = BTreeMap::new();
    for module in modules {
        let file = module.package.refr.span().source.file().clone();
        for rule in &module.policy {
            let Some((name, line, statements)) = test_rule(module, rule) else { continue };
            let written = Written { name: name.clone(), file: file.clone(), line, statements: BTreeSet::new() };
            found.entry(name).or_insert(written).statements.extend(statements);
        }
    }
    found.into_values().collect()
}

fn test_rule(module: &Module, rule: &Rule) -> Option<(String, u32, BTreeSet<u32>)> {
    let Rule::Spec { head: RuleHead::Compr { refr, .. }, bodies, .. } = rule else { return None };
    let span = refr.span();
    let is_test = span.text().rsplit('.').next().is_some_and(|name| name.starts_with(PREFIX));
    let name = format!("data.{}.{}", module.package.refr.span().text(), span.text());
    let statements = bodies.iter().flat_map(|body| &body.query.stmts).map(|statement| statement.span.line).collect();
    is_test.then_some((name, span.line, statements))
}

/// Lines by file: those that were reached, and those that could have been.
type Reached = BTreeMap<String, (BTreeSet<u32>, BTreeSet<u32>)>;

pub(crate) fn reached(engine: &Engine) -> Result<Reached, Fault> {
    let report = told!(engine.get_coverage_report())?;
    let lines = |file: regorus::coverage::File| (file.path, (file.covered, file.not_covered));
    Ok(report.files.into_iter().map(lines).collect())
}

/// What all tests together reached.
struct Lines(BTreeMap<String, FileCoverage>);

impl Lines {
    /// Nothing was reached yet: the engine tells the lines of a file once something of it is, until then those of the rules
    /// stand for them.
    fn of(modules: &[engine::ModuleRef]) -> Self {
        let file = |module: &engine::ModuleRef| {
            let file = module.package.refr.span().source.file().clone();
            let line = |rule: &regorus::unstable::Ref<Rule>| match rule.as_ref() {
                Rule::Spec { span, .. } | Rule::Default { span, .. } => span.line,
            };
            let uncovered = module.policy.iter().map(line).collect();
            (file.clone(), FileCoverage { file, covered: BTreeSet::new(), uncovered })
        };
        Self(modules.iter().map(file).filter(|(name, _)| !engine::is_test(name)).collect())
    }

    fn add(&mut self, reached: Reached) {
        for (file, (covered, not_covered)) in reached {
            let Some(lines) = self.0.get_mut(&file) else { continue };
            if lines.covered.is_empty() {
                lines.uncovered.clear();
            }
            lines.covered.extend(covered);
            lines.uncovered.extend(not_covered);
        }
    }

    fn coverage(self) -> Vec<FileCoverage> {
        let settle = |mut lines: FileCoverage| {
            lines.uncovered.retain(|line| !lines.covered.contains(line));
            lines
        };
        self.0.into_values().map(settle).collect()
    }
}
