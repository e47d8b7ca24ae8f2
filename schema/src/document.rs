//! Reading signed documents: canonical JSON in, a typed document or every reason against it out.
//!
//! The same decoder serves authored YAML once it is a located tree (see `author`).

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{self, DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Number, Value};

use crate::canonical;
use crate::digest::Blake3;
use crate::reason::{Code, Reason, Reasons};
use crate::version::{ApiVersion, Kind};

/// The largest document that is read, in bytes: 10,000 artifacts with their segment indices fit.
pub const MAX_DOCUMENT_BYTES: usize = 4 << 20;

/// The largest plan or facts file that is read: they say of each artifact several times what a manifest says once.
pub const MAX_DERIVED_BYTES: usize = 32 << 20;

/// A document kind: how it is named and which rules bind its values together.
pub trait Document: Serialize + DeserializeOwned {
    /// The `kind` that the document must carry.
    const KIND: Kind;

    /// The largest document of this kind that is read, in bytes.
    const MAX_BYTES: usize = MAX_DOCUMENT_BYTES;

    /// What is wrong beyond types: limits, contradictions, collisions. Empty when nothing is.
    fn validate(&self) -> Vec<Reason> {
        Vec::new()
    }

    /// The `critical` list of the document, if its kind has one.
    fn critical(&self) -> &[String] {
        &[]
    }

    /// The canonical bytes.
    fn to_canonical(&self) -> Result<Vec<u8>, canonical::CanonicalError> {
        canonical::to_bytes(self)
    }
}

/// Parses canonical bytes into `T`: size, UTF-8, syntax, duplicate keys, version, kind, canonical form, fields,
/// `critical` and [`Document::validate`], with every reason that can be told at once.
pub fn parse<T: Document>(bytes: &[u8]) -> Result<T, Reasons> {
    let value = parse_value(bytes, T::MAX_BYTES)?;
    let minor = check_header(&value, T::KIND)?;
    if !canonical::is_canonical(&value, bytes) {
        return Err(Reason::new(Code::NotCanonical, format!("the {} is not canonical JSON (RFC 8785)", T::KIND)).into());
    }
    let (document, unknown) = decode::<T>(value.clone()).map_err(|problem| Reasons::from(problem.into_reason()))?;
    let mut reasons = unknown_critical(document.critical(), &value, &unknown);
    if minor == 0 {
        reasons.extend(
            unknown
                .iter()
                .map(|path| Reason::new(Code::UnknownField, format!("`{path}` is not a field of {}", T::KIND))),
        );
    }
    reasons.extend(document.validate());
    Reasons::check(reasons)?;
    Ok(document)
}

/// The fingerprint of signed bytes: BLAKE3 over exactly these bytes.
pub fn fingerprint(bytes: &[u8]) -> Blake3 {
    Blake3::of(bytes)
}

/// Size, UTF-8, syntax, duplicate keys and number range.
fn parse_value(bytes: &[u8], cap: usize) -> Result<Value, Reasons> {
    if bytes.len() > cap {
        let message = format!("the document has {} bytes; the cap is {cap}", bytes.len());
        return Err(Reason::new(Code::DocumentTooLarge, message).into());
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Reasons::from(Reason::new(Code::NotUtf8, format!("the bytes are not UTF-8 after byte {}", error.valid_up_to())))
    })?;
    match serde_json::from_str::<Strict>(text) {
        Ok(Strict(value)) => Ok(value),
        Err(error) => {
            let text = error.to_string();
            let code = if text.starts_with("recursion limit") { Code::LimitExceeded } else { Code::Syntax };
            Err(coded(&text, code).into())
        }
    }
}

/// Checks `apiVersion` and `kind`; gives the minor version.
fn check_header(value: &Value, kind: Kind) -> Result<u32, Reasons> {
    if !value.is_object() {
        return Err(Reason::new(Code::WrongType, format!("the document is no mapping; expected a {kind}")).into());
    }
    let mut reasons = Vec::new();
    let mut version = None;
    match value.get("apiVersion").and_then(Value::as_str).map(str::parse::<ApiVersion>) {
        Some(Ok(known)) => version = Some(known),
        Some(Err(error)) => reasons.push(coded(&error.to_string(), Code::UnknownVersion)),
        None => {
            reasons.push(Reason::new(Code::MissingField, "the document has no `apiVersion`; expected `autonomy/v1`"));
        }
    }
    match value.get("kind").and_then(Value::as_str) {
        Some(found) if found == kind.as_str() => {}
        Some(found) => reasons.push(Reason::new(
            Code::RoleMismatch,
            format!("the document's kind is `{}`; expected `{kind}`", found.chars().take(40).collect::<String>()),
        )),
        None => reasons.push(Reason::new(Code::MissingField, format!("the document has no `kind`; expected `{kind}`"))),
    }
    Reasons::check(reasons)?;
    Ok(version.map_or(0, |version| version.minor))
}

