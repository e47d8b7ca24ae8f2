//! Overlays: RFC 7386 (a mapping merges, `null` removes, all else replaces), save that lists whose items are all
//! mappings with a `name` (or an `id`) merge item by item.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Located, Mark};

pub(super) fn merge(base: &mut Located, overlay: Located) {
    let mut marks = Marks { base: std::mem::take(&mut base.marks), overlay: overlay.marks, merged: BTreeMap::new() };
    let value = std::mem::take(&mut base.value);
    base.value = merge_value(Some((value, "")), (overlay.value, ""), "", &mut marks);
    base.marks = marks.merged;
}

struct Marks {
    base: BTreeMap<String, Mark>,
    overlay: BTreeMap<String, Mark>,
    merged: BTreeMap<String, Mark>,
}

impl Marks {
    /// Moves the places of a whole value to where it lands.
    fn adopt(&mut self, value: &Value, from: &str, to: &str, side: Side) {
        let source = if side == Side::Base { &self.base } else { &self.overlay };
        if let Some(mark) = source.get(from) {
            self.merged.insert(to.to_owned(), mark.clone());
        }
        match value {
            Value::Object(fields) => {
                for (key, child) in fields {
                    self.adopt(child, &below(from, key), &below(to, key), side);
                }
            }
            Value::Array(items) => {
                for (at, child) in items.iter().enumerate() {
                    let at = at.to_string();
                    self.adopt(child, &below(from, &at), &below(to, &at), side);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Base,
    Overlay,
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Merges two values, each with the path it had, into one at `to`.
fn merge_value(base: Option<(Value, &str)>, (overlay, from): (Value, &str), to: &str, marks: &mut Marks) -> Value {
    match (base, overlay) {
        (Some((Value::Object(fields), base_path)), Value::Object(patch)) => {
            if let Some(mark) = marks.overlay.get(from).or_else(|| marks.base.get(base_path)) {
                marks.merged.insert(to.to_owned(), mark.clone());
            }
            Value::Object(merge_fields((fields, base_path), (patch, from), to, marks))
        }
        (Some((Value::Array(items), base_path)), Value::Array(patch)) => {
            match key_of(&items).filter(|key| key_of(&patch) == Some(key)) {
                Some(key) => {
                    if let Some(mark) = marks.overlay.get(from) {
                        marks.merged.insert(to.to_owned(), mark.clone());
                    }
                    Value::Array(merge_items(key, (items, base_path), (patch, from), to, marks))
                }
                None => adopted(Value::Array(patch), from, to, marks),
            }
        }
        // Without a mapping below it, a patch still loses its nulls (RFC 7386 §2).
        (_, Value::Object(patch)) => {
            if let Some(mark) = marks.overlay.get(from) {
                marks.merged.insert(to.to_owned(), mark.clone());
            }
            Value::Object(merge_fields((Map::new(), ""), (patch, from), to, marks))
        }
        (_, other) => adopted(other, from, to, marks),
    }
}

fn adopted(value: Value, from: &str, to: &str, marks: &mut Marks) -> Value {
    marks.adopt(&value, from, to, Side::Overlay);
    value
}

fn merge_fields(
    (mut fields, base_path): (Map<String, Value>, &str),
    (patch, from): (Map<String, Value>, &str),
    to: &str,
    marks: &mut Marks,
) -> Map<String, Value> {
    for (key, value) in &fields {
        if !patch.contains_key(key) {
            marks.adopt(value, &below(base_path, key), &below(to, key), Side::Base);
        }
    }
    for (key, value) in patch {
        if value.is_null() {
            fields.remove(&key);
            continue;
        }
        let base_child = below(base_path, &key);
        let before = fields.remove(&key).map(|value| (value, base_child.as_str()));
        let merged = merge_value(before, (value, &below(from, &key)), &below(to, &key), marks);
        fields.insert(key, merged);
    }
    fields
}

/// The field by which a list's items are told apart, if all of them have it.
fn key_of(items: &[Value]) -> Option<&'static str> {
    ["name", "id"]
        .into_iter()
        .find(|key| !items.is_empty() && items.iter().all(|item| item.get(key).is_some_and(Value::is_string)))
}

/// Base order first, new items after it in the overlay's order.
fn merge_items(
    key: &str,
    (items, base_path): (Vec<Value>, &str),
    (patch, from): (Vec<Value>, &str),
    to: &str,
    marks: &mut Marks,
) -> Vec<Value> {
    let mut patch: Vec<Option<Value>> = patch.into_iter().map(Some).collect();
    let mut merged = Vec::new();
    for (at, item) in items.into_iter().enumerate() {
        let base_child = below(base_path, &at.to_string());
        let target = below(to, &merged.len().to_string());
        let found = patch.iter().position(|other| other.as_ref().is_some_and(|other| other.get(key) == item.get(key)));
        if let Some((position, other)) = found.and_then(|at| patch[at].take().map(|other| (at, other))) {
            let over = below(from, &position.to_string());
            merged.push(merge_value(Some((item, &base_child)), (other, &over), &target, marks));
        } else {
            marks.adopt(&item, &base_child, &target, Side::Base);
            merged.push(item);
        }
    }
    for (position, other) in patch.into_iter().enumerate() {
        if let Some(other) = other {
            let target = below(to, &merged.len().to_string());
            merged.push(merge_value(None, (other, &below(from, &position.to_string())), &target, marks));
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::super::Located;

    fn merged(base: &str, overlay: &str) -> Located {
        Located::parse("base.yaml", base).expect("base").merged(Located::parse("over.yaml", overlay).expect("overlay"))
    }

    #[test]
    fn mappings_merge_null_removes_and_lists_replace() {
        let both = merged("a: {x: 1, y: 2}\nl: [1, 2]\ngone: 1\n", "a: {y: 3}\nl: [9]\ngone: null\n");
        assert_eq!(both.value, serde_json::json!({"a": {"x": 1, "y": 3}, "l": [9]}));
        assert_eq!(both.mark("a.x").map(|m| m.file.as_str()), Some("base.yaml"));
        assert_eq!(both.mark("a.y").map(|m| m.file.as_str()), Some("over.yaml"));
    }

    #[test]
    fn lists_of_named_items_merge_by_name_and_keep_their_places() {
        let both = merged("p:\n- {name: a, v: 1}\n- {name: b, v: 2}\n", "p:\n- {name: b, v: 3}\n- {name: c, v: 4}\n");
        let expected = serde_json::json!({"p": [{"name": "a", "v": 1}, {"name": "b", "v": 3}, {"name": "c", "v": 4}]});
        assert_eq!(both.value, expected);
        let place = |path: &str| both.mark(path).map(|m| (m.file.clone(), m.line));
        assert_eq!(place("p.0.v"), Some(("base.yaml".to_owned(), 2)));
        assert_eq!(place("p.1.v"), Some(("over.yaml".to_owned(), 2)));
        assert_eq!(place("p.2.v"), Some(("over.yaml".to_owned(), 3)));
    }
}
