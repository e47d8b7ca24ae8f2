//! INV-06: the functions of `apply/src/activate.rs` take local types alone, so that activation cannot depend on the
//! network even by way of a parameter.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};

use crate::finding::Finding;
use crate::rules::{LOCAL_TYPES, PRELUDE};

const RULE: &str = "INV-06";

/// Judges every function of the file, methods included.
pub(crate) fn findings(path: &str, file: &syn::File) -> Vec<Finding> {
    let mut names = Names::default();
    names.visit_file(file);
    let mut functions = Functions { path, names: &names, count: 0, findings: Vec::new() };
    functions.visit_file(file);
    let Functions { count, mut findings, .. } = functions;
    if count == 0 {
        findings.push(Finding::at(
            path,
            RULE,
            "holds no function, so there is nothing for the invariant to hold on to",
        ));
    }
    findings
}

/// What a name in this file stands for.
#[derive(Default)]
struct Names {
    /// Short name → whole path, from `use`.
    imported: BTreeMap<String, String>,
    /// Declared in the file itself.
    declared: BTreeSet<String>,
}

impl Names {
    fn import(&mut self, prefix: &str, tree: &syn::UseTree) {
        let joined = |name: &syn::Ident| if prefix.is_empty() { name.to_string() } else { format!("{prefix}::{name}") };
        match tree {
            syn::UseTree::Path(path) => self.import(&joined(&path.ident), &path.tree),
            syn::UseTree::Name(name) if name.ident == "self" => {
                let short = prefix.rsplit("::").next().unwrap_or(prefix).to_owned();
                self.imported.insert(short, prefix.to_owned());
            }
            syn::UseTree::Name(name) => {
                self.imported.insert(name.ident.to_string(), joined(&name.ident));
            }
            syn::UseTree::Rename(rename) => {
                self.imported.insert(rename.rename.to_string(), joined(&rename.ident));
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(prefix, tree);
                }
            }
            // What comes by a glob is not known by name, and a parameter of such a type is refused below.
            syn::UseTree::Glob(_) => {}
        }
    }

    /// Why the path is not local, if it is not.
    fn objection(&self, path: &syn::Path, generics: &BTreeSet<String>) -> Option<String> {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let head = segments.first()?;
        let known = |name: &String| self.declared.contains(name) || generics.contains(name);
        let single = segments.len() == 1;
        let whole = match self.imported.get(head) {
            Some(whole) => [std::slice::from_ref(whole), &segments[1..]].concat().join("::"),
            None if known(head) || single && PRELUDE.contains(&head.as_str()) => return None,
            None => segments.join("::"),
        };
        let local = LOCAL_TYPES
            .iter()
            .any(|allowed| whole.strip_prefix(allowed).is_some_and(|rest| rest.is_empty() || rest.starts_with("::")));
        (!local).then_some(whole)
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.import("", &item.tree);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.declared.insert(item.ident.to_string());
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.declared.insert(item.ident.to_string());
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.declared.insert(item.ident.to_string());
    }
}

struct Functions<'a> {
    path: &'a str,
    names: &'a Names,
    count: usize,
    findings: Vec<Finding>,
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !crate::behaviour::is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        self.count += 1;
        let generics = signature.generics.type_params().map(|parameter| parameter.ident.to_string()).collect();
        let mut paths = Paths::default();
        for input in &signature.inputs {
            if let syn::FnArg::Typed(typed) = input {
                paths.visit_type(&typed.ty);
            }
        }
        paths.visit_generics(&signature.generics);
        for path in paths.0 {
            if let Some(whole) = self.names.objection(path, &generics) {
                let what = format!("`{}` takes `{whole}`, which is not a local type", signature.ident);
                self.findings.push(Finding::on(self.path, signature.ident.span().start().line, RULE, what));
            }
        }
    }
}

/// Every path within a type: arguments, bounds, function pointers.
#[derive(Default)]
struct Paths<'ast>(Vec<&'ast syn::Path>);

impl<'ast> Visit<'ast> for Paths<'ast> {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.0.push(path);
        visit::visit_path(self, path);
    }
}
