//! A flat view on a Rust file: the paths, macros, attributes and keywords in it, each with its line.
//!
//! It works on tokens, not on the syntax tree, so that the inside of macro calls is seen too. Comments and string
//! literals are not code and are not seen (doc comments are, as attributes).

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// One thing that a rule may object to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `a::b::c`; imports in braces are expanded; a glob ends in `*`; `use a as b` ends in `as`.
    Path(Vec<String>),
    /// `name!(…)`.
    Macro(String),
    /// A test that is switched off.
    Ignore,
    /// The keyword.
    Unsafe,
}

/// A thing, where it stands, and whether it is under `#[cfg(test)]`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) kind: Kind,
    pub(crate) line: usize,
    pub(crate) in_test: bool,
}

/// Everything in `text`, or why it does not lex.
pub(crate) fn read(text: &str) -> Result<Vec<Seen>, String> {
    let stream: TokenStream = text.parse().map_err(|error: proc_macro2::LexError| error.to_string())?;
    let mut seen = Vec::new();
    walk(stream, false, &mut seen);
    Ok(seen)
}

/// Words that can stand right before `::std` and are no part of the path.
const KEYWORDS: &[&str] = &[
    "as", "async", "await", "break", "const", "continue", "dyn", "else", "enum", "extern", "fn", "for", "if", "impl",
    "in", "let", "loop", "match", "mod", "move", "mut", "pub", "ref", "return", "static", "struct", "trait", "type",
    "use", "where", "while", "yield",
];

