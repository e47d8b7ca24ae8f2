//! What a bundle is made of, told without asking it.

use std::collections::BTreeMap;

use crate::bundle::Bundle;
use crate::decide::{Budget, EvalError, Limits, on_thread};
use crate::{engine, testing};

/// A Rego file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlined {
    /// The file.
    pub file: String,
    /// Its package, such as `autonomy.tool`.
    pub package: String,
    /// How many rules it has, tests included.
    pub rules: usize,
    /// The full names of its tests.
    pub tests: Vec<String>,
}

/// The Rego files of a bundle, by name. They are compiled for it, as far as that needs no version of the tool.
pub fn outline(bundle: &Bundle) -> Result<Vec<Outlined>, EvalError> {
    let Budget { time, memory_bytes, .. } = Budget::UPDATE;
    let bundle = bundle.clone();
    on_thread(Limits { time, memory_bytes }, move || {
        let told = |fault| EvalError::of(fault, &Budget::UPDATE);
        let mut engine = engine::timed(bundle.modules(), bundle.data(), time).map_err(told)?;
        let modules = engine::modules(&mut engine);
        let mut tests: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for test in testing::find(&modules) {
            tests.entry(test.file).or_default().push(test.name);
        }
        let outlined = modules.iter().map(|module| {
            let span = module.package.refr.span();
            let file = span.source.file().clone();
            let tests = tests.remove(&file).unwrap_or_default();
            Outlined { file, package: span.text().to_owned(), rules: module.policy.len(), tests }
        });
        Ok(outlined.collect())
    })
}
