//! YAML into a located tree. One pass, every limit set.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_yaml::budget::BudgetBreach;
use serde_yaml::{DuplicateKeyPolicy, Error, Options, Spanned};

use super::{Diagnostic, Located, Mark};
use crate::canonical::MAX_INTEGER;
use crate::document::coded;
use crate::reason::{Code, Reason};

/// Deepest nesting; the manifest needs under ten, and each level takes stack.
const MAX_DEPTH: usize = 32;
/// Most values in one document: 20,000 artifacts of ten fields each fit.
const MAX_NODES: usize = 500_000;
/// Most alias uses; anchors are a convenience for a few repeated blocks.
const MAX_ALIASES: usize = 100;
/// Most values that aliases may repeat in all.
const MAX_REPLAYED: usize = 10_000;

pub(super) fn parse(file: &str, text: &str) -> Result<Located, Diagnostic> {
    let tree =
        serde_yaml::from_str_with_options::<Spanned<Node>>(text, options()).map_err(|error| diagnose(file, &error))?;
    let mut located = Located { value: Value::Null, marks: BTreeMap::new() };
    located.value = flatten(file, tree, "", &mut located.marks);
    Ok(located)
}

fn options() -> Options {
    let mut options = Options::default();
    options.duplicate_keys = DuplicateKeyPolicy::Error;
    options.strict_booleans = true;
    options.with_snippet = false;
    options.alias_limits.max_total_replayed_events = MAX_REPLAYED;
    let mut budget = options.budget.take().unwrap_or_default();
    budget.max_depth = MAX_DEPTH;
    budget.max_nodes = MAX_NODES;
    budget.max_aliases = MAX_ALIASES;
    budget.max_anchors = MAX_ALIASES;
    budget.max_documents = 1;
    options.budget = Some(budget);
    options
}

fn diagnose(file: &str, error: &Error) -> Diagnostic {
    let inner = unwrapped(error);
    let reason = limit(inner).unwrap_or_else(|| {
        let code = if matches!(inner, Error::DuplicateMappingKey { .. }) { Code::DuplicateKey } else { Code::Syntax };
        coded(&first_line(inner), code)
    });
    // Where an alias is used says more than where its anchor is.
    let mark = error.without_snippet().location().map_or_else(
        || Mark { file: file.to_owned(), line: 1, column: 1 },
        |at| Mark { file: file.to_owned(), line: at.line().max(1), column: at.column().max(1) },
    );
    Diagnostic { mark: Some(mark), code: reason.code, message: reason.message, help: reason.code.remedy().to_owned() }
}

/// The error without the crate's own snippet and without the frame of the alias that it was met in.
fn unwrapped(error: &Error) -> &Error {
    let inner = error.without_snippet();
    if let Error::AliasError { error, .. } = inner { unwrapped(error) } else { inner }
}

/// The limits that are set above, in our words.
fn limit(error: &Error) -> Option<Reason> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "foreign, growing enums: what is not named is told as it comes")]
    let message = match error {
        Error::Budget { breach, .. } => match breach {
            BudgetBreach::Documents { .. } => {
                return Some(Reason::new(Code::Syntax, "a second document starts here; expected one in a file"));
            }
            BudgetBreach::Depth { .. } => format!("nested deeper than {MAX_DEPTH} levels"),
            BudgetBreach::Nodes { .. } | BudgetBreach::Events { .. } => format!("more than {MAX_NODES} values"),
            BudgetBreach::Aliases { .. } | BudgetBreach::Anchors { .. } => {
                format!("more than {MAX_ALIASES} anchors or aliases")
            }
            _ => first_line(error),
        },
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasReplayCounterOverflow { .. } => format!("aliases repeat more than {MAX_REPLAYED} values"),
        // The parser's own guard, which nesting meets first when it is written in one line.
        _ if first_line(error).starts_with("recursion limit") => format!("nested deeper than {MAX_DEPTH} levels"),
        _ => return None,
    };
    Some(Reason::new(Code::LimitExceeded, message))
}

/// The crate appends the place to its sentence; the mark has it already.
fn first_line(error: &Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    line.split(" at line ").next().unwrap_or(line).to_owned()
}

/// A value as YAML has it, its children with their places.
enum Node {
    Scalar(Value),
    List(Vec<Spanned<Node>>),
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
}

fn flatten(file: &str, node: Spanned<Node>, path: &str, marks: &mut BTreeMap<String, Mark>) -> Value {
    let at = node.referenced;
    let mark = Mark { file: file.to_owned(), line: at.line().max(1), column: at.column().max(1) };
    // A mapping's key is a better place than the first key of its value.
    marks.entry(path.to_owned()).or_insert(mark);
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match node.value {
        Node::Scalar(value) => value,
        Node::List(items) => {
            let items = items.into_iter().enumerate();
            Value::Array(items.map(|(at, item)| flatten(file, item, &below(&at.to_string()), marks)).collect())
        }
        Node::Map(entries) => {
            let mut fields = Map::new();
            for (key, value) in entries {
                let path = below(&key.value);
                let place = key.referenced;
                if place.line() > 0 {
                    let mark = Mark { file: file.to_owned(), line: place.line(), column: place.column().max(1) };
                    marks.insert(path.clone(), mark);
                }
                let value = flatten(file, value, &path, marks);
                fields.insert(key.value, value);
            }
            Value::Object(fields)
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping, a list or a scalar")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Bool(value)))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node, E> {
        if value > MAX_INTEGER {
            return Err(E::custom(format!(
                "bad_value: {value} is above 2^53-1, the largest integer that is kept exact"
            )));
        }
        Ok(Node::Scalar(Value::Number(Number::from(value))))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Node, E> {
        if value.unsigned_abs() > MAX_INTEGER {
            return Err(E::custom(format!(
                "bad_value: {value} is below -(2^53-1), the smallest integer that is kept exact"
            )));
        }
        Ok(Node::Scalar(Value::Number(Number::from(value))))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
        Err(E::custom(format!("wrong_type: {value} is not an integer; quote it if it is text")))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(Value::String(value.to_owned())))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Scalar(Value::String(value)))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Map(entries))
    }
}