fn walk(stream: TokenStream, in_test: bool, seen: &mut Vec<Seen>) {
    let trees: Vec<TokenTree> = stream.into_iter().collect();
    let mut at = 0;
    // Set by `#[cfg(test)]` until the item behind it ends.
    let mut item_in_test = false;
    while let Some(tree) = trees.get(at) {
        let tested = in_test || item_in_test;
        match tree {
            TokenTree::Punct(punct) if punct.as_char() == '#' => {
                let inner = usize::from(is_punct(trees.get(at + 1), '!'));
                if let Some(group) = group(trees.get(at + 1 + inner), Delimiter::Bracket) {
                    item_in_test |= is_cfg_test(group);
                    attribute(group, tested, seen);
                    at += 1 + inner;
                }
            }
            TokenTree::Punct(punct) if punct.as_char() == ';' => item_in_test = false,
            TokenTree::Group(group) => {
                walk(group.stream(), tested, seen);
                if group.delimiter() == Delimiter::Brace {
                    item_in_test = false;
                }
            }
            TokenTree::Ident(ident) => {
                let line = ident.span().start().line;
                if ident == "unsafe" {
                    seen.push(Seen { kind: Kind::Unsafe, line, in_test: tested });
                } else if !KEYWORDS.contains(&ident.to_string().as_str()) {
                    at = path(&trees, at, Vec::new(), tested, seen);
                    continue;
                }
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
        at += 1;
    }
}

/// Reads the path that starts at `at`; gives the index behind it.
fn path(trees: &[TokenTree], mut at: usize, prefix: Vec<String>, in_test: bool, seen: &mut Vec<Seen>) -> usize {
    let mut segments = prefix;
    let mut line = 0;
    while let Some(TokenTree::Ident(ident)) = trees.get(at) {
        line = ident.span().start().line;
        segments.push(ident.to_string());
        at += 1;
        if !(is_punct(trees.get(at), ':') && is_punct(trees.get(at + 1), ':')) {
            break;
        }
        if let Some(TokenTree::Group(tail)) = trees.get(at + 2)
            && tail.delimiter() == Delimiter::Brace
        {
            imports(tail, &segments, in_test, seen);
            return at + 3;
        }
        if is_punct(trees.get(at + 2), '*') {
            segments.push("*".to_owned());
            at += 3;
            break;
        }
        if !matches!(trees.get(at + 2), Some(TokenTree::Ident(_))) {
            break;
        }
        at += 2;
    }
    if is_punct(trees.get(at), '!') && matches!(trees.get(at + 1), Some(TokenTree::Group(_))) {
        let name = segments.last().cloned().unwrap_or_default();
        seen.push(Seen { kind: Kind::Macro(name), line, in_test });
    }
    if segments.last().is_some_and(|last| last == "self") && segments.len() > 1 {
        segments.pop();
    }
    if is_ident(trees.get(at), "as") && segments.len() == 1 {
        segments.push("as".to_owned());
    }
    seen.push(Seen { kind: Kind::Path(segments), line, in_test });
    at
}

/// `{a, b::c, self}` behind `prefix::`.
fn imports(tail: &Group, prefix: &[String], in_test: bool, seen: &mut Vec<Seen>) {
    let trees: Vec<TokenTree> = tail.stream().into_iter().collect();
    for part in trees.split(|tree| is_punct(Some(tree), ',')) {
        match part.first() {
            Some(TokenTree::Ident(_)) => {
                path(part, 0, prefix.to_vec(), in_test, seen);
            }
            Some(TokenTree::Punct(star)) if star.as_char() == '*' => {
                let segments = prefix.iter().cloned().chain(["*".to_owned()]).collect();
                seen.push(Seen { kind: Kind::Path(segments), line: star.span().start().line, in_test });
            }
            Some(_) | None => {}
        }
    }
}

fn attribute(group: &Group, in_test: bool, seen: &mut Vec<Seen>) {
    let line = group.span_open().start().line;
    let trees: Vec<TokenTree> = group.stream().into_iter().collect();
    let inside = || idents(group.stream());
    let switched_off = match trees.first() {
        Some(TokenTree::Ident(name)) if name == "ignore" => true,
        Some(TokenTree::Ident(name)) if name == "cfg_attr" => inside().iter().any(|ident| ident == "ignore"),
        // A doc comment whose example is not run.
        Some(TokenTree::Ident(name)) if name == "doc" => {
            trees.last().is_some_and(|text| text.to_string().contains("```ignore"))
        }
        Some(_) | None => false,
    };
    if switched_off {
        seen.push(Seen { kind: Kind::Ignore, line, in_test });
    }
    if inside().iter().any(|ident| ident == "unsafe") {
        seen.push(Seen { kind: Kind::Unsafe, line, in_test });
    }
}

fn is_cfg_test(attribute: &Group) -> bool {
    let found = idents(attribute.stream());
    found.first().is_some_and(|name| name == "cfg")
        && found.iter().any(|name| name == "test")
        && !found.iter().any(|name| name == "not" || name == "any")
}

fn idents(stream: TokenStream) -> Vec<String> {
    let mut found = Vec::new();
    for tree in stream {
        match tree {
            TokenTree::Ident(ident) => found.push(ident.to_string()),
            TokenTree::Group(group) => found.extend(idents(group.stream())),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
    found
}

fn is_punct(tree: Option<&TokenTree>, wanted: char) -> bool {
    matches!(tree, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn is_ident(tree: Option<&TokenTree>, wanted: &str) -> bool {
    matches!(tree, Some(TokenTree::Ident(ident)) if ident == wanted)
}

fn group(tree: Option<&TokenTree>, wanted: Delimiter) -> Option<&Group> {
    match tree {
        Some(TokenTree::Group(group)) if group.delimiter() == wanted => Some(group),
        Some(_) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        let seen = read(text).expect("lexes");
        let mut found: Vec<String> = seen
            .into_iter()
            .filter_map(|seen| match seen.kind {
                Kind::Path(segments) if segments.len() > 1 => {
                    let mark = if seen.in_test { "?" } else { "" };
                    Some(format!("{}{mark}", segments.join("::")))
                }
                Kind::Path(_) | Kind::Macro(_) | Kind::Ignore | Kind::Unsafe => None,
            })
            .collect();
        found.sort();
        found
    }

    #[test]
    fn imports_in_braces_are_expanded() {
        assert_eq!(
            paths("use std::{fmt, net::{self, TcpStream}, process as p}; use ::std::fs::*;"),
            ["std::fmt", "std::fs::*", "std::net", "std::net::TcpStream", "std::process"]
        );
    }

    #[test]
    fn paths_inside_macros_and_renamed_crates_are_seen() {
        assert_eq!(paths("fn f() { println!(\"{}\", std::env::var(\"x\")) }"), ["std::env::var"]);
        assert_eq!(paths("use std as s; extern crate core as c;"), ["core::as", "std::as"]);
        assert_eq!(paths("// std::net\nconst A: &str = \"std::net\";"), Vec::<String>::new());
    }

    #[test]
    fn test_modules_are_told_apart_to_their_last_brace() {
        assert_eq!(
            paths("#[cfg(test)]\nmod t { use std::fs; }\nuse std::net;\n#[cfg(not(test))] use std::env;"),
            ["std::env", "std::fs?", "std::net"]
        );
        assert_eq!(paths("#[cfg(test)] #[path = \"x\"] mod t;\nuse std::net;"), ["std::net"]);
    }
}