pub(crate) fn unknown_critical(critical: &[String], value: &Value, unknown: &BTreeSet<String>) -> Vec<Reason> {
    let understood = |path: &str| {
        let pointer = format!("/{}", path.replace('.', "/"));
        value.pointer(&pointer).is_some()
            && !unknown
                .iter()
                .any(|u| path == u || path.strip_prefix(u.as_str()).is_some_and(|rest| rest.starts_with('.')))
    };
    critical
        .iter()
        .filter(|path| !understood(path))
        .map(|path| {
            let message = format!("`metadata.critical` names `{path}`, which this version does not find or understand");
            Reason::new(Code::UnknownCritical, message)
        })
        .collect()
}

/// A type error with the path of the field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Dotted path of the field, such as `spec.artifacts.0.path`; empty at the top.
    pub path: String,
    /// The code that fits the error.
    pub code: Code,
    /// The sentence, without the path.
    pub message: String,
    /// The unknown fields that were met before it, such as the misspelt twin of a missing one.
    pub unknown: BTreeSet<String>,
}

impl Problem {
    fn into_reason(self) -> Reason {
        let place = if self.path.is_empty() { String::new() } else { format!("`{}`: ", self.path) };
        Reason::new(self.code, format!("{place}{}", self.message))
    }
}

/// Decodes a tree into `T`, and lists the fields that `T` does not have.
pub fn decode<T: DeserializeOwned>(value: Value) -> Result<(T, BTreeSet<String>), Problem> {
    let mut unknown = BTreeSet::new();
    let mut record = |path: serde_ignored::Path<'_>| {
        unknown.insert(dotted(&path.to_string()));
    };
    let ignored = serde_ignored::Deserializer::new(value, &mut record);
    match serde_path_to_error::deserialize(ignored) {
        Ok(decoded) => Ok((decoded, unknown)),
        Err(error) => {
            let path = dotted(&error.path().to_string());
            let reason = coded(&error.inner().to_string(), Code::WrongType);
            Err(Problem { path, code: reason.code, message: reason.message, unknown })
        }
    }
}

/// One spelling for a path: `a.0.b`, without the marks that wrappers leave.
fn dotted(path: &str) -> String {
    path.replace('[', ".")
        .replace(']', "")
        .split('.')
        .filter(|part| !part.is_empty() && *part != "?")
        .collect::<Vec<_>>()
        .join(".")
}

/// Splits the `code: sentence` that our own types put into serde's errors; guesses the code of serde's own.
pub(crate) fn coded(text: &str, otherwise: Code) -> Reason {
    if let Some((head, tail)) = text.split_once(": ")
        && let Ok(code) = head.parse::<Code>()
    {
        return Reason::new(code, tail);
    }
    let code = if text.starts_with("missing field") {
        Code::MissingField
    } else if text.starts_with("duplicate field") {
        Code::DuplicateKey
    } else if text.starts_with("unknown field") {
        Code::UnknownField
    } else if text.starts_with("unknown variant") {
        Code::BadValue
    } else {
        otherwise
    };
    Reason::new(code, text)
}

/// Refuses JSON in which a mapping at any depth has a key twice. For formats of others, whose numbers may be any.
pub(crate) fn refuse_duplicate_keys(text: &str) -> Result<(), Reason> {
    match serde_json::from_str::<DistinctKeys>(text) {
        Ok(DistinctKeys) => Ok(()),
        Err(error) => {
            let text = error.to_string();
            let code = if text.starts_with("recursion limit") { Code::LimitExceeded } else { Code::Syntax };
            Err(coded(&text, code))
        }
    }
}

/// Any JSON value without duplicate keys; nothing of it is kept.
struct DistinctKeys;

impl<'de> Deserialize<'de> for DistinctKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for DistinctKeys {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut keys = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value::<Self>()?;
            if let Some(key) = keys.replace(key) {
                return Err(de::Error::custom(format!("duplicate_key: `{key}` occurs twice")));
            }
        }
        Ok(self)
    }
}

/// A JSON tree without duplicate keys and with integers up to 2^53 - 1 alone.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        StrictSeed.deserialize(deserializer).map(Strict)
    }
}

struct StrictSeed;

impl<'de> DeserializeSeed<'de> for StrictSeed {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StrictSeed {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        if value > canonical::MAX_INTEGER {
            return Err(E::custom(format!(
                "bad_value: {value} is above 2^53-1, the largest integer that is kept exact"
            )));
        }
        Ok(Value::Number(Number::from(value)))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        if value.unsigned_abs() > canonical::MAX_INTEGER {
            return Err(E::custom(format!(
                "bad_value: {value} is below -(2^53-1), the smallest integer that is kept exact"
            )));
        }
        Ok(Value::Number(Number::from(value)))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Err(E::custom(format!("wrong_type: {value} is not an integer")))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(StrictSeed)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if fields.contains_key(&key) {
                return Err(de::Error::custom(format!("duplicate_key: `{key}` occurs twice")));
            }
            let value = map.next_value_seed(StrictSeed)?;
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }
}
