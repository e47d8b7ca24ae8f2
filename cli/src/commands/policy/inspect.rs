//! `autonomy policy inspect`: what a bundle says of itself, and what is in it.

use std::fmt::Write as _;
use std::path::PathBuf;

use autonomy_policy::{Bundle, Outlined, outline};
use serde_json::{Value, json};

use super::source;
use crate::failure::{Failure, exit};
use crate::node::Output;
use crate::ui;

/// Show a policy bundle: name, version, digest, files, packages, rules and tests. It is compiled, not asked, and no
/// signature is looked at.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The bundle, ours or a plain one of OPA.
    #[arg(value_name = "FILE")]
    bundle: PathBuf,
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    inspect(args).map_err(|failure| failure.with_json(args.output == Output::Json))
}

fn inspect(args: &Args) -> Result<u8, Failure> {
    let bundle = source::bundle(&args.bundle)?;
    let outlined = outline(&bundle).map_err(|error| source::at(&args.bundle, error.to_reason()))?;
    let told = match args.output {
        Output::Json => format!("{}\n", as_json(&bundle, &outlined)),
        Output::Text => ui::printable(&as_text(&bundle, &outlined)),
    };
    ui::out(&told);
    Ok(exit::DONE)
}

fn as_json(bundle: &Bundle, outlined: &[Outlined]) -> Value {
    let manifest = bundle.manifest();
    let files: Vec<Value> = bundle.files().iter().map(|(path, size)| json!({ "path": path, "size": size })).collect();
    let modules: Vec<Value> = outlined
        .iter()
        .map(|file| json!({ "file": file.file, "package": file.package, "rules": file.rules, "tests": file.tests }))
        .collect();
    let opa = bundle.opa().map(|opa| {
        let signature = opa.signature.as_ref();
        let signature = signature.map(|it| json!({ "algorithm": it.algorithm, "key": it.key, "verified": false }));
        json!({ "revision": opa.revision, "roots": opa.roots, "signature": signature })
    });
    json!({
        "name": manifest.name, "version": manifest.policy_bundle_version, "digest": bundle.digest(),
        "requires": manifest.required_runtime_version, "bundle_hash": manifest.bundle_hash,
        "created_at": bundle.opa().is_none().then_some(manifest.created_at),
        "files": files, "modules": modules, "opa": opa,
    })
}

fn as_text(bundle: &Bundle, outlined: &[Outlined]) -> String {
    let manifest = bundle.manifest();
    let requires = manifest.required_runtime_version.as_deref().unwrap_or("any version");
    let mut text = format!(
        "Policy {} {}\n  digest   {}\n  requires {requires}\n",
        manifest.name,
        manifest.policy_bundle_version,
        bundle.digest()
    );
    // Writing to a String cannot fail.
    let mut line = |line: String| writeln!(text, "{line}").unwrap_or_default();
    match bundle.opa() {
        None => line(format!("  built    {}", manifest.created_at)),
        Some(opa) => {
            line(format!("  revision {}", opa.revision.as_deref().unwrap_or("none")));
            let roots: Vec<&str> = opa.roots.iter().map(|root| if root.is_empty() { "all" } else { root }).collect();
            line(format!("  roots    {}", roots.join(", ")));
            let signature = opa.signature.as_ref().map_or("none".to_owned(), |signature| {
                format!("{}, its hashes match, who made it is not verified", signature.algorithm)
            });
            line(format!("  signed   {signature}"));
        }
    }
    line(format!("  {} files", bundle.files().len()));
    for (path, size) in bundle.files() {
        line(format!("    {path}, {size} bytes"));
    }
    line(format!("  {} modules", outlined.len()));
    for Outlined { file, package, rules, tests } in outlined {
        line(format!("    {file}: package {package}, {rules} rules, {} tests", tests.len()));
    }
    text
}
